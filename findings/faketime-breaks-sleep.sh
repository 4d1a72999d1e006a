#!/bin/sh
# libfaketime 0.9.10 (Debian 12): with the monotonic clock spared, Python's time.sleep() fails with EINVAL.
#
# Expected: FAKETIME_DONT_FAKE_MONOTONIC=1 (faketime --exclude-monotonic) leaves alone what counts on CLOCK_MONOTONIC, so
# a program that sleeps sleeps. Seen: Python 3.11 raises OSError 22 from time.sleep(0.02) as soon as the wall clock is
# faked by an offset to the past; with the clock not faked at all, and with the monotonic clock faked too, it sleeps.
# Needs: Debian 12 on amd64 (apt-get download, dpkg -x), python3. Everything happens in a temporary folder.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
apt-get download -qq -o APT::Sandbox::User=root libfaketime=0.9.10-2.1
dpkg -x libfaketime_*.deb .
library=$(find "$here" -name libfaketime.so.1)
program='import time; time.sleep(0.02); print("slept")'
run() { env LD_PRELOAD="$library" "$@" python3 -c "$program" 2>&1 | tail -n 1; }
plain=$(run FAKETIME=+0)
both=$(run FAKETIME=-15d)
spared=$(run FAKETIME=-15d FAKETIME_DONT_FAKE_MONOTONIC=1)
echo "libfaketime 0.9.10-2.1, $(python3 --version)"
echo "no offset: $plain"
echo "15 days back, both clocks: $both"
echo "15 days back, monotonic spared: $spared"
case "$plain/$both/$spared" in
slept/slept/*"Errno 22"*) echo "SEEN: sparing the monotonic clock is what breaks sleep" ;;
*)
    echo "CHANGED: it is otherwise now"
    exit 1
    ;;
esac

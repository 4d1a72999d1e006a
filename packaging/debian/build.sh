#!/bin/sh
# Builds a Debian package of pycarp: build.sh WHEEL DIRECTORY
#
# It is put together by dpkg-deb, with click and rich inside, which the command needs: Debian 12's own rich is older than
# pycarp asks for, so that a source package of debhelper could not depend on it. The wheel decides the architecture and,
# where it has compiled modules, the version of Python.
set -eu
if [ $# -ne 2 ] || [ ! -f "$1" ]; then
    echo "build.sh: give a wheel of pycarp, and the directory for the package" >&2
    exit 2
fi
wheel=$(realpath "$1")
out=$(realpath "$2")
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-/usr/bin/python3}
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
umask 022

library=$tree/usr/lib/pycarp
mkdir -p "$library"
"${PIP_PYTHON:-$python}" -m pip --disable-pip-version-check install --quiet --no-compile --ignore-installed \
    --root-user-action ignore --target "$library" "$wheel[cli]"
version=$("$python" -c "import sys; sys.path[:0] = ['$library']; import pycarp; print(pycarp.__version__)")
minor=$("$python" -c 'import sys; print(sys.version_info[1])')
case $(basename "$wheel") in
*-none-any.whl) architecture=all depends="python3 (>= 3.11)" ;;
*) architecture=$(dpkg --print-architecture) depends="python3 (>= 3.$minor), python3 (<< 3.$((minor + 1))), libc6" ;;
esac
rm -rf "$library/share" "$library/bin"

mkdir -p "$tree/usr/bin"
cat >"$tree/usr/bin/pycarp" <<'X'
#!/usr/bin/python3 -s
import sys

sys.path.insert(0, "/usr/lib/pycarp")
from pycarp.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
X
chmod 755 "$tree/usr/bin/pycarp"

copy() { # file, directory of the system
    mkdir -p "$tree$2"
    sed 's|/usr/local/bin/pycarp|/usr/bin/pycarp|' "$here/$1" >"$tree$2/$(basename "$1")"
}
copy systemd/pycarp.service /lib/systemd/system
copy systemd/pycarp@.service /lib/systemd/system
copy sysusers.d/pycarp.conf /usr/lib/sysusers.d
copy tmpfiles.d/pycarp.conf /usr/lib/tmpfiles.d
copy networkd/10-pycarp.network /usr/lib/systemd/network
copy networkd/10-pycarp.conf /usr/lib/systemd/networkd.conf.d
for page in "$here"/man/*; do
    copy "man/$(basename "$page")" "/usr/share/man/man${page##*.}"
    gzip -9n "$tree/usr/share/man/man${page##*.}/$(basename "$page")"
done
run() {
    PYTHONPATH=$library "$python" -m pycarp "$@"
}
mkdir -p "$tree/usr/share/bash-completion/completions" "$tree/usr/share/zsh/vendor-completions" \
    "$tree/usr/share/fish/vendor_completions.d" "$tree/usr/share/doc/pycarp"
run completion bash >"$tree/usr/share/bash-completion/completions/pycarp"
run completion zsh >"$tree/usr/share/zsh/vendor-completions/_pycarp"
run completion fish >"$tree/usr/share/fish/vendor_completions.d/pycarp.fish"
cp "$here/../LICENSE" "$tree/usr/share/doc/pycarp/copyright"
gzip -9nc "$here/../CHANGELOG.md" >"$tree/usr/share/doc/pycarp/changelog.gz"
find "$tree" -name __pycache__ -prune -exec rm -rf {} +

mkdir "$tree/DEBIAN"
cat >"$tree/DEBIAN/control" <<X
Package: pycarp
Version: $version
Architecture: $architecture
Maintainer: The pycarp authors <pycarp@localhost>
Depends: $depends
Recommends: nftables
Section: net
Priority: optional
Description: floating IP address for a group of hosts
 One host of the group holds the address; when it fails, another one takes it
 over. The protocol is CARP, as NetBSD's carp(4) speaks it.
X
cat >"$tree/DEBIAN/postinst" <<'X'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    systemd-sysusers pycarp.conf || adduser --system --group --no-create-home --home /run/pycarp pycarp
    systemd-tmpfiles --create pycarp.conf || install -d -m 700 /etc/pycarp/secrets
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        # An upgrade: what runs goes on with the new version.
        [ -z "$2" ] || systemctl try-restart pycarp.service 'pycarp@*.service'
    fi
fi
X
cat >"$tree/DEBIAN/prerm" <<'X'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now pycarp.service || true
    systemctl stop 'pycarp@*.service'
fi
find /usr/lib/pycarp -name __pycache__ -prune -exec rm -rf {} +
X
cat >"$tree/DEBIAN/postrm" <<'X'
#!/bin/sh
set -e
if [ "$1" = purge ]; then
    # Passfiles are the administrator's: they stay.
    rm -rf /var/lib/pycarp /run/pycarp
    rmdir /etc/pycarp/secrets /etc/pycarp 2>/dev/null || true
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
X
chmod 755 "$tree/DEBIAN/postinst" "$tree/DEBIAN/prerm" "$tree/DEBIAN/postrm"
dpkg-deb --root-owner-group --build "$tree" "$out" >/dev/null
echo "$out/pycarp_${version}_$architecture.deb"

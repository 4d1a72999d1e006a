#!/bin/sh
# Linux: a macvlan that protodown holds down comes up again when the cable of its lower device is replugged.
#
# Expected: `ip link set m0 protodown on` keeps the macvlan without carrier until `protodown off`.
# Seen (kernel 6.18, iproute2 6.1): it does so until the lower device loses and regains its carrier. Then the
# macvlan is UP,LOWER_UP, passes frames, and `ip link` still shows "protodown on". The carrier of the lower device is
# copied to the macvlan, and nobody looks at protodown. A program that relies on protodown, or that takes the flag for
# the state, is wrong from then on; only LOWER_UP tells.
# Needs: root, iproute2. Everything happens in two network namespaces of its own.
set -eu
here=protodown-$$-a there=protodown-$$-b
ip netns add "$here"
trap 'ip netns del "$here"; ip netns del "$there" 2>/dev/null || true' EXIT
ip netns add "$there"
ip -n "$here" link add e0 type veth peer name e1 netns "$there"
ip -n "$here" link set e0 up
ip -n "$there" link set e1 up
ip -n "$here" link add m0 link e0 type macvlan mode bridge
ip -n "$here" link set m0 up

flags() {
    ip -n "$here" -o link show m0 | sed 's/.*<\(.*\)>.*/\1/'
}

wait_for() { # what, for at most 5 s
    for _ in $(seq 50); do
        case ",$(flags)," in *",$1,"*) return 0 ;; esac
        sleep 0.1
    done
    echo "CHANGED: m0 does not become $1: $(flags)"
    exit 1
}

echo "kernel $(uname -r), $(ip -V)"
wait_for LOWER_UP
ip -n "$here" link set m0 protodown on
wait_for NO-CARRIER
echo "protodown on:         $(flags)"
ip -n "$there" link set e1 down
sleep 0.3
ip -n "$there" link set e1 up
wait_for LOWER_UP
echo "after the replugging: $(flags)"
case "$(ip -n "$here" -o link show m0)" in
*"protodown on"*) echo "SEEN: the macvlan has its carrier back, and still says protodown on" ;;
*) echo "CHANGED: protodown is off now" && exit 1 ;;
esac

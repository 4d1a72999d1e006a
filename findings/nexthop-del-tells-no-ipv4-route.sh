#!/bin/sh
# Linux: `ip nexthop del` of an object that an IPv4 route uses removes the route, and no route notice says so.
#
# Expected: whoever follows RTM_NEWROUTE and RTM_DELROUTE has the table as it is; every route that goes is told.
# Seen (kernel 6.18, iproute2 6.1): with IPv6 the route's end is told (RTM_DELROUTE), with IPv4 it is not: only
# RTM_DELNEXTHOP comes, on a group of its own. A daemon that mirrors the IPv4 table has to listen to nexthops as well.
# Needs: root, iproute2. Everything happens in a network namespace of its own.
set -eu
here=nexthop-$$
told=$(mktemp)
ip netns add "$here"
trap 'ip netns del "$here"; rm -f "$told"' EXIT
ip -n "$here" link add e0 type veth peer name e1
ip -n "$here" link set e0 up
ip -n "$here" link set e1 up
ip -n "$here" addr add 192.0.2.1/24 dev e0
ip -n "$here" addr add 2001:db8::1/64 dev e0 nodad
ip -n "$here" nexthop add id 4 via 192.0.2.2 dev e0
ip -n "$here" nexthop add id 6 via 2001:db8::2 dev e0
ip -n "$here" route add 198.51.100.0/24 nhid 4
ip -n "$here" -6 route add 2001:db8:1::/48 nhid 6
sleep 0.5
ip -n "$here" monitor route >"$told" 2>/dev/null &
monitor=$!
sleep 0.5
ip -n "$here" nexthop del id 4
ip -n "$here" nexthop del id 6
sleep 0.5
kill "$monitor"
wait "$monitor" 2>/dev/null || true

echo "kernel $(uname -r), $(ip -V)"
echo "routes left: IPv4 $(ip -n "$here" route show 198.51.100.0/24 | wc -l), IPv6 $(ip -n "$here" -6 route show 2001:db8:1::/48 | wc -l)"
four=$(grep -c 'Deleted 198.51.100.0/24' "$told" || true)
six=$(grep -c 'Deleted 2001:db8:1::/48' "$told" || true)
echo "notices of routes that went: IPv4 $four, IPv6 $six"
if [ "$(ip -n "$here" route show 198.51.100.0/24 | wc -l)" != 0 ] || [ "$four" != 0 ] || [ "$six" = 0 ]; then
    echo "CHANGED: it is told otherwise now"
    exit 1
fi
echo "SEEN: the IPv4 route is gone, and nobody was told"

"""Which settings the macvlan and the carpdev get, so that one MAC answers for an address and what comes in is let in.

IPv4 settings go by netlink, which works where /proc/sys is read-only; those of IPv6 by /proc/sys, since netlink cannot
write them. The carpdev's settings before the first virtual host came stand in a second name of it (altname): that
outlives a crash and the macvlan, and goes with the carpdev.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Mapping

from ..config import VirtualHost
from . import messages, netlink, sysctl
from .interfaces import Interface, mark_on, read_interfaces

_COPIED = (
    "forwarding",
    "accept_redirects",
    "secure_redirects",
    "send_redirects",
    "shared_media",
    "accept_source_route",
    "log_martians",
    "disable_xfrm",
    "disable_policy",
    "accept_local",
    "src_valid_mark",
    "route_localnet",
)
"""What comes to a floating address is treated as what comes to the carpdev's own."""
_SHARED = frozenset({"macvlan", "macvtap", "ipvlan", "ipvtap"})
_LOOSE = 2
_NO_PROXY = -1
"""medium_id: no proxy ARP on this interface, whatever the setting for all interfaces says."""
_OURS = {"arp_filter": 1, "arp_announce": 2, "arp_ignore": 1}
"""The values that a carpdev is given; arp_ignore by earlier snapshots."""
_SAME_SUBNET = 2
_KEEPS_QUIET = frozenset({1, 2, 8})
"""Values of arp_ignore with which an interface answers for no address of another one."""
_RECORD = re.compile(r"pycarp-(\d+)-for-(\d+)-was((?:-[a-z_]+-\d+)+)")
_PAIR = re.compile(r"-([a-z_]+)-(\d+)")
_NO_ALTNAMES = (errno.EEXIST, errno.EOPNOTSUPP, errno.EINVAL)
"""The record is there, or the kernel is older than 5.5: then only the macvlan's alias has it."""
IPV6_MTU = 1280
"""RFC 8200: below it the kernel takes IPv6 off an interface."""


def of_macvlan(carpdev: Interface) -> dict[str, int]:
    """The macvlan's IPv4 settings. It answers for its own addresses, always, and proxies for nobody.

    The source of what comes in has a route by the carpdev, not by the macvlan: a strict reverse path filter would drop
    it. The larger of this setting and the one for all interfaces counts, and a loose filter is the larger one.
    """
    strict = max(sysctl.read("ipv4/conf/all/rp_filter"), carpdev.ipv4.get("rp_filter", 0))
    return {
        **{name: carpdev.ipv4.get(name, 0) for name in _COPIED},
        "rp_filter": _LOOSE if strict else 0,
        "arp_ignore": 1,
        "arp_filter": 0,
        "arp_announce": 0,
        "proxy_arp": 0,
        "proxy_arp_pvlan": 0,
        "medium_id": _NO_PROXY,
        "promote_secondaries": 1,
    }


def of_carpdev(carpdev: Interface) -> dict[str, int]:
    """What the carpdev is given: it does not answer for floating addresses, and does not ask in their name.

    With arp_filter it answers only for addresses from which the way to the asker leaves by it; from a floating one
    that leaves by the macvlan. The host's addresses on other interfaces it goes on answering for, unlike with
    arp_ignore.
    """
    given = {"arp_announce": max(_OURS["arp_announce"], carpdev.ipv4.get("arp_announce", 0))}
    if answers_for_any(carpdev):
        given["arp_filter"] = _OURS["arp_filter"]
    return given


def of_beside(interface: Interface) -> dict[str, int]:
    """What another interface on the carpdev's link is given, which would answer for the floating addresses as well."""
    return {"arp_filter": _OURS["arp_filter"]} if answers_for_any(interface) else {}


def needs_subnet() -> bool:
    """Whether an address needs its prefix length on the macvlan: with arp_ignore=2 for all interfaces, an interface
    answers only hosts within the subnet of the address."""
    return sysctl.read("ipv4/conf/all/arp_ignore") == _SAME_SUBNET


def is_proxy(interface: Interface) -> bool:
    """Whether it answers ARP requests for addresses of other hosts (proxy_arp, proxy_arp_pvlan)."""
    names = ("proxy_arp", "proxy_arp_pvlan")
    return any(interface.ipv4.get(one) or sysctl.read(f"ipv4/conf/all/{one}") for one in names)


def answers_for_any(interface: Interface) -> bool:
    """Whether it answers ARP requests for addresses of other interfaces, too."""
    ignore = max(sysctl.read("ipv4/conf/all/arp_ignore"), interface.ipv4.get("arp_ignore", 0))
    return ignore not in _KEEPS_QUIET


def fitted(host: VirtualHost, carpdev: Interface) -> VirtualHost:
    """The virtual host with the carpdev's own MAC, where a virtual one cannot work on that kind of carpdev.

    A macvlan on a macvlan becomes its neighbour, on the same interface below. A macvlan does not hear multicasts from
    the MAC of a neighbour, and another host's virtual MAC is the same: two hosts would be MASTER. An ipvlan has one
    MAC.
    """
    shared = host.mac == "virtual" and carpdev.kind in _SHARED
    return host.replace(mac="interface") if shared else host


# What was before


def recorded(interface: Interface) -> tuple[int, dict[str, int]] | None:
    """(index of the carpdev for which it was changed, the settings before), from its altnames; None where it was not.

    An interface that was moved to another network namespace has lost its settings, and the record tells by the index.
    """
    found = [one for one in map(_RECORD.fullmatch, interface.altnames) if one and int(one[1]) == interface.index]
    if not found:
        return None
    before = {name: int(value) for one in reversed(found) for name, value in _PAIR.findall(one[3])}
    return int(found[0][2]), before


def give(
    interface: Interface, given: Mapping[str, int], carpdev: int, before: Mapping[str, int]
) -> tuple[list[bytes], Interface]:
    """Requests that record an interface's settings and then change them, and the interface as it is after them.

    `before` is what `before_giving` returned.
    """
    now = recorded(interface)
    new = {name: value for name, value in before.items() if now is None or name not in now[1]}
    names = (_altname(interface.index, carpdev, new),) if new else ()
    requests = [messages.add_altname(interface.index, one) for one in names]
    after = interface.replace(ipv4={**interface.ipv4, **given}, altnames=interface.altnames + names)
    return [*requests, messages.ipv4_conf(interface.index, given)], after


def before_giving(interface: Interface, given: Mapping[str, int], known: Mapping[str, int]) -> dict[str, int]:
    """The settings that `given` changes, as they were before any virtual host came."""
    now = interface.ipv4
    return {**{name: now.get(name, 0) for name, value in given.items() if now.get(name, 0) != value}, **known}


def give_back(interface: Interface, before: Mapping[str, int]) -> list[bytes]:
    """Requests that restore an interface as it is now: what an administrator has changed meanwhile stays as it is."""
    ours = {name: value for name, value in before.items() if interface.ipv4.get(name) == _OURS.get(name)}
    return give_back_later(interface, ours)


def give_back_later(interface: Interface, before: Mapping[str, int]) -> list[bytes]:
    """Requests that restore an interface, whatever it has then. The record goes last."""
    requests = [messages.ipv4_conf(interface.index, before)] if before else []
    records = dict.fromkeys(one for one in interface.altnames if _RECORD.fullmatch(one))
    return requests + [messages.delete_altname(interface.index, one) for one in records]


def give_back_all(carpdev: int) -> None:
    """Restore all interfaces that were changed for a carpdev, by what their records say. Raises `OSError`."""
    interfaces = read_interfaces()
    if mark_on(carpdev, interfaces) is not None:
        return
    requests = []
    for one in interfaces:
        record = recorded(one)
        if record is not None and record[0] == carpdev:
            requests += give_back(one, record[1])
    if requests:
        with netlink.RouteSocket() as route:
            route.request(*requests)


def request(route: netlink.RouteSocket, requests: Iterable[bytes]) -> None:
    """Send what `give` returned. Raises `OSError`."""
    route.request(*requests, fine=_NO_ALTNAMES)


def _altname(index: int, carpdev: int, before: Mapping[str, int]) -> str:
    return f"pycarp-{index}-for-{carpdev}-was" + "".join(f"-{name}-{value}" for name, value in before.items())


# IPv6


def set_ipv6(name: str, carpdev: Interface, wanted: bool) -> str:
    """The macvlan's IPv6 settings, by /proc/sys; returns why it has no IPv6 where that is `wanted`, in one sentence.

    What else cannot be written does no harm: the device is quiet, since it has no link-local address.
    """
    values = {"accept_ra": 0, "autoconf": 0, "disable_ipv6": int(not wanted), "forwarding": carpdev.forwarding6 or 0}
    for setting, value in values.items():
        path = f"ipv6/conf/{name}/{setting}"
        if sysctl.read(path) != value:
            sysctl.try_write(path, value)
    if wanted and sysctl.read(f"ipv6/conf/{name}/disable_ipv6"):
        return (
            f"{name} has no IPv6: net.ipv6.conf.default.disable_ipv6 is 1 and /proc/sys cannot be written; "
            "set net.ipv6.conf.default.disable_ipv6=0 where this host or container is made"
        )
    return ""


def hindrance(host: VirtualHost, interface: Interface) -> str:
    """Why an interface that is up cannot carry a virtual host, in one sentence; empty where it can.

    Where IPv6 cannot be, IPv4 goes as well: another host may be able to hold both.
    """
    if interface.mtu >= IPV6_MTU or 6 not in host.families:
        return ""
    return f"the MTU of {interface.name} is {interface.mtu}, and IPv6 needs {IPV6_MTU}: raise it"

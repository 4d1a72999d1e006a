"""Routes and policy rules as the kernel tells them, and as requests; one reading of both for all who ask.

A routing daemon's table has a hundred thousand routes.
"""

from __future__ import annotations

import errno
import itertools
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any

from .._records import dataclass, field, replace
from .._unpatched import socket
from . import netlink
from .interfaces import OWN_PROTOCOL
from .netlink import ACK, APPEND, CREATE, EXCLUSIVE, WORD, attribute, message, number, octet, word

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

AF_INET, AF_INET6 = int(socket.AF_INET), int(socket.AF_INET6)
FAMILIES = (AF_INET, AF_INET6)
MAIN, LOCAL = 254, 255

# include/uapi/linux/rtnetlink.h
UNICAST, THROW = 1, 9
_WITHOUT_HOPS = frozenset({6, 7, 8, THROW})
"""RTN_BLACKHOLE, UNREACHABLE, PROHIBIT, THROW."""
RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS, RTA_MULTIPATH = 1, 2, 4, 5, 6, 7, 8, 9
_RTA_FLOW, _RTA_CACHEINFO, _RTA_TABLE, RTA_VIA, RTA_PREF, _RTA_ENCAP_TYPE, _RTA_ENCAP = 11, 12, 15, 18, 20, 21, 22
_HOP_ATTRIBUTES = (RTA_GATEWAY, RTA_VIA, _RTA_ENCAP_TYPE, _RTA_ENCAP)
_OTHER_ATTRIBUTES = (RTA_METRICS, _RTA_FLOW)
DEAD, ONLINK = 1, 4
"""RTNH_F_DEAD, also of a hop without carrier where the administrator wants such ones ignored, and RTNH_F_ONLINK."""
_CLONED = 0x200
_HOP = struct.Struct("=HBBi")
"""struct rtnexthop: length, flags, weight - 1, interface."""
_EXPIRES = struct.Struct("=i")
_EXPIRES_AT = 8
"""Of struct rta_cacheinfo, in ticks of 10 ms; negative once it is over."""
_TICKS = 100.0
_PREFERENCES = {1: 1, 0: 0, 3: -1}
"""RFC 4191: high, medium, low."""

# include/uapi/linux/fib_rules.h
FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_GOTO, FRA_PRIORITY, FRA_TUN_ID, FRA_SUPPRESS_PREFIXLEN = 1, 2, 3, 4, 6, 12, 14
FRA_TABLE, FRA_OIFNAME, _FRA_PAD, FRA_L3MDEV, FRA_PROTOCOL = 15, 17, 18, 19, 21
TO_TABLE, GOTO, UNREACHABLE = 1, 2, 7
INVERT = 2

Prefix = tuple[int, bytes, int, bytes]
"""Length and octets of the destination, and the same of the source that a route is for (IPv6)."""


@dataclass(frozen=True, slots=True)
class Hop:
    """A way out of this machine: the interface, and what says how (gateway, encapsulation). `flags` are RTNH_F_*."""

    index: int
    attributes: tuple[tuple[int, bytes], ...] = ()
    weight: int = 0
    flags: int = field(default=0, compare=False)

    @property
    def direct(self) -> bool:
        return not any(kind in (RTA_GATEWAY, RTA_VIA) for kind, _value in self.attributes)


_LOOPBACK = (Hop(1),)
"""IPv6 keeps what has no hops by this interface, whose index is 1 in every namespace."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route without its table. Two are equal where the kernel would do the same with them.

    `expires` is in how many seconds the kernel ignores it: infinity for never, 0 if it does already.
    """

    family: int
    prefix: Prefix
    kind: int
    hops: tuple[Hop, ...] = ()
    tos: int = 0
    metric: int = 0
    others: tuple[tuple[int, bytes], ...] = ()
    preference: int = 0
    scope: int = field(default=0, compare=False)
    protocol: int = field(default=0, compare=False)
    expires: float = field(default=float("inf"), compare=False)
    every: tuple[Hop, ...] = field(default=(), compare=False)
    """With the hops that the kernel does not use now: what has to be named to delete it."""

    @property
    def direct(self) -> bool:
        """Whether its destinations are on a link."""
        return all(hop.direct for hop in self.hops)

    @property
    def network(self) -> Network:
        return ip_network((self.prefix[1], self.prefix[0]), strict=False)

    def uses(self, index: int) -> bool:
        return self.kind == UNICAST and any(hop.index == index for hop in self.hops)

    def replace(self, **changes: Any) -> Route:
        return replace(self, **changes)

    def through(self, before: int, after: int) -> Route:
        """The same by interface `after` where it goes by `before`."""
        hops = tuple(replace(hop, index=after, flags=0) if hop.index == before else hop for hop in self.hops)
        return self.replace(hops=_sorted(hops) if self.family == AF_INET6 else hops, every=())

    def add(self, table: int, source: Address | None = None) -> bytes:
        """Behind those that are as good; EEXIST where it is there. `source` becomes the host's own choice."""
        return message(netlink.RTM_NEWROUTE, ACK | CREATE | APPEND, self._body(table, self.hops, source))

    def delete(self, table: int, anyhow: bool = False) -> bytes:
        """`anyhow`: one of its destination and metric, by whatever hops."""
        hops = () if anyhow else self.every or self.hops
        if not hops and not anyhow and self.family == AF_INET6:
            # IPv6 takes no notice of the kind, and would delete the first one of this destination and metric.
            hops = _LOOPBACK
        return message(netlink.RTM_DELROUTE, ACK, self._body(table, hops, None))

    def _body(self, table: int, hops: tuple[Hop, ...], source: Address | None) -> bytes:
        length, destination, source_length, sender = self.prefix
        single = hops[0] if len(hops) == 1 else None
        parts = [
            netlink.ROUTE.pack(
                self.family, length, source_length, self.tos, table if table < 256 else 0, OWN_PROTOCOL, self.scope,
                self.kind, self._onlink(single) if single else 0,
            ),
            word(_RTA_TABLE, table),
        ]  # fmt: skip
        if length:
            parts.append(attribute(RTA_DST, destination))
        if source_length:
            parts.append(attribute(RTA_SRC, sender))
        if self.metric:
            parts.append(word(RTA_PRIORITY, self.metric))
        if source is not None:
            parts.append(attribute(RTA_PREFSRC, source.packed))
        if self.preference:
            parts.append(attribute(RTA_PREF, bytes((self.preference,))))
        parts += [attribute(kind, value) for kind, value in self.others]
        if single:
            parts.append(word(RTA_OIF, single.index))
            parts += [attribute(kind, value) for kind, value in single.attributes]
        elif hops:
            parts.append(attribute(RTA_MULTIPATH, b"".join(map(self._hop, hops))))
        return b"".join(parts)

    def _hop(self, hop: Hop) -> bytes:
        body = b"".join(attribute(kind, value) for kind, value in hop.attributes)
        return _HOP.pack(_HOP.size + len(body), self._onlink(hop), hop.weight, hop.index) + body

    def _onlink(self, hop: Hop) -> int:
        # IPv4: spares the question whether the gateway is near, which the main table has answered. IPv6 asks the main
        # table all the same, where the gateway is on the carpdev, and refuses: see `routes.near`.
        return ONLINK if not hop.direct and self.family == AF_INET else 0


def parse_route(payload: bytes) -> Route:
    """From RTM_NEWROUTE. Hops that the kernel does not use are left out, and a route that has no other is expired."""
    family, length, source_length, tos, _table, protocol, scope, kind, flags = netlink.ROUTE.unpack_from(payload)
    found = netlink.attributes(payload, netlink.ROUTE.size)
    source_length = min(source_length, _octets(family) * 8)
    prefix = (
        min(length, _octets(family) * 8),
        _address(family, found.get(RTA_DST)),
        source_length,
        _address(family, found.get(RTA_SRC)) if source_length else b"",
    )
    hops: tuple[Hop, ...] = ()
    every: tuple[Hop, ...] = ()
    expires = _expires(found.get(_RTA_CACHEINFO, b""))
    if kind not in _WITHOUT_HOPS:
        every = _multipath(found[RTA_MULTIPATH]) if RTA_MULTIPATH in found else (_single(found, flags),)
        hops = tuple(hop for hop in every if not hop.flags & DEAD)
        if not hops:
            expires = 0.0
        if len(hops) == 1 and hops[0].weight:
            hops = (replace(hops[0], weight=0),)
        if family == AF_INET6:
            hops = _sorted(hops)
    return Route(
        family=family,
        prefix=prefix,
        kind=kind,
        hops=hops,
        tos=tos,
        metric=number(found.get(RTA_PRIORITY)),
        others=tuple((each, found[each]) for each in _OTHER_ATTRIBUTES if each in found),
        preference=octet(found.get(RTA_PREF)),
        scope=scope,
        protocol=protocol,
        expires=expires,
        every=every,
    )


def _octets(family: int) -> int:
    return 4 if family == AF_INET else 16


def _address(family: int, raw: bytes | None) -> bytes:
    """The address 0 where there is none, or none of this family."""
    return raw if raw is not None and len(raw) == _octets(family) else bytes(_octets(family))


def _sorted(hops: Iterable[Hop]) -> tuple[Hop, ...]:
    """IPv6 has no order among the hops of a route."""
    return tuple(sorted(hops, key=lambda hop: (hop.index, hop.attributes)))


def _single(found: dict[int, bytes], flags: int) -> Hop:
    index = number(found.get(RTA_OIF))
    return Hop(index, tuple((kind, found[kind]) for kind in _HOP_ATTRIBUTES if kind in found), 0, flags & 0xFF)


def _multipath(data: bytes) -> tuple[Hop, ...]:
    hops = []
    at = 0
    while at + _HOP.size <= len(data):
        length, flags, weight, index = _HOP.unpack_from(data, at)
        if length < _HOP.size or at + length > len(data):
            break
        found = netlink.attributes(data[at : at + length], _HOP.size)
        hops.append(Hop(index, tuple((kind, found[kind]) for kind in _HOP_ATTRIBUTES if kind in found), weight, flags))
        at += (length + 3) & ~3
    return tuple(hops)


def _expires(cacheinfo: bytes) -> float:
    ticks = _EXPIRES.unpack_from(cacheinfo, _EXPIRES_AT)[0] if len(cacheinfo) >= _EXPIRES_AT + 4 else 0
    return max(0.0, ticks / _TICKS) if ticks else float("inf")


def rank(route: Route) -> tuple[int, int]:
    """The kernel takes the lowest first; among equal ones the one it lists first."""
    return route.metric, -_PREFERENCES.get(route.preference, 0)


# Rules


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy rule; `attributes` are FRA_*, sorted, without those that say where it stands and whose it is."""

    family: int
    priority: int
    action: int
    table: int = 0
    source: Network | None = None
    lengths: int = 0
    """Bits of the destination it is for."""
    tos: int = 0
    flags: int = 0
    protocol: int = OWN_PROTOCOL
    attributes: tuple[tuple[int, bytes], ...] = ()

    def get(self, kind: int) -> bytes | None:
        return next((value for each, value in self.attributes if each == kind), None)

    def replace(self, **changes: Any) -> Rule:
        return replace(self, **changes)

    def add(self) -> bytes:
        """EEXIST where it is there."""
        return message(netlink.RTM_NEWRULE, ACK | CREATE | EXCLUSIVE, self._body(True))

    def delete(self, anywhere: bool = False) -> bytes:
        """`anywhere`: whatever its priority is."""
        return message(netlink.RTM_DELRULE, ACK, self._body(not anywhere))

    def _body(self, placed: bool) -> bytes:
        source = self.source
        head = (
            self.family, self.lengths, 0 if source is None else source.prefixlen, self.tos,
            self.table if self.table < 256 else 0, 0, 0, self.action, self.flags,
        )  # fmt: skip
        found = dict(self.attributes)
        if source is not None:
            found[FRA_SRC] = source.network_address.packed
        found[FRA_TABLE] = WORD.pack(self.table)
        found[FRA_PROTOCOL] = bytes((self.protocol,))
        if placed:
            found[FRA_PRIORITY] = WORD.pack(self.priority)
        return netlink.ROUTE.pack(*head) + b"".join(attribute(kind, value) for kind, value in sorted(found.items()))


_NO_SELECTORS = (FRA_SRC, FRA_TABLE, FRA_PROTOCOL, FRA_PRIORITY, _FRA_PAD)
_ALL_LENGTHS = b"\xff" * 4


def parse_rule(payload: bytes) -> Rule:
    family, dst_len, src_len, tos, _table, _zero, _scope, action, flags = netlink.ROUTE.unpack_from(payload)
    found = netlink.attributes(payload, netlink.ROUTE.size)
    source = None
    if FRA_SRC in found:
        bits = _octets(family) * 8
        source = ip_network((_address(family, found[FRA_SRC]), min(src_len, bits)), strict=False)
    return Rule(
        family=family,
        priority=number(found.get(FRA_PRIORITY)),
        action=action,
        table=number(found.get(FRA_TABLE), _table),
        source=source,
        lengths=dst_len,
        tos=tos,
        flags=flags & INVERT,
        protocol=octet(found.get(FRA_PROTOCOL)),
        attributes=tuple(
            (kind, value)
            for kind, value in sorted(found.items())
            if kind not in _NO_SELECTORS and (kind, value) != (FRA_SUPPRESS_PREFIXLEN, _ALL_LENGTHS)
        ),
    )


# Readings


class Snapshot:
    """Rules and routes of the calling thread's network namespace, each read when it is first asked for.

    A family that the kernel lacks has none. `OSError` where they cannot be read. What was made of a former one, its
    `kept`, is used again where it is still true.
    """

    def __init__(self, former: dict[tuple[object, ...], Any] | None = None) -> None:
        self.former = former or {}
        self._rules: dict[int, tuple[Rule, ...]] = {}
        self._tables: dict[tuple[int, int, int], list[bytes]] = {}
        self.kept: dict[tuple[object, ...], Any] = {}
        """What others make of it, for whoever asks next."""

    def rules(self, family: int) -> tuple[Rule, ...]:
        """All, in the order in which the kernel goes through them."""
        if family not in self._rules:
            self._rules[family] = tuple(map(parse_rule, _dump_rules(family)))
        return self._rules[family]

    def payloads(self, family: int, table: int, index: int = 0) -> list[bytes]:
        """The routes of a table, or of them those by interface `index`, as the kernel tells them."""
        key = family, table, index
        if key not in self._tables:
            with netlink.RouteSocket() as route:
                self._tables[key] = [
                    payload
                    for payload in route.dump_routes(family, table=table, index=index)
                    if payload[0] == family and table_in(payload) == table and not _is_clone(payload)
                ]
        return self._tables[key]

    def routes(self, family: int, table: int, index: int = 0) -> list[Route]:
        return [parse_route(payload) for payload in self.payloads(family, table, index)]

    def forget(self, family: int, table: int) -> None:
        """Read this table anew when it is next asked for."""
        for key in [key for key in self._tables if key[:2] == (family, table)]:
            del self._tables[key]


def read_own_routes() -> Iterator[tuple[int, Route]]:
    """All routes of our protocol on this machine, with their tables."""
    with netlink.RouteSocket() as route:
        for payload in itertools.chain(*(route.dump_routes(each, protocol=OWN_PROTOCOL) for each in FAMILIES)):
            if payload[5] == OWN_PROTOCOL and not _is_clone(payload):
                yield table_in(payload), parse_route(payload)


def _is_clone(payload: bytes) -> bool:
    return bool(netlink.ROUTE.unpack_from(payload)[8] & _CLONED)


def table_in(payload: bytes) -> int:
    """The table of a route as the kernel tells it: the first attribute, if the number is large."""
    if payload[12:16] == _TABLE_FIRST and len(payload) >= 20:
        return int(WORD.unpack_from(payload, 16)[0])
    return number(netlink.attributes(payload, netlink.ROUTE.size).get(_RTA_TABLE), payload[4])


_TABLE_FIRST = word(_RTA_TABLE, 0)[:4]


def _dump_rules(family: int) -> list[bytes]:
    with netlink.RouteSocket() as route:
        try:
            return [one for one in route.dump(netlink.RTM_GETRULE, family) if one[0] == family]
        except OSError as error:
            if error.errno in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
                return []
            raise

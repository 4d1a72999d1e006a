"""The ways that answers from a virtual host's addresses take: those of the host itself, by the virtual MAC.

For every destination the way of ``from ADDRESS`` is the way without it, except that where that leaves by the carpdev it
leaves by the device. Each policy rule that looks up a table with routes by the carpdev gets its mirror directly before
it: a rule with the address as its source and a table of ours. That holds the routes of each destination that the other
table reaches by the carpdev, by the device instead; and for each that it reaches otherwise a `throw`, after which the
kernel goes on with the other table. Where a default route by the carpdev would need very many of those, it gets a table
of its own, and `suppress_prefixlength 0` keeps the other table's longer prefixes before it.

All of it is computed from a `Snapshot` and touches nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, IPv6Network, ip_network

from .._records import dataclass, field
from . import fib, netlink
from .fib import AF_INET, AF_INET6, MAIN, Address, Network, Prefix, Route, Rule, Snapshot
from .interfaces import OWN_PROTOCOL

TABLES = 16
"""Each virtual host has as many table numbers: two for each table that has routes by the carpdev."""
_EXACT, _SCRAMBLED = 0x5, 0x6
_EXACT_INDEXES = 1 << 15
EARLY = 32
"""Up to so many routes by gateways come before the addresses. More of them follow the take."""
_THROWS = 256
"""A default route that would need more of them than that gets a table of its own."""
_DEFAULT_METRIC, _CONNECTED_METRIC = 1024, 256
_LINK_LOCAL = IPv6Network("fe80::/10")
_MAIN_PRIORITY = 32766
_SUPPRESS_DEFAULT = netlink.WORD.pack(0)


def tables_of(index: int, vhid: int, turn: bool = False) -> int:
    """The number of the first of a virtual host's tables, by the carpdev's index: no other program uses these.

    Indexes above 32767 share 23 bits, evenly spread: that two of one machine meet is no more likely than one in
    millions. A virtual host that takes over from one of the same carpdev and vhid has a `turn` of its own.
    """
    if index < _EXACT_INDEXES:
        return _EXACT << 28 | index << 13 | (vhid & 0xFF) << 5 | turn << 4
    spread = (index << 8 | vhid & 0xFF) * 0x9E3779B97F4A7C15 >> 16 & 0x7FFFFF
    return _SCRAMBLED << 28 | spread << 5 | turn << 4


def is_own_table(table: int) -> bool:
    """Whether it is that of some virtual host."""
    return table >> 28 in (_EXACT, _SCRAMBLED)


def turn_of(table: int) -> bool:
    return bool(table & TABLES)


def tables_like(table: int) -> int:
    """The first table of the virtual hosts that have this one, in whatever turn."""
    return table & ~(2 * TABLES - 1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a virtual host is: indexes of carpdev and device (the same one where it has no MAC of its own), the
    device's name, its addresses, and the number of its first table."""

    carpdev: int
    device: int
    name: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    tables: int

    @property
    def families(self) -> tuple[int, ...]:
        versions = {one.version for one in self.addresses}
        return tuple(family for version, family in ((4, AF_INET), (6, AF_INET6)) if version in versions)


# Translating one table


@dataclass(slots=True)
class Translation:
    """A table's routes by a carpdev, and throws: `inner` for the longer prefixes, `outer` for everything else.

    `split`: throws for the outer ones are left out, since they would be too many. `expires`: it is no longer true after
    this many seconds.
    """

    inner: tuple[Route, ...]
    outer: tuple[Route, ...]
    split: bool
    expires: float = field(compare=False)


def translate(snapshot: Snapshot, family: int, table: int, carpdev: int) -> Translation | None:
    """None where the table has no route by the carpdev. Made once for each snapshot."""
    key = ("translation", family, table, carpdev)
    if key not in snapshot.kept:
        made, former = _translate(snapshot, family, table, carpdev), snapshot.former.get(key)
        if made is not None and made == former:
            # The same object: what was made of it need not be compared.
            former.expires = made.expires
            made = former
        snapshot.kept[key] = made
    found: Translation | None = snapshot.kept[key]
    return found


def _translate(snapshot: Snapshot, family: int, table: int, carpdev: int) -> Translation | None:
    groups: dict[Prefix, list[Route]] = {}
    for route in snapshot.routes(family, table, carpdev):
        if route.uses(carpdev) and route.expires:
            groups[route.prefix] = []
    if not groups:
        return None
    within = _Within(family, groups)
    nested: list[bytes] = []
    beside: list[bytes] = []
    everything = any(not prefix[0] for prefix in groups)
    for payload in snapshot.payloads(family, table):
        prefix = _prefix_in(payload, family)
        if prefix in groups:
            groups[prefix].append(fib.parse_route(payload))
        elif not prefix[0] or prefix in within:
            nested.append(payload)
        elif everything:
            beside.append(payload)
    split = len(beside) > _THROWS
    # After a throw of the table itself the kernel goes on behind it, and must not find the default on its way.
    thrown = [fib.parse_route(one) for one in snapshot.payloads(family, table) if split and one[7] == fib.THROW]
    found = [fib.parse_route(payload) for payload in (nested if split else nested + beside)]
    expires = min((one.expires for group in (*groups.values(), found) for one in group if one.expires), default=_NEVER)
    routes = [route for group in groups.values() for route in _in_order(group, carpdev)]
    routes += (_throw(one) for one in found if one.expires)
    # Some differ only by what ours do not have: the source that the host prefers, or who made them.
    routes = list(dict.fromkeys(routes))
    routes.sort(key=lambda one: -one.prefix[0])
    inner = tuple(one for one in routes if one.prefix[0])
    outer = tuple(one for one in routes if not one.prefix[0])
    if not everything:
        outer = ()
    outer = (*dict.fromkeys(_throw(one) for one in thrown if one.prefix[0] and one.expires), *outer)
    return Translation(inner, outer, split and bool(outer), expires)


_NEVER = float("inf")
_NOTHING = Translation((), (), False, _NEVER)


def _among(own: Sequence[Route], found: Translation, snapshot: Snapshot) -> list[Route]:
    """Subnets of ours, for the main table's translation, but for those that the table prefers other routes to; and
    throws for what it has within them."""
    family = own[0].family
    metrics = {route.prefix: route.metric for route in own}
    within = _Within(family, metrics)
    known = {one.prefix for one in found.inner}
    better: set[Prefix] = set()
    throws: list[Route] = []
    for payload in snapshot.payloads(family, MAIN):
        prefix = _prefix_in(payload, family)
        if prefix not in within or (payload[5] == OWN_PROTOCOL and prefix in metrics):
            continue
        route = fib.parse_route(payload)
        if route.expires and prefix not in metrics and prefix not in known:
            throws.append(_throw(route))
        elif route.expires and prefix in metrics and route.metric <= metrics[prefix]:
            better.add(prefix)
    return [*(one for one in own if one.prefix not in better), *dict.fromkeys(throws)]


def _throw(route: Route) -> Route:
    metric = _DEFAULT_METRIC if route.family == AF_INET6 else 0
    return Route(route.family, route.prefix, fib.THROW, tos=route.tos, metric=metric)


def _in_order(group: list[Route], carpdev: int) -> list[Route]:
    """The routes of one destination, as the kernel prefers them.

    IPv6: those that it was told by router advertisements stay alternatives at the same metric. Ours would be joined to
    one with several gateways, so each gets a metric of its own.
    """
    valid = [one for one in group if one.expires]
    if not valid or valid[0].family == AF_INET:
        return valid
    if valid[0].prefix[0] >= 10 and valid[0].network.subnet_of(_LINK_LOCAL):  # type: ignore[arg-type]
        # Each link has its own; who sends there says by which.
        return [one for one in valid if one.uses(carpdev)]
    valid.sort(key=fib.rank)
    gateways = [one.metric for one in valid if not one.direct]
    if len(gateways) == len(set(gateways)):
        return valid
    ordered = []
    metric = 0
    for one in valid:
        metric = max(one.metric, metric + 1)
        ordered.append(one.replace(metric=metric))
    return ordered


class _Within:
    """Whether a destination lies in one of these, and is not one of them. Those of length 0 do not count."""

    def __init__(self, family: int, prefixes: Iterable[Prefix]) -> None:
        self._bits = 32 if family == AF_INET else 128
        heads: dict[int, set[int]] = {}
        for length, destination, *_source in prefixes:
            if length:
                heads.setdefault(length, set()).add(int.from_bytes(destination, "big") >> (self._bits - length))
        self._heads = tuple(sorted(heads.items()))

    def __contains__(self, prefix: Prefix) -> bool:
        own, destination = prefix[0], int.from_bytes(prefix[1], "big")
        return any(own >= length and destination >> (self._bits - length) in members for length, members in self._heads)


_QUICK = {
    family: (netlink.attribute(fib.RTA_DST, bytes(octets))[:4], bytes(octets))
    for family, octets in ((AF_INET, 4), (AF_INET6, 16))
}


def _prefix_in(payload: bytes, family: int) -> Prefix:
    """As `parse_route` finds it. The kernel puts table and destination first."""
    start, nothing = _QUICK[family]
    length = payload[1]
    if not payload[2]:
        if not length:
            return 0, nothing, 0, b""
        if payload[20:24] == start:
            return length, payload[24 : 24 + len(nothing)], 0, b""
    return fib.parse_route(payload).prefix


# The rules


@dataclass(frozen=True, slots=True)
class Mirror:
    """A rule of ours, the one that it stands directly before, and the one that it stands behind, if that matters."""

    rule: Rule
    before: Rule
    behind: Rule | None


def _selects(rule: Rule, ip: Address) -> bool | None:
    """Whether a rule is for what leaves from an address, without its inversion; None: that depends on its selectors."""
    if rule.source is not None and ip not in rule.source:
        return False
    if rule.get(fib.FRA_IIFNAME) not in (None, b"lo\0"):
        return False
    if any(rule.get(one) is not None for one in (fib.FRA_OIFNAME, fib.FRA_L3MDEV, fib.FRA_TUN_ID)):
        # Only sockets that are bound to an interface; such a tunnel has no address of ours.
        return False
    depends = rule.tos or any(kind not in _NO_CONDITIONS for kind, _value in rule.attributes)
    return None if depends else True


_NO_CONDITIONS = frozenset({fib.FRA_IIFNAME, fib.FRA_GOTO, 13, fib.FRA_SUPPRESS_PREFIXLEN})
"""13: FRA_SUPPRESS_IFGROUP."""


def catches(rule: Rule, ip: Address) -> bool:
    """Whether a rule may be for what leaves from an address."""
    selects = _selects(rule, ip)
    return selects is not True if rule.flags & fib.INVERT else selects is not False


def _mirrors(rule: Rule, ip: Address, place: Place, tables: Sequence[Rule]) -> Iterator[Rule]:
    """The rules for one address before `rule`, with the lookups that `tables` are."""
    selectors = tuple(one for one in rule.attributes if one[0] not in (fib.FRA_GOTO, fib.FRA_SUPPRESS_PREFIXLEN, 13))
    if rule.flags & fib.INVERT:
        if _selects(rule, ip) is None:
            # What it is not for goes past our lookups to the rule itself.
            skip = ((fib.FRA_GOTO, netlink.WORD.pack(rule.priority)),)
            yield _placed(rule, ip, place, selectors + skip).replace(action=fib.GOTO, table=place.tables)
        selectors = ()
        rule = rule.replace(tos=0, lengths=0)
    suppressed = tuple(one for one in rule.attributes if one[0] in (fib.FRA_SUPPRESS_PREFIXLEN, 13))
    for one in tables:
        yield _placed(rule, ip, place, selectors + one.attributes + suppressed).replace(table=one.table)


def _looked_up(rule: Rule, ip: Address, rules: Sequence[Rule]) -> Sequence[Rule]:
    """The rules whose lookups an address gets at `rule`: itself, or those that it goes to, past their own mirrors.

    A target with selectors of its own is left out.
    """
    if rule.action != fib.GOTO:
        return (rule,) if rule.action == fib.TO_TABLE else ()
    target = netlink.number(rule.get(fib.FRA_GOTO))
    return [
        one
        for one in rules
        if (one.priority, one.action, one.flags) == (target, fib.TO_TABLE, 0)
        and not one.attributes
        and _selects(one, ip) is True
        and not one.lengths
    ]


def _placed(rule: Rule, ip: Address, place: Place, attributes: tuple[tuple[int, bytes], ...]) -> Rule:
    if ip.version == 6 and ip.is_link_local:
        # Another link may have the same address.
        attributes += ((fib.FRA_OIFNAME, place.name.encode() + b"\0"),)
    return Rule(
        rule.family,
        max(rule.priority - 1, 0),
        fib.TO_TABLE,
        source=ip_network(ip),
        lengths=rule.lengths,
        tos=rule.tos,
        attributes=tuple(sorted(attributes)),
    )


# All of it


@dataclass(slots=True)
class Ways:
    """What a virtual host needs: rules, its tables, the subnets that only it has, and the rules that keep its
    addresses silent while it is not MASTER. `expires`: it is no longer true after this many seconds."""

    mirrors: list[Mirror] = field(default_factory=list)
    tables: dict[tuple[int, int], tuple[Route, ...]] = field(default_factory=dict)
    subnets: list[tuple[Route, Address]] = field(default_factory=list)
    silence: list[Rule] = field(default_factory=list)
    left_out: set[int] = field(default_factory=set)
    """Tables for which we have no more of ours: answers go by the carpdev's own MAC where these have the route."""
    expires: float = field(default=_NEVER, compare=False)

    @property
    def rules(self) -> list[Rule]:
        return [mirror.rule for mirror in self.mirrors]


class Planner:
    """Plans the ways of one virtual host again and again: a table keeps its numbers."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._slots: dict[int, int] = {}
        self._looked_up: set[int] = set()
        self._made: dict[tuple[int, int], tuple[Translation, list[Route], tuple[Route, ...], tuple[Route, ...]]] = {}

    def plan(self, snapshot: Snapshot) -> Ways:
        ways = Ways()
        self._looked_up = {rule.table for family in self.place.families for rule in snapshot.rules(family)}
        for family in self.place.families:
            ips = [one.ip for one in self.place.addresses if (one.version == 6) is (family == AF_INET6)]
            rules = [one for one in snapshot.rules(family) if not is_ours(one)]
            self._plan_subnets(ways, snapshot, family)
            for ip in ips:
                if self.place.device != self.place.carpdev:
                    self._mirror(ways, snapshot, ip, rules)
                if family == AF_INET6:
                    self._silence(ways, ip, rules)
        return ways

    def _mirror(self, ways: Ways, snapshot: Snapshot, ip: Address, rules: list[Rule]) -> None:
        behind = None
        for rule in rules:
            if not catches(rule, ip) or rule.table == fib.LOCAL:
                continue
            # None fits before one of priority 0.
            looked_up = _looked_up(rule, ip, rules) if rule.priority else ()
            lookups = [one for each in looked_up for one in self._tables(ways, snapshot, each)]
            for one in _mirrors(rule, ip, self.place, lookups) if lookups else ():
                stands = behind if behind is not None and behind.priority < rule.priority else None
                ways.mirrors.append(Mirror(one, rule, stands))
            behind = rule

    def _tables(self, ways: Ways, snapshot: Snapshot, rule: Rule) -> list[Rule]:
        """Our lookups before a rule's own, as rules whose table and suppression count."""
        found = translate(snapshot, rule.family, rule.table, self.place.carpdev)
        if found is None and rule.table == MAIN and any(route.family == rule.family for route, _source in ways.subnets):
            # Answers to the subnet need not wait for the main table's route, which comes after the addresses.
            found = _NOTHING
        if found is None:
            return []
        slot = self._slot(rule.table)
        if slot is None:
            ways.left_out.add(rule.table)
            return []
        ways.expires = min(ways.expires, found.expires)
        first, second = self.place.tables + slot, self.place.tables + slot + 1
        if (rule.family, first) not in ways.tables:
            own = [route for route, _source in ways.subnets if rule.table == MAIN and route.family == rule.family]
            own = _among(own, found, snapshot) if own else own
            made = self._made.get((rule.family, rule.table))
            if made is None or made[0] is not found or made[1] != own:
                made = self._made[rule.family, rule.table] = found, own, *self._by_device(found, own)
            ways.tables[rule.family, first] = made[2]
            if found.split:
                ways.tables[rule.family, second] = made[3]
        if not found.split:
            return [rule.replace(table=first, attributes=())]
        past = ((fib.FRA_SUPPRESS_PREFIXLEN, _SUPPRESS_DEFAULT),)
        lookups = [rule.replace(table=first, attributes=())]
        if rule.get(fib.FRA_SUPPRESS_PREFIXLEN) is None:
            lookups += [rule.replace(attributes=past), rule.replace(table=second, attributes=())]
        return lookups

    def _slot(self, table: int) -> int | None:
        """Which of our tables stands for one; None where there are no more."""
        if table not in self._slots:
            if len(self._slots) == TABLES // 2:
                self._slots = {one: slot for one, slot in self._slots.items() if one in self._looked_up}
            free = (slot for slot in range(0, TABLES, 2) if slot not in self._slots.values())
            slot = next(free, None)
            if slot is None:
                return None
            self._slots[table] = slot
        return self._slots[table]

    def _by_device(self, found: Translation, own: list[Route]) -> tuple[tuple[Route, ...], tuple[Route, ...]]:
        # Once a subnet of ours is there, the main table has it by the device, which asks for a throw.
        taken = {route.prefix for route in own}
        inner = sorted([*own, *(one for one in found.inner if one.prefix not in taken)], key=lambda one: -one.prefix[0])
        carpdev, device = self.place.carpdev, self.place.device
        first, second = (
            tuple(one.through(carpdev, device) if one.hops else one for one in routes)
            for routes in (inner if found.split else [*inner, *found.outer], found.outer)
        )
        return first, second

    def _plan_subnets(self, ways: Ways, snapshot: Snapshot, family: int) -> None:
        """The subnets of addresses that no interface has: without a route nothing that is sent there arrives."""
        for one in self.place.addresses:
            network = one.network
            if (one.version == 6) is not (family == AF_INET6) or network.prefixlen == one.max_prefixlen:
                continue
            if one.ip.is_link_local or any(route.network == network for route, _source in ways.subnets):
                continue
            if not any(_holds(direct, network) for direct in _direct_networks(snapshot, family)):
                prefix = (network.prefixlen, network.network_address.packed, 0, b"")
                metric, scope = (_CONNECTED_METRIC, 0) if family == AF_INET6 else (0, 253)
                hops = (fib.Hop(self.place.device),)
                ways.subnets.append((Route(family, prefix, fib.UNICAST, hops, metric=metric, scope=scope), one.ip))

    def _silence(self, ways: Ways, ip: Address, rules: list[Rule]) -> None:
        """A rule against what this host sends from it: from an IPv6 address that is not here the kernel lets programs
        send."""
        first = next((rule for rule in rules if rule.priority and catches(rule, ip)), None)
        if first is None:
            return
        local = ((fib.FRA_IIFNAME, b"lo\0"),)
        rule = Rule(AF_INET6, 0, fib.UNREACHABLE, self.place.tables, ip_network(ip), attributes=local)
        if ip.is_link_local:
            rule = rule.replace(attributes=(*local, (fib.FRA_OIFNAME, self.place.name.encode() + b"\0")))
        ways.silence.append(rule.replace(priority=max(first.priority - 2, 1)))


def refusal(ifname: str, ip: IPv4Address, tables: int, rules: Iterable[Rule]) -> Rule:
    """A rule with which no route leads from that interface to an address: then no proxy ARP answers for it.

    What is here is in the local table, which comes before. It stands before all rules of others, not farther than it
    must: the kernel puts a rule that has no priority before ours, and with priority 0 that would be the last resort.
    """
    first = min((one.priority for one in rules if one.priority and not is_ours(one)), default=_MAIN_PRIORITY)
    selectors = ((fib.FRA_DST, ip.packed), (fib.FRA_IIFNAME, ifname.encode() + b"\0"))
    priority = max(first - 2, 1)
    return Rule(AF_INET, priority, fib.UNREACHABLE, tables, lengths=ip.max_prefixlen, attributes=selectors)


def _holds(outer: Network, inner: Network) -> bool:
    return outer.prefixlen <= inner.prefixlen and inner.network_address in outer


def _direct_networks(snapshot: Snapshot, family: int) -> list[Network]:
    """Those that the main table reaches on a link, but for ours."""
    key = ("direct", family)
    if key not in snapshot.kept:
        gateway = netlink.attribute(fib.RTA_GATEWAY, bytes(16))[:4]
        snapshot.kept[key] = [
            fib.parse_route(payload).network
            for payload in snapshot.payloads(family, MAIN)
            if payload[1]
            and payload[7] == fib.UNICAST
            and payload[5] != OWN_PROTOCOL
            # IPv4: RT_SCOPE_LINK.
            and (payload[6] == 253 if family == AF_INET else gateway not in payload)
        ]
    found: list[Network] = snapshot.kept[key]
    return found


def near(adding: Iterable[Route], wanted: Iterable[Route], there: Sequence[Route]) -> list[Route]:
    """Routes to gateways, to be in a table while `adding` are added to it, and no longer.

    IPv6 looks for the gateway of a new route in the route's table, and if that has no way to it goes through the rules
    (`ip6_route_check_nh`): what is found has to be on the gateway's own link. Here it may be neither. `wanted` are all
    routes that the table is to have, `there` those of them that it has while the others are added.
    """
    gateways = {
        (hop.index, value)
        for one in adding
        if one.family == AF_INET6
        for hop in one.hops
        for kind, value in hop.attributes
        if kind == fib.RTA_GATEWAY
    }
    if not gateways:
        return []
    by_prefix: dict[tuple[int, int], list[Route]] = {}
    for one in wanted:
        length, destination, *_source = one.prefix
        if one.family == AF_INET6 and length:
            by_prefix.setdefault((length, int.from_bytes(destination, "big") >> (128 - length)), []).append(one)
    lengths = sorted({length for length, _head in by_prefix}, reverse=True)
    present = frozenset(there)
    found = []
    for index, gateway in sorted(gateways):
        if IPv6Address(gateway) in _LINK_LOCAL:
            continue
        number = int.from_bytes(gateway, "big")
        holding = [one for length in lengths for one in by_prefix.get((length, number >> (128 - length)), ())]
        best = min(holding, key=lambda one: (-one.prefix[0], one.metric), default=None)
        found_there = best in present and best is not None and best.direct and best.uses(index)
        if not found_there or any(one.prefix[2] for one in holding):
            found.append(Route(AF_INET6, (128, gateway, 0, b""), fib.UNICAST, (fib.Hop(index),), metric=1))
    return found


def is_ours(rule: Rule) -> bool:
    """Whether it is the rule of some virtual host."""
    return rule.protocol == OWN_PROTOCOL


def rule_warnings(
    rules: Sequence[Rule], own: Sequence[Address], floating: Sequence[Address]
) -> Iterator[tuple[str, Rule, Address, Address | None]]:
    """Which rules of others answers from `floating` addresses cannot follow as those from the carpdev's `own` do.

    (kind, rule, floating address, own address): "rule-own-address", the rule is for one of its own addresses and for
    none of the floating ones; "rules-equal", another rule has its priority, or it is 0, so that none fits before it.
    """
    others = [one for one in rules if not is_ours(one) and one.action == fib.TO_TABLE and one.table != fib.LOCAL]
    for rule in others if floating else ():
        narrow = rule.source is not None and not rule.flags & fib.INVERT
        known = any(one.source is not None and one.table == rule.table and floating[0] in one.source for one in others)
        mine = next((ip for ip in own if narrow and catches(rule, ip)), None)
        if mine is not None and not known and not any(catches(rule, ip) for ip in floating):
            yield "rule-own-address", rule, floating[0], mine
    for ip in floating:
        caught = [rule for rule in others if catches(rule, ip)]
        for at, rule in enumerate(caught):
            if not rule.priority or (at and caught[at - 1].priority == rule.priority):
                yield "rules-equal", rule, ip, None

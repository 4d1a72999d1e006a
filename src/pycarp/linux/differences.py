"""What the kernel has of a virtual host's ways and should not have, or lacks: as requests. Touches nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from .._records import dataclass, field
from .fib import AF_INET, AF_INET6, MAIN, Route, Rule, Snapshot
from .interfaces import OWN_PROTOCOL
from .routes import TABLES, Mirror, Place, Ways, is_own_table, near


@dataclass(slots=True)
class Differences:
    """`requests` make it right. `missing` says what somebody else must have removed: "rules" or "routes"."""

    requests: list[bytes] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)


def compare(ways: Ways, place: Place, snapshot: Snapshot, master: bool) -> Differences:
    """`master`: its addresses are here, so its device is up."""
    found = Differences()
    for family in place.families:
        _compare_rules(found, ways, place, snapshot, family, master)
        numbers = {table for each, table in ways.tables if each == family}
        if place.device != place.carpdev:
            numbers |= {one.table for one in snapshot.rules(family) if _owner(one) == place.tables}
        for table in sorted(numbers):
            if is_own_table(table):
                actual = [one for one in snapshot.routes(family, table) if one.protocol == OWN_PROTOCOL]
                _compare_table(found, ways.tables.get((family, table), ()), actual, table, place, master)
        _compare_subnets(found, ways, place, snapshot, family, master)
    return found


def leftover(rule: Rule, place: Place) -> bool:
    """Whether a rule of our protocol is this virtual host's, or for one of its addresses."""
    if _owner(rule):
        return _owner(rule) == place.tables
    # One that looks up another's table has no number of ours.
    return any(rule.source is not None and one.ip == rule.source.network_address for one in place.addresses)


def _owner(rule: Rule) -> int:
    return rule.table & ~(TABLES - 1) if is_own_table(rule.table) else 0


def _compare_rules(found: Differences, ways: Ways, place: Place, snapshot: Snapshot, family: int, master: bool) -> None:
    rules = snapshot.rules(family)
    mirrors = [mirror for mirror in ways.mirrors if mirror.rule.family == family]
    silence = [] if master else [rule for rule in ways.silence if rule.family == family]
    actual = [rule for rule in rules if rule.protocol == OWN_PROTOCOL and leftover(rule, place)]
    wanted = [mirror.rule for mirror in mirrors] + silence
    missing = [rule for rule in wanted if rule not in actual]
    stale = [rule for rule in actual if rule not in wanted]
    if missing:
        found.missing.add("rules")
    # Added again they stand behind the rules of the same priority, and behind each other.
    again = _to_be_moved(mirrors, rules, missing)
    stale += [rule for rule in again if rule not in missing]
    missing = [*again, *(rule for rule in missing if rule not in again)]
    # In this order: at no time is there a way without its rule, unless that only changes its place.
    found.requests += [rule.delete() for rule in stale if rule in missing]
    found.requests += [rule.add() for rule in missing]
    found.requests += [rule.delete() for rule in stale if rule not in missing]


def _to_be_moved(mirrors: Sequence[Mirror], rules: Sequence[Rule], missing: Sequence[Rule]) -> list[Rule]:
    """All mirrors of one address of one priority, where one of them is missing or not in its place."""
    places = {rule: at for at, rule in reversed(list(enumerate(rules)))}
    groups: dict[object, list[Mirror]] = {}
    for mirror in mirrors:
        groups.setdefault((mirror.rule.source, mirror.rule.priority), []).append(mirror)
    moved = []
    for group in groups.values():
        former = -1
        for mirror in group:
            at, before = places.get(mirror.rule, -1), places.get(mirror.before, len(rules))
            behind = -1 if mirror.behind is None else places.get(mirror.behind, -1)
            if mirror.rule in missing or not max(behind, former) < at < before:
                moved += [one.rule for one in group]
                break
            former = at
    return moved


def _compare_table(
    found: Differences, wanted: Sequence[Route], actual: Iterable[Route], table: int, place: Place, master: bool
) -> None:
    groups = _grouped(wanted)
    there = _grouped(actual)
    before: list[bytes] = []
    kept: list[Route] = []
    new: list[Route] = []
    after: list[bytes] = []
    for key in dict.fromkeys(itertools.chain(groups, there)):
        want, has = groups.get(key, []), there.get(key, [])
        if want == has or (not master and any(one.uses(place.device) for one in want)):
            continue  # these come with the device
        keep = [one for one in has if one in want]
        if keep != want[: len(keep)]:
            keep = []
        if key[0] == AF_INET6 and any(one.direct for one in has if one not in keep):
            # By a request without a gateway IPv6 deletes the first one of them, whatever its gateway is.
            keep = []
        gone = [one.delete(table) for one in sorted(has, key=lambda one: one.direct) if one not in keep]
        new += want[len(keep) :]
        kept += keep
        if set(want) - set(has):
            found.missing.add("routes")
        if key[0] == AF_INET and not any(one in has for one in want[len(keep) :]):
            after += gone
        else:
            # IPv6 joins gateways of one metric to one route; what is put in order is removed first.
            before += gone
    help_needed = near(new, wanted, kept)
    found.requests += before
    found.requests += [one.add(table) for one in [*help_needed, *new]]
    found.requests += [one.delete(table) for one in help_needed]
    found.requests += after


def _grouped(routes: Iterable[Route]) -> dict[tuple[object, ...], list[Route]]:
    groups: dict[tuple[object, ...], list[Route]] = {}
    for one in routes:
        groups.setdefault((one.family, one.prefix, one.tos, one.metric), []).append(one)
    return groups


def _compare_subnets(
    found: Differences, ways: Ways, place: Place, snapshot: Snapshot, family: int, master: bool
) -> None:
    actual = [one for one in snapshot.routes(family, MAIN, place.device) if one.protocol == OWN_PROTOCOL]
    wanted = [(route, source) for route, source in ways.subnets if route.family == family]
    own = {route.prefix for route, _source in wanted}
    if place.device == place.carpdev:
        # Others without a MAC of their own may have theirs on the same interface.
        mine = {(one.network.prefixlen, one.network.network_address.packed, 0, b"") for one in place.addresses}
        actual = [one for one in actual if one.prefix in mine]
    found.requests += [one.delete(MAIN) for one in actual if one.prefix not in own or not master]
    if master:
        there = {one.prefix for one in actual}
        lacking = [(route, source) for route, source in wanted if route.prefix not in there]
        found.requests += [route.add(MAIN, source) for route, source in lacking]
        if lacking:
            found.missing.add("routes")


@dataclass(slots=True)
class Parts:
    """A table's routes by what a take has to do for them; those of one destination and metric in their order."""

    links: list[Route] = field(default_factory=list)
    """They go and come with the device, and lead to what is on its link."""
    gateways: list[Route] = field(default_factory=list)
    """They go and come with the device, by gateways."""
    mixed: list[Route] = field(default_factory=list)
    """Some of them go with the device and some stay, or one does so in part."""
    staying: list[Route] = field(default_factory=list)
    """They do not go by the device."""


def part(routes: Iterable[Route], device: int) -> Parts:
    parts = Parts()
    for group in _grouped(routes).values():
        if not any(one.uses(device) for one in group):
            parts.staying += group
        elif any(goes_by_another(one, device) for one in group):
            parts.mixed += group
        elif all(one.direct for one in group):
            parts.links += group
        else:
            parts.gateways += group
    return parts


def goes_by_another(route: Route, device: int) -> bool:
    """Whether it stays, at least in part, when the device goes."""
    return not route.hops or any(hop.index != device for hop in route.hops)

"""Findings about firewalls: what of nf_tables, iptables and bridges stops adverts, ARP or answers."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

from .. import gate
from ..capabilities import effective
from . import nftables
from .kinds import Finding, finding
from .machine import Machine, Place
from .nftables import Chain

_ROUTED = ("inet", "ip", "ip6")
_ROOT = "run it as root, or with CAP_NET_ADMIN"


def look(machine: Machine, places: Sequence[Place], most_rules: int) -> Iterator[Finding]:
    yield from _bridges(machine)
    try:
        chains = nftables.read(most_rules)
    except PermissionError as error:
        if "CAP_NET_ADMIN" not in effective():
            yield finding("firewall-unseen", why="it needs CAP_NET_ADMIN", how=_ROOT)
            return
        # A container's filter of system calls, or a security module.
        yield finding("no-gate", why=f"nf_tables: {error.strerror}")
        chains = []
    except OSError as error:
        # A kernel without nf_tables has no such firewall.
        if error.errno in (errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP):
            yield finding("no-gate", why=f"nf_tables: {error.strerror}")
        else:
            yield finding("firewall-unseen", why=str(error.strerror), how=_ROOT)
        chains = []
    for table in sorted({*machine.lines("/proc/thread-self/net/ip_tables_names")} | {*_legacy6(machine)}):
        how = "read it with iptables-legacy-save and ip6tables-legacy-save"
        yield finding("firewall-unseen", why=f"table {table} of the older iptables", how=how)
    for chain in chains:
        # A gate of ours is no finding.
        if chain.family != "netdev" or gate.owner_of(chain.table) is None:
            yield from _of_chain(machine, places, chain)


def _legacy6(machine: Machine) -> list[str]:
    return machine.lines("/proc/thread-self/net/ip6_tables_names")


def _bridges(machine: Machine) -> Iterator[Finding]:
    if not any(link.kind == "bridge" for link in machine.links.values()):
        return
    names = [f"bridge-nf-call-{tables}" for tables in ("iptables", "ip6tables", "arptables")]
    on = [name for name in names if machine.setting(f"bridge/{name}")]
    if on:
        yield finding("bridge-netfilter", settings=" and ".join(on))


def _of_chain(machine: Machine, places: Sequence[Place], chain: Chain) -> Iterator[Finding]:
    has_bridge = any(link.kind == "bridge" for link in machine.links.values())
    if chain.family == "bridge" and chain.policy_drops and has_bridge:
        yield finding("bridge-filter", chain=chain)
    routed = chain.family in _ROUTED
    if routed and chain.hook == "input" and chain.policy_drops:
        yield finding("input-policy", chain=chain, addresses=", ".join(dict.fromkeys(p.named() for p in places)))
    for place in places:
        carpdev = place.carpdev
        values = {"chain": chain, "carpdev": carpdev.name, "device": place.device, "addresses": place.named()}
        if chain.family == "netdev" or chain.hook == "ingress":
            if chain.drops and {carpdev.name, place.device} & {*chain.devices}:
                egress = chain.hook == "egress"
                yield finding("egress-filter" if egress else "ingress-filter", place.where, **values)
            continue
        if not place.virtual or not routed or not _of_family(chain, place):
            continue
        if chain.looks_back and chain.rule_drops:
            yield finding("fib-filter", place.where, **values)
        wanted = {carpdev.name, f"#{carpdev.index}"}
        if place.host is not None and chain.interfaces & wanted and place.device not in chain.interfaces:
            yield finding("rules-by-interface", place.where, **values)


def _of_family(chain: Chain, place: Place) -> bool:
    return chain.family == "inet" or place.uses(6 if chain.family == "ip6" else 4)

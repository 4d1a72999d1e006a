"""Reads the base chains of nf_tables, and what their rules look at, from the kernel.

iptables-nft keeps its rules there too. Those of the older iptables stay unseen.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

from ..._records import dataclass, field
from ..._unpatched import socket
from .. import netlink

# include/uapi/linux/netfilter/nfnetlink.h, nf_tables.h
_NETFILTER = 12
_NFT = 10 << 8
_GETCHAIN, _GETRULE, _GETSETELEM = _NFT | 4, _NFT | 7, _NFT | 13
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY = 1, 3, 4, 5
_HOOK_NUMBER, _HOOK_DEVICE, _HOOK_DEVICES = 1, 3, 4
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_META_KEY, _META_IIF, _META_IIFNAME = 2, 4, 6
_CMP_OPERATION, _CMP_DATA, _CMP_EQUAL = 2, 3, 0
_LOOKUP_SET = 1
_FIB_RESULT, _FIB_FLAGS, _FIB_SOURCE, _FIB_RESULT_OIF = 2, 3, 1, (1, 2)
_IMMEDIATE_DATA, _DATA_VALUE, _DATA_VERDICT, _VERDICT_CODE = 2, 1, 2, 1
_MATCH_NAME = 1
_ELEMENTS_TABLE, _ELEMENTS_SET, _ELEMENTS_LIST, _ELEMENT_KEY = 1, 2, 3, 1

FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_HOOKS = {
    "netdev": ("ingress", "egress"),
    "arp": ("input", "output", "forward"),
    "": ("prerouting", "input", "forward", "output", "postrouting", "ingress"),
}
_GENERIC = struct.Struct("!BBH")


@dataclass(slots=True)
class Chain:
    """A chain; `hook` is "" for one that others jump to. `drops`: by its policy, or by one of its rules."""

    family: str
    table: str
    name: str
    hook: str = ""
    policy_drops: bool = False
    devices: tuple[str, ...] = ()
    rule_drops: bool = False
    looks_back: bool = False
    """A rule asks whether the way back to the source is by the interface that the packet came by."""
    interfaces: set[str] = field(default_factory=set)
    """Names (or #numbers) of interfaces that a rule wants packets to come by."""

    @property
    def drops(self) -> bool:
        return self.policy_drops or self.rule_drops

    def __str__(self) -> str:
        return f"chain {self.name} of table {self.family} {self.table}"


def read(most_rules: int) -> list[Chain]:
    """All chains, with what the first `most_rules` rules say. `OSError`: EPERM without CAP_NET_ADMIN."""
    chains: dict[tuple[int, str, str], Chain] = {}
    for family, body in _dump(_GETCHAIN, 0, b""):
        chain = _chain(family, body)
        if chain is not None:
            chains[family, chain.table, chain.name] = chain
    sets: dict[tuple[int, str, str], set[str]] = {}
    for count, (family, body) in enumerate(_dump(_GETRULE, 0, b"")):
        if count == most_rules:
            break
        key = (family, netlink.string(body.get(_RULE_TABLE)), netlink.string(body.get(_RULE_CHAIN)))
        if key in chains:
            for name in _note_rule(chains[key], body.get(_RULE_EXPRESSIONS, b"")):
                at = (family, key[1], name)
                if at not in sets:
                    sets[at] = _elements(*at)
                chains[key].interfaces |= sets[at]
    return list(chains.values())


def _chain(family: int, body: dict[int, bytes]) -> Chain | None:
    if family not in FAMILIES:
        return None
    name = FAMILIES[family]
    chain = Chain(name, netlink.string(body.get(_CHAIN_TABLE)), netlink.string(body.get(_CHAIN_NAME)))
    if _CHAIN_HOOK in body:
        hook = netlink.attributes(body[_CHAIN_HOOK])
        hooks = _HOOKS.get(name, _HOOKS[""])
        number = _number(hook.get(_HOOK_NUMBER))
        chain.hook = hooks[number] if number < len(hooks) else str(number)
        chain.policy_drops = body.get(_CHAIN_POLICY, b"\0\0\0\1") == bytes(4)
        several = (data for _kind, data in netlink.each_attribute(hook.get(_HOOK_DEVICES, b"")))
        chain.devices = tuple(map(netlink.string, (*several, *([hook[_HOOK_DEVICE]] if _HOOK_DEVICE in hook else ()))))
    return chain


def _note_rule(chain: Chain, expressions: bytes) -> Iterator[str]:
    """Note what a rule looks at; gives the names of sets of interfaces, whose elements are still to be read."""
    incoming = ""
    for _kind, raw in netlink.each_attribute(expressions):
        element = netlink.attributes(raw)
        name, data = (
            netlink.string(element.get(_EXPRESSION_NAME)),
            netlink.attributes(element.get(_EXPRESSION_DATA, b"")),
        )
        if name == "meta":
            key = _number(data.get(_META_KEY))
            incoming = {_META_IIF: "index", _META_IIFNAME: "name"}.get(key, "")
        elif name == "cmp":
            if incoming and _number(data.get(_CMP_OPERATION)) == _CMP_EQUAL:
                value = netlink.attributes(data.get(_CMP_DATA, b"")).get(_DATA_VALUE, b"")
                chain.interfaces.add(_interface(value, incoming == "index"))
            incoming = ""
        elif name == "lookup":
            if incoming == "name":
                yield netlink.string(data.get(_LOOKUP_SET))
            incoming = ""
        elif name == "fib":
            source = _number(data.get(_FIB_FLAGS)) & _FIB_SOURCE
            chain.looks_back |= bool(source) and _number(data.get(_FIB_RESULT)) in _FIB_RESULT_OIF
        elif name == "match":
            chain.looks_back |= netlink.string(data.get(_MATCH_NAME)) == "rpfilter"
        elif name == "reject":
            chain.rule_drops = True
        elif name == "immediate":
            verdict = netlink.attributes(data.get(_IMMEDIATE_DATA, b"")).get(_DATA_VERDICT, b"")
            chain.rule_drops |= netlink.attributes(verdict).get(_VERDICT_CODE) == bytes(4)


def _elements(family: int, table: str, name: str) -> set[str]:
    """The names of interfaces in a set or a map."""
    found = set()
    wanted = netlink.text(_ELEMENTS_TABLE, table) + netlink.text(_ELEMENTS_SET, name)
    for _family, body in _dump(_GETSETELEM, family, wanted):
        for _kind, raw in netlink.each_attribute(body.get(_ELEMENTS_LIST, b"")):
            key = netlink.attributes(netlink.attributes(raw).get(_ELEMENT_KEY, b"")).get(_DATA_VALUE, b"")
            found.add(netlink.string(key))
    return found


def _dump(kind: int, family: int, attributes: bytes) -> Iterator[tuple[int, dict[int, bytes]]]:
    """(family, attributes) of all objects of a kind."""
    body = _GENERIC.pack(family, 0, 0) + attributes
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER) as asking:
        asking.bind((0, 0))
        asking.send(netlink.message(kind, netlink.DUMP, body))
        while True:
            for answer, flags, _sequence, payload in netlink.messages(asking.recv(1 << 17)):
                if answer == netlink.NLMSG_ERROR:
                    error = netlink.failure(flags, payload)
                    # ENOENT: it went while it was read.
                    if error is not None and error.errno != errno.ENOENT:
                        raise error
                    return
                if answer == netlink.NLMSG_DONE:
                    return
                yield netlink.octet(payload), netlink.attributes(payload, _GENERIC.size)


def _interface(value: bytes, by_index: bool) -> str:
    return f"#{netlink.number(value)}" if by_index and len(value) == 4 else netlink.string(value)


def _number(raw: bytes | None) -> int:
    return int.from_bytes(raw or b"", "big")

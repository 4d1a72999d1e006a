"""The gate: an nftables table that lets a virtual host's packets pass only while its guardian keeps it open.

The table (family netdev, hooks ingress and egress, before all others) accepts while an element with a timeout lives.
The element is set by the packet path: the guardian sends a *key*, a frame that the egress chain takes for itself, and
which says for how long. So a renewal takes no lock, changes no ruleset, and no listener hears of it. Where a key was
swallowed, the send fails with ENOBUFS; a key that was sent says that the table has gone.

On a macvlan everything is kept out and in. On a carpdev that carries the addresses itself (`mac="interface"`), only
packets to and from them, and only from a take to the drop that follows: before and after, the element lives for years.

What passes costs one rule in each direction, of as few expressions as there can be: a packet whose interface's index is
in the set runs to the end of the chain, whose policy accepts. benchmarks/toll.py measures it.

A table whose engine and guardian have died stays, shut. The next start removes it by its name, as what bears our marks.

Numbers are those of include/uapi/linux/netfilter/nf_tables.h. It needs Linux 5.16, the first with egress chains.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

from .._python.guardian import protocol
from .._unpatched import socket
from . import netlink
from .netlink import ACK, APPEND, CREATE, DUMP, EXCLUSIVE, NESTED, attribute, message, nest, text
from .sockets import SocketOwner, closed_on_error

Address = IPv4Address | IPv6Address

KEY_TYPE = 0x88B5
"""The Ethernet type of keys: the first that IEEE 802 leaves to local experiments."""
SHORTEST_STEP = 12
"""In ms, more than a tick of any kernel's clock: less would be no timeout at all."""
LED_LONGEST = 30_000
"""In ms, the longest step for a led virtual host: the program says how long it has the addresses."""
_KEY_LATE = 5
"""In ms, how late a key may be turned after its advert, for the longest time of all; `timing.gate` leaves the room."""
_COMMENT_LENGTH = 120
_KEY_TO = bytes.fromhex("0180c2000003")
"""Where there is no table, a key is on the wire: to a group that no bridge passes on, from no address at all."""
_PRIORITY = -500
_NAME = re.compile(r"pycarp-([0-9]+)-([0-9]+)(-new)?")

Owner = tuple[int, int, bool]
"""Whose gate: the carpdev's index, vhid, and whether it has the turn after one of the same carpdev and vhid."""

_NETFILTER = 12
_SUBSYSTEM = 10
_NETDEV = 5
_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE, _NEWSET, _NEWSETELEM = 0, 1, 2, 3, 6, 9, 12
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_HEADER = struct.Struct("!BBH")
"""struct nfgenmsg: family, version, resource."""

_CONSTANT, _TIMEOUT, _DYNAMIC = 0x2, 0x10, 0x20
_UPDATE, _DELETE = 1, 2
_LINK, _NETWORK = 0, 1
_PROTOCOL, _IIF, _OIF = 1, 4, 5
_INGRESS, _EGRESS = 0, 1
_DROP, _ACCEPT, _JUMP, _GOTO = 0, 1, -3, -4
_REGISTER = 1
_TYPES: dict[int | str, tuple[int, int]] = {"ifindex": (20, 4), 4: (7, 4), 6: (8, 16)}
"""nft's own numbers of set types, for `nft list`, and their lengths."""
_HOST_ORDER = struct.pack("=BBI", 0, 4, 1)
"""For `nft list`: the set's keys are in this machine's byte order."""
_ALIVE_SIZE, _COLLECTED_AFTER_MS = 128, 5000
"""An element that ran out stays in the set until it is collected."""
_UNARMED_MS = 100 * 365 * 24 * 3_600_000
"""How long it lives while nobody has taken the addresses. An element without a timeout could not be given one later."""
_RECEIVE = 1 << 17
_ANSWERED_WITHIN = 5.0


def steps(longest: int, slowest: int = 0) -> tuple[int, ...]:
    """The times in ms that keys can ask for, from the shortest: each at most half longer than the one before.

    `longest` is the time that adverts at the usual pace need; one that is a little shorter is among them, since a key
    is turned a little later than its advert is sent. Longer ones, to more than `slowest`, are for who has no room: a
    demoted host with an advbase of 0, or one whose others take over after one advert.
    """
    found = [max(longest - min(longest // 10, _KEY_LATE), SHORTEST_STEP)]
    while found[-1] * 2 // 3 >= SHORTEST_STEP:
        found.append(found[-1] * 2 // 3)
    while found[0] < slowest:
        found.insert(0, found[0] * 3 // 2)
    return tuple(reversed(found))


# Attributes and expressions


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!i", value) if value < 0 else struct.pack("!I", value))


def _nest(kind: int, *values: bytes) -> bytes:
    return nest(kind | NESTED, *values)


def _expression(name: str, *values: bytes) -> bytes:
    return _nest(1, text(1, name), _nest(2, *values))


def _meta(key: int) -> bytes:
    return _expression("meta", _number(1, _REGISTER), _number(2, key))


def _payload(base: int, offset: int, length: int) -> bytes:
    return _expression("payload", _number(1, _REGISTER), _number(2, base), _number(3, offset), _number(4, length))


def _compare(value: bytes) -> bytes:
    return _expression("cmp", _number(1, _REGISTER), _number(2, 0), _nest(3, attribute(1, value)))


def _lookup(name: str, inverted: bool = False) -> bytes:
    flags = (_number(5, 1),) if inverted else ()
    return _expression("lookup", text(1, name), _number(2, _REGISTER), *flags)


def _change(name: str, how: int, timeout_ms: int = 0) -> bytes:
    time = (attribute(6, struct.pack("!Q", timeout_ms)),) if timeout_ms else ()
    return _expression("dynset", text(1, name), _number(3, how), _number(4, _REGISTER), *time)


def _verdict(code: int, chain: str = "") -> bytes:
    where = (text(2, chain),) if chain else ()
    return _expression("immediate", _number(1, 0), _nest(2, _nest(2, _number(1, code), *where)))


def _is_type(ethernet_type: int) -> bytes:
    return _meta(_PROTOCOL) + _compare(struct.pack("!H", ethernet_type))


def _message(kind: int, options: int, *attributes: bytes) -> bytes:
    return message(_SUBSYSTEM << 8 | kind, options, _HEADER.pack(_NETDEV, 0, 0), *attributes)


def _bracket(kind: int) -> bytes:
    return message(kind, 0, _HEADER.pack(0, 0, _SUBSYSTEM))


def _transaction(*requests: bytes) -> bytes:
    """All or nothing. The last request alone is acknowledged, by its number; what fails answers with its error."""
    *others, last = requests
    return b"".join((_bracket(_BATCH_BEGIN), *others, _with(last, ACK, protocol.GATE_LAST), _bracket(_BATCH_END)))


def _with(request: bytes, more: int, number: int = 0) -> bytes:
    """The request with more flags and with a number."""
    length, kind, flags, _number, port = netlink.HEADER.unpack_from(request)
    return netlink.HEADER.pack(length, kind, flags | more, number, port) + request[netlink.HEADER.size :]


def _name(carpdev: int, vhid: int, turn: bool) -> str:
    return f"pycarp-{carpdev}-{vhid}" + ("-new" if turn else "")


def owner_of(name: str) -> Owner | None:
    """Whose gate has this name: None where it is none."""
    match = _NAME.fullmatch(name)
    return None if match is None else (int(match[1]), int(match[2]), match[3] is not None)


def deletion(carpdev: int, vhid: int, turn: bool) -> bytes:
    """The transaction that removes a gate; ENOENT where there is none."""
    return _transaction(_message(_DELTABLE, 0, text(1, _name(carpdev, vhid, turn))))


class Table:
    """The gate of one virtual host: `add`, `create` and `delete` are transactions, ready to send.

    `create` replaces a table that is there, `add` fails with EEXIST; then the gate is shut. Who sends a transaction in
    which a table goes waits for some ms when he closes the socket, until the kernel has let go of it. `addresses` are
    those of a carpdev that carries them itself; without any, the gate keeps everything. `longest` and `slowest` are for
    `steps`. `made`: the table is there; otherwise the guardian makes it.
    """

    def __init__(
        self,
        carpdev: int,
        vhid: int,
        turn: bool,
        device: str,
        comment: str,
        longest: int,
        addresses: Iterable[Address] = (),
        slowest: int = 0,
    ) -> None:
        self.name = _name(carpdev, vhid, turn)
        self.made = False
        self.steps = steps(longest, slowest)
        self._whose = struct.pack("!BB", vhid, turn)
        self.key = (_KEY_TO + bytes(6) + struct.pack("!H", KEY_TYPE) + self._whose).ljust(protocol.KEY_LENGTH, b"\0")
        self._carpdev = carpdev
        self._device = device
        self._addresses: dict[int, list[bytes]] = {}
        for one in addresses:
            self._addresses.setdefault(one.version, []).append(one.packed)
        self._remark = comment.encode()[:_COMMENT_LENGTH] + b"\0"
        self.delete = deletion(carpdev, vhid, turn)

    # Made when they are asked for: they are long, and asked for at a start and after a fault.

    @property
    def add(self) -> bytes:
        return _transaction(_with(self._made(), EXCLUSIVE), *self._parts())

    @property
    def create(self) -> bytes:
        gone = _message(_DELTABLE, 0, text(1, self.name))
        return _transaction(self._made(), gone, self._made(), *self._parts())

    def _made(self) -> bytes:
        return self._message(_NEWTABLE, attribute(6, bytes((0, len(self._remark))) + self._remark))

    def _parts(self) -> Iterator[bytes]:
        yield from self._sets()
        yield from self._chains()
        yield from self._key_rules()
        yield from self._rules()

    def _message(self, kind: int, *attributes: bytes) -> bytes:
        """Every one names the table by the same attribute."""
        return _message(kind, CREATE | APPEND, text(1, self.name), *attributes)

    # Sets

    def _sets(self) -> list[bytes]:
        found = [self._set("alive", "ifindex", _DYNAMIC | _TIMEOUT, _ALIVE_SIZE, _number(12, _COLLECTED_AFTER_MS))]
        if self._addresses:
            unarmed = attribute(4, struct.pack("!Q", _UNARMED_MS))
            found.append(self._elements("alive", [struct.pack("=I", self._carpdev)], unarmed))
        for version, addresses in self._addresses.items():
            name = f"ipv{version}"
            found += [self._set(name, version, _CONSTANT, len(addresses)), self._elements(name, addresses)]
        return found

    def _elements(self, name: str, keys: Iterable[bytes], *more: bytes) -> bytes:
        elements = (_nest(1, _nest(1, attribute(1, one)), *more) for one in keys)
        return self._message(_NEWSETELEM, text(2, name), _nest(3, *elements))

    def _set(self, name: str, kind: int | str, flags: int, size: int, *more: bytes) -> bytes:
        number, length = _TYPES[kind]
        order = attribute(13, _HOST_ORDER) if kind == "ifindex" else b""
        key = (_number(4, number), _number(5, length))
        # The number only tells the sets of one transaction apart.
        return self._message(
            _NEWSET,
            text(2, name),
            _number(3, flags),
            *key,
            _nest(9, _number(1, size)),
            _number(10, len(name)),
            *more,
            order,
        )

    # Chains and rules

    def _chains(self) -> list[bytes]:
        inner = ("keys", "shut-in", "shut-out") if self._addresses else ("keys",)
        found = [self._message(_NEWCHAIN, text(3, name)) for name in inner]
        for name, hook in (("in", _INGRESS), ("out", _EGRESS)):
            where = _nest(4, _number(1, hook), _number(2, _PRIORITY), text(3, self._device))
            found.append(self._message(_NEWCHAIN, text(3, name), where, _number(5, _ACCEPT), text(7, "filter")))
        return found

    def _rule(self, chain: str, *expressions: bytes) -> bytes:
        return self._message(_NEWRULE, text(2, chain), _nest(4, *expressions))

    def _key_rules(self) -> list[bytes]:
        """What the keys of this vhid ask for. All of its keys end here; others' frames of that type go on."""
        wanted: dict[int, tuple[bytes, ...]] = {protocol.KEY_SHUT: (_change("alive", _DELETE),)}
        if self._addresses:
            wanted[protocol.KEY_DISARM] = (_change("alive", _UPDATE, _UNARMED_MS),)
        for number, time in enumerate(self.steps, protocol.KEY_FIRST_STEP):
            wanted[number] = (_change("alive", _UPDATE, time),)
        at = protocol.KEY_WHAT - len(self._whose)
        rules = []
        for number, changes in wanted.items():
            is_it = (_payload(_LINK, at, 4), _compare(self._whose + struct.pack("!H", number)))
            rules.append(self._rule("keys", *is_it, _meta(_OIF), *changes, _verdict(_DROP)))
        return [*rules, self._rule("keys", _payload(_LINK, at, 2), _compare(self._whose), _verdict(_DROP))]

    def _rules(self) -> list[bytes]:
        rules = [self._rule("out", _is_type(KEY_TYPE), _verdict(_JUMP, "keys"))]
        for chain, interface in (("in", _IIF), ("out", _OIF)):
            shut = _verdict(_GOTO, f"shut-{chain}") if self._addresses else _verdict(_DROP)
            rules.append(self._rule(chain, _meta(interface), _lookup("alive", inverted=True), shut))
            if self._addresses:
                rules += self._partial_rules(chain)
        return rules

    def _partial_rules(self, chain: str) -> list[bytes]:
        """Nobody is answered for the addresses, nothing comes to them, and nothing leaves from them."""
        drop = _verdict(_DROP)
        rules = []
        if 4 in self._addresses:
            at_ip, at_arp = (16, 24) if chain == "in" else (12, 14)
            # An announcement of another host's has the address in both places.
            others = (_payload(_NETWORK, 14, 4), _lookup("ipv4", inverted=True)) if chain == "in" else ()
            rules += [
                self._rule(f"shut-{chain}", _is_type(0x0800), _payload(_NETWORK, at_ip, 4), _lookup("ipv4"), drop),
                self._rule(
                    f"shut-{chain}", _is_type(0x0806), _payload(_NETWORK, at_arp, 4), _lookup("ipv4"), *others, drop
                ),
            ]
        if 6 in self._addresses:
            at = 24 if chain == "in" else 8
            rules.append(
                self._rule(f"shut-{chain}", _is_type(0x86DD), _payload(_NETWORK, at, 16), _lookup("ipv6"), drop)
            )
            # A neighbour solicitation (in), and an advertisement (out), name the address that they are about.
            # Not by the set: nft could not read what it shows.
            kind = bytes((135 if chain == "in" else 136,))
            is_kind = (_payload(_NETWORK, 6, 1), _compare(bytes((58,))), _payload(_NETWORK, 40, 1), _compare(kind))
            for one in self._addresses[6]:
                about = (_payload(_NETWORK, 48, 16), _compare(one))
                rules.append(self._rule(f"shut-{chain}", _is_type(0x86DD), *is_kind, *about, drop))
        return rules


class FilterSocket(SocketOwner):
    """A NETLINK_NETFILTER socket in the network namespace that the calling thread is in now. Raises `OSError`."""

    def __init__(self) -> None:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
        with closed_on_error(opened) as self._socket:
            opened.bind((0, 0))
            opened.settimeout(_ANSWERED_WITHIN)

    def execute(self, transaction: bytes) -> OSError | None:
        """Carry out all of it, or nothing: why not, or None."""
        self._socket.send(transaction)
        while True:
            for kind, flags, number, payload in netlink.messages(self._socket.recv(_RECEIVE)):
                if kind == netlink.NLMSG_ERROR:
                    error = netlink.failure(flags, payload)
                    if error is not None or number == protocol.GATE_LAST:
                        return error

    def tables(self) -> list[Owner]:
        """The gates in this network namespace."""
        found: list[Owner] = []
        self._socket.send(_message(_GETTABLE, DUMP))
        while True:
            for kind, _flags, _number, payload in netlink.messages(self._socket.recv(_RECEIVE)):
                if kind in (netlink.NLMSG_DONE, netlink.NLMSG_ERROR):
                    return found
                name = netlink.attributes(payload, _HEADER.size).get(1, b"").rstrip(b"\0").decode(errors="replace")
                if (whose := owner_of(name)) is not None:
                    found.append(whose)


def describe(table: Table | None, device: int) -> bytes:
    """What the guardian is told of a gate on the interface of that index."""
    if table is None:
        return b""
    create, delete = table.create, table.delete
    head = protocol.GATE_DESCRIPTION.pack(device, table.made, len(table.steps), len(create), len(delete), table.key)
    return head + struct.pack(f"={len(table.steps)}I", *table.steps) + create + delete

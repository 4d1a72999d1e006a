"""Ask a LAN who has an address, from below the IP stack, and hear who answers.

RFC 826 and RFC 5227 for IPv4, RFC 4861 sections 4.3 and 4.4 for IPv6. Questions come from the carpdev's own MAC and
address: no neighbour learns anything new from them.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, ip_address

from .._unpatched import socket
from ..protocol.frames import arp_request, neighbour_solicitation, untagged
from . import bpf
from .interfaces import Interface, source_address
from .messages import Address
from .sockets import SocketOwner, hearing_socket

_ETH_P_ALL, ETH_P_ARP, ETH_P_IPV6 = 0x0003, 0x0806, 0x86DD
_ALL_NODES = bytes.fromhex("333300000001")
_ARP_REPLY = 2
ICMPV6, ADVERTISEMENT, _LINK_LAYER_TARGET = 58, 136, 2
_FRAME = 1 << 11
_READS = 1024
"""At most this many frames are read in a row: a flood of answers gets no more attention than this."""
FILTERED = 256
"""For more addresses than this the filter passes all answers: its length is limited (net.core.optmem_max)."""


class ArpProbe(SocketOwner):
    """Asks on one carpdev for addresses. Not for several threads at once.

    Between `stop` and the next `ask` the kernel hands nothing to it. Its descriptor stays open: opening one needs
    CAP_NET_RAW, which a program may have given up.
    """

    def __init__(self, index: int) -> None:
        self._index = index
        self._mac = b""
        self._asked: frozenset[Address] = frozenset()
        # A question from the unspecified IPv6 address is answered to all nodes, which a host without IPv6 does not
        # listen to.
        self._socket = hearing_socket(index, (bpf.NOTHING,), (_ALL_NODES,))

    def ask(self, carpdev: Interface, addresses: Iterable[Address]) -> None:
        """Send one question for each address, and hear from now on who answers.

        `carpdev` is the interface as it is now. A question that cannot be sent (no carrier, no room) is left out.
        Raises `OSError` where answers cannot be heard.
        """
        addresses = tuple(addresses)
        self._mac = carpdev.mac
        self._listen(addresses)
        for address in addresses:
            self._send(question(carpdev, address, self._asked))

    def _listen(self, addresses: tuple[Address, ...]) -> None:
        """Hear who answers for these, too."""
        if self._asked.issuperset(addresses):
            return
        wanted = self._asked.union(addresses)
        bpf.attach(self._socket, _program(wanted))
        if not self._asked:
            self._socket.bind((socket.if_indextoname(self._index), _ETH_P_ALL))
        self._asked = wanted

    def _send(self, frame: bytes) -> None:
        with contextlib.suppress(OSError):
            self._socket.send(frame)

    def read(self) -> list[tuple[Address, bytes]]:
        """Who has answered since the last call: (address, MAC it is said to be at). Never waits."""
        found: dict[tuple[Address, bytes], None] = {}
        for frame in self._frames():
            told = answer(frame)
            if told is not None and told[0] in self._asked and self._mac not in (told[1], frame[6:12]):
                found[told] = None
        return list(found)

    def _frames(self) -> Iterator[bytes]:
        for _turn in range(_READS):
            try:
                yield untagged(self._socket.recv(_FRAME))
            except OSError:
                break  # nothing more, or the interface went down, which the watch tells

    def stop(self) -> None:
        """Hear nothing until the next `ask`."""
        if not self._asked:
            return
        self._asked = frozenset()
        with contextlib.suppress(OSError):
            bpf.attach(self._socket, (bpf.NOTHING,))
            # Some kernels take protocol 0 for the one there was; then the filter alone keeps frames out.
            self._socket.bind((socket.if_indextoname(self._index), 0))
        self.read()


class PathProbe(ArpProbe):
    """Asks a neighbour twice: from the carpdev's own MAC and address, and from a virtual MAC and its address."""

    def ask_both(self, carpdev: Interface, neighbour: Address, mac: bytes, address: Address) -> None:
        """As MASTER only: the neighbour learns that the virtual `address` is at `mac`. Raises `OSError` as `ask`."""
        self._listen((neighbour,))
        self._send(question(carpdev, neighbour, (address,)))
        ask = arp_request if neighbour.version == 4 else neighbour_solicitation
        self._send(ask(mac, address.packed, neighbour.packed))

    def answered(self) -> set[tuple[Address, bytes]]:
        """Who has answered since the last call, and the MAC to which: (address, MAC). Never waits."""
        told = ((answer(frame), frame[:6]) for frame in self._frames())
        return {(one[0], to) for one, to in told if one is not None and one[0] in self._asked}


def question(carpdev: Interface, address: Address, floating: Iterable[Address] = ()) -> bytes:
    """A whole frame: an ARP request or a neighbour solicitation from the carpdev's own MAC and address.

    Where the carpdev has no address but `floating` ones, the question is that of a host without an address.
    """
    if isinstance(address, IPv4Address):
        return arp_request(carpdev.mac, _near(carpdev, address, floating).packed, address.packed)
    own = source_address(carpdev, 6, frozenset(floating))
    return neighbour_solicitation(carpdev.mac, None if own is None else own.packed, address.packed)


def answer(frame: bytes) -> tuple[Address, bytes] | None:
    """What an ARP reply or a neighbour advertisement tells: (address, MAC); None for any other frame."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == ETH_P_ARP and len(frame) >= 42:
        hardware, protocol, lengths, operation = struct.unpack_from("!HHHH", frame, 14)
        if (hardware, protocol, lengths, operation) != (1, 0x0800, 0x0604, _ARP_REPLY):
            return None
        return ip_address(frame[28:32]), frame[22:28]
    if kind == ETH_P_IPV6 and len(frame) >= 78 and frame[20:22] == bytes((ICMPV6, 255)):
        if frame[54:56] != bytes((ADVERTISEMENT, 0)):
            return None
        # A solicited one may lack the option: then the MAC is the sender's.
        option = frame[78:86]
        mac = option[2:8] if len(option) == 8 and option[:2] == bytes((_LINK_LAYER_TARGET, 1)) else frame[6:12]
        return ip_address(frame[62:78]), mac
    return None


def _near(carpdev: Interface, address: Address, floating: Iterable[Address]) -> Address:
    """The carpdev's address in the same subnet, else any: some hosts answer only hosts of their subnet."""
    floating = frozenset(floating)
    same = tuple(one for one in carpdev.addresses if address in one.interface.network)
    for interface in (carpdev.replace(addresses=same), carpdev):
        own = source_address(interface, 4, floating)
        if own is not None:
            return own
    return IPv4Address(0)


def _program(addresses: frozenset[Address]) -> tuple[bpf.Instruction, ...]:
    """Passes this LAN's ARP replies and neighbour advertisements for these addresses. Of an IPv6 address it compares
    the last four bytes; `read` compares the rest."""
    known = len(addresses) <= FILTERED
    arp = compare(28, [one.packed for one in addresses if one.version == 4], known)
    neighbour = compare(74, [one.packed[12:] for one in addresses if one.version == 6], known)
    arp = [(bpf.LOAD_HALF_BEYOND_X, 0, 0, 20), (bpf.JUMP_IF_EQUAL, 1, 0, _ARP_REPLY), bpf.NOTHING, *arp]
    return either(arp, neighbour)


def compare(at: int, words: list[bytes], known: bool) -> list[bpf.Instruction]:
    """Passes frames that have one of these words at an offset; all of them where there are too many to compare."""
    program: list[bpf.Instruction] = [(bpf.LOAD_WORD_BEYOND_X, 0, 0, at)]
    for word in words if known else ():
        program += [(bpf.JUMP_IF_EQUAL, 0, 1, int.from_bytes(word, "big")), bpf.WHOLE]
    return [*program, bpf.NOTHING if known else bpf.WHOLE]


def either(arp: Sequence[bpf.Instruction], neighbour: Sequence[bpf.Instruction]) -> tuple[bpf.Instruction, ...]:
    """A filter that leaves ARP of this LAN to the one part, its neighbour advertisements to the other."""
    program = [
        (bpf.JUMP_IF_EQUAL, 2, 0, ETH_P_ARP),
        (bpf.JUMP_IF_EQUAL, 2, 0, ETH_P_IPV6),
        bpf.NOTHING,
        (bpf.JUMP, 0, 0, 1),
        (bpf.JUMP, 0, 0, len(arp)),
        *arp,
        (bpf.LOAD_BYTE_BEYOND_X, 0, 0, 20),
        (bpf.JUMP_IF_EQUAL, 1, 0, ICMPV6),
        bpf.NOTHING,
        (bpf.LOAD_BYTE_BEYOND_X, 0, 0, 54),
        (bpf.JUMP_IF_EQUAL, 1, 0, ADVERTISEMENT),
        bpf.NOTHING,
        *neighbour,
    ]
    return bpf.of_this_lan(program)

"""Hear on a LAN who says of itself that it has certain addresses: announcements, questions from them, and answers.

ARP of any kind with the address as its sender (RFC 826, RFC 5227 section 2.4), and neighbour advertisements for it
(RFC 4861 section 4.4).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from .._unpatched import socket
from ..protocol.frames import untagged
from . import bpf
from .arp_probe import ETH_P_ARP, FILTERED, answer, compare, either
from .messages import Address
from .sockets import SocketOwner, hearing_socket

_ETH_P_ALL = 0x0003
_ALL_NODES = bytes.fromhex("333300000001")
_FRAME = 1 << 11
_READS = 64
"""At most this many frames are read in a row: a flood gets no more attention than this."""


class ArpListener(SocketOwner):
    """Hears on one carpdev. Not for several threads at once. Opening one needs CAP_NET_RAW."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._wanted: frozenset[Address] = frozenset()
        self._socket = hearing_socket(index, (bpf.NOTHING,), (_ALL_NODES,))

    def listen(self, addresses: Iterable[Address]) -> None:
        """From now on hear of these alone. Raises `OSError` where the interface has gone."""
        wanted = frozenset(addresses)
        if wanted == self._wanted:
            return
        bpf.attach(self._socket, _program(wanted) if wanted else (bpf.NOTHING,))
        if not self._wanted:
            self._socket.bind((socket.if_indextoname(self._index), _ETH_P_ALL))
        self._wanted = wanted

    def read(self) -> list[tuple[Address, bytes]]:
        """Who was heard since the last call: (address, MAC), each once. Never waits."""
        found: dict[tuple[Address, bytes], None] = {}
        for _turn in range(_READS):
            try:
                told = claim(untagged(self._socket.recv(_FRAME)))
            except OSError:
                break  # nothing more, or the interface went down, which the watch tells
            if told is not None and told[0] in self._wanted:
                found[told] = None
        return list(found)


def claim(frame: bytes) -> tuple[Address, bytes] | None:
    """The address that a frame's sender says it has, and the MAC that it gives; None for any other frame."""
    if int.from_bytes(frame[12:14], "big") == ETH_P_ARP and len(frame) >= 42:
        return (ip_address(frame[28:32]), frame[22:28]) if frame[14:20] == b"\0\1\x08\0\6\4" else None
    return answer(frame)


def _program(addresses: frozenset[Address]) -> tuple[bpf.Instruction, ...]:
    """Passes what this LAN says of these addresses; where they are too many to compare, announcements alone, which
    name the address twice."""
    known = len(addresses) <= FILTERED
    if known:
        arp = compare(28, [one.packed for one in addresses if one.version == 4], known)
    else:
        arp = [
            (bpf.LOAD_WORD_BEYOND_X, 0, 0, 28),
            (bpf.STORE, 0, 0, 0),
            (bpf.LOAD_WORD_BEYOND_X, 0, 0, 38),
            (bpf.LOAD_TO_X, 0, 0, 0),
            (bpf.JUMP_IF_EQUAL_X, 0, 1, 0),
            bpf.WHOLE,
            bpf.NOTHING,
        ]
    neighbour = compare(74, [one.packed[12:] for one in addresses if one.version == 6], known)
    return either(arp, neighbour)

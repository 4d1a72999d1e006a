"""Socket filters in classic BPF. A program is a list of (operation, jump if true, jump if false, constant)."""

from __future__ import annotations

import array
import struct
from collections.abc import Sequence

from .._unpatched import socket
from ..protocol.frames import MOST_TAGS

Instruction = tuple[int, int, int, int]
LOAD_WORD, LOAD_HALF, LOAD_BYTE, JUMP, JUMP_IF_EQUAL, RETURN = 0x20, 0x28, 0x30, 0x05, 0x15, 0x06
LOAD_NUMBER, LOAD_NUMBER_TO_X, MOVE_TO_X, AND = 0x00, 0x01, 0x07, 0x54
STORE, LOAD_TO_X, JUMP_IF_EQUAL_X = 0x02, 0x61, 0x1D
"""Into a register of the filter, from there to X, and compared with X."""
LOAD_WORD_BEYOND_X, LOAD_HALF_BEYOND_X, LOAD_BYTE_BEYOND_X = 0x40, 0x48, 0x50
_ANCILLARY = 0xFFFFF000
NETLINK_ATTRIBUTE = _ANCILLARY + 12
"""Loads where the attribute of number X begins, searched from A on; 0 if it is not there."""
VLAN_TAG, VLAN_PRESENT = _ANCILLARY + 44, _ANCILLARY + 48
NOTHING: Instruction = (RETURN, 0, 0, 0)
WHOLE: Instruction = (RETURN, 0, 0, 0x40000)
_VLAN_ID = 0x0FFF
_CUSTOMER_TAG, _SERVICE_TAG = 0x8100, 0x88A8

_SO_ATTACH_FILTER = 26


def of_this_lan(program: Sequence[Instruction]) -> tuple[Instruction, ...]:
    """A filter that passes what `program` passes, and no frame of another VLAN.

    `program` begins with the ethertype in A, and in X the length of the tags that stand before it: it loads beyond X.
    A tag with VLAN id 0 (priority, IEEE 802.1Q 6.9) is of the untagged LAN, as for the kernel's own stack
    (`__netif_receive_skb_core`). The kernel takes the outer tag out of the bytes; `frames.MOST_TAGS` more are skipped.
    """
    tags: list[Instruction] = [(LOAD_HALF, 0, 0, 12)]
    for number in range(MOST_TAGS):
        left = 9 * (MOST_TAGS - number - 1)
        tags += [
            (JUMP_IF_EQUAL, 2, 0, _CUSTOMER_TAG),
            (JUMP_IF_EQUAL, 1, 0, _SERVICE_TAG),
            (JUMP, 0, 0, left + 6),
            (LOAD_HALF, 0, 0, 14 + 4 * number),
            (AND, 0, 0, _VLAN_ID),
            (JUMP_IF_EQUAL, 1, 0, 0),
            NOTHING,
            (LOAD_NUMBER_TO_X, 0, 0, 4 * number + 4),
            (LOAD_HALF, 0, 0, 16 + 4 * number),
        ]
    return (
        (LOAD_WORD, 0, 0, VLAN_PRESENT),
        (JUMP_IF_EQUAL, 4, 0, 0),
        (LOAD_WORD, 0, 0, VLAN_TAG),
        (AND, 0, 0, _VLAN_ID),
        (JUMP_IF_EQUAL, 1, 0, 0),
        NOTHING,
        (LOAD_NUMBER_TO_X, 0, 0, 0),
        *tags,
        *program,
    )


def attach(opened: socket.socket, program: Sequence[Instruction]) -> None:
    """From now on the socket takes only what the program lets pass; another program may follow."""
    memory = array.array("B", b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    address, _length = memory.buffer_info()
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), address))

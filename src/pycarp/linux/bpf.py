"""Socket filters in classic BPF. A program is a list of (operation, jump if true, jump if false, constant)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

Instruction = tuple[int, int, int, int]
LOAD_WORD, LOAD_HALF, LOAD_BYTE, JUMP, JUMP_IF_EQUAL, RETURN = 0x20, 0x28, 0x30, 0x05, 0x15, 0x06
LOAD_NUMBER, LOAD_NUMBER_TO_X, MOVE_TO_X, LOAD_BYTE_BEYOND_X = 0x00, 0x01, 0x07, 0x50
_ANCILLARY = 0xFFFFF000
NETLINK_ATTRIBUTE = _ANCILLARY + 12
"""Loads where the attribute of number X begins, searched from A on; 0 if it is not there."""
VLAN_PRESENT = _ANCILLARY + 48
NOTHING: Instruction = (RETURN, 0, 0, 0)
WHOLE: Instruction = (RETURN, 0, 0, 0x40000)

_SO_ATTACH_FILTER = 26


def attach(opened: socket.socket, program: Sequence[Instruction]) -> None:
    """From now on the socket takes only what the program lets pass; another program may follow."""
    import ctypes

    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(packed, len(packed))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(memory)))

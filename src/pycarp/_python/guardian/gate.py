"""The gate: opened and shut by keys, frames that its table takes for itself. The twin of `ext/guardian/gate.c`.

A key that was swallowed fails with ENOBUFS; one that was sent says that there is no table.
Thread: the one that has the turn.
"""

import _socket as socket
import errno
from struct import Struct

from . import protocol
from .clocks import NS_PER_MS
from .route import ANSWER, ANSWERED_WITHIN_S, NLMSG_ERROR

_NETLINK_NETFILTER = 12
NUMBER = Struct("!H")
_TYPE = 12


class Gate:
    """A gate; `device` 0: there is none. `lease`: ms, the last that was ordered."""

    def __init__(self) -> None:
        self.device = self.lease = self.made = 0
        self.steps: tuple[int, ...] = ()
        self.create = self.remove = self.key = b""


def gate_socket() -> socket.socket | None:
    """A blocking NETLINK_NETFILTER socket in this thread's network namespace; None where there can be none."""
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        opened.bind((0, 0))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, Struct("@qq").pack(ANSWERED_WITHIN_S, 0))
    except OSError:
        return None
    return opened


def gate_read(text: bytes) -> Gate:
    """What a description says of the gate. Raises `ValueError` where that is malformed."""
    gate = Gate()
    if not text:
        return gate
    head = protocol.GATE_DESCRIPTION
    if len(text) < head.size:
        raise ValueError("the gate is malformed")
    gate.device, gate.made, steps, create, remove, gate.key = head.unpack_from(text)
    times = Struct(f"={steps}I")
    if not gate.device or not steps or len(text) != head.size + times.size + create + remove:
        raise ValueError("the gate is malformed")
    gate.steps = times.unpack_from(text, head.size)
    start = head.size + times.size
    gate.create, gate.remove = text[start : start + create], text[start + create :]
    return gate


def gate_same(gate: Gate, other: Gate) -> bool:
    """Whether both are the same table."""
    return (gate.device, gate.create) == (other.device, other.create)


def gate_renamed(gate: Gate) -> bool:
    """Whether its device has another name by now than the table goes by."""
    try:
        return socket.if_indextoname(gate.device).encode() + b"\0" not in gate.create
    except OSError:
        return False


def _turn(packet: socket.socket, gate: Gate, what: int) -> int:
    """0 where the table took the key, ENOENT where there is none, or another errno."""
    at = protocol.KEY_WHAT
    key = gate.key[:at] + NUMBER.pack(what) + gate.key[at + NUMBER.size :]
    try:
        # The table tells keys by their type.
        where = (socket.if_indextoname(gate.device), NUMBER.unpack_from(gate.key, _TYPE)[0])
        packet.sendto(key, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, where)
    except OSError as error:
        return 0 if error.errno == errno.ENOBUFS else error.errno or errno.EIO
    return errno.ENOENT


def gate_open(filter_: socket.socket | None, packet: socket.socket, gate: Gate, left: int) -> int:
    """Have it open for at most `left` ns from now on, or leave it as it is where that is too short.

    A table that has gone is made anew. 0 or an errno.
    """
    count = sum(step * NS_PER_MS <= left for step in gate.steps)
    if count == 0:
        return 0
    what = protocol.KEY_FIRST_STEP + count - 1
    error = _turn(packet, gate, what)
    if error == errno.ENOENT:
        error = gate_create(filter_, gate) or _turn(packet, gate, what)
    return error


def gate_shut(packet: socket.socket, gate: Gate) -> bool:
    """Shut it now: whether nothing passes any longer."""
    return gate.device != 0 and _turn(packet, gate, protocol.KEY_SHUT) == 0


def gate_disarm(packet: socket.socket, gate: Gate) -> None:
    """After the addresses have gone: where it keeps only their packets, it keeps none until it is opened again."""
    if gate.device:
        _turn(packet, gate, protocol.KEY_DISARM)


def _carry_out(filter_: socket.socket, transaction: bytes) -> int:
    """A transaction answers its last request alone, which is numbered so, and whatever fails."""
    try:
        while True:
            filter_.recv(ANSWER.size, socket.MSG_DONTWAIT)  # what an earlier one left
    except OSError:
        pass
    try:
        filter_.send(transaction)
        while True:
            _length, kind, _flags, number, _port, code = ANSWER.unpack(filter_.recv(ANSWER.size))
            if kind == NLMSG_ERROR and (code or number == protocol.GATE_LAST):
                return -int(code)
    except OSError as error:
        return errno.ETIMEDOUT if error.errno == errno.EAGAIN else error.errno or errno.EIO


def gate_create(filter_: socket.socket | None, gate: Gate) -> int:
    """Make the table, shut: 0 or an errno."""
    return errno.EOPNOTSUPP if filter_ is None else _carry_out(filter_, gate.create)


def gate_remove(filter_: socket.socket | None, gate: Gate) -> int:
    """Remove the table: 0 or an errno."""
    return 0 if filter_ is None or not gate.device else _carry_out(filter_, gate.remove)

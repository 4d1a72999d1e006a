"""Records every frame on a set of interfaces, with the kernel's time of arrival."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import Self

from .._records import dataclass
from ..linux.sockets import arrival, closed_on_error, grow, packet_socket, want_times

_ETH_P_ALL = 3
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_PACKET_AUXDATA = 8
_TP_STATUS_VLAN_VALID = 0x10
_TP_STATUS_VLAN_TPID_VALID = 0x40
_AUXDATA = struct.Struct("=IIIHHHH")
_BUFFER = 16 << 20
_LARGEST = 1 << 17


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it crossed a port, its VLAN tag included. `at_ns` is CLOCK_REALTIME.

    `outgoing` is from the recorder's side: on a switch's port, True is towards the host.
    """

    at_ns: int
    port: str
    data: bytes
    outgoing: bool

    @property
    def destination(self) -> bytes:
        return self.data[:6]

    @property
    def source(self) -> bytes:
        return self.data[6:12]

    @property
    def ethertype(self) -> int:
        return int.from_bytes(self.data[12:14], "big")


class Recorder:
    """Listens on `ports` (name to interface index) of the calling thread's network namespace until `stop`.

    `frames` grows while it runs, each port's in their order; `dropped` tells after `stop` how many were lost.
    """

    def __init__(self, ports: Mapping[str, int]) -> None:
        self.frames: list[Frame] = []
        self.dropped = 0
        self._ports: dict[int, tuple[str, socket.socket]] = {}
        with contextlib.ExitStack() as undo:
            for name, index in ports.items():
                opened = undo.enter_context(_open(index))
                self._ports[opened.fileno()] = (name, opened)
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.pop_all()
        self._thread = threading.Thread(target=self._run, name="pycarp-recorder", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def stop(self) -> list[Frame]:
        """Read what has arrived until now, end the recording, and return all frames in the order of their times."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)
            self._thread.join()
            os.close(self._wake)
            self._wake = -1
            for _name, opened in self._ports.values():
                with opened, contextlib.suppress(OSError):
                    _packets, lost = struct.unpack("=II", opened.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
                    self.dropped += lost
            self.frames.sort(key=lambda frame: frame.at_ns)
        return self.frames

    def wait(self, wanted: Callable[[Frame], bool], timeout: float = 5.0) -> Frame | None:
        """The first recorded frame that is wanted, as soon as there is one; None after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        looked = 0
        while True:
            while looked < len(self.frames):
                if wanted(self.frames[looked]):
                    return self.frames[looked]
                looked += 1
            if time.monotonic() > deadline:
                return None
            time.sleep(0.002)

    def _run(self) -> None:
        poll = select.poll()
        for number in (*self._ports, self._wake):
            poll.register(number, select.POLLIN)
        stopping = False
        while not stopping:
            ready = [number for number, _events in poll.poll()]
            stopping = self._wake in ready
            for number in self._ports if stopping else ready:
                self._drain(*self._ports[number])

    def _drain(self, port: str, opened: socket.socket) -> None:
        while True:
            try:
                data, ancillary, _flags, address = opened.recvmsg(_LARGEST, 128)
            except OSError:
                # Nothing left, or the port went down or away: what it had is read, the others go on.
                return
            for level, kind, value in ancillary:
                if level == _SOL_PACKET and kind == _PACKET_AUXDATA:
                    data = _tagged(data, value)
            self.frames.append(Frame(arrival(ancillary), port, data, address[2] == socket.PACKET_OUTGOING))


def _tagged(data: bytes, value: bytes) -> bytes:
    """The kernel takes the VLAN tag out of the frame and tells it beside: put it back."""
    status, _length, _snaplen, _mac, _net, tci, tpid = _AUXDATA.unpack(value[: _AUXDATA.size])
    if not status & _TP_STATUS_VLAN_VALID:
        return data
    tpid = tpid if status & _TP_STATUS_VLAN_TPID_VALID else 0x8100
    return data[:12] + struct.pack("!HH", tpid, tci) + data[12:]


def _open(index: int) -> socket.socket:
    with closed_on_error(packet_socket()) as opened:
        grow(opened, _BUFFER)
        want_times(opened)
        opened.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        opened.bind((socket.if_indextoname(index), _ETH_P_ALL))
    return opened

"""A client that pings an address, and knows afterwards when nobody answered."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import struct
import threading
import time
from ipaddress import ip_address
from typing import Self

from ..linux.sockets import arrival, closed_on_error, want_times
from ..protocol.frames import checksum

_ECHO = {4: (socket.AF_INET, socket.IPPROTO_ICMP, 8, 0), 6: (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129)}
"""By version of IP: family, protocol, and the types of a request and a reply."""
_HEADER = struct.Struct("!BBHHH")
_COUNTER = struct.Struct("!Q")


class Pinger:
    """ICMP echo requests to `address` every `interval` seconds, from the calling thread's network namespace.

    Runs in a thread of its own until `stop`; all times are CLOCK_REALTIME in nanoseconds, answers' by the kernel.
    """

    def __init__(self, address: str, interval: float = 0.01) -> None:
        self.address = ip_address(address)
        self.interval = int(interval * 1e9)
        family, protocol, self._request, self._reply = _ECHO[self.address.version]
        self._sent: list[int] = []
        self._answers: dict[int, int] = {}
        self._stopped_at = 0
        self._token = os.urandom(8)
        self._identifier = int.from_bytes(self._token[:2], "big")
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        with closed_on_error(socket.socket(family, kind, protocol)) as self._socket:
            want_times(self._socket)
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="pycarp-pinger", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no further request; count the answers that have arrived. A second call does nothing."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)
            self._thread.join()
            self._stopped_at = time.time_ns()
            os.close(self._wake)
            self._wake = -1
            self._socket.close()

    @property
    def sent(self) -> int:
        return len(self._sent)

    @property
    def received(self) -> int:
        """How many different requests were answered."""
        return len(self._answers)

    @property
    def longest(self) -> int:
        """The longest time without an answer, in nanoseconds; up to one interval more than the address was away."""
        return max((end - start for start, end in self.outages(0)), default=0)

    def requests(self) -> list[tuple[int, int | None]]:
        """When each request was sent, and when it was answered, if it was."""
        answers = self._answers.copy()
        return [(sent, answers.get(number)) for number, sent in enumerate(self._sent.copy())]

    def outages(self, longer_than: float | None = None) -> list[tuple[int, int]]:
        """(start, end) of every time without an answer longer than this many seconds; default: three intervals.

        The first one starts at the first request; one that still lasts ends now, or when the pinger stopped.
        """
        threshold = 3 * self.interval if longer_than is None else int(longer_than * 1e9)
        if not self._sent:
            return []
        marks = [self._sent[0], *sorted(self._answers.copy().values()), self._stopped_at or time.time_ns()]
        return [(a, b) for a, b in itertools.pairwise(marks) if b - a > threshold]

    def wait(self, answers: int = 1, timeout: float = 5.0) -> bool:
        """Wait for this many further answers; False after `timeout` seconds."""
        wanted = len(self._answers) + answers
        deadline = time.monotonic() + timeout
        while len(self._answers) < wanted:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        due = time.monotonic_ns()
        while True:
            wait = due - time.monotonic_ns()
            if wait <= 0:
                self._ask()
                # Missed turns are left out: a burst would not say more about the address.
                due = max(due + self.interval, time.monotonic_ns())
                continue
            # Rounded up: poll counts milliseconds, and an early wake-up would spin.
            ready = [number for number, _events in poll.poll(-(-wait // 1_000_000))]
            self._collect()
            if self._wake in ready:
                return

    def _ask(self) -> None:
        number = len(self._sent)
        body = self._token + _COUNTER.pack(number)
        message = _HEADER.pack(self._request, 0, 0, self._identifier, number & 0xFFFF) + body
        if self.address.version == 4:  # in IPv6 the kernel fills in the checksum
            message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
        self._sent.append(time.time_ns())
        # Without a route, a neighbour or a carrier, this is an unanswered request like any other.
        with contextlib.suppress(OSError):
            self._socket.sendto(message, (str(self.address), 0))

    def _collect(self) -> None:
        while True:
            try:
                data, ancillary, _flags, source = self._socket.recvmsg(2048, 64)
            except OSError as error:
                if isinstance(error, BlockingIOError):
                    return
                continue  # the kernel reports an ICMP error for an earlier request
            if self.address.version == 4:
                data = data[(data[0] & 15) * 4 :]
            if len(data) < 24 or data[0] != self._reply or data[8:16] != self._token:
                continue
            if ip_address(source[0].partition("%")[0]) != self.address:
                continue
            self._answers.setdefault(_COUNTER.unpack_from(data, 16)[0], arrival(ancillary))

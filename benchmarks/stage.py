"""What the measurements on the wire are made with: ears on the switch, load, floods, and the kernel's accounts."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pycarp.lab.namespaces import Host, Lab
from pycarp.linux.sockets import receive_socket

_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_SOL_PACKET, _PACKET_IGNORE_OUTGOING, _PACKET_STATISTICS = 263, 23, 6
_ECHO_REPLY = b"\x00\x00"


@dataclass(frozen=True, slots=True)
class Beat:
    """An advert of CARP or VRRP as it left a host. `at` is the kernel's receive timestamp at the switch, in ns."""

    at: int
    port: str
    vhid: int
    bowout: bool


class Ears:
    """Records the adverts that come from hosts; of those in `everything` also the first echo reply for an address.

    Only what comes from the host is looked at, so that a flood towards it costs nothing here.
    """

    def __init__(self, lab: Lab, ports: Sequence[str], everything: Sequence[str] = ()) -> None:
        self.beats: list[Beat] = []
        self.replies: list[int] = []
        """When echo replies left the hosts in `everything`."""
        self.lost = 0
        self._ports: dict[int, tuple[str, socket.socket]] = {}
        with lab.switch.enter():
            for port in ports:
                index = socket.if_nametoindex(port)
                opened = _open_all(port) if port in everything else receive_socket(index)
                opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
                self._ports[opened.fileno()] = (port, opened)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="ears", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        for _port, opened in self._ports.values():
            self.lost += struct.unpack("=II", opened.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
            opened.close()
        os.close(self._wake)

    def forget(self) -> None:
        self.beats.clear()
        self.replies.clear()

    def until(self, reached: Callable[[], Any], timeout: float, what: str) -> None:
        """Wait until a condition on what was heard holds."""
        give_up = time.monotonic() + timeout
        while not reached():
            if time.monotonic() > give_up:
                raise TimeoutError(f"{what}: not within {timeout:g} s")
            time.sleep(0.005)

    def last(self, port: str) -> Beat | None:
        return next((beat for beat in reversed(self.beats) if beat.port == port), None)

    def first_after(self, port: str, at: int) -> Beat | None:
        return next((beat for beat in self.beats if beat.port == port and beat.at > at and not beat.bowout), None)

    def _run(self) -> None:
        poll = select.poll()
        for number in (*self._ports, self._wake):
            poll.register(number, select.POLLIN)
        while True:
            ready = [number for number, _events in poll.poll()]
            for number in ready:
                if number in self._ports:
                    self._drain(*self._ports[number])
            if self._wake in ready:
                return

    def _drain(self, port: str, opened: socket.socket) -> None:
        while True:
            try:
                data, ancillary, _flags, _address = opened.recvmsg(2048, 64)
            except OSError:
                return
            seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2][: _TIMESPEC.size])
            self._frame(port, data, seconds * 1_000_000_000 + nanoseconds)

    def _frame(self, port: str, data: bytes, at: int) -> None:
        if data[12:14] != b"\x08\x00":
            return
        payload = data[14 + (data[14] & 15) * 4 :]
        if data[23] == 1 and payload[:2] == _ECHO_REPLY:
            self.replies.append(at)
        elif data[23] == 112 and len(payload) >= 8:
            # CARP: vhid, advskew, ..., advbase; VRRP: router, priority. A bow-out is 255/255 there, priority 0 here.
            carp = payload[3] == 7
            bowout = payload[2] == payload[5] == 255 if carp else payload[2] == 0
            self.beats.append(Beat(at, port, payload[1], bowout))


def _open_all(port: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    opened.bind((port, 0x0003))
    return opened


# Load


@contextlib.contextmanager
def busy_cores() -> Iterator[None]:
    """A process that computes on every core, of ordinary priority."""
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        # An interpreter that starts is not yet what is meant.
        time.sleep(0.5)
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


@contextlib.contextmanager
def blast(
    program: Path, host: Host, frames: Sequence[bytes], rate: float, seconds: float, under: Sequence[str] = ()
) -> Iterator[Blast]:
    """Frames from a host at a rate, until the context ends; `under`: what the program is started by."""
    path = program.with_name(f"frames-{host.name}")
    path.write_bytes(b"".join(frames))
    arguments = [*under, str(program), host.ifname, str(path), str(len(frames[0])), f"{rate:g}", f"{seconds:g}"]
    process = host.popen(arguments, stdout=subprocess.PIPE, text=True)
    blaster = Blast(process)
    try:
        yield blaster
    finally:
        blaster.end()


class Blast:
    """A blast that is under way; `sent` is known after its end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.sent = 0

    def end(self) -> None:
        if self._process.stdout is None or self._process.stdout.closed:
            return
        self._process.terminate()
        out, _err = self._process.communicate()
        self.sent = int(out or 0)


def echo_request(client: Host, mac: bytes, address: str) -> bytes:
    """An ICMP echo request to an address at a MAC, as a whole frame."""
    body = struct.pack("!BBHHH", 8, 0, 0, 0x7079, 1) + bytes(8)
    body = body[:2] + struct.pack("!H", _checksum(body)) + body[4:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, 64, 1, 0)
    header += socket.inet_aton(client.address) + socket.inet_aton(address)
    header = header[:10] + struct.pack("!H", _checksum(header)) + header[12:]
    return mac + client.mac + b"\x08\x00" + header + body


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return int(~(total + (total >> 16)) & 0xFFFF)


# The kernel's accounts


def cpu(pids: Sequence[int]) -> int:
    """Nanoseconds that all threads of these processes have run."""
    total = 0
    for pid in pids:
        for task in _listed(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
    return total


def memory(pids: Sequence[int]) -> dict[str, int]:
    """Bytes: `private` to these processes, and `proportional`, with their share of what they share."""
    sums = {"private": 0, "proportional": 0}
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = _rollup(Path(f"/proc/{pid}/smaps_rollup").read_text())
            sums["private"] += fields["Private_Clean"] + fields["Private_Dirty"]
            sums["proportional"] += fields["Pss"]
    return sums


def _rollup(text: str) -> Mapping[str, int]:
    rows = (line.split() for line in text.splitlines()[1:])
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows}


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []

"""What a packet pays at an open gate, in each direction: on a device with the virtual MAC, and on a carpdev.

    python benchmarks/toll.py [--turns 40]

In turn without any table, with two chains that have no rule, and with the gate; the frames arrive by a TAP device and
leave by a packet socket. Shown are the medians of the differences to the turn without, in ns of processor time, beside
what a frame costs without. Needs nft, a compiler, and what `pycarp demo` needs for real hosts.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import socket
import statistics
import struct
import subprocess
import tempfile
from ipaddress import IPv4Address
from pathlib import Path

import building

from pycarp._python.guardian.gate import gate_open, gate_read
from pycarp.lab.namespaces import Lab
from pycarp.linux import gate

FRAMES = 20_000
TUNSETIFF, TAP, NO_HEADER = 0x400454CA, 0x2, 0x1000
VIP, CLIENT = "10.13.37.42", "10.13.37.9"
VIRTUAL_MAC, OWN_MAC, CLIENT_MAC = (bytes.fromhex(one) for one in ("00005e000165", "020000000001", "020000000009"))
SETUP = f"""
ip link set tap0 address {OWN_MAC.hex(":")} up
ip address add 10.13.37.1/24 dev tap0
ip link add carp0 link tap0 address {VIRTUAL_MAC.hex(":")} type macvlan mode bridge
ip address add {VIP}/32 dev carp0
ip link set carp0 up
"""
EMPTY = """
flush ruleset
table netdev empty {{
    chain in {{ type filter hook ingress device {0} priority -500; }}
    chain out {{ type filter hook egress device {0} priority -500; }}
}}
"""


def checksum(header: bytes) -> int:
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def frame(to: bytes, source: bytes, from_address: str, to_address: str) -> bytes:
    """A datagram of 64 bytes to port 4000."""
    ends = socket.inet_aton(from_address) + socket.inet_aton(to_address)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 50, 1, 0, 64, 17, 0) + ends
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return to + source + b"\x08\x00" + header + struct.pack("!HHHH", 999, 4000, 30, 0) + bytes(22)


def tap_device(name: str) -> int:
    file = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP | NO_HEADER))
    return file


def nft(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


class Gated:
    """One of the two kinds of gate, and how its packets' cost is measured."""

    def __init__(self, library: ctypes.CDLL, tap: int, mac: str) -> None:
        self._toll, self._tap = library.toll, tap
        self.device = "carp0" if mac == "virtual" else "tap0"
        source = VIRTUAL_MAC if mac == "virtual" else OWN_MAC
        self._in = frame(source, CLIENT_MAC, CLIENT, VIP if mac == "virtual" else "10.13.37.1")
        self._out = frame(CLIENT_MAC, source, VIP if mac == "virtual" else "10.13.37.1", CLIENT)
        self._packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._packet.bind((self.device, 0))
        addresses = () if mac == "virtual" else [IPv4Address(VIP)]
        index = socket.if_nametoindex("tap0")
        self._table = gate.Table(index, 101, False, self.device, "a benchmark", 60_000, addresses)

    def close(self) -> None:
        self._packet.close()

    def open(self, filters: gate.FilterSocket) -> None:
        failed = filters.execute(self._table.create)
        if failed is not None:
            raise failed
        described = gate_read(gate.describe(self._table, socket.if_nametoindex(self.device)))
        if gate_open(None, self._packet, described, 60_000_000_000):
            raise RuntimeError("the gate does not open")

    def measure(self) -> tuple[float, float]:
        arriving = self._toll(self._tap, 1, self._in, len(self._in), FRAMES)
        leaving = self._toll(self._packet.fileno(), 0, self._out, len(self._out), FRAMES)
        if arriving < 0 or leaving < 0:
            raise OSError("a frame was not sent")
        return arriving, leaving


def report(mac: str, found: dict[str, list[tuple[float, float]]]) -> None:
    for at, direction in enumerate(("in", "out")):
        without = [turn[at] for turn in found["without"]]
        more = {
            name: statistics.median(one[at] - base for one, base in zip(turns, without, strict=True))
            for name, turns in found.items()
        }
        print(
            f"mac {mac:9} {direction:3}: {statistics.median(without):6,.0f} ns without; "
            f"empty chains {more['empty']:+5.0f}, "
            f"the gate {more['gate']:+5.0f}, of which its rules {more['gate'] - more['empty']:4.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=40)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as directory:
        library = building.library("toll", Path(directory))
    library.toll.restype = ctypes.c_double
    library.toll.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_long]
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with Lab(("main",)) as lab, lab["main"].enter(), gate.FilterSocket() as filters:
        tap = tap_device("tap0")
        subprocess.run(SETUP, shell=True, check=True)
        # Its queue is full at once: what arrives ends there.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            sink.bind(("", 4000))
            for mac in ("virtual", "interface"):
                gated = Gated(library, tap, mac)
                found: dict[str, list[tuple[float, float]]] = {"without": [], "empty": [], "gate": []}
                for _turn in range(turns):
                    nft("flush ruleset")
                    found["without"].append(gated.measure())
                    nft(EMPTY.format(gated.device))
                    found["empty"].append(gated.measure())
                    nft("flush ruleset")
                    gated.open(filters)
                    found["gate"].append(gated.measure())
                nft("flush ruleset")
                gated.close()
                report(mac, found)
        os.close(tap)


if __name__ == "__main__":
    main()

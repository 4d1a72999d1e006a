"""A client that asks everybody, in every way there is, who has an address: a backup must not answer."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from typing import Any, Self

from .wire import BROADCAST_MAC, VIP, internet_checksum


class Prober:
    """Every `interval` seconds, from the namespace of `client`: ARP requests for each IPv4 address, solicitations for
    each IPv6 address, and echo requests, to everybody and to each of `macs` alone.
    """

    def __init__(
        self, client: Any, addresses: Sequence[str] = (VIP,), macs: Sequence[bytes] = (), interval: float = 0.02
    ) -> None:
        self.frames: list[bytes] = []
        for text in addresses:
            ip = ip_address(text)
            for mac in (None, *macs):
                if ip.version == 4:
                    self.frames.append(arp_request(client.mac, client.address, text, mac or BROADCAST_MAC))
                    if mac is not None:
                        self.frames.append(echo_request(client.mac, client.address, text, mac))
                else:
                    self.frames.append(solicitation(client.mac, client.address6, text, mac))
        self._interval = interval
        with client.enter():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.bind(("eth0", 0))
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prober")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._done.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._done.wait(self._interval):
            for frame in self.frames:
                self._socket.send(frame)


def arp_request(mac: bytes, sender: str, target: str, to: bytes = BROADCAST_MAC) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + socket.inet_aton(sender) + bytes(6)
    return to + mac + b"\x08\x06" + body + socket.inet_aton(target)


def echo_request(mac: bytes, sender: str, target: str, to: bytes) -> bytes:
    body = struct.pack("!BBHHH", 8, 0, 0, 0xCA4B, 1) + b"pycarp.."
    body = body[:2] + struct.pack("!H", internet_checksum(body)) + body[4:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 1, 0)
    addressed = socket.inet_aton(sender) + socket.inet_aton(target)
    head = head[:10] + struct.pack("!H", internet_checksum(head + addressed)) + addressed
    return to + mac + b"\x08\x00" + head + body


def solicitation(mac: bytes, sender: str, target: str, to: bytes | None = None) -> bytes:
    packed = IPv6Address(target).packed
    group = bytes.fromhex("ff02" + "00" * 9 + "01ff") + packed[13:]
    destination = packed if to is not None else group
    body = struct.pack("!BBHI", 135, 0, 0, 0) + packed + b"\x01\x01" + mac
    pseudo = IPv6Address(sender).packed + destination + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", internet_checksum(pseudo + body)) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + IPv6Address(sender).packed + destination
    return (to or b"\x33\x33" + group[12:]) + mac + b"\x86\xdd" + head + body

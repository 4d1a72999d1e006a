"""What `soak` does to its subject: peers that flap, and everything else that comes along a cable."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import Any

from pycarp import VirtualHost, _impl
from pycarp.lab.namespaces import Host, Lab
from pycarp.protocol.frames import virtual_mac

_FLAP = 0.2
"""Seconds from one better advert to the next; the bow-out comes half way."""
OTHER_VHID = 100
"""Added to a vhid of the subject's: a group that it does not carry."""
_NOISE = 20
"""Frames beside the flapping, each time."""
_python = _impl.load("python")


class Flapper:
    """A host that has the key: better adverts and bow-outs in turn, among adverts with something wrong.

    Its claimed addresses never end: what a runtime remembers of its peers must.
    """

    def __init__(self, host: Host, groups: Sequence[VirtualHost], seed: int = 112) -> None:
        self._random = random.Random(seed)
        self._groups = groups
        self._source6 = host.address6
        self._own = host.address
        self._signers = {
            (group.vhid, vhid): _python.auth.Authenticator(group.passphrase, vhid, group.addresses, "bsd", "off")
            for group in groups
            for vhid in (group.vhid, group.vhid + OTHER_VHID)
        }
        self.sent = 0
        with host.enter():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.bind((host.ifname, 0))

    def close(self) -> None:
        self._socket.close()

    def flap(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._all(0, 1)
            time.sleep(_FLAP / 2)
            self._all(255, 255)
            time.sleep(_FLAP / 2)

    def _all(self, advbase: int, advskew: int) -> None:
        source = self._own if self._random.random() < 0.8 else self._any_address()
        for group in self._groups:
            for family in group.families:
                self._send(self._advert(group, advbase, advskew, source if family == 4 else self._source6))
        for _ in range(_NOISE):
            self._send(self._noise())

    def _any_address(self) -> str:
        return str(IPv4Address("10.13.0.0") + self._random.randrange(1, 1 << 16))

    def sibling(self, seconds: float) -> None:
        """The same addresses under other vhids, by a host that has the key."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for group in self._groups:
                self._send(self._advert(group, 1, 0, self._own, group.vhid + OTHER_VHID))
            time.sleep(_FLAP)

    def _advert(
        self,
        group: VirtualHost,
        advbase: int,
        advskew: int,
        source: str,
        vhid: int = 0,
        counter: bytes = b"",
        forged: bool = False,
    ) -> bytes:
        vhid = vhid or group.vhid
        counter = counter or self._random.randbytes(8)
        digest = self._random.randbytes(20) if forged else self._signers[group.vhid, vhid].sign(counter)
        template = _python.packet.AdvertTemplate(vhid, virtual_mac(vhid), source)
        return template.frame(advbase, advskew, counter, digest)

    def _noise(self) -> bytes:
        """A frame that must change nothing: altered, forged, of a group that nobody here has, damaged, or no advert."""
        draw = self._random
        group, source = draw.choice(self._groups), self._any_address()
        kind = draw.randrange(6)
        if kind == 0:
            tagged = self._signers[group.vhid, group.vhid].counter(1, 200, draw.getrandbits(24))
            return self._advert(group, 0, 1, source, counter=tagged)
        if kind in (1, 2):
            return self._advert(group, 0, 1, source, group.vhid + OTHER_VHID * (kind - 1), forged=True)
        frame = bytearray(self._advert(group, 0, 1, source))
        if kind == 3:
            return bytes(frame[: draw.randrange(14, len(frame))])
        if kind == 4:
            return bytes(frame[:14]) + draw.randbytes(draw.randrange(80))
        frame[draw.randrange(50, len(frame))] ^= 1 << draw.randrange(8)  # in the digest
        return bytes(frame)

    def _send(self, frame: bytes) -> None:
        self._socket.send(frame)
        self.sent += 1


def disturbances(
    lab: Lab, flapper: Flapper, tell: Callable[[str], None], restart: Callable[[bool], None]
) -> list[Callable[[], None]]:
    """What happens between two spells of flapping, one at a time; each leaves things as they are to be in the end."""
    main = lab["main"]

    def cut(seen: bool) -> None:
        lab.unplug(main, seen)
        time.sleep(1)
        lab.plug(main)

    def demoted() -> None:
        tell("demote")
        time.sleep(1)
        tell("undemote")

    def told(word: str) -> None:
        for _ in range(20):
            tell(word)
            time.sleep(0.02)

    return [
        lambda: cut(True),
        lambda: restart(True),
        demoted,
        lambda: flapper.sibling(2),
        lambda: cut(False),
        lambda: told("announce"),
        lambda: restart(False),
        lambda: told("reconfigure"),
    ]


def groups() -> list[VirtualHost]:
    """Four kinds of virtual host: in a hurry, in the usual time, both families, and without a MAC of its own."""
    passphrase = "correct horse battery staple"

    def one(vhid: int, *addresses: str, **values: Any) -> VirtualHost:
        return VirtualHost(vhid=vhid, passphrase=passphrase, addresses=addresses, preempt=True, **values)

    return [
        one(1, "10.13.1.1/16", advbase=0, advskew=10),
        one(2, "10.13.1.2/16", advbase=0, advskew=20, mac="interface"),
        one(3, "10.13.1.3/16", "2001:db8::103/64", advbase=1, advskew=0),
        one(4, *(f"10.13.2.{number}/16" for number in range(1, 17)), advbase=1, advskew=50),
    ]

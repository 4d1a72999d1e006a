"""One program of random bytes, run by two implementations side by side and compared after every step.

A program is a row of instructions of `WIDTH` bytes. Each drives a whole instance the way a runtime does: frames go
through the input path, valid adverts into the machine, and what the machine sends through authenticator and template
into frames. Any bytes are a program. So hypothesis can shrink one, and `shortest` can cut a failing one down.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

from pycarp import VirtualHost
from pycarp._impl import Implementation
from pycarp.protocol import Advert, Reason, SendAdvert, State, Transition
from pycarp.protocol.frames import virtual_mac
from pycarp.protocol.timing import PACES

from . import wire
from .wire import Frame

WIDTH = 6
ADDRESSES = (
    (wire.VIP + "/24",),
    (wire.VIP + "/24", "2001:db8::42/64"),
    ("2001:db8::42/64", "fe80::42/64", "10.13.37.200/24", wire.VIP + "/24"),
    (*(f"10.13.38.{number}/24" for number in range(1, 31)), "fe80::42"),
    (),
)
CARPDEV_ADDRESSES = (ip_interface(wire.CARPDEV + "/24"), ip_interface("fe80::b/64"))
PASSPHRASES = (wire.PASSPHRASE, "abcdefg", "0x1122334455667788", None, "abcdefghijklmnopqrstu")
BASES = (1, 1, 1, 0, 2, 3, 4, 85, 86, 254)
SKEWS = (0, 1, 99, 100, 101, 239, 240, 241, 254)
HEARD = (0, 1, 2, 3, 4, 5, 254, 255)
SIEGE = 6
KEPT_UP = 70
RETIRED = (Reason.STALLED, Reason.WATCHDOG, Reason.HANDED_OVER)
INSTANTS = (0, 1, 1_000_000_000, 1_700_000_000_000_000_000, (1 << 62) - (1 << 58))


class Side:
    """One implementation's instance, and everything it said in the last step."""

    def __init__(self, impl: Implementation, config: VirtualHost, seed: int) -> None:
        self.impl = impl
        self.random = random.Random(seed)
        self.asked: list[int] = []
        self.machine = impl.machine.Machine(config, self.draw)
        self.input = impl.input.Input()
        self.said: list[Any] = []
        self.equip(config)

    def draw(self, n: int) -> int:
        self.asked.append(n)
        return self.random.randrange(n)

    def equip(self, config: VirtualHost) -> None:
        """What an engine does at the start, and again when the instance gets other values."""
        packet = self.impl.packet
        self.authenticator = self.impl.auth.Authenticator(
            config.passphrase, config.vhid, config.addresses, config.dialect
        )
        mac = wire.CARPDEV_MAC if config.mac == "interface" else virtual_mac(config.vhid)
        self.mac = mac
        self.input.set_carpdev(wire.CARPDEV_MAC, CARPDEV_ADDRESSES)
        self.input.set_instance(config.vhid, self.authenticator, mac, [address.packed for address in config.addresses])
        self.templates = {
            family: packet.AdvertTemplate(config.vhid, mac, wire.CARPDEV if family == 4 else "fe80::b")
            for family in config.families
        }

    def call(self, name: str, *arguments: Any) -> None:
        """One call into the machine, and what follows from its actions."""
        outcome = getattr(self.machine, name)(*arguments)
        self.said.append(outcome)
        for action in outcome if isinstance(outcome, list) else ():
            if isinstance(action, SendAdvert):
                self.send(action)
            elif isinstance(action, Transition):
                self.input.set_state(self.machine.config.vhid, action.after)

    def send(self, action: SendAdvert) -> None:
        for dialect in self.authenticator.dialects:
            for family, template in self.templates.items():
                nonce, serial = self.random.getrandbits(3), self.random.getrandbits(16)
                counter = self.authenticator.counter(action.advbase, action.advskew, nonce, dialect, serial=serial)
                digest = self.authenticator.sign(counter, dialect)
                self.said.append(template.frame(action.advbase, action.advskew, counter, digest))
                self.input.count_sent(self.machine.config.vhid, family)

    def hear(self, frame: bytes, now: int) -> None:
        verdict = self.input.receive(frame, now)
        self.said.append(verdict)
        if verdict.counter == "" and verdict.advert is not None:
            self.call("receive", verdict.advert, verdict.advert.source, now)
        elif verdict.counter == "sibling" and verdict.advert is not None:
            self.call("sibling", verdict.advert.vhid, verdict.advert, verdict.advert.source, now)

    def besiege(self, vhid: int, advert: Advert, source: str | None, now: int) -> None:
        """A sibling that goes on and on."""
        for number in range(SIEGE):
            self.call("sibling", vhid, advert, source, now + number * advert.interval)

    def keep_up(self, advert: Advert, source: str | None, now: int, pace: int, late: int) -> None:
        """A master with a pace: mostly on time, once late, for long enough to be believed."""
        for number in range(KEPT_UP):
            came = now + number * PACES[pace] + (late if number == KEPT_UP // 2 else 0)
            self.call("receive", advert, source, came, None, pace, came)

    def attempt(self, name: str, *arguments: Any) -> None:
        """A step, whatever comes of it: an error is something said, too."""
        self.said = []
        self.asked.clear()
        try:
            if name in ("hear", "besiege", "keep_up"):
                getattr(self, name)(*arguments)
            else:
                self.call(name, *arguments)
                if name == "reconfigure":
                    self.equip(self.machine.config)
        except OverflowError:
            self.said.append(OverflowError)  # in whose words depends on which C type it did not fit
        except ValueError as error:
            self.said.append((type(error), str(error)))

    def seen(self, now: int) -> tuple[Any, ...]:
        machine = self.machine
        now = min(max(machine.deadline or 0, now), (1 << 62) - 1)
        return (
            machine.state, machine.deadline, machine.demotion, machine.advskew, machine.interval, machine.master_down,
            machine.pacing, machine.said_pace, machine.silence, machine.withheld,
            machine.overdue(now), self.asked, self.authenticator.dialects, self.said,
        )  # fmt: skip

    def counters(self) -> tuple[Any, ...]:
        vhid = self.machine.config.vhid
        return self.input.stats(vhid), self.input.stats(), id(self.machine.config)


@functools.cache
def _config(advbase: int, advskew: int, passphrase: str | None, d: int, warn: bool) -> VirtualHost:
    return VirtualHost(
        vhid=wire.VHID,
        passphrase=passphrase or "",
        addresses=ADDRESSES[d % 16 if d % 16 < len(ADDRESSES) else d % 3],
        advbase=advbase,
        advskew=advskew,
        preempt=bool(d & 16),
        dialect=("auto", "auto", "bsd", "netbsd")[d >> 5 & 3],
        mac="interface" if d > 191 else "virtual",
        siblings="warn" if warn else "arbitrate",
        up=d != 255,
        pace=3 if d % 8 == 7 else 0,
    )


def _config_of(a: int, b: int, c: int, d: int) -> VirtualHost:
    advbase, advskew = BASES[a % len(BASES)], SKEWS[b % len(SKEWS)]
    return _config(advbase, advskew or int(advbase == 0), PASSPHRASES[c % len(PASSPHRASES)], d, b > 225)


_FAULTS: tuple[dict[str, Any], ...] = (
    {}, {}, {}, {}, {}, {"dialect": "netbsd"}, {"dialect": "netbsd"}, {"link_local": False}, {"digest_flip": 1},
    {"ttl": 254}, {"cut": 3}, {"checksum_flip": 1}, {"vhid": 102}, {"first": 0x31}, {"first": 0x2F}, {"trailer": b"x"},
    {"pseudo_header": True}, {"addresses": ("10.0.0.1",)}, {"destination_mac": wire.VIRTUAL_MAC},
    {"destination_mac": wire.CARPDEV_MAC, "destination": wire.CARPDEV}, {"destination_mac": wire.BROADCAST_MAC},
    {"padding": b"padding"}, {"total_length": 60000},
    {"ethertype": b"\x81\x00\0\1"}, {"authlen": 0, "pad": 3}, {"source_mac": wire.CARPDEV_MAC},
)  # fmt: skip


def crafted(config: VirtualHost, a: int, b: int, c: int, d: int) -> bytes:
    advbase, advskew = HEARD[a % len(HEARD)], (*SKEWS, 255)[b % (len(SKEWS) + 1)]
    if a & 128:  # as likely as all others together: what this very host would send, and a bow-out
        advbase, advskew = (255, 255) if a & 64 else (config.advbase, config.advskew)
    secret = config.passphrase or ""
    return _crafted(advbase, advskew, c & 128, c % 128 % len(_FAULTS), d % 2, secret, config.addresses)


# A frame takes a while to craft: the usual ones are made once.
@functools.lru_cache(maxsize=50_000)
def _crafted(
    advbase: int, advskew: int, ipv6: int, fault: int, peer: int, secret: str, addresses: tuple[Any, ...]
) -> bytes:
    frame = Frame(
        advbase=advbase,
        advskew=advskew,
        source=f"fe80::{12 + peer}" if ipv6 else f"10.13.37.{12 + peer}",
        counter=bytes((peer,)) * 8,
        addresses=tuple(str(address.ip) for address in addresses),
        passphrase=secret,
    )
    changes = _FAULTS[fault]
    if ipv6 and "destination" in changes:
        changes = changes | {"destination": "fe80::b"}
    return bytes(frame.but(**changes))


def steps(program: bytes) -> Iterator[bytes]:
    for at in range(0, len(program) - WIDTH + 1, WIDTH):
        yield program[at : at + WIDTH]


class Pair:
    """Two implementations under one program; `step` says how they differ, or None."""

    def __init__(self, impls: tuple[Implementation, Implementation], head: bytes) -> None:
        a, b, c, d, e, f = head
        self.config = _config_of(a, b, c, d)
        self.sides = [Side(impl, self.config, f) for impl in impls]
        self.now = INSTANTS[e % len(INSTANTS)]
        self.upper = bool(f & 1)
        self._count = 0

    def step(self, instruction: bytes) -> str | None:
        name, arguments = self._decode(instruction)
        for side in self.sides:
            side.attempt(name, *arguments)
        first, second = (side.seen(self.now) for side in self.sides)
        # Summing up counters costs as much as all the rest.
        self._count += 1
        if first == second and self._count % 20 == 0:
            first, second = (side.counters() for side in self.sides)
        if first != second:
            shown = [f"{side.impl.name}: {value}" for side, value in zip(self.sides, (first, second), strict=True)]
            return "\n  ".join([f"{name}{arguments}", *shown])
        return None

    def _decode(self, instruction: bytes) -> tuple[str, tuple[Any, ...]]:
        op, t, a, b, c, d = instruction
        self._pass(t, a ^ d)
        config = self.config
        if op < 70:
            return "hear", (crafted(config, a, b, c, d), self.now)
        if op < 95:
            return "sibling", (*self._sibling(a, b, c, d), self.now)
        if op < 98:
            now, sibling = self.now, self._sibling(a, 255, c, d)
            self.now = min(now + SIEGE * sibling[1].interval, max(now, (1 << 62) - 1))
            return "besiege", (*sibling, now)
        if op < 110:
            frame = bytearray(crafted(config, a, b, c & 128, d))
            frame[c % len(frame)] = d
            return "hear", (bytes(frame[: None if b & 1 else b]), self.now)
        if op < 170:
            return "timeout", (self.now,)
        if op < 171:
            return ("leave", "defend", "echo", "echo")[b & 3], (self.now,)
        if op < 172:
            return ("heir", (6 if b & 1 else 4, "192.0.2.1", self.now)) if a & 1 else ("stand_aside", (bool(b & 1),))
        if op < 173:
            return "retire", (RETIRED[a % len(RETIRED)], bool(b & 1), self.now)
        if op < 175:
            return "delay_takeover", (self.now,)
        if op < 190:
            return "sent", (a < 100, self.now)
        if op < 205:
            return "demote", (a % 7 - 3 if a < 250 else (a - 253) << b % 40, self.now)
        if op < 213:
            return "link", (bool(a & 1), self.now)
        if op < 221:
            return "start", (self.now,)
        if op < 225:
            return "stop", (self.now,)
        if op < 233:
            return "force", ((*State, *State, 0, 1, 2, 3)[a % 10], self.now)
        if op < 243:
            # Any advert at all, as nobody would have let it through.
            advert = Advert(6 if d & 1 else 4, "192.0.2.1", "", b"", c >> 4, c & 15, a, b, c, d, a, bytes(8), bytes(20))
            source = "192.0.2.1" if d & 2 else None
            if op == 242:
                now, pace = self.now, 1 + b % 4
                self.now = min(now + KEPT_UP * PACES[pace], max(now, (1 << 62) - 1))
                advert = self._sibling(a, 255, c, d)[1]
                return "keep_up", (replace(advert, vhid=config.vhid), source, now, pace, b * 100_000)
            if op == 241:
                return "limit_pace", (b * 1_000_000, self.now)
            return "receive", (advert, source, self.now, None, (b ^ c) & 15)
        if op < 251:
            self.config = _config_of(a, b, c, d)
            return "reconfigure", (self.config, self.now)
        if op < 253:
            return "reconfigure", (config.replace(vhid=1 + a % 100), self.now)
        return "timeout", ((-1, (1 << 62) - 1, 1 << 62, 1 << 63, 1 << 64, self.now)[a % 6 if a < 200 else 5],)

    def _sibling(self, a: int, b: int, c: int, d: int) -> tuple[int, Advert, str | None]:
        """Mostly one other vhid, lower or higher for the whole program, that advertises as we do."""
        vhid = wire.VHID + (1 if self.upper else -1)
        if a < 24:
            vhid = (0, 1, 99, 100, 101, 102, 103, 255, 256, -1)[a % 10]
        advbase, advskew = self.config.advbase, self.config.advskew
        if b < 48:
            advbase, advskew = 255, 255
        elif b < 80:
            advbase, advskew = HEARD[c % len(HEARD)], SKEWS[d % len(SKEWS)]
        advert = Advert(4, "", "", b"", 2, 1, vhid & 255, advskew, 7, 0, advbase, bytes(8), bytes(20))
        return vhid, advert, f"10.13.37.{d % 4}" if d & 8 else None

    def _pass(self, t: int, fine: int) -> None:
        """Time goes on: mostly to the deadline, to the nanosecond, or a little."""
        deadline = self.sides[0].machine.deadline
        if t < 100 and deadline is not None:
            to = deadline + (0, 0, 0, -1, 1, fine * 1000)[t % 6]
        elif t < 160:
            to = self.now + fine * 10_000
        elif t < 240:
            to = self.now + fine * 20_000_000
        elif t < 250:
            to = self.now + fine * 10_000_000_000
        else:
            return
        self.now = max(self.now, to)


def difference(impls: tuple[Implementation, Implementation], program: bytes) -> tuple[int, str | None]:
    """Steps done until the two differ, and how; None when they do not."""
    instructions = list(steps(program))
    if not instructions:
        return 0, None
    pair = Pair(impls, instructions[0])
    for number, instruction in enumerate(instructions[1:], 1):
        if (found := pair.step(instruction)) is not None:
            return number, found
    return len(instructions) - 1, None


def shortest(fails: Callable[[bytes], bool], program: bytes) -> bytes:
    """The program without the instructions that do not matter for its failing (delta debugging)."""
    head, rest = program[:WIDTH], list(steps(program[WIDTH:]))
    size = len(rest)
    while size:
        size = max(1, size // 2)
        at = 0
        while at < len(rest):
            tried = rest[:at] + rest[at + size :]
            if fails(head + b"".join(tried)):
                rest = tried
            else:
                at += size
        if size == 1:
            break
    return head + b"".join(rest)

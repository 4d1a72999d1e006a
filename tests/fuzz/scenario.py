"""Bytes as a scenario: two virtual hosts on one carpdev, played in two implementations and compared at every step.

Which byte means what is of no importance; that a changed byte changes little is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from support import trace, wire

from pycarp import VirtualHost
from pycarp._impl import Implementation
from pycarp.protocol import Advert, Reason, State

from .frames import keys, read_frame
from .reader import Reader
from .side import Broken, Side

LENGTH = 512
"""No scenario is longer: what needs more steps is for the differential traces."""
_OPERATIONS = (
    *["hear"] * 11, *["timeout"] * 6, "start", "start", "stop", "link", "demote", "sent", "sibling", "force",
    "reconfigure", "receive", "spoil", "retire", "delay_takeover", "input", "authenticator",
)  # fmt: skip
_FAR = (-1, 1 << 62, (1 << 62) - 1, 1 << 63, 1 << 64)
_PASSPHRASES = ("motdepassehalakon", "", "abcdefg", "0x1122334455667788", "abcdefghijklmnopqrstu")
_ADDRESSES = (
    (wire.VIP + "/24",),
    (wire.VIP + "/24", "2001:db8::42/64"),
    ("2001:db8::42/64", "fe80::42/64", "10.13.37.200/24", wire.VIP + "/24"),
    ("fe80::42/64",),
    (),
)
_SIBLINGS = "siblings" in {field.name for field in fields(VirtualHost)}

Step = tuple[str, int, tuple[Any, ...]]


def play(impls: tuple[Implementation, Implementation], data: bytes, trail: list[str] | None = None) -> int:
    """The number of steps played. Raises `Broken` where the two differ, or where either breaks a promise."""
    scenario = Scenario(impls, Reader(data[:LENGTH]))
    number = 0
    for number, (name, which, arguments) in enumerate(scenario.steps(), 1):
        if trail is not None:
            trail.append(f"{number}. host {which}: {name}{arguments}")
        for side in scenario.sides:
            side.step(name, which, *arguments)
        one, other = (side.now() for side in scenario.sides)
        if one != other:
            raise Broken(f"they differ at step {number}, {name}{arguments}:\n{one}\n{other}")
        if name == "hear":
            scenario.check_verdict()
    one, other = (side.counters() for side in scenario.sides)
    if one != other:
        raise Broken(f"their counters differ:\n{one}\n{other}")
    return number


class Scenario:
    def __init__(self, impls: tuple[Implementation, Implementation], reader: Reader) -> None:
        self._reader = reader
        seed = reader.byte()
        self._moment = trace.INSTANTS[seed % len(trace.INSTANTS)]
        hosts = [self._config(wire.VHID), self._config(wire.VHID + 1)]
        self.sides = [Side(impl, hosts, seed) for impl in impls]

    @property
    def _hosts(self) -> list[VirtualHost]:
        return [instance.machine.config for instance in self.sides[0].instances]

    def steps(self) -> Iterator[Step]:
        # Nobody starts with anything but a start.
        for which in (0, 1):
            yield "start", which, (self._moment,)
        while self._reader.more:
            operation = self._reader.byte()
            which = operation >> 5 & 1
            self._pass(which)
            yield self._step(_OPERATIONS[operation % len(_OPERATIONS)], which)

    def check_verdict(self) -> None:
        """A valid verdict needs the key: by another implementation of the digest, which shares nothing with these."""
        verdict = next(said for said in self.sides[0].said if hasattr(said, "counter") and hasattr(said, "dialect"))
        if verdict.counter not in ("", "altered", "echo", "sibling"):
            return
        advert = verdict.advert
        carried = advert.vhid in {host.vhid for host in self._hosts}
        if not any(
            wire.digest(key, advert.vhid, [str(one.ip) for one in host.addresses], advert.counter, link_local)
            == advert.digest
            for host in self._hosts
            if host.vhid == advert.vhid or not carried
            for key in keys(host.passphrase).values()
            for link_local in (True, False)
        ):
            raise Broken(f"believed without the key: {verdict}")

    def _config(self, vhid: int) -> VirtualHost:
        read = self._reader.byte
        advbase, advskew, choice, flags = read(), read(), read(), read()
        # Mostly the usual ones: what is equal to what others send matters more than the whole range.
        advbase = trace.BASES[advbase % len(trace.BASES)] if advbase < 192 else min(advbase, 254)
        advskew = trace.SKEWS[advskew % len(trace.SKEWS)] if advskew < 192 else min(advskew, 254)
        # A field that not every version has.
        siblings: dict[str, Any] = {"siblings": "warn"} if _SIBLINGS and flags & 32 else {}
        return VirtualHost(
            vhid=vhid,
            passphrase=_PASSPHRASES[choice % len(_PASSPHRASES)],
            addresses=_ADDRESSES[choice // 5 % len(_ADDRESSES)],
            advbase=advbase,
            advskew=advskew or int(advbase == 0),
            preempt=bool(flags & 1),
            dialect=("auto", "auto", "bsd", "netbsd")[flags >> 1 & 3],
            mac="interface" if flags & 8 else "virtual",
            replay="off" if flags & 16 else "guard",
            up=flags < 224,
            **siblings,
        )

    def _pass(self, which: int) -> None:
        """Time goes on: mostly to the deadline, to the nanosecond, or a little."""
        how = self._reader.byte()
        deadline = self.sides[0].instances[which].machine.deadline
        if how < 64 and deadline is not None:
            moment = deadline + (0, 0, 0, -1, 1, 2_000_000)[how % 6]
        elif how < 128:
            moment = self._moment + (how - 64) * 500_000
        elif how < 240:
            moment = self._moment + (how - 128) * 50_000_000
        elif how < 250:
            moment = self._moment + (how - 240) * 400_000_000_000
        else:
            return
        self._moment = max(self._moment, moment)

    def _step(self, name: str, which: int) -> Step:
        read, now = self._reader.byte, self._moment
        if name == "hear":
            return name, which, (read_frame(self._reader, self._hosts, self.sides[0].sent), now)
        if name == "timeout":
            return name, which, (now,)
        if name == "link":
            return name, which, (bool(read() & 1), now)
        if name == "sent":
            return name, which, (read() < 128, now)
        if name == "demote":
            by = read()
            return name, which, ((by - 248) << 29 if by >= 240 else by % 7 - 3, now)
        if name == "force":
            return name, which, ((*State, 3)[read() % 4], now)
        if name == "receive":
            return name, which, (self._any_advert(), (None, "192.0.2.1")[read() & 1], now)
        if name == "sibling":
            vhid = (1, 51, wire.VHID, wire.VHID + 1, 151, 152)[read() % 6]
            return name, which, (vhid, self._any_advert(), "192.0.2.2", now)
        if name == "reconfigure":
            return self._reconfigure(which)
        if name == "spoil":
            return self._spoil(which)
        if name == "retire":
            value = read()
            return name, which, (list(Reason)[value % len(Reason)], bool(value & 128), now)
        if name == "delay_takeover":
            return name, which, (now,)
        if name == "input":
            value = read()
            return ("allow", "carpdev", "reset", "reset")[value >> 1 & 3], which, (bool(value & 1),)
        if name == "authenticator":
            return self._authenticator(which)
        return name, which, (now,)

    def _reconfigure(self, which: int) -> Step:
        config = self._config(self._hosts[which].vhid)
        if self._reader.byte() > 240:
            config = config.replace(vhid=1)
        return "reconfigure", which, (config, self._moment)

    def _spoil(self, which: int) -> Step:
        """A random source that fails, or a moment that is none."""
        value = self._reader.byte()
        if value & 1:
            return "timeout", which, (_FAR[value // 2 % len(_FAR)],)
        name = ("start", "link", "receive", "timeout", "reconfigure")[value // 2 % 5]
        arguments: tuple[Any, ...] = ()
        if name == "link":
            arguments = (True,)
        elif name == "receive":
            arguments = (self._any_advert(), None)
        elif name == "reconfigure":
            arguments = (self._config(self._hosts[which].vhid),)
        return "spoil", which, (bool(value & 128), name, *arguments, self._moment)

    def _any_advert(self) -> Advert:
        """Any advert at all, as nobody would have let it through."""
        read = self._reader.byte
        family, first, advbase, advskew = 6 if read() & 1 else 4, read(), read(), read()
        return Advert(
            family, "192.0.2.1", "", b"", first >> 4, first & 15, wire.VHID, advskew, 7, 0, advbase, bytes(8), bytes(20)
        )

    def _authenticator(self, which: int) -> Step:
        read, take = self._reader.byte, self._reader.take
        flags = read()
        passphrase = (b"0x" if flags & 1 else b"") + take(read() % 48)
        if flags & 2:
            passphrase = b"0x" + passphrase.hex().encode()
        addresses = [".".join(map(str, take(4).ljust(4, b"\1"))) for _ in range(flags >> 2 & 3)]
        addresses += [f"fe80::{read():x}" for _ in range(flags >> 4 & 1)]
        dialect = ("auto", "bsd", "netbsd", "none")[flags >> 6]
        counters = [take(8).ljust(8, b"\0") for _ in range(2)]
        return "authenticator", which, (passphrase, read(), addresses, dialect, counters)

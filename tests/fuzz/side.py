"""One implementation's carpdev: a input_, and on each of its seats a machine with what it needs to speak."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from support import trace, wire

from pycarp import VirtualHost
from pycarp._impl import Implementation
from pycarp.protocol import Drop, SendAdvert, State, Suppress, Take, Transition
from pycarp.protocol.frames import virtual_mac

KEPT = 8
"""So many of the frames that were sent can come back."""


class Broken(AssertionError):
    """A promise that no scenario may break, in either implementation."""


class Seat:
    """One virtual host."""

    def __init__(self, impl: Implementation, config: VirtualHost, seed: int) -> None:
        self.impl = impl
        self.random = random.Random(seed)
        self.asked: list[int] = []
        self.spoilt = ""
        """In this step asking for a random number "fails", or gives one that is "too large"."""
        self.holds = False
        self.machine: Any = impl.machine.Machine(config, self.draw)
        self.equip(config)

    def equip(self, config: VirtualHost) -> None:
        packet = self.impl.packet
        self.authenticator = self.impl.auth.Authenticator(
            config.passphrase, config.vhid, config.addresses, config.dialect, config.replay
        )
        self.mac = wire.CARPDEV_MAC if config.mac == "interface" else virtual_mac(config.vhid)
        self.templates = {
            family: packet.AdvertTemplate(config.vhid, self.mac, wire.CARPDEV if family == 4 else "fe80::b")
            for family in config.families
        }

    def draw(self, n: int) -> int:
        self.asked.append(n)
        if self.spoilt == "fails":
            raise ValueError("out of numbers")
        return n if self.spoilt else self.random.randrange(n)

    def now(self) -> tuple[Any, ...]:
        machine = self.machine
        return (
            machine.state, machine.deadline, machine.demotion, machine.advskew, machine.interval, machine.master_down,
            getattr(machine, "withheld", None), self.authenticator.dialects, self.asked, self.holds,
        )  # fmt: skip


class Side:
    """Everything on one carpdev, and everything it said in the last step."""

    def __init__(self, impl: Implementation, hosts: Sequence[VirtualHost], seed: int) -> None:
        self.impl = impl
        self.said: list[Any] = []
        self.sent: list[bytes] = []
        self.input: Any = impl.input.Input()
        self.input.set_carpdev(wire.CARPDEV_MAC, trace.CARPDEV_ADDRESSES)
        self.seats = [Seat(impl, config, seed + number) for number, config in enumerate(hosts)]
        for seat in self.seats:
            self.sit(seat)
        self._judging = _judging(self.input)

    def sit(self, seat: Seat) -> None:
        config = seat.machine.config
        packed = [address.packed for address in config.addresses]
        self.input.set_instance(config.vhid, seat.authenticator, seat.mac, packed)

    # Steps

    def step(self, name: str, number: int, *arguments: Any) -> None:
        """One step, whatever comes of it: an error is something said, too."""
        self.said = []
        for seat in self.seats:
            seat.asked.clear()
        seat = self.seats[number]
        before = seat.now()
        try:
            self.do(seat, name, *arguments)
        except OverflowError:
            self.said.append(OverflowError)  # in whose words depends on which C type it did not fit
        except ValueError as error:
            self.said.append((type(error), str(error)))
            if seat.spoilt and seat.now() != before:
                raise Broken(f"{name} failed half way: {before} became {seat.now()}") from None
        for one in self.seats:
            one.spoilt = ""
            if one.holds and (one.machine.state is not State.MASTER or getattr(one.machine, "withheld", False)):
                raise Broken(f"{one.machine.state.name} holds the addresses after {name}{arguments}")

    def do(self, seat: Seat, name: str, *arguments: Any) -> None:
        own = getattr(self, f"do_{name}", None)
        if own is not None:
            own(seat, *arguments)
        else:
            self.call(seat, name, *arguments)

    def call(self, seat: Seat, name: str, *arguments: Any) -> None:
        """One call into a machine, and what follows from its actions."""
        method = getattr(seat.machine, name, None)
        actions = method(*arguments) if method is not None else []
        self.said.append((name, actions))
        for action in actions if isinstance(actions, list) else ():
            self.carry_out(seat, action, arguments[-1])

    def carry_out(self, seat: Seat, action: Any, now: int) -> None:
        if isinstance(action, SendAdvert):
            self.send(seat, action)
        elif isinstance(action, Take | Drop):
            seat.holds = isinstance(action, Take)
        elif isinstance(action, Transition):
            self.input.set_state(seat.machine.config.vhid, action.after)
        elif isinstance(action, Suppress):
            for other in self.seats:
                if other is not seat:
                    self.call(other, "demote", action.by, now)

    def send(self, seat: Seat, action: SendAdvert) -> None:
        for dialect in seat.authenticator.dialects:
            for family, template in seat.templates.items():
                nonce = seat.random.getrandbits(24)
                counter = seat.authenticator.counter(action.advbase, action.advskew, nonce, dialect)
                digest = seat.authenticator.sign(counter, dialect)
                self.sent.append(template.frame(action.advbase, action.advskew, counter, digest))
                self.said.append(self.sent[-1])
                self.input.count_sent(seat.machine.config.vhid, family)
        del self.sent[:-KEPT]

    def do_hear(self, _seat: Seat, frame: bytes, now: int) -> None:
        packet = self.impl.packet
        datagram = packet.dissect(frame)
        self.said.append(datagram)
        if datagram is not None:
            self.said += [packet.advert(datagram), packet.checksum_ok(datagram)]
        verdict = self.input.receive(frame, now) if self._judging == 2 else self.input.receive(frame)
        self.said.append(verdict)
        advert = verdict.advert
        if advert is None:
            return
        for seat in self.seats:
            vhid = seat.machine.config.vhid
            if verdict.counter == "" and advert.vhid == vhid:
                self.call(seat, "receive", advert, advert.source, now)
            elif verdict.counter == "sibling" and verdict.sibling_of == vhid:
                self.call(seat, "sibling", advert.vhid, advert, advert.source, now)

    def do_timeout(self, seat: Seat, now: int) -> None:
        overdue = getattr(seat.machine, "overdue", None)
        silence = overdue(now) if overdue is not None else False
        self.call(seat, "timeout", now)
        if silence and seat.machine.state is not State.MASTER:
            raise Broken(f"at {now} it was overdue, and is {seat.machine.state.name}")
        deadline = seat.machine.deadline
        if deadline is not None and deadline <= now:
            raise Broken(f"after timeout({now}) the deadline is {deadline}: a runtime would never rest")

    def do_delay_takeover(self, seat: Seat, now: int) -> None:
        if hasattr(seat.machine, "delay_takeover"):
            self.said.append(seat.machine.overdue(now))
            self.call(seat, "delay_takeover", now)
            if seat.machine.overdue(now):
                raise Broken(f"at {now} its takeover was delayed, and it is overdue")

    def do_reconfigure(self, seat: Seat, config: VirtualHost, now: int) -> None:
        former = seat.machine.config
        try:
            self.call(seat, "reconfigure", config, now)
        finally:
            if seat.machine.config is not former:
                seat.equip(config)
                self.sit(seat)

    def do_spoil(self, seat: Seat, fails: bool, name: str, *arguments: Any) -> None:
        seat.spoilt = "fails" if fails else "too large"
        self.do(seat, name, *arguments)

    def do_allow(self, _seat: Seat, allow: bool) -> None:
        self.input.allow = allow

    def do_carpdev(self, _seat: Seat, usual: bool) -> None:
        """The carpdev loses its MAC and addresses, or gets them (back)."""
        addresses = trace.CARPDEV_ADDRESSES if usual else ()
        self.input.set_carpdev(wire.CARPDEV_MAC if usual else wire.VIRTUAL_MAC, addresses)

    def do_reseat(self, seat: Seat, _why: bool) -> None:
        """Taken off the carpdev and put there again: its counters begin anew."""
        self.input.remove_instance(seat.machine.config.vhid)
        self.sit(seat)
        self.input.set_state(seat.machine.config.vhid, seat.machine.state)

    def do_authenticator(
        self, _seat: Seat, passphrase: bytes, vhid: int, addresses: list[str], dialect: str, counters: list[bytes]
    ) -> None:
        authenticator = self.impl.auth.Authenticator(passphrase, vhid, addresses, dialect)
        self.said.append(repr(authenticator))
        for counter in counters:
            for under in authenticator.dialects:
                digest = authenticator.sign(counter, under)
                tagged = authenticator.counter(counter[0], counter[1], counter[2], under)
                self.said += [digest, tagged, authenticator.verify(counter, digest), authenticator.dialects]
                self.said += [authenticator.check(tagged, counter[0], counter[1], under)]
                self.said += [authenticator.check(tagged[::-1], counter[0], counter[1], under)]

    def now(self) -> tuple[Any, ...]:
        return [seat.now() for seat in self.seats], self.said

    def counters(self) -> tuple[Any, ...]:
        return self.input.stats(), [self.input.stats(seat.machine.config.vhid) for seat in self.seats]


def _judging(input_: Any) -> int:
    """How many arguments `receive` takes: the time is of no use to an input path that limits nothing."""
    try:
        input_.receive(b"", 0)
    except TypeError:
        return 1
    return 2

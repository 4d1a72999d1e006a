"""One implementation's carpdev: an input path, and instances, each a machine with what it needs to speak."""

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


class Instance:
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
        self.instances = [Instance(impl, config, seed + number) for number, config in enumerate(hosts)]
        for instance in self.instances:
            self.set_instance(instance)
        self._judging = _judging(self.input)

    def set_instance(self, instance: Instance) -> None:
        config = instance.machine.config
        packed = [address.packed for address in config.addresses]
        self.input.set_instance(config.vhid, instance.authenticator, instance.mac, packed)

    # Steps

    def step(self, name: str, number: int, *arguments: Any) -> None:
        """One step, whatever comes of it: an error is something said, too."""
        self.said = []
        for instance in self.instances:
            instance.asked.clear()
        instance = self.instances[number]
        before = instance.now()
        try:
            self.do(instance, name, *arguments)
        except OverflowError:
            self.said.append(OverflowError)  # in whose words depends on which C type it did not fit
        except ValueError as error:
            self.said.append((type(error), str(error)))
            if instance.spoilt and instance.now() != before:
                raise Broken(f"{name} failed half way: {before} became {instance.now()}") from None
        for one in self.instances:
            one.spoilt = ""
            if one.holds and (one.machine.state is not State.MASTER or getattr(one.machine, "withheld", False)):
                raise Broken(f"{one.machine.state.name} holds the addresses after {name}{arguments}")

    def do(self, instance: Instance, name: str, *arguments: Any) -> None:
        own = getattr(self, f"do_{name}", None)
        if own is not None:
            own(instance, *arguments)
        else:
            self.call(instance, name, *arguments)

    def call(self, instance: Instance, name: str, *arguments: Any) -> None:
        """One call into a machine, and what follows from its actions."""
        method = getattr(instance.machine, name, None)
        actions = method(*arguments) if method is not None else []
        self.said.append((name, actions))
        for action in actions if isinstance(actions, list) else ():
            self.carry_out(instance, action, arguments[-1])

    def carry_out(self, instance: Instance, action: Any, now: int) -> None:
        if isinstance(action, SendAdvert):
            self.send(instance, action)
        elif isinstance(action, Take | Drop):
            instance.holds = isinstance(action, Take)
        elif isinstance(action, Transition):
            self.input.set_state(instance.machine.config.vhid, action.after)
        elif isinstance(action, Suppress):
            for other in self.instances:
                if other is not instance:
                    self.call(other, "demote", action.by, now)

    def send(self, instance: Instance, action: SendAdvert) -> None:
        for dialect in instance.authenticator.dialects:
            for family, template in instance.templates.items():
                nonce, serial = instance.random.getrandbits(3), instance.random.getrandbits(16)
                counter = instance.authenticator.counter(action.advbase, action.advskew, nonce, dialect, serial=serial)
                digest = instance.authenticator.sign(counter, dialect)
                self.sent.append(template.frame(action.advbase, action.advskew, counter, digest))
                self.said.append(self.sent[-1])
                self.input.count_sent(instance.machine.config.vhid, family)
        del self.sent[:-KEPT]

    def do_hear(self, _instance: Instance, frame: bytes, now: int) -> None:
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
        for instance in self.instances:
            vhid = instance.machine.config.vhid
            if verdict.counter == "" and advert.vhid == vhid:
                self.call(instance, "receive", advert, advert.source, now)
            elif verdict.counter == "sibling" and verdict.sibling_of == vhid:
                self.call(instance, "sibling", advert.vhid, advert, advert.source, now)

    def do_timeout(self, instance: Instance, now: int) -> None:
        overdue = getattr(instance.machine, "overdue", None)
        silence = overdue(now) if overdue is not None else False
        self.call(instance, "timeout", now)
        if silence and instance.machine.state is not State.MASTER:
            raise Broken(f"at {now} it was overdue, and is {instance.machine.state.name}")
        deadline = instance.machine.deadline
        if deadline is not None and deadline <= now:
            raise Broken(f"after timeout({now}) the deadline is {deadline}: a runtime would never rest")

    def do_delay_takeover(self, instance: Instance, now: int) -> None:
        if hasattr(instance.machine, "delay_takeover"):
            self.said.append(instance.machine.overdue(now))
            self.call(instance, "delay_takeover", now)
            if instance.machine.overdue(now):
                raise Broken(f"at {now} its takeover was delayed, and it is overdue")

    def do_reconfigure(self, instance: Instance, config: VirtualHost, now: int) -> None:
        former = instance.machine.config
        try:
            self.call(instance, "reconfigure", config, now)
        finally:
            if instance.machine.config is not former:
                instance.equip(config)
                self.set_instance(instance)

    def do_spoil(self, instance: Instance, fails: bool, name: str, *arguments: Any) -> None:
        instance.spoilt = "fails" if fails else "too large"
        self.do(instance, name, *arguments)

    def do_allow(self, _instance: Instance, allow: bool) -> None:
        self.input.allow = allow

    def do_carpdev(self, _instance: Instance, usual: bool) -> None:
        """The carpdev loses its MAC and addresses, or gets them (back)."""
        addresses = trace.CARPDEV_ADDRESSES if usual else ()
        self.input.set_carpdev(wire.CARPDEV_MAC if usual else wire.VIRTUAL_MAC, addresses)

    def do_reset(self, instance: Instance, _why: bool) -> None:
        """Taken off the carpdev and put there again: its counters begin anew."""
        self.input.remove_instance(instance.machine.config.vhid)
        self.set_instance(instance)
        self.input.set_state(instance.machine.config.vhid, instance.machine.state)

    def do_authenticator(
        self,
        _instance: Instance,
        passphrase: bytes,
        vhid: int,
        addresses: list[str],
        dialect: str,
        counters: list[bytes],
    ) -> None:
        authenticator = self.impl.auth.Authenticator(passphrase, vhid, addresses, dialect)
        self.said.append(repr(authenticator))
        for counter in counters:
            for under in authenticator.dialects:
                digest = authenticator.sign(counter, under)
                said = counter[3] if counter[2] & 1 else None
                serial, pace = int.from_bytes(counter[4:6], "big"), counter[6] & 15
                tagged = authenticator.counter(counter[0], counter[1], counter[2], under, said, serial, pace)
                self.said += [digest, tagged, authenticator.verify(counter, digest), authenticator.dialects]
                self.said += [authenticator.check(tagged, counter[0], counter[1], under)]
                self.said += [authenticator.check(tagged[::-1], counter[0], counter[1], under)]

    def now(self) -> tuple[Any, ...]:
        return [instance.now() for instance in self.instances], self.said

    def counters(self) -> tuple[Any, ...]:
        return self.input.stats(), [self.input.stats(instance.machine.config.vhid) for instance in self.instances]


def _judging(input_: Any) -> int:
    """How many arguments `receive` takes: the time is of no use to an input path that limits nothing."""
    try:
        input_.receive(b"", 0)
    except TypeError:
        return 1
    return 2

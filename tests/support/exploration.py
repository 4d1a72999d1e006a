"""Every way in which a few hosts and a bad network can go wrong, up to a bound; and from each of them a quiet network.

A situation is some machines, the adverts on their way and who is paused. Next, one of these happens: an advert arrives
(any of them, so they overtake each other), the next timer is due, or one of a bounded number of faults. An advert is
lost, arrives twice, or is still on its way when the next timer is due. A host stands still and goes on; if the pause
was long enough to be noticed, it lets go of the address then. A host loses its link, is stopped or started.

Random waits are the shortest or the longest. Situations that differ in nothing but the time are one. The Python machine
is explored, for it can be copied; the differential test holds the other one to the same.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from pycarp import VirtualHost
from pycarp._python.arbitration import SIBLING_ANSWERS
from pycarp._python.demotion import Demotion
from pycarp._python.leaving import Leaving
from pycarp._python.machine import Machine
from pycarp._python.pace import Paced
from pycarp.protocol import Action, Advert, Drop, Reason, SendAdvert, State, Take
from pycarp.protocol.timing import TIE_JITTER

from .elections import heard

DELAY = 50_000
_SLOTS = (*Machine.__slots__, *Paced.__slots__, *Demotion.__slots__, *Leaving.__slots__)
_DUE = ("_advert_due", "_master_down_due", "_takeover_due", "_forget_errors_due", "_withheld_until", "_leaving_until")


class _Undecided(Exception):
    """A machine wants a random number that the explorer has not chosen yet."""

    def __init__(self, most: int) -> None:
        self.most = most


@dataclass(frozen=True)
class Flight:
    """An advert on its way to one host."""

    to: int
    vhid: int
    advbase: int
    advskew: int


_advert = functools.cache(heard)


def _clone(machine: Machine) -> Machine:
    made = Machine.__new__(Machine)
    for slot in _SLOTS:
        setattr(made, slot, getattr(machine, slot))
    made._family_due = dict(machine._family_due)
    made._silent_families = set(machine._silent_families)
    made._arbitration = copy(machine._arbitration)
    made._arbitration._siblings = [copy(each) for each in machine._arbitration._siblings]
    made._arbitration._standings = dict(machine._arbitration._standings)
    return made


def _key(machine: Machine, now: int) -> tuple[Any, ...]:
    """What the machine will do, in times from now. What lies too far back to matter is one."""
    return (
        machine._state, machine._started, machine._link, machine._demotion, machine._send_errors, machine._tie_wait,
        machine._stands_back, machine._heir, machine._master_reason, machine._takeover_reason,
        tuple(None if at is None else at - now for at in (getattr(machine, slot) for slot in _DUE)),
        tuple(sorted((family, at - now) for family, at in machine._family_due.items())),
        tuple(machine._silent_families),
        min(now - machine._master_since, TIE_JITTER + 1), max(machine._tie_copies_end - now, 0),
        tuple(
            (each.vhid, each.interval, each.gone_at - now, now - each.first_answer if each.answers else 0,
             min(each.answers, SIBLING_ANSWERS), max(each.copies_end - now, 0), each.stalemate)
            for each in machine._arbitration._siblings if each.gone_at > now
        ),
    )  # fmt: skip


@dataclass
class Situation:
    machines: list[Machine]
    now: int = 0
    paused: tuple[bool, ...] = ()
    flights: tuple[Flight, ...] = ()
    holds: list[bool] = field(default_factory=list)
    ticks: int = 0
    faults: int = 0
    story: tuple[Any, ...] = ()

    def copy(self, step: Any, changing: Sequence[int] = ()) -> Situation:
        """Another situation, in which the machines named may be called."""
        machines = list(self.machines)
        for index in changing:
            machines[index] = _clone(machines[index])
        story = (self.story, step)
        return Situation(
            machines, self.now, self.paused, self.flights, list(self.holds), self.ticks, self.faults, story
        )

    def key(self) -> tuple[Any, ...]:
        flights = sorted((each.to, each.vhid, each.advbase, each.advskew) for each in self.flights)
        return (tuple(_key(m, self.now) for m in self.machines), self.paused, tuple(flights), tuple(self.holds))

    def carry_out(self, index: int, actions: list[Action]) -> list[Flight]:
        """Who holds the addresses now, and what is on its way for it."""
        sent = []
        machine = self.machines[index]
        for action in actions:
            if isinstance(action, Take):
                self.holds[index] = True
            elif isinstance(action, Drop):
                self.holds[index] = False
            elif isinstance(action, SendAdvert):
                flight = (machine.config.vhid, action.advbase, action.advskew)
                sent += [Flight(to, *flight) for to in range(len(self.machines)) if to != index]
        assert self.holds[index] == (machine.state is State.MASTER and not machine.withheld), self.tell()
        return sent

    def hear(self, index: int, flight: Flight) -> list[Action]:
        machine = self.machines[index]
        advert: Advert = _advert(flight.advbase, flight.advskew, vhid=flight.vhid)
        if flight.vhid == machine.config.vhid:
            return machine.receive(advert, advert.source, self.now)
        return machine.sibling(flight.vhid, advert, advert.source, self.now)

    def tell(self) -> str:
        """How it came to this."""
        lines: list[str] = []
        story: Any = self.story
        while story:
            story, step = story
            lines.append(str(step))
        states = [f"{m.state.name}{' withheld' * m.withheld}" for m in self.machines]
        return "\n".join([*reversed(lines), f"{self.now / 1e9:.6f} s: {states}, holding: {self.holds}"])


class Explorer:
    """`Explorer(configs, ticks, faults)`: `run()` visits everything within the bounds, and checks each."""

    def __init__(
        self, configs: Sequence[VirtualHost], *, ticks: int, faults: int, kinds: Sequence[str], owners: int = 1
    ) -> None:
        self.configs = configs
        self.ticks, self.faults, self.kinds = ticks, faults, kinds
        self.owners = owners
        self.checked: dict[Any, int] = {}
        """How long it takes from a quiet situation until the addresses stay where they are, in ns."""
        self.visited: dict[Any, tuple[int, int]] = {}
        self.longest = 0

    def start(self) -> Situation:
        count = len(self.configs)
        machines = [Machine(config, _undecided) for config in self.configs]
        return Situation(machines, 0, (False,) * count, (), [False] * count)

    def run(self) -> None:
        waiting = list(self._from_the_start())
        while waiting:
            situation = waiting.pop()
            spent = situation.ticks, situation.faults
            key = situation.key()
            known = self.visited.get(key)
            if known is not None and known[0] <= spent[0] and known[1] <= spent[1]:
                continue
            self.visited[key] = spent
            if known is None:
                self._check(situation)
            waiting.extend(self._next(situation))

    # What may happen

    def _from_the_start(self) -> Iterator[Situation]:
        """All started at once, with every choice of the first waits."""
        situations = [self.start()]
        for index in range(len(self.configs)):
            situations = [each for situation in situations for each in self._act(situation, "start", index, _start)]
        yield from situations

    def _act(
        self, before: Situation, what: str, index: int, call: Callable[[Situation, int], list[Action]],
        change: Callable[[Situation], None] = lambda _: None,
    ) -> list[Situation]:  # fmt: skip
        """The situations that a call leads to: one for each choice of what it draws."""
        done: list[Situation] = []
        open_choices: list[tuple[int, ...]] = [()]
        while open_choices:
            choices = open_choices.pop()
            after = before.copy((before.now, what, index, choices), [index])
            change(after)
            draws = list(choices)

            def draw(n: int, draws: list[int] = draws) -> int:
                if not draws:
                    raise _Undecided(n - 1)
                return draws.pop(0)

            after.machines[index]._random = draw
            try:
                actions = call(after, index)
            except _Undecided as undecided:
                open_choices += [(*choices, 0), (*choices, undecided.most)]
                continue
            after.machines[index]._random = _undecided
            after.flights += tuple(after.carry_out(index, actions))
            done.append(after)
        return done

    def _next(self, now: Situation) -> Iterator[Situation]:
        for number, flight in enumerate(now.flights):
            if number and flight in now.flights[:number]:
                continue
            rest = now.flights[:number] + now.flights[number + 1 :]
            if not now.paused[flight.to]:
                yield from self._arrive(now, flight, rest)
            if now.faults < self.faults and "loss" in self.kinds:
                lost = now.copy((now.now, "lost", flight))
                lost.flights, lost.faults = rest, now.faults + 1
                yield lost
            if now.faults < self.faults and "copy" in self.kinds and not now.paused[flight.to]:
                for each in self._arrive(now, flight, now.flights):
                    each.faults += 1
                    yield each
        if now.ticks < self.ticks:
            yield from self._tick(now)
        if now.faults < self.faults:
            for index in range(len(now.machines)):
                yield from self._fault(now, index)
        for index, paused in enumerate(now.paused):
            if paused:
                yield from self._go_on(now, index)

    def _arrive(self, now: Situation, flight: Flight, rest: tuple[Flight, ...]) -> Iterator[Situation]:
        def change(after: Situation) -> None:
            after.flights = rest

        yield from self._act(now, f"hears {flight}", flight.to, lambda s, i: s.hear(i, flight), change)

    def _tick(self, now: Situation) -> Iterator[Situation]:
        """The next timer is due. What is still on its way to somebody who listens is late: a fault."""
        due = [(m.deadline, i) for i, m in enumerate(now.machines) if m.deadline is not None and not now.paused[i]]
        late = any(not now.paused[flight.to] for flight in now.flights)
        if not due or (late and (now.faults == self.faults or "late" not in self.kinds)):
            return
        first = max(now.now, min(at for at, _ in due))

        def change(after: Situation) -> None:
            after.now = first
            after.ticks += 1
            after.faults += late

        for at, index in due:
            if at <= first:
                yield from self._act(now, "timeout", index, lambda s, i: s.machines[i].timeout(s.now), change)

    def _fault(self, now: Situation, index: int) -> Iterator[Situation]:
        machine = now.machines[index]

        def change(after: Situation) -> None:
            after.faults += 1

        if "pause" in self.kinds and not now.paused[index]:
            paused = now.copy((now.now, "pauses", index))
            paused.paused = (*now.paused[:index], True, *now.paused[index + 1 :])
            paused.faults += 1
            yield paused
        if "link" in self.kinds and not now.paused[index] and machine._link:
            yield from self._act(now, "link down", index, lambda s, i: s.machines[i].link(False, s.now), change)
        if "stop" in self.kinds and not now.paused[index] and machine._started:
            yield from self._act(now, "stops", index, lambda s, i: s.machines[i].stop(s.now), change)
        if "hand over" in self.kinds and not now.paused[index] and machine._state is State.MASTER:
            yield from self._act(now, "hands over", index, _hand_over, change)
        if not now.paused[index] and not machine._link:
            yield from self._act(now, "link up", index, lambda s, i: s.machines[i].link(True, s.now))
        if not now.paused[index] and not machine._started:
            yield from self._act(now, "starts", index, _start)

    def _go_on(self, now: Situation, index: int) -> Iterator[Situation]:
        def change(after: Situation) -> None:
            after.paused = (*now.paused[:index], False, *now.paused[index + 1 :])

        yield from self._act(now, "goes on", index, _go_on, change)
        # Its pause was too short to be noticed, or it was none of the engine's but of the network's.
        yield from self._act(now, "goes on, late", index, lambda _s, _i: [], change)

    # What must come of it

    def _check(self, situation: Situation) -> None:
        """On a network that is quiet and whole the addresses have one owner soon, and keep it."""
        quiet = situation.copy((situation.now, "quiet", ""), range(len(self.configs)))
        chance = random.Random(len(self.checked))
        numbers = itertools.count()
        arrivals: list[tuple[int, int, Flight]] = []

        def carry_out(index: int, actions: list[Action]) -> None:
            for flight in quiet.carry_out(index, actions):
                heapq.heappush(arrivals, (quiet.now + DELAY, next(numbers), flight))

        for index, machine in enumerate(quiet.machines):
            machine._random = chance.randrange
            if situation.paused[index]:
                carry_out(index, _go_on(quiet, index))
            if not machine._link:
                carry_out(index, machine.link(True, quiet.now))
            if not machine._started:
                carry_out(index, machine.start(quiet.now))
        for flight in situation.flights:
            heapq.heappush(arrivals, (quiet.now + DELAY, next(numbers), flight))
        began = changed = quiet.now
        settled_after = 3 * max(machine.master_down for machine in quiet.machines)
        seen: list[tuple[Any, int]] = []
        while True:
            if not arrivals:
                key = quiet.key()
                if key in self.checked:
                    changed = max(changed, quiet.now + self.checked[key])
                    break
                seen.append((key, quiet.now))
            due = [(m.deadline, i) for i, m in enumerate(quiet.machines) if m.deadline is not None]
            at, index = min(due)
            before = tuple(quiet.holds)
            if arrivals and arrivals[0][0] <= at:
                quiet.now, _, flight = heapq.heappop(arrivals)
                index = flight.to
                actions = quiet.hear(index, flight)
            else:
                quiet.now = max(quiet.now, at)
                actions = quiet.machines[index].timeout(quiet.now)
            carry_out(index, actions)
            if tuple(quiet.holds) != before:
                changed = quiet.now
            if changed - began > settled_after:
                raise AssertionError(f"no end of it\n{quiet.tell()}")
            if quiet.now - changed > settled_after:
                assert sum(quiet.holds) == self.owners, quiet.tell()
                break
        assert changed - began <= settled_after, quiet.tell()
        self.longest = max(self.longest, changed - began)
        self.checked.update((key, changed - at) for key, at in seen)


def _undecided(n: int) -> int:
    raise _Undecided(n - 1)


def _start(situation: Situation, index: int) -> list[Action]:
    return situation.machines[index].start(situation.now)


def _hand_over(situation: Situation, index: int) -> list[Action]:
    return situation.machines[index].leave(situation.now)


def _go_on(situation: Situation, index: int) -> list[Action]:
    return situation.machines[index].retire(Reason.STALLED, False, situation.now)

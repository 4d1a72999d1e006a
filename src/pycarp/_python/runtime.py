"""The runtime in plain Python: one thread with the sockets, one clock, the state machines and their plans.

It sends what the plans hold, orders addresses from the guardian, and lets events flow up; nothing else may happen in
its thread. Whoever manages interfaces does so from another thread, by the methods below, each carried out in the loop.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import secrets
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from .. import _impl, events
from ..engine.mailbox import Mailbox
from ..engine.plan import Plan
from ..errors import CarpError, ConfigError, EngineError
from ..linux import netlink
from ..linux.guardian_client import Guardian, GuardianGone, Kind, Reply
from ..linux.lock import VirtualHostLock
from ..linux.sockets import Sockets
from ..protocol import (
    BOWOUT,
    NS_PER_SECOND,
    Action,
    Advert,
    Announce,
    Drop,
    FamilySilent,
    Reason,
    SendAdvert,
    SiblingFound,
    State,
    Suppress,
    Take,
    Transition,
)
from ..protocol.abc import Input, Machine
from ..protocol.timing import FOREVER, lease, no_lease, takeover_after
from ..stats import Histogram, Measures, Stats
from . import spawn
from .guardian.protocol import ORDER_NOBODY, REPLY_SUPERSEDED

if TYPE_CHECKING:
    from ..linux.device import Device

T = TypeVar("T")

DROP_LEAD = 0.0003
"""A bow-out waits this many seconds after the drop was handed over: answers stop within 0.1 ms of its sending."""
RIVAL_LEAD = 2_000_000
"""This many ns after a worse MASTER was heard, when it has yielded, we announce again: its last frames have misled
switches."""
YIELD_LEAD = 3_000_000
"""Who takes over from a MASTER that lives takes the addresses this many ns after its first advert: by then the other
has heard that, and dropped them."""
REST_LEAST, REST_MOST = 1_000_000_000, 64_000_000_000
"""Who cannot take its addresses bows out and rests, this many ns at first and twice as long each time: its better
advskew would depose at once who takes them in its stead, and the group would never come to rest."""
PAUSE_LEAST = 50_000_000
"""A loop that is so many ns late has been stopped, or its machine has been: then every MASTER is looked at."""
_GRACE = 0.5
"""The guardian lets go when an advert is late by this part of advbase: an interpreter may be busy for a while."""
_GRACE_LEAST = 70_000_000
_SETTLE = 10.0
"""Seconds that addresses may take to leave; and seconds between two looks whether they have."""
_SETTLE_LOOK = 0.001
_LINGER = 0.06
"""Seconds until the device of a MASTER goes: the guardian has taken its link down by then. Both keep those waiting who
change interfaces on this machine, and the next owner may be among them."""
_REPAY = 0.001
"""Seconds between two looks at whether there is room for an order that found none."""
_PING_PATIENCE = 1_500_000_000
"""A guardian that has not answered for so many ns hangs: another one takes its place."""
_MOST_DELAYS = 2
TELL_DELAY = 50_000_000
"""Demotions are told this many ns after the first of a flock: where hundreds demote each other, as when one cable is
pulled, only what comes of it is news."""
_NAP = 2_000_000
"""Within this many ns of a deadline the loop sleeps on the clock: epoll counts in whole milliseconds."""
_FRAMES_A_TURN = 256
_FRAME_ROOM = 1 << 17
_KNOWN_PEERS = 32
"""Peers remembered for each virtual host and carpdev, so that a liar with many addresses costs no memory."""


@dataclass(slots=True)
class Carpdev:
    """One carpdev. `behind`: its socket has frames that came before now."""

    sockets: Sockets
    input: Input
    seats: dict[int, _Seat] = field(default_factory=dict)
    rejected: set[tuple[str, str, int]] = field(default_factory=set)
    losses: int = 0
    behind: bool = False

    def count_losses(self) -> int:
        """How many frames found no room so far."""
        self.losses += self.sockets.losses()
        return self.losses


@dataclass(slots=True, eq=False)
class _Seat:
    """One virtual host in its segment.

    `wanted`: it was started. `taken`: its addresses were ordered here, and the guardian wants to hear from it. `alive`
    is CLOCK_BOOTTIME of its last advert as MASTER, `lease` the lifetime of its addresses in seconds (None: for ever),
    `told` the one that the guardian was told last, `least` the smallest advbase heard in its group. `pending` orders
    have not been answered yet; `owed` is one that found no room.
    """

    index: int
    plan: Plan
    machine: Machine
    segment: Carpdev
    device: Device
    lock: VirtualHostLock
    least: int
    peers: set[tuple[str, str]] = field(default_factory=set)
    rivals: set[tuple[str, str]] = field(default_factory=set)
    wanted: bool = False
    taken: bool = False
    alive: int = 0
    lease: int | None = None
    told: int | None = None
    unleased_told: bool = False
    pending: int = 0
    owed: Kind | None = None
    announcements: int = 0
    losses: int = 0
    holds: int = 0
    heard: int = 0
    refused: int = 0
    failing: bool = False
    announce_due: int | None = None
    take_due: int | None = None
    deciding: int | None = None
    rest: int = 0
    rest_due: int | None = None
    demotion_told: int = 0
    due: int | None = None


class Runtime:
    """Runs virtual hosts. `index` is the caller's number for a virtual host, `segment` its number for a carpdev.

    Methods may be called from any thread but the loop's own; each returns when the loop has carried it out, and
    raises what it raised there. `emit` gets the events and must return at once.
    """

    def __init__(self, emit: Callable[[events.Event], None], realtime: bool | Literal["auto"] = "auto") -> None:
        if realtime is True:
            raise ConfigError('realtime=True is for the native implementation: this is the Python one, take "auto"')
        self._emit = emit
        self._realtime = realtime is not False
        self._guardian: Guardian | None = None
        self._answers: dict[int, Future[Reply]] = {}
        self._numbers = itertools.count(1)
        self._owing = False
        self._orphaned = False
        self._pinged = 0
        self._watchdog = self._fed = 0
        self._starving = False
        self._slept = _suspended()
        self._wakeup, self._sending, self._takeover = Histogram(), Histogram(), Histogram()
        self._segments: dict[int, Carpdev] = {}
        self._seats: dict[int, _Seat] = {}
        self._demotion = 0
        self._suppressions: deque[tuple[int, _Seat | None]] = deque()
        self._demoted_due: int | None = None
        self._timers: list[tuple[int, int]] = []
        self._mailbox = Mailbox()
        self._buffer = bytearray(_FRAME_ROOM)
        self._closing = False
        with contextlib.ExitStack() as undo:
            undo.callback(self._mailbox.close)
            self._selector = undo.enter_context(selectors.DefaultSelector())
            self._selector.register(self._mailbox, selectors.EVENT_READ, None)
            self._lifeline = undo.enter_context(contextlib.closing(spawn.Lifeline()))
            self._thread = threading.Thread(target=self._loop, name="pycarp-runtime", daemon=True)
            self._thread.start()
            undo.callback(self._thread.join)
            undo.callback(self._call, self._end_loop)
            # The lifeline is held by the loop: the guardian, which waits for its end, comes after that.
            self._call(lambda now: self._lifeline.lock())
            self._guardian = guardian = Guardian(self._lifeline, self._realtime, spawn)
            undo.callback(guardian.close)
            self._call(lambda now: self._attach(guardian))
            undo.pop_all()

    # From other threads

    def add_carpdev(
        self,
        segment: int,
        sockets: Sockets,
        mac: bytes,
        addresses: Iterable[IPv4Interface | IPv6Interface],
        allow: bool,
    ) -> None:
        """Speak and hear on one more carpdev. The sockets are the runtime's from now on."""

        def add(now: int) -> None:
            checks = _impl.current.input.Input()
            checks.allow = allow
            checks.set_carpdev(mac, addresses)
            self._segments[segment] = Carpdev(sockets, checks)
            self._selector.register(sockets.receive, selectors.EVENT_READ, self._segments[segment])

        self._call(add)

    def update_carpdev(self, segment: int, mac: bytes, addresses: Iterable[IPv4Interface | IPv6Interface]) -> None:
        """The carpdev has another MAC or other addresses now."""
        self._call(lambda now: self._segments[segment].input.set_carpdev(mac, addresses))

    def remove_carpdev(self, segment: int) -> None:
        """Close the sockets of a carpdev; its virtual hosts must be gone or get another by `move`."""

        def remove(now: int) -> None:
            gone = self._segments.pop(segment)
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(gone.sockets.receive)
            gone.sockets.close()

        self._call(remove)

    def add_instance(self, index: int, segment: int, plan: Plan, device: Device, lock: VirtualHostLock) -> None:
        """Seat a virtual host, in INIT. Its addresses come and go by the device's prepared requests, its lock is held
        by the guardian too."""

        def add(now: int) -> None:
            machine = _impl.current.machine.Machine(plan.host)
            machine.demote(self._demotion, now)
            seat = _Seat(index, plan, machine, self._segments[segment], device, lock, plan.host.advbase)
            seat.demotion_told = self._demotion
            self._entrust(seat)
            self._seats[index] = seat
            self._sit(seat)

        self._call(add)

    def move_instance(self, index: int, segment: int, plan: Plan, device: Device, lock: VirtualHostLock) -> None:
        """Seat a virtual host, whose link is down, on a carpdev that came back."""

        def move(now: int) -> None:
            seat = self._seats[index]
            self._leave(seat)
            seat.segment, seat.plan, seat.device, seat.lock = self._segments[segment], plan, device, lock
            self._entrust(seat)
            self._sit(seat)

        self._call(move)

    def remove_instance(self, index: int, restore: bool = False) -> None:
        """Stop a virtual host, see its addresses dropped and its device removed, and forget it.

        `restore` gives the carpdev its settings back. Raises `OSError` for what could not be removed, `EngineError`
        where there is no guardian to do it; forgotten it is all the same.
        """
        held = self.owns(index)
        self.stop_instance(index)
        self._settle(index)
        time.sleep(_LINGER if held else 0)
        try:
            for kind in (Kind.REMOVE, Kind.RESTORE) if restore else (Kind.REMOVE,):
                error = self._ask(kind, index).error
                if error:
                    raise OSError(error, os.strerror(error))
        finally:
            with contextlib.suppress(EngineError):
                self._ask(Kind.FORGET, index)
            self._call(lambda now: self._leave(self._seats[index]))
            del self._seats[index]

    def stop_all(self) -> None:
        """Stop every virtual host, and see all addresses dropped."""
        held = any(seat.taken for seat in list(self._seats.values()))
        self._call(self._stop_all)
        self._settle(None)
        time.sleep(_LINGER if held else 0)

    def start_instance(self, index: int) -> None:
        """INIT -> BACKUP, and whatever state its configuration forces."""

        def start(now: int) -> None:
            seat = self._seats[index]
            seat.rest_due = None
            seat.wanted = True
            self._carry_out(seat, seat.machine.start(now), now)
            if seat.plan.host.state is not None:
                self._carry_out(seat, seat.machine.force(seat.plan.host.state, now), now)

        self._call(start)

    def stop_instance(self, index: int) -> None:
        """Bow out, drop, INIT."""

        def stop(now: int) -> None:
            seat = self._seats[index]
            seat.rest_due = None
            seat.wanted = False
            self._carry_out(seat, seat.machine.stop(now), now)

        self._call(stop)

    def link(self, index: int, up: bool) -> None:
        """The carpdev of a virtual host went or came."""
        self._step(index, lambda machine, now: machine.link(up, now))

    def force(self, index: int, state: State) -> None:
        """Put a virtual host into a state by hand."""
        self._step(index, lambda machine, now: machine.force(state, now))

    def replan(self, index: int, plan: Plan, device: Device) -> None:
        """Go on with another plan; a changed configuration is taken up as `Machine.reconfigure` says."""

        def replan(now: int) -> None:
            seat = self._seats[index]
            changed = plan.host != seat.plan.host
            seat.plan, seat.device = plan, device
            self._entrust(seat)
            self._sit(seat)
            if changed:
                self._end_rest(seat, now)
                self._carry_out(seat, seat.machine.reconfigure(plan.host, now), now)

        self._call(replan)

    def retake(self, index: int) -> None:
        """The addresses' place was made anew: a MASTER takes and announces again."""

        def retake(now: int) -> None:
            seat = self._seats[index]
            self._end_rest(seat, now)
            # Without adverts that are sent, a lease ends as it should.
            self._carry_out(seat, [Announce(), Take()] if seat.taken and not seat.failing else [], now)

        self._call(retake)

    def announce(self, index: int) -> None:
        """A MASTER announces its addresses once more."""

        def announce(now: int) -> None:
            seat = self._seats[index]
            if seat.taken:
                self._carry_out(seat, [Announce()], now)

        self._call(announce)

    def demote(self, by: int) -> int:
        """Change the demotion of every virtual host; returns the new host-wide demotion."""

        def demote(now: int) -> int:
            applied = max(by, -self._demotion)
            self._suppress(applied, None, now)
            if applied and self._demoted_due is not None:
                # Who asked for it is told at once.
                self._demoted_due = now
                self._tell_demotions(now)
            return self._demotion

        return self._call(demote)

    def refuse(self, index: int, until: int) -> None:
        """Silence is no reason to take over before `until` (CLOCK_MONOTONIC, ns)."""

        def refuse(now: int) -> None:
            self._seats[index].refused = until

        self._call(refuse)

    def heard(self, index: int) -> int:
        """When a valid advert was heard last (CLOCK_MONOTONIC, ns), 0: never; does not wait for the loop."""
        return self._seats[index].heard

    def watch(self, limit: int) -> None:
        """From now on `alive` is to be called at least every `limit` ns; 0 ends it."""

        def watch(now: int) -> None:
            self._watchdog, self._fed = limit, now
            if not limit:
                self._feed(now)

        self._call(watch)

    def alive(self) -> None:
        """The program that embeds the engine is well. Does not wait for the loop."""
        self._fed = time.monotonic_ns()
        if self._starving:
            self._mailbox.post(lambda: self._feed(time.monotonic_ns()))

    def state(self, index: int) -> State:
        """The state now; does not wait for the loop."""
        return self._seats[index].machine.state

    def owns(self, index: int) -> bool:
        """Whether its addresses are to be here now: a MASTER may have to wait for them."""
        return self._seats[index].taken

    def demotion(self, index: int) -> int:
        """The demotion now; does not wait for the loop."""
        return self._seats[index].machine.demotion

    def stats(self, index: int) -> Stats:
        """The counters of a virtual host."""

        def stats(now: int) -> Stats:
            seat = self._seats[index]
            return seat.segment.input.stats(seat.plan.host.vhid)

        return self._call(stats)

    def measures(self) -> Measures:
        """What the loop measured of itself, since its start."""

        def measures(now: int) -> Measures:
            return Measures(
                ring_losses=sum(segment.count_losses() for segment in self._segments.values()),
                wakeup=self._wakeup.counts,
                sending=self._sending.counts,
                takeover=self._takeover.counts,
            )

        return self._call(measures)

    def close(self) -> None:
        """Stop every virtual host, see all addresses dropped, close the sockets, end the thread and the guardian."""
        with contextlib.suppress(EngineError):
            self.stop_all()
            self._ask(Kind.QUIET, 0)
        with contextlib.suppress(EngineError):
            self._call(self._end_loop)
        self._thread.join()
        if self._guardian is not None:
            self._guardian.close()
        self._lifeline.close()
        self._close_descriptors()
        self._mailbox.close()

    def abandon(self) -> None:
        """Close this process's descriptors without a word on the wire: after a fork the group's affairs are the
        parent's."""
        if self._guardian is not None:
            self._guardian.abandon()
        self._lifeline.close()
        self._close_descriptors()
        self._mailbox.abandon()

    def _close_descriptors(self) -> None:
        for segment in self._segments.values():
            segment.sockets.close()
        self._segments.clear()
        self._selector.close()

    def _call(self, function: Callable[[int], T]) -> T:
        return self._mailbox.call(lambda: function(time.monotonic_ns()))

    def _ask(self, kind: Kind, index: int) -> Reply:
        """Have the guardian do what it answers in its own time."""
        answer: Future[Reply] = Future()

        def ask(now: int) -> None:
            number = next(self._numbers)
            if not self._send_order(kind, index, number=number):
                raise EngineError("the guardian of the addresses is gone")
            self._answers[number] = answer

        self._call(ask)
        try:
            return answer.result(_SETTLE)
        except TimeoutError:
            raise EngineError("the guardian of the addresses does not answer") from None

    def _settle(self, index: int | None) -> None:
        """Wait until the orders of one virtual host, or all, are carried out: not for ever."""

        def settled(now: int) -> bool:
            seats = self._seats.values() if index is None else [self._seats[index]]
            return self._guardian is None or not any(seat.pending or seat.owed is not None for seat in seats)

        give_up = time.monotonic() + _SETTLE
        while not self._call(settled) and time.monotonic() < give_up:
            time.sleep(_SETTLE_LOOK)

    def _step(self, index: int, step: Callable[[Machine, int], list[Action]]) -> None:
        def carry_out(now: int) -> None:
            seat = self._seats[index]
            self._carry_out(seat, step(seat.machine, now), now)

        self._call(carry_out)

    # In the loop

    def _loop(self) -> None:
        try:
            while not self._closing:
                ready = [key.data for key, _ in self._selector.select(self._patience())]
                # While we were stopped the guardian may have let go: that comes before anything we would say ourselves.
                if self._guardian in ready:
                    self._collect()
                self._look_for_pause()
                for one in ready:
                    if one is None:
                        self._mailbox.work()
                    elif isinstance(one, Carpdev):
                        self._receive(one)
                if self._orphaned and not self._closing:
                    self._replace_guardian()
                if self._owing:
                    self._repay()
                self._look_at_watchdog(time.monotonic_ns())
                self._run_timers(time.monotonic_ns())
                self._tell_demotions(time.monotonic_ns())
        finally:
            # Whoever asks from here on is told so. After a fault nobody speaks for the addresses: with the thread the
            # lifeline ends, and the guardian lets go of them.
            self._mailbox.close()

    def _patience(self) -> float | None:
        """Seconds until the loop must look at its timers.

        The last bit is slept here, and the sockets looked at once more.
        """
        if self._orphaned:
            return 0
        while self._timers and not self._current(self._timers[0]):
            heapq.heappop(self._timers)
        dues = [timer[0] for timer in self._timers[:1]]
        if self._demoted_due is not None:
            dues.append(self._demoted_due)
        if self._watchdog and not self._starving:
            dues.append(self._fed + self._watchdog)
        if self._owing:
            return _REPAY
        if not dues:
            return None
        left = min(dues) - time.monotonic_ns()
        if left > _NAP:
            return (left - _NAP // 2) / 1e9
        if left > 0:
            time.sleep(left / 1e9)
        return 0

    def _current(self, timer: tuple[int, int]) -> bool:
        due, index = timer
        seat = self._seats.get(index)
        return seat is not None and seat.due == due

    def _run_timers(self, now: int) -> None:
        # Once more: we may have been stopped while frames were read.
        self._look_for_pause()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)
            if self._current(timer):
                seat = self._seats[timer[1]]
                seat.due = None
                self._wakeup.count(now - timer[0])
                if self._must_wait(seat, now):
                    seat.machine.delay_takeover(now)
                advert = seat.machine.state is State.MASTER
                actions = seat.machine.timeout(now)
                advert = advert and bool(actions)
                if advert and seat.taken and seat.announcements:
                    seat.announcements -= 1
                    actions = [*actions, Announce()]
                if seat.take_due is not None and seat.take_due <= now:
                    seat.take_due = None
                    actions = [*actions, Announce(), Take()]
                if seat.rest_due is not None and seat.rest_due <= now:
                    actions = [*actions, *self._wake(seat, now)]
                if seat.announce_due is not None and seat.announce_due <= now:
                    seat.announce_due = None
                    if seat.taken:
                        actions = [*actions, Announce()]
                self._carry_out(seat, actions, now)
                if advert:
                    self._sending.count(time.monotonic_ns() - timer[0])

    def _receive(self, segment: Carpdev) -> None:
        view = memoryview(self._buffer)
        segment.behind = False
        for _ in range(_FRAMES_A_TURN):
            try:
                length = segment.sockets.receive.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError:
                # The interface went down or away. The kernel reports that once; the watch tells the rest.
                return
            now = time.monotonic_ns()
            verdict = segment.input.receive(bytes(view[:length]), now)
            advert = verdict.advert
            if advert is None:
                continue
            seat = segment.seats.get(advert.vhid)
            if verdict.dialect is not None and seat is not None:
                self._note_peer(seat, advert.source, verdict.dialect, advert.advbase, advert.advskew, now)
                seat.least = min(seat.least, advert.advbase)
                seat.heard = now
                seat.losses, seat.holds = segment.count_losses(), 0
                was = seat.machine.state
                if was is State.MASTER:
                    self._note_rival(seat, advert, now)
                actions = seat.machine.receive(advert, advert.source, now)
                if was is seat.machine.state is State.MASTER and seat.announce_due is None:
                    seat.announce_due = now + RIVAL_LEAD
                self._carry_out(seat, actions, now)
            elif verdict.counter == "sibling" and verdict.sibling_of is not None:
                seat = segment.seats[verdict.sibling_of]
                held = seat.taken
                actions = seat.machine.sibling(advert.vhid, advert, advert.source, now)
                if held and seat.machine.state is State.MASTER and seat.announce_due is None:
                    seat.announce_due = now + RIVAL_LEAD  # its MAC is another: clients may have learned that
                self._carry_out(seat, actions, now)
            elif verdict.counter in events.HINTS:
                self._note_rejected(segment, verdict.counter, advert.source, advert.vhid, now)
        segment.behind = True

    def _carry_out(self, seat: _Seat, actions: list[Action], now: int) -> None:
        dropped = False
        if any(_deposes(action) for action in actions) and any(isinstance(action, Take) for action in actions):
            seat.take_due = now + YIELD_LEAD
        for action in actions:
            match action:
                case SendAdvert():
                    if dropped:
                        time.sleep(DROP_LEAD)
                    self._send_advert(seat, action, now)
                case Announce() | Take() if seat.take_due is not None:
                    pass
                case Announce():
                    for frame in seat.plan.announcements:
                        self._send(seat, frame)
                case Take():
                    seat.deciding = now
                    self._take(seat, now)
                case Drop():
                    dropped = True
                    seat.deciding = seat.take_due = None
                    seat.taken = False
                    self._order(seat, Kind.DROP, now)
                case Transition():
                    self._transition(seat, action)
                case Suppress():
                    self._suppress(action.by, seat, now)
                case FamilySilent():
                    self._tell(seat, events.FamilySilent, now, family=action.family)
                case SiblingFound():
                    self._tell_sibling(seat, action, now)
        self._reschedule(seat)

    def _reschedule(self, seat: _Seat) -> None:
        due = seat.machine.deadline
        for other in (seat.announce_due, seat.take_due, seat.rest_due):
            if other is not None and (due is None or other < due):
                due = other
        if due is not None and due != seat.due and seat.index in self._seats:
            heapq.heappush(self._timers, (due, seat.index))
        seat.due = due

    def _transition(self, seat: _Seat, action: Transition) -> None:
        seat.segment.input.set_state(seat.plan.host.vhid, action.after)
        seat.rivals.clear()
        if action.after is State.MASTER:
            seat.alive = _boottime()
        self._tell(
            seat,
            events.StateChanged,
            action.at,
            before=action.before,
            after=action.after,
            reason=action.reason,
            peer=action.peer,
        )

    def _tell_sibling(self, seat: _Seat, found: SiblingFound, now: int) -> None:
        peer = found.peer or ""
        advice = events.sibling_advice(found.standing, found.vhid, peer)
        self._tell(
            seat, events.SiblingHeard, now, sibling=found.vhid, peer=peer, standing=found.standing, advice=advice
        )

    def _send_advert(self, seat: _Seat, action: SendAdvert, now: int) -> None:
        failure: OSError | None = None
        vhid = seat.plan.host.vhid
        # All are made before the first is sent: a better host answers that one at once, and a frame of ours that came
        # later would teach the switch our port again.
        frames = list(seat.plan.adverts(action.advbase, action.advskew, secrets.randbits(24)))
        for family, frame in frames:
            error = self._send(seat, frame)
            if error is None:
                seat.segment.input.count_sent(vhid, family)
            failure = failure or error
        if failure is not None and not seat.failing:
            self._tell(seat, events.Failed, now, what=f"an advert could not be sent: {failure.strerror}")
        seat.failing = failure is not None
        if seat.machine.state is State.MASTER and action.advbase != BOWOUT:
            self._beat(seat, now)
        if seat.machine.state is not State.INIT:
            self._carry_out(seat, seat.machine.sent(failure is None, now), now)

    def _send(self, seat: _Seat, frame: bytes) -> OSError | None:
        try:
            seat.segment.sockets.send.send(frame)
        except OSError as error:
            return error
        return None

    def _suppress(self, by: int, cause: _Seat | None, now: int) -> None:
        """Demote all virtual hosts but the one that has counted it for itself."""
        if by == 0:
            return
        self._suppressions.append((by, cause))
        if len(self._suppressions) > 1:
            # A demoted MASTER advertises at once. Where that fails it demotes in turn, and so would hundreds, one
            # inside the other: one after the other they are carried out below.
            return
        while self._suppressions:
            by, cause = self._suppressions[0]
            self._demotion = max(0, self._demotion + by)
            for seat in list(self._seats.values()):
                if seat is not cause:
                    self._carry_out(seat, seat.machine.demote(by, now), now)
            self._suppressions.popleft()
        if self._demoted_due is None:
            self._demoted_due = now + TELL_DELAY

    def _tell_demotions(self, now: int) -> None:
        if self._demoted_due is None or (now < self._demoted_due and not self._closing):
            return
        self._demoted_due = None
        for seat in list(self._seats.values()):
            if seat.machine.demotion != seat.demotion_told:
                seat.demotion_told = seat.machine.demotion
                self._tell(seat, events.Demoted, now, demotion=seat.demotion_told)

    def _give_up(self, seat: _Seat, now: int) -> None:
        """The addresses could not be taken: bow out, so that another may, and stand by again after a rest."""
        if seat.machine.state is State.MASTER:
            self._carry_out(seat, seat.machine.stop(now), now)
            self._rest(seat, now)

    def _rest(self, seat: _Seat, now: int) -> None:
        seat.rest = min(max(2 * seat.rest, REST_LEAST), REST_MOST)
        seat.rest_due = now + seat.rest
        self._reschedule(seat)

    def _wake(self, seat: _Seat, now: int) -> list[Action]:
        """The rest is over."""
        seat.rest_due = None
        if self._guardian is None and not self._replace_guardian():
            return []
        return seat.machine.start(now)

    def _end_rest(self, seat: _Seat, now: int) -> None:
        """Something has changed: it may be possible now."""
        if seat.rest_due is not None:
            seat.rest_due = now
            self._reschedule(seat)

    def _note_peer(self, seat: _Seat, peer: str, dialect: str, advbase: int, advskew: int, now: int) -> None:
        if (peer, dialect) not in seat.peers and len(seat.peers) < _KNOWN_PEERS:
            seat.peers.add((peer, dialect))
            self._tell(seat, events.PeerHeard, now, peer=peer, dialect=dialect, advbase=advbase, advskew=advskew)

    def _note_rival(self, seat: _Seat, advert: Advert, now: int) -> None:
        own = seat.machine.interval
        rule = "better" if advert.interval < own else "tie" if advert.interval == own else "worse"
        if (advert.source, rule) not in seat.rivals and len(seat.rivals) < _KNOWN_PEERS and not advert.bowout:
            seat.rivals.add((advert.source, rule))
            self._tell(seat, events.RivalHeard, now, peer=advert.source, rule=rule)

    def _note_rejected(self, segment: Carpdev, counter: str, peer: str, vhid: int, now: int) -> None:
        if (counter, peer, vhid) in segment.rejected or len(segment.rejected) >= _KNOWN_PEERS:
            return
        seat = segment.seats.get(vhid)
        if counter == "badvhid" and seat is not None:
            return  # the kernel counts so too, but it is ours, and only in INIT
        segment.rejected.add((counter, peer, vhid))
        name = seat.plan.host.name if seat else ""
        event = events.AdvertRejected(
            vhid=vhid, name=name, at=now, counter=counter, peer=peer, hint=events.HINTS[counter]
        )
        self._emit(event)

    def _tell(self, seat: _Seat, kind: type[events.Event], at: int, **fields: Any) -> None:
        self._emit(kind(vhid=seat.plan.host.vhid, name=seat.plan.host.name, at=at, **fields))

    def _sit(self, seat: _Seat) -> None:
        plan = seat.plan
        seat.segment.seats[plan.host.vhid] = seat
        seat.segment.input.set_instance(plan.host.vhid, plan.authenticator, plan.mac, plan.packed)
        seat.segment.input.set_state(plan.host.vhid, seat.machine.state)

    def _leave(self, seat: _Seat) -> None:
        vhid = seat.plan.host.vhid
        if seat.segment.seats.pop(vhid, None) is not None:
            seat.segment.input.remove_instance(vhid)

    def _stop_all(self, now: int) -> None:
        for seat in list(self._seats.values()):
            seat.rest_due = None
            seat.wanted = False
            self._carry_out(seat, seat.machine.stop(now), now)

    def _end_loop(self, now: int) -> None:
        self._closing = True

    # The guardian

    def _attach(self, guardian: Guardian) -> None:
        self._guardian = guardian
        self._selector.register(guardian, selectors.EVENT_READ, guardian)

    def _entrust(self, seat: _Seat) -> None:
        """Give the guardian what it needs to take, renew and drop, and the bow-outs for when we cannot send them."""
        if self._guardian is None or seat.segment.sockets.send.fileno() < 0:
            return  # entrusted when there is one, or a carpdev again
        try:
            self._guardian.add(seat.index, seat.device, seat.plan.bowouts, seat.segment.sockets.send, seat.lock)
        except GuardianGone:
            self._lose_guardian()

    def _send_order(self, kind: Kind, index: int, **fields: int) -> bool:
        if self._guardian is None:
            return False
        try:
            return self._guardian.order(kind, index, **fields)
        except GuardianGone:
            self._lose_guardian()
            return False

    def _order(self, seat: _Seat, kind: Kind, now: int, again: bool = False) -> None:
        """Have the guardian take, renew or drop. What finds no room comes later: an order that got lost could leave an
        address behind."""
        host = seat.plan.host
        grace = max(int(_GRACE * host.advbase * NS_PER_SECOND), _GRACE_LEAST)
        sent = self._send_order(
            kind,
            seat.index,
            at=now,
            boot=_boottime(),
            lease=FOREVER if seat.lease is None else seat.lease,
            next_beat_ms=-(-(seat.machine.interval + grace) // 1_000_000),
            takeover_after_ms=_patience(seat) // 1_000_000,
            number=int(again),
        )
        if sent and kind in (Kind.TAKE, Kind.RENEW):
            seat.told = seat.lease
        if kind in (Kind.TAKE, Kind.DROP):
            seat.pending += sent
            seat.owed = None if sent else kind
            self._owing = self._owing or not sent

    def _repay(self) -> None:
        self._owing = False
        for seat in list(self._seats.values()):
            if seat.owed is not None:
                self._order(seat, seat.owed, time.monotonic_ns())

    def _take(self, seat: _Seat, now: int) -> None:
        if not seat.taken:
            seat.announcements = seat.plan.host.announcements - 1
        seat.taken = True
        self._choose_lease(seat)
        self._order(seat, Kind.TAKE, now)

    def _ping(self, now: int) -> None:
        """Ask something that is answered at once: a guardian that hangs renews nothing, and says nothing."""
        if self._pinged and now - self._pinged > _PING_PATIENCE and self._guardian is not None:
            self._guardian.kill()
            self._lose_guardian()
        elif not self._pinged and self._send_order(Kind.FORGET, ORDER_NOBODY, number=ORDER_NOBODY):
            self._pinged = now

    def _beat(self, seat: _Seat, now: int) -> None:
        """An advert's time has come: the guardian hears that we live, and the lease of addresses goes on with an advert
        that was sent."""
        seat.alive = _boottime()
        if not seat.taken:
            return
        self._ping(now)
        self._choose_lease(seat)
        self._tell_lease(seat, now)
        renew = not seat.failing and (seat.told is not None or seat.lease is not None)
        self._order(seat, Kind.RENEW if renew else Kind.BEAT, now)

    def _choose_lease(self, seat: _Seat) -> None:
        seat.lease = lease(seat.machine.interval, min(seat.least, seat.plan.host.advbase))

    def _tell_lease(self, seat: _Seat, now: int) -> None:
        if seat.lease is None and not seat.unleased_told:
            seat.unleased_told = True
            why = no_lease(seat.machine.interval, min(seat.least, seat.plan.host.advbase))
            self._tell(seat, events.LeaseUnavailable, now, why=why)

    def _collect(self) -> None:
        """What the guardian has done, or not."""
        guardian = self._guardian
        if guardian is None:
            return
        try:
            replies = guardian.replies()
        except GuardianGone:
            self._lose_guardian()
            return
        for reply in replies:
            if reply.number == ORDER_NOBODY:
                self._pinged = 0
                continue
            seat = self._seats.get(reply.index)
            if reply.kind in (Kind.TAKE, Kind.DROP):
                if seat is not None:
                    seat.pending = max(0, seat.pending - 1)
                    if not reply.flags & REPLY_SUPERSEDED:
                        self._carried_out(seat, reply)
            elif reply.kind is Kind.RELEASED:
                if seat is not None:
                    self._stalled(seat, released=True)
            elif reply.number in self._answers:
                self._answers.pop(reply.number).set_result(reply)
            elif reply.error and seat is not None:
                what = "entrusted to the guardian" if reply.kind is Kind.ADD else "renewed"
                self._tell_not_done(seat, what, reply)

    def _carried_out(self, seat: _Seat, reply: Reply) -> None:
        take = reply.kind is Kind.TAKE
        if reply.error:
            self._tell_not_done(seat, "taken" if take else "dropped", reply)
            if take:
                self._give_up(seat, time.monotonic_ns())
            return
        if take:
            seat.rest = 0
            if seat.deciding is not None:
                self._takeover.count(reply.finished - seat.deciding)
                seat.deciding = None
        if reply.number:
            return  # another guardian has taken once more what was here already
        if take:
            self._tell_lease(seat, reply.finished)
        kind = events.AddressesTaken if take else events.AddressesDropped
        texts = tuple(str(address) for address in seat.plan.host.addresses)
        self._tell(seat, kind, reply.finished, addresses=texts, took=reply.finished - reply.started)

    def _tell_not_done(self, seat: _Seat, what: str, reply: Reply) -> None:
        addresses = ", ".join(str(address.ip) for address in seat.plan.host.addresses)
        text = f"{addresses} could not be {what}: {os.strerror(reply.error)}"
        self._tell(seat, events.Failed, reply.finished or time.monotonic_ns(), what=text)

    def _lose_guardian(self) -> None:
        guardian, self._guardian = self._guardian, None
        self._pinged = 0
        if guardian is None:
            return
        self._orphaned = True
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(guardian)
        guardian.close(0)
        for answer in self._answers.values():
            answer.set_exception(EngineError("the guardian of the addresses is gone"))
        self._answers.clear()
        self._emit(events.GuardianLost(vhid=0, name="", at=time.monotonic_ns(), what="it died; another is started"))

    def _replace_guardian(self) -> bool:
        """Start another one. Where that cannot be, no address may stay that nobody could drop: hand over."""
        self._orphaned = False
        try:
            guardian = Guardian(self._lifeline, self._realtime, spawn)
            self._attach(guardian)
            for seat in list(self._seats.values()):
                self._entrust(seat)
            if self._guardian is None:
                raise EngineError("the new one died at once")
        except (CarpError, OSError) as error:
            self._lose_guardian()
            self._orphaned = False
            self._hand_over(str(error), time.monotonic_ns())
            return False
        now = time.monotonic_ns()
        for seat in list(self._seats.values()):
            dropping = bool(seat.pending) or seat.owed is Kind.DROP
            seat.pending = 0
            if seat.taken:
                self._order(seat, Kind.TAKE, now, again=seat.deciding is None)
            elif dropping:
                self._order(seat, Kind.DROP, now)
            self._end_rest(seat, now)
        self._emit(events.GuardianReplaced(vhid=0, name="", at=now))
        return True

    def _hand_over(self, why: str, now: int) -> None:
        """Without a bow-out: the addresses stay until their lease ends, and others wait longer than that."""
        what = f"no other can be started ({why}): this host stands back, its addresses go when their lease ends"
        self._emit(events.GuardianLost(vhid=0, name="", at=now, what=what))
        for seat in list(self._seats.values()):
            self._carry_out(seat, seat.machine.retire(Reason.HANDED_OVER, False, now), now)
            self._carry_out(seat, seat.machine.stop(now), now)
            # Whoever comes next drops first. Where we still may, we do it ourselves.
            seat.pending, seat.owed = 0, Kind.DROP
            if seat.wanted:
                self._rest(seat, now)
            with contextlib.suppress(OSError), netlink.RouteSocket() as route:
                route.execute(seat.device.drop)
        self._owing = False

    # Pauses, and who is to be heard from

    def _look_for_pause(self) -> None:
        """Were we stopped, or was the machine asleep? Then others may have taken over meanwhile."""
        now, slept = time.monotonic_ns(), _suspended()
        late = now - self._timers[0][0] if self._timers else 0
        if late > PAUSE_LEAST or slept - self._slept > PAUSE_LEAST:
            self._pinged = min(self._pinged, 1) * now  # it may have been stopped with us
            for seat in list(self._seats.values()):
                limit = _patience(seat)
                if seat.lease is not None:
                    limit = min(limit, seat.lease * NS_PER_SECOND)
                if seat.machine.state is State.MASTER and _boottime() - seat.alive > limit:
                    self._stalled(seat, released=False)
        self._slept = slept

    def _stalled(self, seat: _Seat, released: bool) -> None:
        if seat.machine.state is not State.MASTER or (released and not seat.taken):
            return
        now = time.monotonic_ns()
        self._tell(seat, events.Stalled, now, pause=_boottime() - seat.alive, released=released)
        self._carry_out(seat, seat.machine.retire(Reason.STALLED, False, now), now)

    def _must_wait(self, seat: _Seat, now: int) -> bool:
        """Whether silence is no reason to take over: by order, or because it may be our own loss, where frames found no
        room since the last valid advert."""
        if not seat.machine.overdue(now):
            return False
        if now < seat.refused:
            return True
        if seat.holds >= _MOST_DELAYS:
            return False
        lost = seat.segment.count_losses() - seat.losses
        if not lost and not seat.segment.behind:
            return False
        seat.holds += 1
        self._tell(seat, events.TakeoverDelayed, now, losses=lost)
        return True

    def _look_at_watchdog(self, now: int) -> None:
        if not self._watchdog or self._starving or now - self._fed < self._watchdog:
            return
        self._starving = True
        self._emit(events.WatchdogExpired(vhid=0, name="", at=now, silence=now - self._fed))
        for seat in list(self._seats.values()):
            self._carry_out(seat, seat.machine.retire(Reason.WATCHDOG, True, now), now)
        self._suppress(1, None, now)

    def _feed(self, now: int) -> None:
        if self._starving:
            self._starving = False
            self._emit(events.WatchdogFed(vhid=0, name="", at=now))
            self._suppress(-1, None, now)


def _patience(seat: _Seat) -> int:
    """After so many ns of our silence another host of the group may have taken over."""
    host = seat.plan.host
    return takeover_after(min(seat.least, host.advbase), host.advskew)


def _deposes(action: Action) -> bool:
    """Whether it makes us MASTER in the place of one that lives."""
    return (
        isinstance(action, Transition)
        and action.after is State.MASTER
        and action.reason in (Reason.PREEMPT, Reason.TOO_SLOW)
    )


def _boottime() -> int:
    """As the monotonic clock, and it counts on while the machine is suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _suspended() -> int:
    """How many ns this machine has been suspended so far."""
    return _boottime() - time.monotonic_ns()

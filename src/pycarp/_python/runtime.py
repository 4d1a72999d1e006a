"""The runtime in plain Python: one thread with the sockets, one clock, the state machines and their plans.

It sends what the plans hold, hands address work to the writer, and lets events flow up; nothing else may happen in
its thread. Whoever manages interfaces does so from another thread, by the methods below, each carried out in the loop.
"""

from __future__ import annotations

import contextlib
import heapq
import secrets
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from .. import _impl, events
from .._mailbox import Mailbox
from ..abc import Judge, Machine
from ..errors import ConfigError, EngineError
from ..linux.sockets import Sockets
from ..linux.writer import AddressWriter
from ..plan import Plan
from ..protocol import (
    Action,
    Announce,
    Drop,
    FamilySilent,
    SendAdvert,
    State,
    Suppress,
    Take,
    Transition,
)
from ..stats import Histogram, Measures, Stats

if TYPE_CHECKING:
    from ..linux.device import Device

T = TypeVar("T")

DROP_LEAD = 0.0003
"""A bow-out waits this many seconds after the drop was handed over: answers stop within 0.1 ms of its sending."""
RIVAL_LEAD = 2_000_000
"""This many ns after a worse MASTER was heard, when it has yielded, we announce again: its last frames have misled
switches."""
REST_LEAST, REST_MOST = 1_000_000_000, 64_000_000_000
"""Who cannot take its addresses bows out and rests, this many ns at first and twice as long each time: its better
advskew would depose at once who takes them in its stead, and the group would never come to rest."""
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
class _Segment:
    """One carpdev."""

    sockets: Sockets
    judge: Judge
    seats: dict[int, _Seat] = field(default_factory=dict)
    rejected: set[tuple[str, str, int]] = field(default_factory=set)
    losses: int = 0


@dataclass(slots=True, eq=False)
class _Seat:
    """One virtual host in its segment."""

    index: int
    plan: Plan
    machine: Machine
    segment: _Segment
    peers: set[tuple[str, str]] = field(default_factory=set)
    failing: bool = False
    announce_due: int | None = None
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
        self._wakeup, self._sending, self._takeover = Histogram(), Histogram(), Histogram()
        self._segments: dict[int, _Segment] = {}
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
            self._writer = undo.enter_context(contextlib.closing(AddressWriter(self._written)))
            self._thread = threading.Thread(target=self._loop, name="pycarp-runtime", daemon=True)
            self._thread.start()
            undo.pop_all()

    # From other threads

    def add_segment(
        self,
        segment: int,
        sockets: Sockets,
        mac: bytes,
        addresses: Iterable[IPv4Interface | IPv6Interface],
        allow: bool,
    ) -> None:
        """Speak and hear on one more carpdev. The sockets are the runtime's from now on."""

        def add(now: int) -> None:
            judge = _impl.current.judge.Judge()
            judge.allow = allow
            judge.set_carpdev(mac, addresses)
            self._segments[segment] = _Segment(sockets, judge)
            self._selector.register(sockets.receive, selectors.EVENT_READ, self._segments[segment])

        self._call(add)

    def update_segment(self, segment: int, mac: bytes, addresses: Iterable[IPv4Interface | IPv6Interface]) -> None:
        """The carpdev has another MAC or other addresses now."""
        self._call(lambda now: self._segments[segment].judge.set_carpdev(mac, addresses))

    def remove_segment(self, segment: int) -> None:
        """Close the sockets of a carpdev; its virtual hosts must be gone or get another by `move`."""

        def remove(now: int) -> None:
            gone = self._segments.pop(segment)
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(gone.sockets.receive)
            gone.sockets.close()

        self._call(remove)

    def add_host(self, index: int, segment: int, plan: Plan, device: Device) -> None:
        """Seat a virtual host, in INIT. Its addresses come and go by the device's prepared requests."""
        self._writer.add(index, device)

        def add(now: int) -> None:
            machine = _impl.current.machine.Machine(plan.host)
            machine.demote(self._demotion, now)
            seat = _Seat(index, plan, machine, self._segments[segment], demotion_told=self._demotion)
            self._seats[index] = seat
            self._sit(seat)

        self._call(add)

    def move_host(self, index: int, segment: int, plan: Plan, device: Device) -> None:
        """Seat a virtual host, whose link is down, on a carpdev that came back."""
        self._writer.add(index, device)

        def move(now: int) -> None:
            seat = self._seats[index]
            self._leave(seat)
            seat.segment, seat.plan = self._segments[segment], plan
            self._sit(seat)

        self._call(move)

    def remove_host(self, index: int) -> None:
        """Stop a virtual host, see its addresses dropped, and forget it."""

        def remove(now: int) -> None:
            seat = self._seats[index]
            seat.rest_due = None
            self._carry_out(seat, seat.machine.stop(now), now)
            self._leave(seat)

        self._call(remove)
        self._writer.remove(index)
        # Until the drop has been reported its seat must be known.
        del self._seats[index]

    def start_host(self, index: int) -> None:
        """INIT -> BACKUP, and whatever state its configuration forces."""

        def start(now: int) -> None:
            seat = self._seats[index]
            seat.rest_due = None
            self._carry_out(seat, seat.machine.start(now), now)
            if seat.plan.host.state is not None:
                self._carry_out(seat, seat.machine.force(seat.plan.host.state, now), now)

        self._call(start)

    def stop_host(self, index: int) -> None:
        """Bow out, drop, INIT."""

        def stop(now: int) -> None:
            seat = self._seats[index]
            seat.rest_due = None
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
        self._writer.add(index, device)

        def replan(now: int) -> None:
            seat = self._seats[index]
            changed = plan.host != seat.plan.host
            seat.plan = plan
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
            self._carry_out(seat, [Announce(), Take()] if seat.machine.state is State.MASTER else [], now)

        self._call(retake)

    def announce(self, index: int) -> None:
        """A MASTER announces its addresses once more."""

        def announce(now: int) -> None:
            seat = self._seats[index]
            if seat.machine.state is State.MASTER:
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

    def state(self, index: int) -> State:
        """The state now; does not wait for the loop."""
        return self._seats[index].machine.state

    def demotion(self, index: int) -> int:
        """The demotion now; does not wait for the loop."""
        return self._seats[index].machine.demotion

    def stats(self, index: int) -> Stats:
        """The counters of a virtual host."""

        def stats(now: int) -> Stats:
            seat = self._seats[index]
            return seat.segment.judge.stats(seat.plan.host.vhid)

        return self._call(stats)

    def measures(self) -> Measures:
        """What the loop measured of itself, since its start."""

        def measures(now: int) -> Measures:
            for segment in self._segments.values():
                segment.losses += segment.sockets.losses()
            return Measures(
                ring_losses=sum(segment.losses for segment in self._segments.values()),
                wakeup=self._wakeup.counts,
                sending=self._sending.counts,
                takeover=self._takeover.counts,
            )

        return self._call(measures)

    def close(self) -> None:
        """Stop every virtual host (bow-outs are sent, drops are handed over), close the sockets, end the thread."""
        with contextlib.suppress(EngineError):
            self._call(self._shut_down)
        self._thread.join()
        self._writer.close()
        self._close_descriptors()
        self._mailbox.close()

    def abandon(self) -> None:
        """Close this process's descriptors without a word on the wire: after a fork the group's affairs are the
        parent's."""
        self._writer.abandon()
        self._close_descriptors()
        self._mailbox.abandon()

    def _close_descriptors(self) -> None:
        for segment in self._segments.values():
            segment.sockets.close()
        self._segments.clear()
        self._selector.close()

    def _call(self, function: Callable[[int], T]) -> T:
        return self._mailbox.call(lambda: function(time.monotonic_ns()))

    def _step(self, index: int, step: Callable[[Machine, int], list[Action]]) -> None:
        def carry_out(now: int) -> None:
            seat = self._seats[index]
            self._carry_out(seat, step(seat.machine, now), now)

        self._call(carry_out)

    # In the loop

    def _loop(self) -> None:
        try:
            while not self._closing:
                for key, _ in self._selector.select(self._patience()):
                    if key.data is None:
                        self._mailbox.work()
                    else:
                        self._receive(key.data)
                self._run_timers(time.monotonic_ns())
                self._tell_demotions(time.monotonic_ns())
        finally:
            # Whoever asks from here on is told so. After a fault nobody speaks for the addresses: they go.
            self._mailbox.close()
            if not self._closing:
                for index in list(self._seats):
                    self._writer.drop(index)

    def _patience(self) -> float | None:
        """Seconds until the loop must look at its timers.

        The last bit is slept here, and the sockets looked at once more.
        """
        while self._timers and not self._current(self._timers[0]):
            heapq.heappop(self._timers)
        dues = [timer[0] for timer in self._timers[:1]]
        if self._demoted_due is not None:
            dues.append(self._demoted_due)
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
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)
            if self._current(timer):
                seat = self._seats[timer[1]]
                seat.due = None
                self._wakeup.count(now - timer[0])
                advert = seat.machine.state is State.MASTER
                actions = seat.machine.timeout(now)
                advert = advert and bool(actions)
                if seat.rest_due is not None and seat.rest_due <= now:
                    seat.rest_due = None
                    actions = [*actions, *seat.machine.start(now)]
                if seat.announce_due is not None and seat.announce_due <= now:
                    seat.announce_due = None
                    if seat.machine.state is State.MASTER:
                        actions = [*actions, Announce()]
                self._carry_out(seat, actions, now)
                if advert:
                    self._sending.count(time.monotonic_ns() - timer[0])

    def _receive(self, segment: _Segment) -> None:
        view = memoryview(self._buffer)
        for _ in range(_FRAMES_A_TURN):
            try:
                length = segment.sockets.receive.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError:
                # The interface went down or away. The kernel reports that once; the watch tells the rest.
                return
            now = time.monotonic_ns()
            verdict = segment.judge.judge(bytes(view[:length]), now)
            advert = verdict.advert
            if advert is None:
                continue
            seat = segment.seats.get(advert.vhid)
            if verdict.dialect is not None and seat is not None:
                self._note_peer(seat, advert.source, verdict.dialect, advert.advbase, advert.advskew, now)
                was = seat.machine.state
                actions = seat.machine.receive(advert, advert.source, now)
                if was is seat.machine.state is State.MASTER and seat.announce_due is None:
                    seat.announce_due = now + RIVAL_LEAD
                self._carry_out(seat, actions, now)
            elif verdict.counter in events.HINTS:
                self._note_rejected(segment, verdict.counter, advert.source, advert.vhid, now)

    def _carry_out(self, seat: _Seat, actions: list[Action], now: int) -> None:
        dropped = False
        for action in actions:
            match action:
                case SendAdvert():
                    if dropped:
                        time.sleep(DROP_LEAD)
                    self._send_advert(seat, action, now)
                case Announce():
                    for frame in seat.plan.announcements:
                        self._send(seat, frame)
                case Take():
                    seat.deciding = now
                    self._writer.take(seat.index)
                case Drop():
                    dropped = True
                    seat.deciding = None
                    self._writer.drop(seat.index)
                case Transition():
                    self._transition(seat, action)
                case Suppress():
                    self._suppress(action.by, seat, now)
                case FamilySilent():
                    self._tell(seat, events.FamilySilent, now, family=action.family)
        self._reschedule(seat)

    def _reschedule(self, seat: _Seat) -> None:
        due = seat.machine.deadline
        for other in (seat.announce_due, seat.rest_due):
            if other is not None and (due is None or other < due):
                due = other
        if due is not None and due != seat.due and seat.index in self._seats:
            heapq.heappush(self._timers, (due, seat.index))
        seat.due = due

    def _transition(self, seat: _Seat, action: Transition) -> None:
        seat.segment.judge.set_state(seat.plan.host.vhid, action.after)
        self._tell(
            seat,
            events.StateChanged,
            action.at,
            before=action.before,
            after=action.after,
            reason=action.reason,
            peer=action.peer,
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
                seat.segment.judge.count_sent(vhid, family)
            failure = failure or error
        if failure is not None and not seat.failing:
            self._tell(seat, events.Failed, now, what=f"an advert could not be sent: {failure.strerror}")
        seat.failing = failure is not None
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

    def _written(self, index: int, what: str, error: OSError | None, started: int, finished: int) -> None:
        """In the writer's thread: an order has been carried out, or not."""
        seat = self._seats.get(index)
        if seat is None or (what == "renew" and error is None):
            return
        if error is not None:
            addresses = ", ".join(str(address.ip) for address in seat.plan.host.addresses)
            self._tell(seat, events.Failed, finished, what=f"could not {what} {addresses}: {error.strerror}")
            if what == "take":
                with contextlib.suppress(EngineError):
                    self._mailbox.post(lambda: self._give_up(seat, time.monotonic_ns()))
            return
        if what == "take" and seat.deciding is not None:
            self._takeover.count(finished - seat.deciding)
            seat.deciding = None
        if what == "take":
            seat.rest = 0
        kind = events.AddressesTaken if what == "take" else events.AddressesDropped
        texts = tuple(str(address) for address in seat.plan.host.addresses)
        self._tell(seat, kind, finished, addresses=texts, took=finished - started)

    def _give_up(self, seat: _Seat, now: int) -> None:
        """The addresses could not be taken: bow out, so that another may, and stand by again after a rest."""
        if seat.machine.state is State.MASTER:
            seat.rest = min(max(2 * seat.rest, REST_LEAST), REST_MOST)
            seat.rest_due = now + seat.rest
            self._carry_out(seat, seat.machine.stop(now), now)

    def _end_rest(self, seat: _Seat, now: int) -> None:
        """Something has changed: it may be possible now."""
        if seat.rest_due is not None:
            seat.rest_due = now
            self._reschedule(seat)

    def _note_peer(self, seat: _Seat, peer: str, dialect: str, advbase: int, advskew: int, now: int) -> None:
        if (peer, dialect) not in seat.peers and len(seat.peers) < _KNOWN_PEERS:
            seat.peers.add((peer, dialect))
            self._tell(seat, events.PeerHeard, now, peer=peer, dialect=dialect, advbase=advbase, advskew=advskew)

    def _note_rejected(self, segment: _Segment, counter: str, peer: str, vhid: int, now: int) -> None:
        if (counter, peer, vhid) in segment.rejected or len(segment.rejected) >= _KNOWN_PEERS:
            return
        segment.rejected.add((counter, peer, vhid))
        seat = segment.seats.get(vhid)
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
        seat.segment.judge.set_host(plan.host.vhid, plan.authenticator, plan.mac, plan.packed)
        seat.segment.judge.set_state(plan.host.vhid, seat.machine.state)

    def _leave(self, seat: _Seat) -> None:
        vhid = seat.plan.host.vhid
        if seat.segment.seats.pop(vhid, None) is not None:
            seat.segment.judge.remove_host(vhid)

    def _shut_down(self, now: int) -> None:
        for seat in list(self._seats.values()):
            seat.rest_due = None
            self._carry_out(seat, seat.machine.stop(now), now)
        self._closing = True

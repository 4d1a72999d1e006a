"""Runs hooks: in order for each virtual host, beside each other for different ones, and never in anybody's way.

Thread: hooks; what is public: any caller, and none of it waits but `drain` and `close`
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterable

from .. import events as ev
from .._records import dataclass, field
from .._unpatched import select, threading, time
from ..config import VirtualHost
from ..engine.mailbox import Mailbox, Outcome
from ..errors import CarpError, EngineError
from ..linux.children import Child, Children
from ..linux.threads import precise
from ..protocol import State
from .fifo import Fifo
from .hook import Hook
from .look import fault, label, programs
from .occasion import Occasion
from .output import Output

_WAITING = 32
"""Events of one virtual host that wait for its hooks. Beyond that the oldest two go: the last state is always told."""
_AT_ONCE = 32
"""Programs that run at once."""
_DRAIN_STARTS_WITHIN = 1.0
_END_WITHIN = 5.0
"""Seconds that the last hooks have when the engine ends."""
_OURS = (ev.HookSaid, ev.HookDone, ev.HookFailed, ev.HooksSkipped)

Describe = Callable[[str], tuple[str, State]]
"""The carpdev and the state of a virtual host, by its name."""


@dataclass(slots=True)
class _Lane:
    """What one virtual host's hooks do, one after the other. A drain has a lane of its own."""

    name: str
    waiting: deque[Occasion] = field(default_factory=deque)
    todo: deque[tuple[Hook, tuple[str, ...], Occasion]] = field(default_factory=deque)
    running: _Running | None = None
    skipped: int = 0
    drained: Callable[[str], None] | None = None  # told when a drain is done


@dataclass(slots=True)
class _Running:
    hook: Hook
    label: str
    occasion: Occasion
    child: Child
    output: Output
    began: int
    deadline: float
    late: bool = False


class Hooks:
    """The hooks of one engine's virtual hosts, and the thread that runs them.

    `emit` gets what they say and how they end. Programs run in the network namespace, and with the rights, of the
    thread that makes this.
    """

    def __init__(self, hosts: Iterable[VirtualHost], emit: Callable[[ev.Event], None], describe: Describe) -> None:
        self._emit = emit
        self._describe = describe
        self._hosts: dict[str, VirtualHost] = {}
        self._lanes: dict[str, _Lane] = {}
        self._drains: list[_Lane] = []
        self._fifos: dict[str, Fifo] = {}
        self._children: Children | None = None
        self._carpdevs: dict[str, str] = {}
        self._ending: float | None = None
        self._mailbox = Mailbox()
        self._poll = select.poll()
        self._poll.register(self._mailbox, select.POLLIN)
        self._thread = threading.Thread(target=self._run, name="pycarp-hooks", daemon=True)
        self._configure(tuple(hosts))

    # From other threads

    def start(self) -> None:
        """Run what has come since this was made, and what comes. `describe` is called from now on."""
        self._thread.start()

    def put(self, event: ev.Event) -> None:
        """Run what belongs to an event."""
        if not isinstance(event, _OURS):
            self._call(lambda: self._take(event))

    def configure(self, hosts: tuple[VirtualHost, ...]) -> None:
        """These are the virtual hosts from now on. What waits and runs goes on."""
        self._call(lambda: self._configure(hosts))

    def drain(self, names: Iterable[str], then: Callable[[str], None] | None = None) -> None:
        """Run the drain hooks of virtual hosts, all at once, each for as long as its timeout says.

        `then` is called in the thread of the hooks, with the name of each that is done. Without it, this waits.
        """
        done = threading.Event()
        left = set(names)

        def one_is_done(name: str) -> None:
            left.discard(name)
            if then is not None:
                then(name)
            if not left:
                done.set()

        longest = max((hook.timeout for name in left for hook in self._of(name, "drain")), default=0.0)
        lanes = [_Lane(name, drained=one_is_done) for name in left]
        if not self._call(lambda: self._begin_drains(lanes)):
            for lane in lanes:
                _tell(lane)
        elif then is None and lanes:
            done.wait(longest + _DRAIN_STARTS_WITHIN)

    def close(self, seconds: float | None = None) -> None:
        """Run what waits for at most `seconds` (5), then kill what runs, and end the thread."""
        if self._thread.ident is None:
            self._release()
            return
        give_up = time.monotonic() + (_END_WITHIN if seconds is None else seconds)
        self._call(lambda: self._end(give_up))
        self._thread.join()

    def abandon(self) -> None:
        """In a forked child: close the copies of the descriptors."""
        self._mailbox.abandon()
        if self._children is not None:
            self._children.abandon()
        for lane in self._all():
            if lane.running is not None:
                lane.running.child.close()
        for fifo in self._fifos.values():
            fifo.close()

    def _call(self, function: Callable[[], None]) -> bool:
        """Have the thread do it; False if it has ended."""
        try:
            self._mailbox.post(function, _complain)
        except EngineError:
            return False
        return True

    # In the thread

    def _run(self) -> None:
        precise()
        # A named pipe whose reader goes must not end the program that the engine is in.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGPIPE,))
        try:
            while not self._done():
                self._turn()
        finally:
            self._release()

    def _turn(self) -> None:
        ready = {number for number, _ in self._poll.poll(self._wait_ms())}
        self._mailbox.work()
        for lane in self._all():
            if lane.running is not None:
                self._look_at(lane, lane.running, ready)
        for lane in self._all():
            self._advance(lane)
        for lane in [lane for lane in self._drains if lane.running is None and not lane.todo]:
            self._drains.remove(lane)
            _tell(lane)

    def _all(self) -> list[_Lane]:
        return [*self._drains, *self._lanes.values()]

    def _wait_ms(self) -> float | None:
        deadlines = [lane.running.deadline for lane in self._all() if lane.running is not None]
        if self._ending is not None:
            deadlines.append(self._ending)
        return max(0.0, min(deadlines) - time.monotonic()) * 1000 + 1 if deadlines else None

    def _done(self) -> bool:
        if self._ending is None:
            return False
        idle = not any(lane.running or lane.todo or lane.waiting for lane in self._all())
        return idle or time.monotonic() >= self._ending

    def _end(self, give_up: float) -> None:
        self._ending = give_up

    def _release(self) -> None:
        self._mailbox.close()
        for lane in self._all():
            if lane.running is not None:
                lane.running.child.close()
                lane.running = None
            _tell(lane)
        for fifo in self._fifos.values():
            fifo.close()
        if self._children is not None:
            self._children.close()

    def _configure(self, hosts: tuple[VirtualHost, ...]) -> None:
        before = {hook for host in self._hosts.values() for hook in host.hooks}
        self._hosts = {host.name: host for host in hosts}
        hooks = [(host, hook) for host in hosts for hook in host.hooks]
        for path in self._fifos.keys() - {hook.command[0] for _, hook in hooks if hook.when == "fifo"}:
            self._fifos.pop(path).close()
        for host, hook in hooks:
            why = None if hook in before else fault(hook)
            if why is not None:
                self._failed(host.name, label(hook, hook.command), why)
        if self._children is None and any(hook.when != "fifo" for _, hook in hooks):
            try:
                self._children = Children()
            except (CarpError, OSError) as error:
                self._failed("", "all of them", f"{error}")

    def _of(self, name: str, *when: str) -> list[Hook]:
        """The hooks of a virtual host; for the engine as a whole, each of all once."""
        hosts = [self._hosts[name]] if name in self._hosts else self._hosts.values() if not name else []
        return list(dict.fromkeys(hook for host in hosts for hook in host.hooks if hook.when in when))

    def _take(self, event: ev.Event) -> None:
        when = _when(event)
        host = self._hosts.get(event.name)
        carpdev, state = self._described(event.name)
        if isinstance(event, ev.StateChanged):
            state = event.after
        occasion = Occasion(when or "any", event, host, carpdev, state)
        for hook in self._of(event.name, "fifo"):
            self._write(hook, occasion)
        if not when or not self._of(event.name, when, "any", "directory"):
            return
        lane = self._lanes.setdefault(event.name, _Lane(event.name))
        lane.waiting.append(occasion)
        if len(lane.waiting) > _WAITING:
            for _oldest in range(2):
                lane.waiting.popleft()
            lane.skipped += 2

    def _described(self, name: str) -> tuple[str, State]:
        """The carpdev and the state now; at the end of the engine the carpdev that there was."""
        try:
            self._carpdevs[name], state = self._describe(name)
        except EngineError:
            state = State.INIT
        return self._carpdevs.get(name, ""), state

    def _write(self, hook: Hook, occasion: Occasion) -> None:
        fifo = self._fifos.setdefault(hook.command[0], Fifo(hook.command[0]))
        lost = fifo.lost
        try:
            fifo.write(occasion.json())
        except OSError as error:
            self._failed(occasion.name, label(hook, hook.command), error.strerror or str(error))
        if not lost and fifo.lost:
            why = "its reader is too slow, and lines are lost: read them as they come"
            self._failed(occasion.name, label(hook, hook.command), why)

    def _begin_drains(self, lanes: list[_Lane]) -> None:
        for lane in lanes:
            host = self._hosts.get(lane.name)
            occasion = Occasion("drain", None, host, self._described(lane.name)[0], State.MASTER)
            lane.todo.extend((hook, hook.command, occasion) for hook in self._of(lane.name, "drain"))
        # Even without a program to run, so that each is told.
        self._drains += lanes

    def _advance(self, lane: _Lane) -> None:
        """Start what is next in a lane, if nothing runs there."""
        while lane.running is None:
            if not lane.todo:
                if not lane.waiting:
                    break
                if lane.skipped:
                    count, lane.skipped = lane.skipped, 0
                    self._say(ev.HooksSkipped, lane.name, count=count)
                occasion = lane.waiting.popleft()
                hooks = self._of(lane.name, occasion.when, "any", "directory")
                lane.todo.extend((hook, command, occasion) for hook in hooks for command in programs(hook))
                continue
            if lane.drained is None and sum(one.running is not None for one in self._lanes.values()) >= _AT_ONCE:
                return
            self._start(lane, *lane.todo.popleft())

    def _start(self, lane: _Lane, hook: Hook, command: tuple[str, ...], occasion: Occasion) -> None:
        called = label(hook, command)
        if self._children is None:
            return  # That there is no launcher has been said.
        began = time.monotonic_ns()
        try:
            child = self._children.start(
                command, env=occasion.environment(), stdin=occasion.json(), user=hook.user, leave=True
            )
        except (CarpError, OSError) as error:
            self._failed(
                lane.name, called, f"it cannot be started, {error.strerror if isinstance(error, OSError) else error}"
            )
            return
        output = Output(lambda line: self._say(ev.HookSaid, lane.name, hook=called, line=line))
        lane.running = _Running(hook, called, occasion, child, output, began, time.monotonic() + hook.timeout)
        self._poll.register(child, select.POLLIN)
        self._poll.register(child.output, select.POLLIN)

    def _look_at(self, lane: _Lane, running: _Running, ready: set[int]) -> None:
        child = running.child
        if child.output in ready and running.output.read(child):
            self._poll.unregister(child.output)
            running.output.ended = True
        if child.fileno() in ready and child.poll() is not None:
            self._ended(lane, running)
        elif time.monotonic() >= running.deadline:
            if running.late:
                self._ended(lane, running)  # The launcher hangs. It kills the program when it goes on.
            else:
                running.late = True
                running.deadline = time.monotonic() + 1.0
                child.signal(signal.SIGKILL)

    def _ended(self, lane: _Lane, running: _Running) -> None:
        child = running.child
        if not running.output.ended:
            running.output.read(child)
            self._poll.unregister(child.output)
        self._poll.unregister(child)
        running.output.finish()
        lane.running = None
        code = child.status
        child.close()
        if running.late:
            self._failed(lane.name, running.label, f"it was ended after {running.hook.timeout:g} s")
        elif code:
            self._failed(lane.name, running.label, f"exit code {code}" if code > 0 else f"ended by signal {-code}")
        else:
            self._say(ev.HookDone, lane.name, hook=running.label, took=time.monotonic_ns() - running.began)

    def _failed(self, name: str, hook: str, why: str) -> None:
        self._say(ev.HookFailed, name, hook=hook, why=why)

    def _say(self, kind: Callable[..., ev.Event], name: str, **values: object) -> None:
        host = self._hosts.get(name)
        self._emit(kind(vhid=host.vhid if host is not None else 0, name=name, at=self._now(), **values))

    def _now(self) -> int:
        return time.monotonic_ns()


def _tell(lane: _Lane) -> None:
    """A drain is done."""
    if lane.drained is not None:
        lane.drained(lane.name)


def _complain(outcome: Outcome[None]) -> None:
    """No fault of ours ends the thread."""
    error = outcome.exception()
    if error is not None and not isinstance(error, EngineError):
        import logging

        logging.getLogger("pycarp").error("hooks failed", exc_info=error)


def _when(event: ev.Event) -> str:
    """What an event is to hooks, or "" if nothing."""
    if isinstance(event, ev.StateChanged):
        return event.after.name.lower()
    return "fault" if event.severity == "alarm" else ""

"""`Health`: runs checks, each in a thread of its own, and tells the ledger of demotions what follows.

The first look decides alone; after that `rise` good looks in a row make a check healthy, `fall` bad ones ill. A look
that goes on past its time counts as bad, and is not begun a second time while it does.

Thread: health (the clock) and one for each check; what is public: any caller
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from .._records import dataclass, replace
from .._unpatched import threading, time
from ..config import VirtualHost
from ..errors import CarpError, ConfigError
from ..events import CheckChanged
from ..linux.threads import precise
from .arguments import read
from .check import Check
from .look import Look, Tools, look

if TYPE_CHECKING:
    from .._unpatched import Clock
    from ..engine.engine import Engine
    from ..linux.children import Children

_STAGGER = 0.005
"""Seconds between the first looks of two checks, so that many do not begin in one moment."""
_GRACE = 0.25
"""Seconds past its timeout that a look may take to end by itself, before it counts as hanging."""
_ENDS_WITHIN = 1.0
"""Seconds that looks under way have to end, all of them together, when nobody wants their findings any longer."""

Callback = Callable[[], "object | Awaitable[object]"]
"""Looks by itself: what it returns is taken for the truth, what it raises is bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckStatus:
    """A check now. `up` is None before the first look; `since` is ns of CLOCK_MONOTONIC; `said` is the last finding."""

    name: str
    kind: str
    up: bool | None
    since: int
    said: str
    runs: int
    failures: int
    by: int
    fault: bool


class Health:
    """The checks of one engine. `Engine.health` makes it."""

    def __init__(self, engine: Engine, clock: Clock = time) -> None:
        self._engine = engine
        self.time = clock
        self._lock = threading.Lock()
        self._watches: dict[tuple[str, str], _Watch] = {}
        self._children: Children | None = None
        self._closed = False
        self._wake = threading.Event()
        self._clock: threading.Thread | None = None

    def add(
        self,
        name: str,
        what: Check | Callback,
        *,
        which: str = "",
        interval: float = 1.0,
        timeout: float = 1.0,
        rise: int = 2,
        fall: int = 3,
        weight: int | None = None,
        fault: bool = False,
    ) -> None:
        """Look from now on, for the virtual host `which`, or for all; a check of this name is replaced.

        `what` is a `Check`, whose own times count, or a callable or coroutine function that takes nothing. It runs in a
        thread of its own. Raises `ConfigError`.
        """
        if isinstance(what, Check):
            check, callback = replace(what, name=name), None
        elif callable(what):
            check = Check(
                name=name, kind="exec", words=("callable",), interval=interval, timeout=timeout, rise=rise, fall=fall,
                weight=weight, fault=fault,
            )  # fmt: skip
            callback = what
        else:
            raise ConfigError("a check is a Check, a callable or a coroutine function: give one of these", "checks")
        self._start({(which, name): (check, callback)})

    def remove(self, name: str, *, which: str = "") -> None:
        """Look no more, and take back what it demoted by. One that is not there is no error."""
        with self._lock:
            watch = self._watches.pop((which, name), None)
        if watch is not None:
            self._end([watch])

    def configure(self, hosts: Iterable[VirtualHost]) -> None:
        """The checks of these virtual hosts, in the place of those of the former ones. What is the same goes on."""
        wanted: dict[tuple[str, str], tuple[Check, Callback | None]] = {
            (host.name, check.name): (check, None) for host in hosts for check in host.checks
        }
        with self._lock:
            gone = [
                key
                for key, watch in self._watches.items()
                if watch.configured and (key not in wanted or wanted[key][0] != watch.check)
            ]
            ended = [self._watches.pop(key) for key in gone]
            new = {key: value for key, value in wanted.items() if key not in self._watches}
        self._end(ended)
        self._start(new, configured=True)

    def status(self) -> dict[str, tuple[CheckStatus, ...]]:
        """The checks of each virtual host by its name; "" has those that are about all."""
        with self._lock:
            found: dict[str, list[CheckStatus]] = {}
            for (which, _), watch in self._watches.items():
                found.setdefault(which, []).append(watch.status)
        return {which: tuple(checks) for which, checks in found.items()}

    def close(self) -> None:
        """End the threads. A look that goes on for a second more is left to itself, and ends unseen with its timeout.

        May be called again.
        """
        with self._lock:
            self._closed = True
            watches = list(self._watches.values())
            self._watches.clear()
            children = self._children
        if children is not None:
            children.close()  # which ends the programs that are looked at
        self._end(watches)
        self._wake.set()
        if self._clock is not None:
            self._clock.join()

    def abandon(self) -> None:
        """In a forked child: leave the launcher of programs to the parent. There are no threads here."""
        self._closed = True
        if self._children is not None:
            self._children.abandon()

    # What the watches need

    def children(self) -> Children:
        """Who starts programs; there is none before the first one."""
        from ..linux.children import Children

        with self._lock:
            if self._children is None:
                self._children = Children()
            return self._children

    def _start(self, new: dict[tuple[str, str], tuple[Check, Callback | None]], configured: bool = False) -> None:
        begin = self.time.monotonic()
        made = []
        replaced = []
        with self._lock:
            if self._closed:
                return
            for number, ((which, name), (check, callback)) in enumerate(new.items()):
                watch = _Watch(self, self._engine, which, check, callback, begin + number * _STAGGER, configured)
                if former := self._watches.get((which, name)):
                    replaced.append(former)
                self._watches[which, name] = watch
                made.append(watch)
        self._end(replaced)
        self._launch(made)

    def _launch(self, watches: list[_Watch]) -> None:
        with self._lock:
            if watches and self._clock is None and not self._closed:
                self._clock = threading.Thread(target=self._run, name="pycarp-health", daemon=True)
                self._clock.start()
        for watch in watches:
            watch.thread.start()
        self._wake.set()

    def _end(self, watches: Iterable[_Watch]) -> None:
        ended = list(watches)
        for watch in ended:
            watch.stop()
        give_up = time.monotonic() + _ENDS_WITHIN
        for watch in ended:
            watch.join(max(0.0, give_up - time.monotonic()))

    def _run(self) -> None:
        """The clock: it sees to the looks that hang."""
        precise()
        while not self._closed:
            with self._lock:
                watches = list(self._watches.values())
            now = time.monotonic()
            waits = [watch.hang_at() for watch in watches]
            due = min((moment for moment in waits if moment is not None), default=None)
            if due is None or due > now:
                self._wake.wait(None if due is None else due - now)
                self._wake.clear()
                continue
            for watch, moment in zip(watches, waits, strict=True):
                if moment is not None and moment <= now:
                    watch.hangs(now)

    def looked_at(self) -> None:
        """A look has begun: the clock has something to see to."""
        self._wake.set()


class _Watch:
    """One check at run time."""

    def __init__(
        self,
        health: Health,
        engine: Engine,
        which: str,
        check: Check,
        callback: Callback | None,
        first: float,
        configured: bool,
    ) -> None:
        self.check = check
        self.configured = configured
        self._health = health
        self._engine = engine
        self._which = which
        self._callback = callback
        self._what = None if callback is not None else read(check.kind, check.words)
        self.next = first
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._begun: float | None = None
        self._hung_since: float | None = None
        self._row = 0  # good looks in a row, or bad ones as a negative number
        self._by = 0
        self._fault = False
        kind = check.kind if callback is None else "callable"
        self.status = CheckStatus(
            name=check.name, kind=kind, up=None, since=health.time.monotonic_ns(), said="not looked at yet", runs=0,
            failures=0, by=0, fault=False,
        )  # fmt: skip
        self.thread = threading.Thread(target=self._run, name=f"pycarp-check-{check.name}"[:40], daemon=True)

    def stop(self) -> None:
        self._end.set()

    @property
    def ended(self) -> bool:
        return self._end.is_set()

    def join(self, seconds: float) -> None:
        """Wait so long for the look that is under way, and take back what was demoted."""
        if self.thread.is_alive() and self.thread.ident != threading.get_ident():
            self.thread.join(seconds)
        with self._lock:
            self._apply(0, False)

    def hang_at(self) -> float | None:
        """When the look that is under way counts as hanging, or as hanging once more."""
        with self._lock:
            if self._begun is None:
                return None
            since = self._hung_since
            return self._begun + self.check.timeout + _GRACE if since is None else since + self.check.interval

    def hangs(self, now: float) -> None:
        with self._lock:
            if self._begun is None:
                return
            self._hung_since = now
            self._judge(Look(False, f"it hangs since {now - self._begun:.0f} s, and is not begun again until it ends"))

    def _run(self) -> None:
        precise()
        tools = Tools(self._health.children)
        while not self._end.wait(max(0.0, self.next - time.monotonic())):
            self.look(tools)

    def look(self, tools: Tools) -> bool:
        """Look once, and tell what follows. Returns whether there is to be another look, at `next`."""
        with self._lock:
            self._begun, self._hung_since = self._health.time.monotonic(), None
        self._health.looked_at()
        found = self._look(tools)
        with self._lock:
            hung, self._begun = self._hung_since is not None, None
            if self._end.is_set():
                return False
            if not hung:
                self._judge(found)
        # On time, whatever a look takes; what was missed is not made up for.
        late = max(0.0, self._health.time.monotonic() - self.next)
        self.next += self.check.interval * (1 + late // self.check.interval)
        return True

    def _look(self, tools: Tools) -> Look:
        if self._what is not None:
            try:
                return look(self._what, self.check.timeout, tools)
            except Exception as error:
                return Look(False, f"it failed ({type(error).__name__})")
        assert self._callback is not None
        try:
            value = self._callback()
            if inspect.isawaitable(value):
                value = asyncio.run(_within(value, self.check.timeout))
        except TimeoutError:
            return Look(False, f"no answer within {self.check.timeout:g} s")
        except Exception as error:
            return Look(False, f"it raised {type(error).__name__}")
        return Look(value is None or bool(value), "it is well" if value is None or value else "it says no")

    def _judge(self, found: Look) -> None:
        """Count a look, and tell what follows. The lock is held."""
        status = self.status
        self._row = max(1, self._row + 1) if found.well else min(-1, self._row - 1)
        up = status.up
        if up is None:
            up = found.well
        elif found.well and not up:
            up = self._row >= self.check.rise
        elif not found.well and up:
            up = self._row > -self.check.fall
        changed = up != status.up
        self.status = replace(
            status,
            up=up,
            since=self._health.time.monotonic_ns() if changed else status.since,
            said=found.said,
            runs=status.runs + 1,
            failures=status.failures + (not found.well),
        )
        if not up or status.by or status.fault:
            by, fault = (0, False) if up else self._costs(found)
            self._apply(by, fault)
        if changed and (status.up is not None or not up):
            self._tell(found.said)

    def _costs(self, found: Look) -> tuple[int, bool]:
        """How much an ill check demotes, and whether it is a fault: without a weight it is one."""
        weight = self.check.weight
        if weight is None and (self.check.fault or found.by is None):
            return 0, True
        return (found.by or 1) * (1 if weight is None else abs(weight)), False

    def _apply(self, by: int, fault: bool) -> None:
        """Tell the ledger the difference to what it has been told."""
        which, reason = self._which or None, f"check {self.check.name}"
        try:
            if by > self._by:
                self._engine.demote(by - self._by, reason, which)
            elif by < self._by:
                self._engine.undemote(self._by - by, reason, which)
            self._by = by
            if fault != self._fault:
                self._engine.fault(reason, fault, which)
        except (CarpError, KeyError):
            return  # the engine ends, or its ledger is full: the next look tries again
        self._by, self._fault = by, fault
        self.status = replace(self.status, by=by, fault=fault)

    def _tell(self, said: str) -> None:
        up = bool(self.status.up)
        vhid = next((host.vhid for host in self._engine.hosts if host.name == self._which), 0)
        at = self._health.time.monotonic_ns()
        event = CheckChanged(vhid=vhid, name=self._which, at=at, check=self.check.name, up=up, said=said)
        self._engine.report(event)


async def _within(value: Awaitable[Any], timeout: float) -> Any:
    return await asyncio.wait_for(value, timeout)

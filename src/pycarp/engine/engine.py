"""`Engine`: virtual hosts inside a Python program, from `start` to `stop`.

Thread: any caller; `_run_callback`: callback
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator

from .._unpatched import patched, threading, time
from ..config import VirtualHost
from ..errors import DEADLINE, CapabilityError, EngineError
from ..events import Event, Failed, NativeUnavailable
from ..linux.threads import may_start_threads
from ..protocol import State
from ..stats import Measures
from . import forked
from .arguments import checked_choices, checked_hosts, checked_options, free_within, positive, watchdog_ns
from .maintenance import Maintenance
from .queue import EventQueue

TYPE_CHECKING = False  # importing typing would take longer than this module
if TYPE_CHECKING:
    from typing import Any, Literal, Self

    from .._unpatched import Clock
    from ..health.runner import Health
    from ..hooks.runner import Hooks
    from ..protocol.abc import Runtime
    from ..protocol.choices import Spoken
    from ..stats import EngineStats
    from .handover import HandOver
    from .snapshot import Snapshot
    from .supervisor import Supervisor
    from .sync import Sync


class Engine:
    """Runs one or more virtual hosts on this machine, in threads of its own.

        with Engine(VirtualHost(vhid=101, passphrase="motdepassehalakon", addresses=["10.13.37.42/24"])) as engine:
            for event in engine.events():
                print(event)

    `on_event` is called for every event, in a thread of its own; a slow one delays nothing but itself. `queue` is how
    many events wait for a consumer, in `events()` and for `on_event`: when it is full the oldest are dropped, and
    `EventsLost` says how many. `allow=False` is net.inet.carp.allow=0: adverts are counted and not obeyed. `realtime`
    asks for SCHED_FIFO for the native runtime's threads: "auto" takes it where it is permitted, True insists, False
    does without. `watchdog` is how many seconds may pass between two calls of `alive`: after that, until the next call,
    the engine bows out and is BACKUP with demotion; None is no watchdog. With `missing="wait"` a virtual host whose
    interface is not there, or has no address yet, is INIT and waits for it (event `Waiting`), unless nothing here could
    ever start; "refuse" raises.

    `maintenance_file` keeps the mode of `maintenance` past a restart: the engine starts in it while the file is there.

    With `inherit`, another process that runs these virtual hosts passes them on, and stops only what this engine cannot
    go on with: no advert is missing, and no address goes. "auto" asks whichever process runs them, if its engine has an
    `inherit` as well; "held" only one that `bequeath` has left; a descriptor is one end of a socket pair (AF_UNIX,
    SOCK_SEQPACKET) that such an engine's process has got. Another passphrase, name or kind of MAC is no successor's:
    that virtual host stops there and starts here. What it cannot find starts as ever.

    `wait` is for how many seconds at most `start` waits while another engine on this machine, in this process or in
    another, still has one of these virtual hosts or addresses: for a predecessor that is ending. 0: that is an error at
    once.

    Everything happens in the network namespace of the thread that calls `start`. It needs CAP_NET_ADMIN and
    CAP_NET_RAW. An engine runs once. If it runs when the program ends, it stops then. In a forked child it does not
    run.

    Calls name a virtual host by vhid or by name ("carp0"). Raises `ConfigError` for hosts that contradict each other.
    """

    _clock: Clock = time

    def __init__(
        self,
        *hosts: VirtualHost,
        on_event: Callable[[Event], object] | None = None,
        queue: int = 1024,
        allow: bool = True,
        realtime: bool | Literal["auto"] = "auto",
        watchdog: float | None = None,
        missing: Literal["wait", "refuse"] = "refuse",
        maintenance_file: str | os.PathLike[str] | None = None,
        inherit: Literal["auto", "held"] | int | None = None,
        wait: float = 0,
    ) -> None:
        checked_choices(realtime, missing, inherit)
        checked_options(allow, on_event, queue)
        self._inherit = inherit
        self._free_within = free_within(wait)
        self._held = self._aside = False
        self._missing = missing
        self._watchdog = watchdog_ns(watchdog)
        self._realtime: bool | Literal["auto"] = realtime
        self._hosts = checked_hosts(hosts)
        self._allow = allow
        self._queue = EventQueue(queue)
        self._callback = on_event
        self._callback_queue = EventQueue(queue) if on_event is not None else None
        self._callback_thread: threading.Thread | None = None
        self._hooks: Hooks | None = None
        self._health: Health | None = None
        self._sync: Sync | None = None
        self._supervisor: Supervisor | None = None
        self._lock = threading.Lock()
        self._health_lock = threading.Lock()
        self._stopped = threading.Event()
        self._stopped.set()
        self._maintenance_file = maintenance_file
        self._taps: tuple[EventQueue, ...] = ()
        self._maintenance: Maintenance | None = None
        self._started = False
        self._since = 0
        self._pid = os.getpid()

    def __repr__(self) -> str:
        names = ", ".join(host.name for host in self._hosts)
        return f"<pycarp.Engine {names} {'running' if self._supervisor is not None else 'not running'}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    @property
    def hosts(self) -> tuple[VirtualHost, ...]:
        """The virtual hosts as configured now."""
        supervisor = self._supervisor
        return self._hosts if supervisor is None else supervisor.hosts

    @property
    def waiting(self) -> dict[str, str]:
        """The names of the virtual hosts that have no interface now, each with what is missing."""
        supervisor = self._supervisor
        return {} if supervisor is None else supervisor.waiting()

    @property
    def predecessor(self) -> int:
        """The process that passed virtual hosts on to this engine at its start, with `inherit`; 0: none did."""
        return self._running().predecessor

    def start(self) -> None:
        """Prepare devices and sockets, and enter the groups as BACKUP.

        Raises `CapabilityError`, `InterfaceError`, `ConfigError`, `OSError`; then nothing is left behind.
        """
        from .._impl import current

        with self._lock:
            if self._started:
                raise EngineError("an engine runs once: make a new one")
            if not may_start_threads():
                raise EngineError(DEADLINE)
            self._started = True
            self._since = self._clock.monotonic_ns()
            self._pid = os.getpid()
            self._maintenance = Maintenance(self._maintenance_file)
            hooks = self._have_hooks(self._hosts)
            try:
                supervisor = self._supervise(self._maintenance.on or self._aside)
            except BaseException:
                self._end_hooks()
                raise
            if patched():
                atexit.register(self.stop)  # the interpreter does not wait for threads that it does not know
            supervisor.demotions.hand_over = self.begin_hand_over
            self._supervisor = supervisor
            forked.keep(self)
            if self._maintenance.unknown:
                self._emit(Failed(vhid=0, name="", at=self._clock.monotonic_ns(), what=self._maintenance.unknown))
            if current.instead:
                self._emit(NativeUnavailable(vhid=0, name="", at=self._clock.monotonic_ns(), why=current.instead))
            try:
                if hooks is not None:
                    hooks.start()
                if self._callback_queue is not None:
                    self._start_callback()
            except BaseException:
                self._supervisor = None
                forked.forget(self)
                supervisor.stop()
                self._end_hooks()
                raise

        try:
            self._look_after(self._hosts)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Bow out where MASTER, drop the addresses, remove the devices, end the threads. May be called again.

        Iterators of `events()` deliver the events that are left, and end. In a forked child it only closes the copies
        of descriptors.
        """
        with self._lock:
            callback = self._callback_thread
            in_callback = callback is not None and threading.get_ident() == callback.ident
            supervisor = None if os.getpid() != self._pid else self._supervisor
            if supervisor is not None:
                self._hosts = supervisor.hosts
                self._supervisor = None
                self._stopped.clear()
        if supervisor is None:
            # Wait for another thread that stops it, unless that one waits for this one.
            if not in_callback:
                self._stopped.wait()
            return
        try:
            self._end_looking()
            if self._hooks is not None:
                masters = [one for one in supervisor.instances if supervisor.runtime.state(one.index) is State.MASTER]
                self._drain([one.host for one in masters], None)
            supervisor.stop()
        finally:
            self._end_hooks()
            self._queue.close()
            for tapped in self._taps:
                tapped.close()
            atexit.unregister(self.stop)
            if self._callback_queue is not None and self._callback_thread is not None:
                self._callback_queue.close()
                if not in_callback:
                    self._callback_thread.join()
            # The queue's descriptor stays open and readable as long as the engine: loops that wait on it see the end.
            forked.forget(self)
            self._stopped.set()

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """The events, as they come. Ends when the engine has stopped, or when no event comes for `timeout` seconds.

        Each event goes to one iterator only; those from before the first call are kept (`queue`).
        """
        while (event := self._queue.get_for_program(timeout)) is not None:
            yield event

    def poll(self) -> Event | None:
        """The next event that has come, or None. For loops that wait on `fileno()`."""
        return self._queue.get(0)

    def fileno(self) -> int:
        """A descriptor that is readable while `poll` has something, and after the stop.

        It is the engine's: do not read or close it.
        """
        return self._queue.fileno()

    def state(self, which: int | str) -> State:
        """The state of a virtual host now."""
        runtime, index = self._find(which)
        return runtime.state(index)

    def stats(self, which: int | str) -> EngineStats:
        """Counters by their kernel names (`netstat -p carp`), and what the runtime measured of itself.

        The counters are those of the virtual host, and of what came to its carpdev for no known vhid. The rest are the
        fields of `stats.Measures`, the same for all virtual hosts of the engine.
        """
        runtime, index = self._find(which)
        figures: Any = {**runtime.stats(index).as_dict(), **runtime.measures().as_dict()}
        return figures  # type: ignore[no-any-return]

    def snapshot(self) -> Snapshot:
        """All that is known of this engine now: states, masters and peers, demotions, counters, measures."""
        # Imported here: so many dataclasses take some ms.
        from .snapshot import take_snapshot

        checks = {} if self._health is None else self._health.status()
        return take_snapshot(self._running(), self._since, self.in_maintenance, checks, self._clock)

    def measures(self) -> Measures:
        """What the runtime measured of itself: how late it woke and sent, how long takeovers took, what was lost."""
        return self._running().runtime.measures()

    def demotion(self, which: int | str) -> int:
        """The demotion counter: above 0 the advskew that is sent and compared is at least 240."""
        runtime, index = self._find(which)
        return runtime.demotion(index)

    def demote(self, by: int = 1, reason: str = "", which: int | str | None = None) -> int:
        """Demote one virtual host, or all of this engine, for a reason. Returns the new demotion.

        Reasons add up, and so do calls with the same one. It is advertised at once: a pycarp or OpenBSD backup that is
        demoted less takes over, other BSDs only with preempt.
        """
        return self._running().demotions.add(positive(by), reason, which)

    def undemote(self, by: int = 1, reason: str = "", which: int | str | None = None) -> int:
        """Take back what `demote` did for this reason and virtual host, at most that. Returns the new demotion."""
        return self._running().demotions.add(-positive(by), reason, which)

    @contextlib.contextmanager
    def demoted(self, reason: str, by: int = 1, which: int | str | None = None) -> Iterator[None]:
        """Demoted for the time of a `with` statement, or until the engine stops."""
        self.demote(by, reason, which)
        try:
            yield
        finally:
            # The engine may have stopped, or the virtual host may have gone, meanwhile.
            with contextlib.suppress(EngineError, KeyError):
                self.undemote(by, reason, which)

    def fault(self, reason: str, on: bool = True, which: int | str | None = None) -> None:
        """What the addresses carry does not work here: hand over, and be no MASTER while another host is heard.

        It demotes by 1 as well, unless advbase is 0. Peers take over with or without preempt. Alone, this host is
        MASTER all the same. Each fault hands over once, when it begins: where all hosts have one, the address moves
        once more and then stays.
        With `on=False` it ends: with preempt this host may be MASTER again, without it stays BACKUP.
        """
        self._running().demotions.fault(reason, on, which)

    @property
    def health(self) -> Health:
        """The checks of this engine: `add` and `remove` them while it runs, `status` tells what they found."""
        self._running()
        with self._health_lock:
            if self._health is None:
                self._health = self._make_health()
            return self._health

    def alive(self) -> None:
        """Tell the `watchdog` that the program runs. Cheap, from any thread; does nothing without a watchdog."""
        if self._watchdog:
            self._running().runtime.alive()

    def force(self, which: int | str, state: State) -> None:
        """Put a virtual host into BACKUP or MASTER, without a bow-out, as ``ifconfig carp0 state`` does."""
        runtime, index = self._find(which)
        runtime.force(index, State(state))

    def hand_over(self, which: int | str | None = None, timeout: float | None = None) -> bool:
        """Where it is MASTER: bow out, keep the addresses until another host has them, then stand back.

        Any other host of the group takes over at once, with or without preempt, and no packet is lost. If none does
        within 0.1 s, this one goes on as MASTER. After a hand-over it is MASTER again when nobody is heard, or when the
        other bows out, but by no preempt of its own until then. In another state nothing happens. Without `which` it is
        about all virtual hosts. With a `timeout`, in seconds, this waits until the other masters are heard, and returns
        whether they are; without one it returns True at once. Drain hooks run before the bow-out.
        """
        handing = self.begin_hand_over(which)
        return True if timeout is None else handing.wait(timeout)

    def begin_hand_over(self, which: int | str | None = None) -> HandOver:
        """As `hand_over`, for those who wait in their own way: `look()` says what became of it."""
        from .handover import HandOver

        supervisor = self._running()
        chosen = tuple(supervisor.instances) if which is None else (supervisor.instances.find(which),)
        return HandOver(supervisor.runtime, chosen, self._drain, self._clock)

    @property
    def in_maintenance(self) -> bool:
        """Whether `maintenance` is on."""
        return self._maintenance is not None and self._maintenance.on

    def maintenance(self, on: bool) -> str:
        """Hand over, and be no MASTER while another host is, until it is switched off.

        Alone, this host is MASTER all the same: an address that a host in maintenance holds is better than none. It
        offers the addresses to the others every 10 s, and loses nothing by that. Who wants it to hold nothing stops the
        engine. `maintenance_file` keeps the mode past a restart; returns what is
        wrong with that file, in one sentence, or "".
        """
        supervisor = self._running()
        assert self._maintenance is not None
        supervisor.stand_aside(on)
        if on:
            self.hand_over()
        return self._maintenance.set(on)

    def bequeath(self, hold: float = 5.0) -> None:
        """Leave all virtual hosts to a process that holds them for the next engine with `inherit`.

        It is made for that, advertises as this engine did, and stops in order when nobody has come after `hold`
        seconds. For programs that replace themselves by exec, and for services that are stopped before they start
        again. Takes half a second. Raises `EngineError` where that cannot be: then the virtual hosts go on here.
        """
        from .hold import hold as start_holder

        if isinstance(hold, bool) or not isinstance(hold, int | float) or not 0.1 <= hold <= 600:
            raise ValueError(f"hold {hold!r} is out of range: give 0.1 to 600 seconds")
        supervisor = self._running()
        start_holder(supervisor, supervisor.hosts, self._for_a_holder(), hold)

    def _for_a_holder(self) -> dict[str, Any]:
        return {"allow": self._allow, "realtime": self._realtime, "aside": self.in_maintenance}

    def announce(self, which: int | str) -> None:
        """Send gratuitous ARP and neighbour advertisements once more, where it is MASTER."""
        runtime, index = self._find(which)
        runtime.announce(index)

    def speak(self, spoken: Spoken | Literal["auto"], which: int | str | None = None) -> None:
        """With which secret or addresses to sign while both are accepted; "auto" follows what is heard."""
        from .change import speak

        instances = self._running().instances
        for event in speak(instances if which is None else [instances.find(which)], spoken, self._clock.monotonic_ns()):
            self.report(event)

    def reconfigure(self, *hosts: VirtualHost) -> None:
        """Run these virtual hosts from now on: all of them, or what raises has changed nothing.

        With another advbase, advskew, passphrase, preempt or address a MASTER stays MASTER. Another vhid, carpdev, name
        or kind of MAC stops the virtual host and starts it anew. A program that has given up root may still change what
        needs no permission (advbase, advskew, preempt ...) and remove virtual hosts. Raises what `start` raises; an
        `EngineError` says so if the old configuration could not be brought back whole.
        """
        checked = checked_hosts(hosts)
        try:
            self._running().reconfigure(checked)
            hooks = self._have_hooks(checked)
            if hooks is not None:
                hooks.start()
            self._look_after(checked)
        except PermissionError as error:
            if isinstance(error, CapabilityError):
                raise
            names = ", ".join(host.name for host in checked)
            raise CapabilityError(
                f"{names} cannot be changed: this program has given up CAP_NET_ADMIN; keep it, or start anew as root"
            ) from error

    def tap(self, queue: int = 1024) -> EventQueue:
        """One more queue of all events from now on, beside `events`; `untap` ends it, as does the stop."""
        tapped = EventQueue(queue)
        with self._lock:
            self._running()
            self._taps = (*self._taps, tapped)
        return tapped

    def untap(self, queue: EventQueue) -> None:
        """End a queue of `tap`, and close its descriptor."""
        with self._lock:
            self._taps = tuple(one for one in self._taps if one is not queue)
        queue.close()
        queue.close_descriptor()

    def report(self, event: Event) -> None:
        """For the rooms beside the engine: an event of theirs, as if it were the engine's."""
        supervisor = self._supervisor
        (self._emit if supervisor is None else supervisor.runtime.tell)(event)

    def _emit(self, event: Event) -> None:
        self._queue.put(event)
        for tapped in self._taps:
            tapped.put(event)
        if self._callback_queue is not None:
            self._callback_queue.put(event)
        if self._hooks is not None:
            self._hooks.put(event)

    def _have_hooks(self, hosts: tuple[VirtualHost, ...]) -> Hooks | None:
        """Give the runner of hooks those of these virtual hosts; one that is made for them is returned, to start it."""
        if self._hooks is not None:
            self._hooks.configure(hosts)
            return None
        if any(host.hooks for host in hosts):
            self._hooks = self._make_hooks(hosts)
        return self._hooks

    def _make_hooks(self, hosts: tuple[VirtualHost, ...]) -> Hooks:
        # Imported here: most engines have none.
        from ..hooks.runner import Hooks

        return Hooks(hosts, self.report, self._describe)

    def _look_after(self, hosts: tuple[VirtualHost, ...]) -> None:
        """Run the checks of these virtual hosts, and keep together those that move together."""
        if self._health is not None or any(host.checks for host in hosts):
            self.health.configure(hosts)
        if self._sync is not None or any(host.sync for host in hosts):
            self._sync = self._sync or self._make_sync()
            self._sync.configure(hosts)

    def _end_looking(self) -> None:
        for one in (self._sync, self._health):
            if one is not None:
                one.close()

    def _end_hooks(self) -> None:
        if self._hooks is not None:
            self._hooks.close()

    def _describe(self, which: str) -> tuple[str, State]:
        """The carpdev and the state of a virtual host, for its hooks."""
        instance = self._running().instances.find(which)
        return instance.carpdev.name, self._running().runtime.state(instance.index)

    def _drain(self, hosts: Iterable[VirtualHost], then: Callable[[str], None] | None) -> None:
        """Run the drain hooks of these. `then` is called with the name of each that is done; without it, this waits."""
        hosts = tuple(hosts)
        draining = {host.name for host in hosts if any(hook.when == "drain" for hook in host.hooks)}
        if self._hooks is None:
            draining = set()
        for host in hosts:
            if then is not None and host.name not in draining:
                then(host.name)
        if self._hooks is not None and draining:
            self._hooks.drain(draining, then)

    def _run_callback(self) -> None:
        assert self._callback_queue is not None
        while (event := self._callback_queue.get()) is not None:
            self._call_back(event)

    def _call_back(self, event: Event) -> None:
        assert self._callback is not None
        try:
            self._callback(event)
        except Exception:
            # Imported here: its import takes a few ms, and nothing else needs it.
            import logging

            logging.getLogger("pycarp").exception("on_event failed at %r", event)

    # What a simulated LAN has of its own

    def _supervise(self, aside: bool) -> Supervisor:
        # Imported here: only a program that starts an engine needs what changes the machine.
        from .supervisor import Supervisor
        from .surroundings import explained

        with explained():
            waits, more = self._missing == "wait", (self._inherit, self._held, self._free_within)
            return Supervisor(self._hosts, self._emit, self._allow, self._realtime, self._watchdog, waits, aside, *more)

    def _start_callback(self) -> None:
        thread = threading.Thread(target=self._run_callback, name="pycarp-callback", daemon=True)
        thread.start()
        self._callback_thread = thread

    def _make_health(self) -> Health:
        # Imported here: most engines have no checks.
        from ..health.runner import Health

        return Health(self)

    def _make_sync(self) -> Sync:
        from .sync import Sync

        return Sync(self)

    def _running(self) -> Supervisor:
        supervisor = self._supervisor
        if os.getpid() != self._pid:
            raise EngineError("this process was forked from the one that runs the engine: it has none")
        if supervisor is None:
            raise EngineError("the engine is not running: start it first, or make a new one")
        return supervisor

    def _find(self, which: int | str) -> tuple[Runtime, int]:
        """The runtime, and the number that a virtual host has in it."""
        supervisor = self._running()
        return supervisor.runtime, supervisor.instances.find(which).index

    def _abandon(self) -> None:
        """In a forked child: close the copies of the descriptors, so that no child keeps a lock or a membership."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            with contextlib.suppress(OSError):
                supervisor.abandon()
        hooks, self._hooks = self._hooks, None
        if hooks is not None:
            with contextlib.suppress(OSError):
                hooks.abandon()
        health, self._health, self._sync = self._health, None, None
        if health is not None:
            health.abandon()
        self._health_lock = threading.Lock()
        # A thread of the parent may hold the old ones, and does not exist here.
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._stopped.set()
        self._queue.abandon()
        self._queue = EventQueue(1)
        self._queue.close()

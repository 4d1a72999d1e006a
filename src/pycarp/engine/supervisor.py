"""The life cycle of an engine's instances: start, reconfigure, stop. `reconcile` does what happens in between.

The supervisor alone makes devices. It has the guardian remove them, and does so itself only where there is none. It
tells the runtime what it has to know. All of it happens in the network namespace of the thread that starts the engine.

Thread: supervisor; `start` and what is public: any caller
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal

from .. import _impl
from .._unpatched import selectors, threading, time
from ..config import VirtualHost
from ..errors import CarpError, EngineError, InterfaceError
from ..events import Event
from ..linux.capabilities import require
from ..linux.interfaces import read_interfaces
from ..linux.leftovers import Inventory
from ..linux.lock import all_free
from ..linux.threads import precise
from ..linux.watch import RouteWatch, Watch
from ..protocol.abc import Runtime
from .builder import Builder
from .conflict import Conflicts
from .defence import Defence
from .demotions import Demotions
from .group_memberships import GroupMemberships
from .host_look import HostLook
from .instances import Instances
from .mailbox import Mailbox
from .peer_macs import PeerMacs
from .places import Place, places_to_change_to, places_to_start
from .reconcile import Reconciler
from .reload import Reload

if TYPE_CHECKING:
    from .bequeath import Bequest
    from .inherit import Inherit
    from .line import Line

_THREAD_NAME = "pycarp-supervisor"
OFFERED_EVERY = 10.0
"""Seconds after which a MASTER that stands aside offers its addresses to the others once more."""
_LOOKED_AT_EVERY = 0.01
"""Seconds between two looks whether a predecessor has ended."""
_PROGRAM_END_NOTICED = 0.5
"""Nothing wakes the supervisor when the program's main thread ends: it looks after this many seconds."""


class Supervisor:
    """Owns runtime, watch, devices and locks of one engine. Made and started by `Engine.start`.

    `emit` gets the events, `watchdog` is ns, 0 for none. With `wait`, virtual hosts wait for what is missing; with
    `aside`, they are no MASTER while another host is. Engines that end have `free_within` seconds for it. Raises what
    the parts raise, with everything undone.
    """

    def __init__(
        self,
        hosts: Iterable[VirtualHost],
        emit: Callable[[Event], None],
        allow: bool,
        realtime: bool | Literal["auto"],
        watchdog: int,
        wait: bool = False,
        aside: bool = False,
        inherit: Inherit = None,
        held: bool = False,
        free_within: float = 0,
    ) -> None:
        require("CAP_NET_ADMIN", "CAP_NET_RAW")
        self.hosts = tuple(hosts)
        """The virtual hosts as configured now."""
        self.predecessor = 0
        """The process that has passed virtual hosts on, 0: none."""
        self._wait = wait
        self._free_within = free_within
        self._aside = False
        self._offered = 0.0
        self._owner = os.getuid()
        self._mailbox = Mailbox()
        self._stopped = False
        undo = self._undo = contextlib.ExitStack()
        try:
            undo.callback(self._mailbox.close)
            # The watch comes first: every change after the first reading of the interfaces is noticed.
            self._watch = undo.enter_context(Watch(own_additions=False))
            self._route_watch = undo.enter_context(RouteWatch())
            self.runtime: Runtime = undo.enter_context(contextlib.closing(_impl.current.runtime(emit, realtime)))
            if aside:
                self.stand_aside(True)
            tell = self.runtime.tell
            self._defence = undo.enter_context(contextlib.closing(Defence(self.runtime, tell)))
            conflicts = Conflicts(self.runtime, tell, defence=self._defence)
            self._conflicts = undo.enter_context(contextlib.closing(conflicts))
            self.instances = Instances(self.runtime, self._conflicts, tell, allow)
            self.demotions = Demotions(self.runtime, self.instances, tell)
            self._builder = Builder(self.instances)
            self._reconciler = Reconciler(self.instances, self._watch, self._route_watch)
            self._peer_macs = undo.enter_context(contextlib.closing(PeerMacs(self.instances, tell)))
            self._memberships = undo.enter_context(contextlib.closing(GroupMemberships(self.instances)))
            self._held = held
            self._bequest: Bequest | None = None
            self._selector: selectors.BaseSelector | None = None
            self._tell_of_bequest = self._tell(tell)
            undo.callback(self._end_bequest)
            undo.callback(self._remove_all)
            self._begin(inherit, tell)
            # Not a daemon: when the program ends without having stopped its engine, the supervisor does it.
            self._thread = threading.Thread(target=self._run, name=_THREAD_NAME, daemon=False)
            if watchdog:
                self.runtime.watch(watchdog)
            self._thread.start()
            self._look = HostLook([instance.host for instance in self.instances], tell)
        except BaseException:
            undo.close()
            raise

    # From other threads

    def reconfigure(self, hosts: tuple[VirtualHost, ...]) -> None:
        """Make these the virtual hosts. What fails is raised, and changes nothing."""
        self._mailbox.call(lambda: self._reconfigure(hosts))

    def serve(self, line: Line, start: Callable[[], object]) -> None:
        """`start` a holder, in the engine's network namespace, and have it at the other end of this line."""

        def begin() -> None:
            start()
            self.bequest.serve(line, holder=True)

        self._mailbox.call(begin)

    @property
    def bequest(self) -> Bequest:
        """Serves successors, and knows how that went."""
        if self._bequest is None:
            # Imported here: few engines have successors.
            from .bequeath import Bequest

            self._bequest = Bequest(self.instances, self._builder, self._tell_of_bequest, self._held)
            if self._selector is not None:
                self._bequest.attach(self._selector)
        return self._bequest

    def _end_bequest(self) -> None:
        if self._bequest is not None:
            self._bequest.close()
        self._tell_of_bequest = lambda _event: None  # nothing keeps the engine any longer

    def hold(self, until: int, again: bool = False) -> bool:
        """What the program says of a led virtual host: see `Runtime.hold`. Who takes looks whether others answer."""
        outcomes = [self.runtime.hold(instance.index, until, again) for instance in self.instances]
        if until and not again:
            self._mailbox.post(lambda: None)
        return all(outcomes)

    def stand_aside(self, aside: bool) -> None:
        """From now on no instance is MASTER while another host is: what is MASTER all the same is offered to others."""
        self._aside, self._offered = aside, time.monotonic()
        self.runtime.stand_aside(aside)

    def waiting(self) -> dict[str, str]:
        """The instances without a carpdev, by name, with what is missing."""
        return {one.host.name: one.missing for one in self.instances if not one.present}

    def stop(self) -> None:
        """Bow out, drop, remove; returns when nothing is left."""
        if self._thread.is_alive():
            with contextlib.suppress(CarpError):
                self._mailbox.post(self._end)
            self._thread.join()
        self._look.close()

    def abandon(self) -> None:
        """In a forked child: close the descriptors, touch nothing else."""
        self.runtime.abandon()
        self._watch.close()
        self._route_watch.close()
        self._conflicts.close()
        self._defence.close()
        self._peer_macs.close()
        self._memberships.close()
        self._mailbox.abandon()
        if self._selector is not None:
            self._selector.close()
        if self._bequest is not None:
            self._bequest.abandon()
        for instance in self.instances:
            if instance.lock is not None:
                instance.lock.close()

    # In the supervisor's thread

    def _run(self) -> None:
        precise()
        try:
            self._loop()
        finally:
            # After a fault nothing looks after the devices any longer: they go.
            if not self._stopped:
                self._end()

    def _loop(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._mailbox, selectors.EVENT_READ, self._mailbox.work)
            selector.register(self._watch, selectors.EVENT_READ, self._reconciler.read_notices)
            selector.register(self._route_watch, selectors.EVENT_READ, self._reconciler.routing.read_notices)
            selector.register(self._defence, selectors.EVENT_READ, lambda: self._defence.read(self.instances))
            self._selector = selector
            if self._bequest is not None:
                self._bequest.attach(selector)
            while not self._stopped:
                next_look = self._conflicts.look(self.instances)
                self._memberships.run()
                self._peer_macs.run(selector)
                due = min(next_look, self._reconciler.due_in(), self._peer_macs.due_in())
                timeout = max(0, min(due, _PROGRAM_END_NOTICED))
                for key, _ in selector.select(timeout):
                    if self._stopped:
                        break
                    key.data()
                if self._stopped:
                    break
                self._reconciler.run()
                self._offer()
                if _program_has_ended():
                    self._end()

    def _offer(self) -> None:
        """A BACKUP says nothing: whether there is one shows when it is asked to take over. No drain hook runs."""
        now = time.monotonic()
        if self._aside and now - self._offered >= OFFERED_EVERY:
            self._offered = now
            for instance in self.instances:
                self.runtime.hand_over(instance.index)  # where it is MASTER

    def _end(self) -> None:
        self._stopped = True
        self._undo.close()

    def _build_all(self) -> list[Place]:
        """With `wait`, what cannot start waits, unless nothing could ever start."""
        self._await_predecessors()
        inventory = Inventory()
        places = []
        self.runtime.expect(host.vhid for host in self.hosts)
        for place in places_to_start(self.hosts, inventory.interfaces, self._wait):
            try:
                self.instances.add(self._builder.build(place, inventory))
            except InterfaceError as error:
                if not self._wait:
                    raise
                place = place.without_carpdev(error)
                inventory = Inventory()
                self.instances.add(self._builder.build(place, inventory))
            places.append(place)
        if not any(place.carpdev or place.hopeful for place in places):
            raise InterfaceError(places[0].missing)
        return places

    def _await_predecessors(self) -> None:
        """Until no other engine of this machine has one of these virtual hosts, or the time for that is over."""
        give_up = time.monotonic() + self._free_within
        while self._free_within and time.monotonic() < give_up:
            places = places_to_start(self.hosts, read_interfaces(), self._wait)
            if all(
                all_free(place.carpdev, place.host.vhid, (one.ip for one in place.host.addresses))
                for place in places
                if place.carpdev is not None
            ):
                return
            time.sleep(_LOOKED_AT_EVERY)

    def _begin(self, inherit: Inherit, emit: Callable[[Event], None]) -> None:
        """Take over what another process passes on, and build and start the rest; a holder does only the former."""
        if inherit is not None:
            from .inherit import Heir

            inventory = Inventory()
            places = places_to_start(self.hosts, inventory.interfaces, self._wait)
            self.runtime.expect(host.vhid for host in self.hosts)
            self.predecessor = Heir(self.instances, self._builder, emit).run(inherit, places, inventory)
            self.bequest.listen()
        if self._held:
            self.hosts = tuple(instance.host for instance in self.instances)
            if not self.hosts:
                raise EngineError("there is nothing to hold: the other process has not passed on anything")
        elif any(self.instances):
            running = {instance.host.name: instance for instance in self.instances}
            changed = places_to_change_to(self.hosts, read_interfaces(), self._wait, running)
            Reload(self.instances, self._builder, self._owner).run(changed)
        else:
            places = tuple(self._build_all())
            for instance, place in zip(self.instances, places, strict=True):
                self._builder.start(instance, place)

    def _tell(self, emit: Callable[[Event], None]) -> Callable[[Event], None]:
        """`emit` for what the bequest tells: what was handed on is not configured here any more."""

        def tell(event: Event) -> None:
            self.hosts = tuple(host for host in self.hosts if host.name != event.name)
            emit(event)

        return tell

    def _remove_all(self) -> None:
        with contextlib.suppress(CarpError):
            self.runtime.stop_all()
        instances = tuple(self.instances)
        for instance in instances:
            self.instances.remove(instance)
        self._builder.dismantle_all(instances)

    def _reconfigure(self, hosts: tuple[VirtualHost, ...]) -> None:
        running = {instance.host.name: instance for instance in self.instances}
        places = places_to_change_to(hosts, read_interfaces(), self._wait, running)
        self.runtime.expect({host.vhid for host in (*self.hosts, *hosts)})
        try:
            Reload(self.instances, self._builder, self._owner).run(places)
            self.hosts = hosts
            self.demotions.settle()
        finally:
            self.runtime.expect(host.vhid for host in self.hosts)
            self._reconciler.after_reload()


def _program_has_ended() -> bool:
    """Whether only engines keep the interpreter from its end: then nothing else stops this one."""
    main = threading.main_thread()
    # In a sub-interpreter that ends, it lives on (Python 3.13 and later).
    if main.is_alive() and not getattr(threading, "_SHUTTING_DOWN", False):
        return False
    others = (thread for thread in threading.enumerate() if thread is not main and not thread.daemon)
    return all(thread.name == _THREAD_NAME for thread in others)

"""The runtime as other threads see it.

Thread: any caller but the loop. Each method returns when the loop has carried it out, and raises what it raised there.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from ... import events
from ..._unpatched import selectors, threading, time
from ...config import Address
from ...engine.mailbox import Mailbox, Outcome
from ...engine.plan import Plan
from ...engine.snapshot import Overview, Reading
from ...engine.teller import Others
from ...errors import GUARDIAN_HANGS, HANDED_ON, NOT_ENTRUSTED, ConfigError, EngineError
from ...linux.device import Device
from ...linux.guardian_client import Guardian, Kind, Reply
from ...linux.lock import VirtualHostLock
from ...linux.sockets import Sockets
from ...protocol import NS_PER_SECOND, State
from ...protocol.timing import DEVICE_REMOVED_AFTER_DROP, ORDERS_DONE_WITHIN
from ...stats import Measures, Stats
from .. import spawn
from . import commands, loop
from .guardian import meet_guardian
from .state import Instance, RuntimeState

P = ParamSpec("P")
T = TypeVar("T")
Command = Callable[Concatenate[RuntimeState, int, P], T]
OnInstance = Callable[Concatenate[RuntimeState, Instance, int, P], T]

_WHILE_FROZEN: tuple[object, ...] = (commands.thaw, commands.remove_instance, commands.stats, commands.look)
_ORDERS_LOOK = 0.001
"""Seconds between two looks whether orders are carried out."""


class Runtime:
    """Runs virtual hosts. `index` is the caller's number for an instance, `carpdev` its number for a carpdev.

    `emit` gets the events in the loop, and must return at once.
    """

    def __init__(self, emit: Callable[[events.Event], None], realtime: bool | Literal["auto"] = "auto") -> None:
        if realtime is True:
            raise ConfigError('realtime=True is for the native implementation: this is the Python one, take "auto"')
        self._others = Others(emit)
        with contextlib.ExitStack() as undo:
            self._mailbox = undo.enter_context(contextlib.closing(Mailbox()))
            selector = undo.enter_context(selectors.DefaultSelector())
            selector.register(self._mailbox, selectors.EVENT_READ, self._mailbox)
            lifeline = undo.enter_context(contextlib.closing(spawn.Lifeline()))
            self._state = RuntimeState(emit, realtime is not False, lifeline, self._mailbox, selector)
            self._thread = threading.Thread(target=loop.run, args=(self._state,), name="pycarp-runtime", daemon=True)
            self._thread.start()
            undo.callback(self._thread.join)
            undo.callback(self._call, commands.close)
            # The loop locks the lifeline before there is a guardian, which waits for the end of that.
            self._call(lambda runtime, now: lifeline.lock())
            guardian = Guardian(lifeline, self._state.realtime, spawn)
            undo.callback(guardian.close)
            self._call(lambda runtime, now: meet_guardian(runtime, guardian))
            undo.pop_all()

    # Carpdevs

    def add_carpdev(
        self, carpdev: int, sockets: Sockets, mac: bytes, addresses: Iterable[Address], allow: bool
    ) -> None:
        """Speak and hear on one more carpdev. The sockets are the runtime's from now on."""
        self._call(commands.add_carpdev, carpdev, sockets, mac, addresses, allow)

    def update_carpdev(self, carpdev: int, mac: bytes, addresses: Iterable[Address]) -> None:
        """The carpdev has another MAC or other addresses now."""
        self._call(commands.update_carpdev, carpdev, mac, addresses)

    def remove_carpdev(self, carpdev: int) -> None:
        """Close the sockets of a carpdev; its instances must be gone, or get another by `move_instance`."""
        self._call(commands.remove_carpdev, carpdev)

    # Instances

    def add_instance(self, index: int, carpdev: int, plan: Plan, device: Device, lock: VirtualHostLock | None) -> None:
        """Add an instance, in INIT. The guardian takes and drops its addresses by the device's prepared requests, and
        keeps its lock as well. One without a lock has no carpdev yet, and gets both by `move_instance`."""
        self._call(commands.add_instance, index, carpdev, plan, device, lock)

    def move_instance(self, index: int, carpdev: int, plan: Plan, device: Device, lock: VirtualHostLock) -> None:
        """Put an instance, whose link is down, on a carpdev that came back."""
        self._on(index, commands.move_instance, carpdev, plan, device, lock)

    def remove_instance(self, index: int, restore: bool = False) -> None:
        """Stop an instance, see its addresses dropped and its device removed, and forget it.

        `restore` gives the carpdev its settings back. Raises `OSError` for what could not be removed, `EngineError`
        where there is no guardian to do it; the instance is forgotten all the same.
        """
        owned = self.owns(index)
        self.stop_instance(index)
        self._await_orders(index, owned)
        try:
            for kind in (Kind.REMOVE, Kind.RESTORE) if restore else (Kind.REMOVE,):
                error = self._ask_guardian(kind, index).error
                if error == errno.ENOENT:
                    raise EngineError(NOT_ENTRUSTED)
                if error:
                    raise OSError(error, os.strerror(error))
        finally:
            with contextlib.suppress(EngineError):
                self._ask_guardian(Kind.FORGET, index)
            self._on(index, commands.remove_instance)

    def expect(self, vhids: Iterable[int]) -> None:
        """These vhids are to be added: adverts that come earlier, or once they are removed, are not reported."""
        self._state.expected.update(vhids)

    def start_instance(self, index: int) -> None:
        """INIT -> BACKUP, and whatever state its configuration forces."""
        self._on(index, commands.start_instance)

    def stop_instance(self, index: int) -> None:
        """Bow out, drop, INIT."""
        self._on(index, commands.stop_instance)

    def stop_all(self) -> None:
        """Stop every instance, and see all addresses dropped."""
        owned = any(instance.ownership.owned for instance in list(self._state.instances.values()))
        self._call(commands.stop_all)
        self._await_orders(None, owned)

    def freeze(self, index: int, margin: int) -> dict[str, Any] | None:
        """Stop an instance as it stands, for another process to go on with it: what it leaves, as plain values.

        None where this is no moment for it: it is due in less than `margin` ns, or an order is under way. The guardian
        goes on waiting for the next advert. `thaw` or `hand_on` follows.
        """
        return self._on(index, commands.freeze, margin)

    def thaw(self, index: int) -> None:
        """Go on with a frozen instance after all."""
        self._on(index, commands.thaw)

    def hand_on(self, index: int) -> None:
        """Another process has a frozen instance: forget it, and have the guardian forget it, as everything is."""
        try:
            self._ask_guardian(Kind.FORGET, index)
        finally:
            self._on(index, commands.remove_instance)

    def inherit(self, index: int, values: dict[str, Any], until: int) -> bool:
        """Have an instance that was not started go on from what `freeze` gave in another process.

        False, and nothing is done, where it is later than `until` (CLOCK_MONOTONIC, ns).
        """
        return self._on(index, commands.inherit, values, until)

    def link(self, index: int, up: bool) -> None:
        """The carpdev of an instance went or came."""
        self._on(index, commands.link, up)

    def force(self, index: int, state: State) -> None:
        """Put an instance into a state by hand."""
        self._on(index, commands.force, state)

    def hold(self, index: int, until: int, again: bool = False) -> bool:
        """A led instance has its addresses until then (CLOCK_BOOTTIME, ns), or, with 0, no longer.

        Returns when that is done, and whether they are here. With `again` it returns at once, and whether the tenure
        went on: one that is over stays so.
        """
        if again:
            return self._on(index, commands.extend, until)
        self._on(index, commands.hold, until)
        self._await_orders(index, False)
        return self.owns(index)

    def hand_over(self, index: int) -> None:
        """A MASTER bows out, keeps its addresses until another MASTER is heard, and stands back. If nobody comes it
        goes on. In another state nothing happens."""
        self._on(index, commands.give_way)

    def replan(
        self, index: int, plan: Plan, device: Device, lock: VirtualHostLock | None = None, entrust: bool = True
    ) -> None:
        """Go on with another plan, and another lock if there is one; a changed configuration is taken up as
        `Machine.reconfigure` says. Without `entrust` the guardian is not told. After an error, nothing has changed."""
        self._on(index, commands.replan, plan, device, lock, entrust)

    def retake(self, index: int, quiet: bool = False) -> None:
        """A MASTER takes and announces again: the addresses' place was made anew.

        `quiet`: it was only changed, so no event follows where the addresses are here.
        """
        self._on(index, commands.retake, quiet)

    def announce(self, index: int, advertise: bool = False) -> None:
        """A MASTER announces its addresses once more; or it defends them: it advertises, and announces some times."""
        self._on(index, commands.defend if advertise else commands.announce_again)

    def refuse(self, index: int, until: int) -> None:
        """Silence is no reason to take over before `until` (CLOCK_MONOTONIC, ns)."""
        self._on(index, commands.refuse, until)

    def state(self, index: int) -> State:
        """The state now; does not wait for the loop."""
        return self._state.instances[index].machine.state

    def owns(self, index: int) -> bool:
        """Whether its addresses are to be here now: a MASTER may have to wait for them. Does not wait for the loop."""
        return self._state.instances[index].ownership.owned

    def heard(self, index: int) -> int:
        """When a valid advert was heard last (CLOCK_MONOTONIC, ns), 0: never; does not wait for the loop."""
        return self._state.instances[index].suspicion.heard

    def demotion(self, index: int) -> int:
        """The demotion now; does not wait for the loop."""
        return self._state.instances[index].machine.demotion

    def stats(self, index: int) -> Stats:
        """The counters of an instance."""
        return self._on(index, commands.stats)

    def reading(self, index: int) -> Reading:
        """All that is known of an instance."""
        return self._on(index, commands.look)

    # All of it

    def overview(self) -> Overview:
        """What is known of the runtime as a whole; does not wait for the loop."""
        process, watchdog = self._state.guardian.process, self._state.watchdog
        return Overview(
            guardian=None if process is None else process.pid,
            demotion=self._state.demotion,
            aside=self._state.aside,
            watchdog=watchdog.limit,
            fed=watchdog.fed,
            expired=watchdog.expired,
        )

    def demote(self, by: int, index: int | None = None) -> int:
        """Change the demotion of every instance, or of one; returns the new host-wide demotion, or that one's."""
        return self._call(commands.demote, by) if index is None else self._on(index, commands.demote_one, by)

    def stand_aside(self, aside: bool, index: int | None = None) -> None:
        """From now on no instance, here or added later, becomes MASTER by another's advert; or each may again.

        With `index` it is about that one, beside what holds for all.
        """
        if index is None:
            self._call(commands.stand_aside, aside)
        else:
            self._on(index, commands.stand_one_aside, aside)

    def watch(self, limit: int) -> None:
        """From now on `alive` is to be called at least every `limit` ns; 0 ends it."""
        self._call(commands.watch, limit)

    def alive(self) -> None:
        """The program that embeds the engine is well. Does not wait for the loop."""
        self._state.watchdog.fed = time.monotonic_ns()
        if self._state.watchdog.expired:
            self._mailbox.post(lambda: None)

    def tell(self, event: events.Event) -> None:
        """Hand another's event to the consumer of the runtime's, in the order of their time. Waits for nothing."""
        self._others.put(event)
        try:
            self._mailbox.post(self._others.tell)
        except EngineError:
            self._others.tell()

    def measures(self) -> Measures:
        """What the loop measured of itself, since its start."""
        return self._call(commands.measures)

    def close(self) -> None:
        """Stop every instance, see all addresses dropped, close the sockets, end the thread and the guardian."""
        with contextlib.suppress(EngineError):
            self.stop_all()
            self._ask_guardian(Kind.QUIET, 0)
        with contextlib.suppress(EngineError):
            self._call(commands.close)
        self._thread.join()
        self._others.tell()
        if self._state.guardian.process is not None:
            self._state.guardian.process.close()
        self._close_descriptors()
        self._mailbox.close()

    def abandon(self) -> None:
        """Close this process's descriptors without a word on the wire: after a fork the group's affairs are the
        parent's."""
        if self._state.guardian.process is not None:
            self._state.guardian.process.abandon()
        self._close_descriptors()
        self._mailbox.abandon()

    def _close_descriptors(self) -> None:
        self._state.lifeline.close()
        for carpdev in self._state.carpdevs.values():
            carpdev.sockets.close()
        self._state.carpdevs.clear()
        self._state.selector.close()

    def _call(self, command: Command[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._mailbox.call(lambda: command(self._state, time.monotonic_ns(), *args, **kwargs))

    def _on(self, index: int, command: OnInstance[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def run(runtime: RuntimeState, now: int) -> T:
            instance = runtime.instances[index]
            if instance.frozen and command not in _WHILE_FROZEN:
                raise EngineError(HANDED_ON)
            return command(runtime, instance, now, *args, **kwargs)

        return self._call(run)

    def _ask_guardian(self, kind: Kind, index: int) -> Reply:
        """Have the guardian do what it answers in its own time."""
        answer: Outcome[Reply] = Outcome()
        self._call(commands.ask, kind, index, answer)
        try:
            return answer.result(ORDERS_DONE_WITHIN / NS_PER_SECOND)
        except TimeoutError:
            raise EngineError(GUARDIAN_HANGS) from None

    def _await_orders(self, index: int | None, owned: bool) -> None:
        """Wait until the orders of one instance, or of all, are carried out, but not for ever; and until the link of
        a device is down that has had addresses: both keep others waiting who change interfaces on this machine."""
        give_up = time.monotonic_ns() + ORDERS_DONE_WITHIN
        while not self._call(commands.orders_done, index) and time.monotonic_ns() < give_up:
            time.sleep(_ORDERS_LOOK)
        time.sleep(DEVICE_REMOVED_AFTER_DROP / NS_PER_SECOND if owned else 0)

"""Follows the host's rules and routes, and puts back what others removed of ours.

Thread: supervisor
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from .._unpatched import time
from ..errors import CarpError
from ..linux import netlink
from ..linux.capabilities import effective
from ..linux.differences import Differences
from ..linux.fib import Snapshot
from ..linux.routes import TABLES
from ..linux.watch import RouteWatch
from .instances import Instance, Instances

_CHANGES_GATHERED = 0.02
"""Changes come in groups: rules and routes are read once, this many seconds after the first."""
_PAUSE_FACTOR = 9
"""After a survey comes a pause of as many times its length: a daemon that changes a table without end costs a tenth of
one processor at most."""
_RETRIED_AFTER = 0.5
_SETTLED = 1.0
"""A take puts its last routes there within as many seconds."""
_REPAIRS, _REPAIRS_WITHIN, _PAUSE_IN_A_FIGHT = 5, 10.0, 1.0
"""After this many repairs within this many seconds they come once in as many seconds: another program undoes them. The
addresses stay: without rules they answer, only by the carpdev's own MAC."""
_BURST = 10.0
"""What is removed again within this many seconds is told once."""
_LEAST_VALIDITY = 1.0


class Routing:
    """That of all instances of one engine."""

    def __init__(self, instances: Instances, watch: RouteWatch) -> None:
        self._instances = instances
        self._runtime = instances.runtime
        self._watch = watch
        self._due = math.inf
        self._not_before = 0.0
        self._kept: dict[tuple[object, ...], Any] = {}
        self._repairs: deque[float] = deque(maxlen=_REPAIRS + 1)
        self._master_since: dict[int, float] = {}
        self._told: dict[int, float] = {}
        self._refused: set[int] = set()
        self._left_out: dict[int, set[int]] = {}
        self._unfit: set[int] = set()

    def due_in(self) -> float:
        """Seconds until the next survey; infinity where none is due."""
        return math.inf if math.isinf(self._due) else max(self._due, self._not_before) - time.monotonic()

    def note(self, delay: float = _CHANGES_GATHERED) -> None:
        """Something changed that routes depend on."""
        self._due = min(self._due, time.monotonic() + delay)

    def read_notices(self) -> None:
        try:
            changes = self._watch.read()
        except OSError:
            self.note()
            return
        if not changes.others:
            owned = [one for one in self._instances if self._runtime.owns(one.index)]
            addresses = {address.ip for one in owned for address in one.host.addresses}
            # A take removes its rule against sending; at a drop the routes go with the link.
            lost = any(one.device.has_table(table) for one in owned for table in changes.tables)
            if not lost and changes.speaking <= addresses:
                self._watch.rearm()
                return
        self.note()

    def run(self) -> None:
        if self.due_in() <= 0:
            self._due = math.inf
            self.survey()

    def survey(self) -> None:
        """Compare the rules and routes of every instance with what is there, and make what differs."""
        started = time.monotonic()
        repaired = False
        try:
            self._watch.rearm()
            snapshot = Snapshot(self._kept)
            self._kept = snapshot.kept
            allowed = "CAP_NET_ADMIN" in effective()
            for instance in self._instances:
                if instance.present and instance.device.index and instance.stopped_until is None:
                    repaired |= self._follow(instance, snapshot, allowed)
        except (CarpError, OSError) as error:
            for instance in self._instances:
                if instance.index not in self._refused:
                    self._refused.add(instance.index)
                    self._instances.report_failure(instance, f"routes could not be followed: {error}")
            self.note(_RETRIED_AFTER)
        now = time.monotonic()
        self._not_before = now + _PAUSE_FACTOR * (now - started)
        if repaired:
            self._repairs.append(now)
            if self._is_fight(now):
                self._not_before = max(self._not_before, now + _PAUSE_IN_A_FIGHT)

    def _is_fight(self, now: float) -> bool:
        return len(self._repairs) > _REPAIRS and now - self._repairs[0] <= _REPAIRS_WITHIN

    def _follow(self, instance: Instance, snapshot: Snapshot, allowed: bool) -> bool:
        """Returns whether another program had removed something."""
        device = instance.device
        if not allowed:
            return self._follow_without_rights(instance, snapshot)
        master = self._runtime.owns(instance.index)
        changed = device.follow(snapshot)
        found = device.compare(snapshot, master)
        self._tell_left_out(instance)
        self._tell_unfit(instance)
        if changed:
            self._runtime.replan(instance.index, instance.plan, device)
        if found.requests:
            with netlink.RouteSocket() as route:
                route.execute(netlink.batch(*found.requests))
                if self._runtime.owns(instance.index) and not master:
                    # It has become MASTER meanwhile: nothing may keep its addresses silent.
                    route.execute(device.speak)
        if self._runtime.owns(instance.index) is not master:
            self.note()
        if math.isfinite(device.ways.expires):
            self.note(max(device.ways.expires, _LEAST_VALIDITY))
        return not changed and self._tell(instance, found, master)

    def _follow_without_rights(self, instance: Instance, snapshot: Snapshot) -> bool:
        """The program gave up root: the guardian can put back what it was given, and nothing else."""
        device, master = instance.device, self._runtime.owns(instance.index)
        found = device.compare(snapshot, master)
        lost = self._tell(instance, found, master)
        if lost and master:
            self._runtime.retake(instance.index)
        if device.would_change(snapshot) and instance.index not in self._refused:
            self._refused.add(instance.index)
            what = (
                f"the routes of this host changed, and {device.name} does not follow: the program gave up the "
                f"right to change routes; start it anew, or leave it CAP_NET_ADMIN"
            )
            self._instances.report_failure(instance, what)
        return lost

    def _tell_left_out(self, instance: Instance) -> None:
        """Tables that have no counterpart of ours, once."""
        new = instance.device.ways.left_out - self._left_out.get(instance.index, set())
        self._left_out[instance.index] = instance.device.ways.left_out
        if new:
            tables, carpdev = ", ".join(map(str, sorted(new))), instance.device.carpdev.name
            what = (
                f"answers follow {TABLES // 2} routing tables with routes by {carpdev}, and no more: those that table "
                f'{tables} decides leave with the MAC of {carpdev}; look up fewer tables, or use mac="interface"'
            )
            self._instances.report_failure(instance, what)

    def _tell_unfit(self, instance: Instance) -> None:
        """Routes for which the guardian has no room, once. The survey after a take adds them."""
        device = instance.device
        if not device.unfit:
            self._unfit.discard(instance.index)
        elif instance.index not in self._unfit:
            self._unfit.add(instance.index)
            carpdev = device.carpdev.name
            what = (
                f"{device.unfit} routes by {carpdev} are more than the guardian has room for: the engine adds them "
                f"within minutes of a take, and until then answers by them have the MAC of {carpdev}; lead fewer "
                f'routes by it, or use mac="interface"; a program that gave up CAP_NET_ADMIN does not add them'
            )
            self._instances.report_failure(instance, what)

    def _tell(self, instance: Instance, found: Differences, master: bool) -> bool:
        """Whether something was removed that had been there; it is told, once in a burst."""
        now = time.monotonic()
        if not master:
            self._master_since.pop(instance.index, None)
        settled = now - self._master_since.setdefault(instance.index, now) > _SETTLED if master else True
        missing = found.missing if settled and not instance.device.unfit else found.missing - {"routes"}
        if not missing:
            return False
        last = self._told.get(instance.index, -math.inf)
        self._told[instance.index] = now
        if now - last > _BURST:
            lost = " and ".join(sorted(missing, reverse=True))
            self._instances.report_change(instance, f"removed {lost} of {instance.device.name}")
        return True

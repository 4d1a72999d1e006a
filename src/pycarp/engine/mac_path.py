"""Does the LAN let the virtual MAC pass? Port security and hypervisors may drop its frames: nobody hears that MASTER.

A MASTER that can be reached by its own MAC only is told to use ``mac interface``.

Thread: supervisor
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .._records import dataclass
from ..events import Event, VirtualMacFiltered
from ..linux.arp_probe import PathProbe
from ..linux.neighbours import neighbours
from ..protocol import NS_PER_SECOND, State
from ..protocol.frames import virtual_mac

if TYPE_CHECKING:
    from ..protocol.abc import IPAddress, Runtime
    from .instances import Instance

_FIRST = 8 * NS_PER_SECOND
"""A MASTER is that old before it asks: by then switches have learned from its announcements, and who looks at ARP after
a takeover has seen that one host answers."""
_ROUND = NS_PER_SECOND // 2
_NOBODY = 2 * NS_PER_SECOND
"""The next look where the kernel knows no neighbour."""
_RARELY = 60 * NS_PER_SECOND
_MANY_ROUNDS = 20
"""After this many rounds without an outcome only every `_RARELY`."""
_PROOFS = 3
"""So often the neighbour answered our own MAC, and never the virtual one."""
_AT_ONCE = 4
"""Instances of one carpdev that ask in one round."""


@dataclass(slots=True)
class Trial:
    """Of one MASTER. `due`: the next round (ns); `refused`: so many adverts of its vhid had another signature;
    `proofs`: rounds in which only our own MAC was answered."""

    due: int
    refused: int
    rounds: int = 0
    proofs: int = 0
    asked: IPAddress | None = None
    done: bool = False


class MacPaths:
    """`look` is called at every turn of the supervisor's loop. Each MASTER with a virtual MAC asks a neighbour that the
    kernel knows from both MACs, until an answer comes to the virtual one, or until it is clear that none does.

    While a host with another secret sends adverts of the same vhid, nothing is clear: it uses the same MAC, and the
    switch may send the answers there."""

    def __init__(
        self,
        runtime: Runtime,
        emit: Callable[[Event], None],
        make_probe: Callable[[int], PathProbe] = PathProbe,
        known: Callable[[Iterable[int]], list[IPAddress]] = neighbours,  # type: ignore[assignment]
    ) -> None:
        self._runtime = runtime
        self._emit = emit
        self._make_probe = make_probe
        self._known = known
        self._probes: dict[int, PathProbe] = {}
        self._trials: dict[int, Trial] = {}

    def attach(self, carpdev: int) -> None:
        """Open a probe on this carpdev. That needs CAP_NET_RAW, which a program may give up later."""
        self._probes[carpdev] = self._make_probe(carpdev)

    def detach(self, carpdev: int) -> None:
        probe = self._probes.pop(carpdev, None)
        if probe is not None:
            probe.close()

    def look(self, instances: Iterable[Instance], now: int) -> int:
        """Read, ask and report as far as it is due; returns when it is due next (ns)."""
        due = now + _RARELY
        asking: dict[int, list[tuple[Instance, Trial]]] = {}
        for instance in instances:
            trial = self._trial(instance, now)
            if trial is not None and not trial.done:
                asking.setdefault(instance.carpdev.index, []).append((instance, trial))
        for index, probe in self._probes.items():
            trials = asking.get(index, [])
            if not trials:
                probe.stop()
            elif min(trial.due for _instance, trial in trials) <= now:
                self._round(probe, trials, now)
            due = min([due, *(trial.due for _instance, trial in trials if not trial.done)])
        return due

    def _trial(self, instance: Instance, now: int) -> Trial | None:
        """That of a MASTER whose addresses are at a virtual MAC."""
        host = instance.host
        if host.mac != "virtual" or not instance.present or self._runtime.state(instance.index) is not State.MASTER:
            self._trials.pop(instance.index, None)
            return None
        if instance.index not in self._trials:
            self._trials[instance.index] = Trial(now + _FIRST, self._runtime.stats(instance.index).badauth)
        return self._trials[instance.index]

    def _round(self, probe: PathProbe, trials: list[tuple[Instance, Trial]], now: int) -> None:
        answered = probe.answered()
        for instance, trial in trials:
            if trial.asked is None and trial.due > now:
                continue
            refused = self._runtime.stats(instance.index).badauth
            if refused != trial.refused:
                trial.refused, trial.proofs, trial.asked, trial.due = refused, 0, None, now + _FIRST
            if trial.asked is None:
                continue
            if (trial.asked, virtual_mac(instance.host.vhid)) in answered:
                trial.done = True
            elif (trial.asked, instance.carpdev.mac) in answered:
                trial.proofs += 1
                if trial.proofs >= _PROOFS:
                    trial.done = True
                    self._report(instance, trial.asked, now)
            trial.asked = None
        open_trials = [(instance, trial) for instance, trial in trials if not trial.done and trial.due <= now]
        for instance, trial in open_trials[:_AT_ONCE]:
            self._ask(probe, instance, trial, now)

    def _ask(self, probe: PathProbe, instance: Instance, trial: Trial, now: int) -> None:
        host, indexes = instance.host, (instance.carpdev.index, instance.device.index)
        own = {address.ip.version: address.ip for address in reversed(host.addresses)}
        known: list[IPAddress] = []
        with contextlib.suppress(OSError):
            ours = {one.ip for one in host.addresses} | {one.ip for one in instance.carpdev.own_addresses}
            known = [one for one in self._known(indexes) if one.version in own and one not in ours]
        trial.rounds += 1
        trial.due = now + (_RARELY if trial.rounds > _MANY_ROUNDS else _ROUND if known else _NOBODY)
        if not known:
            return
        trial.asked = known[trial.rounds % len(known)]
        with contextlib.suppress(OSError):
            probe.ask_both(instance.carpdev, trial.asked, virtual_mac(host.vhid), own[trial.asked.version])

    def _report(self, instance: Instance, neighbour: IPAddress, now: int) -> None:
        host = instance.host
        self._emit(
            VirtualMacFiltered(
                vhid=host.vhid,
                name=host.name,
                at=now,
                neighbour=str(neighbour),
                mac=virtual_mac(host.vhid).hex(":"),
                carpdev=instance.carpdev.name,
            )
        )

"""Events, and what is reported once only.

Thread: runtime. `emit` must return at once.
"""

from __future__ import annotations

from typing import Any

from ... import events
from ..._unpatched import time
from .state import Instance, RuntimeState


def report(runtime: RuntimeState, instance: Instance | None, kind: type[events.Event], at: int, **fields: Any) -> None:
    """An event of an instance, or of the engine as a whole."""
    host = None if instance is None else instance.plan.host
    vhid, name = (0, "") if host is None else (host.vhid, host.name)
    runtime.emit(kind(vhid=vhid, name=name, at=at, **fields))


def report_demotions(runtime: RuntimeState) -> None:
    """Report the demotions that have changed, once that is due."""
    now = time.monotonic_ns()
    if runtime.demotions_due is None or (now < runtime.demotions_due and not runtime.closing):
        return
    runtime.demotions_due = None
    for instance in list(runtime.instances.values()):
        demotion = instance.machine.demotion
        if demotion != instance.reported.demotion:
            instance.reported.demotion = demotion
            report(runtime, instance, events.Demoted, now, demotion=demotion)

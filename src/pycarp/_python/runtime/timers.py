"""Who is due next: a heap of deadlines.

Thread: runtime.
"""

from __future__ import annotations

import heapq

from .state import Instance, RuntimeState


def schedule(runtime: RuntimeState, instance: Instance) -> None:
    """The instance's deadline may have changed."""
    timers = instance.timers
    dues = (instance.machine.deadline, timers.announce_due, timers.take_due, timers.retry_due, timers.tenure_due)
    due = min((due for due in dues if due is not None and not instance.frozen), default=None)
    if due is not None and due != timers.due and instance.index in runtime.instances:
        heapq.heappush(runtime.heap, (due, instance.index))
    timers.due = due


def next_due(runtime: RuntimeState) -> int | None:
    """When the first instance is due."""
    while runtime.heap and _due(runtime, runtime.heap[0]) is None:
        heapq.heappop(runtime.heap)
    return runtime.heap[0][0] if runtime.heap else None


def pop_due(runtime: RuntimeState, now: int) -> tuple[int, Instance] | None:
    """The first instance that is due, with its deadline; it is to be scheduled again."""
    while runtime.heap and runtime.heap[0][0] <= now:
        timer = heapq.heappop(runtime.heap)
        instance = _due(runtime, timer)
        if instance is not None:
            instance.timers.due = None
            return timer[0], instance
    return None


def _due(runtime: RuntimeState, timer: tuple[int, int]) -> Instance | None:
    """The instance whose deadline this still is."""
    due, index = timer
    instance = runtime.instances.get(index)
    return instance if instance is not None and instance.timers.due == due else None

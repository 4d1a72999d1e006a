"""Events of others than the runtime, told in the order of their time.

Thread: `put`, any caller; `tell`, the one that tells of the runtime's events, and any caller once that has ended
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable

from ..events import Event


class Others:
    """They wait until the runtime's own events of an earlier time are told: those are some 100 us on their way."""

    def __init__(self, emit: Callable[[Event], object]) -> None:
        self._emit = emit
        self._waiting: deque[Event] = deque()

    def put(self, event: Event) -> None:
        self._waiting.append(event)

    def tell(self, until: int = sys.maxsize) -> None:
        """Those of a time up to `until`, in the order in which they came."""
        try:
            while self._waiting[0].at <= until:
                self._emit(self._waiting.popleft())
        except IndexError:
            pass  # there are no more, or another thread has told the last one

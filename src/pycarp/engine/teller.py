"""Events of others than the runtime, told in the order of their time.

Thread: any but the runtime's own
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from .._records import replace
from .._unpatched import threading, time
from ..errors import EngineError
from ..events import Event
from ..protocol.abc import Runtime


class Teller:
    """The runtime's events come from a queue, some 100 us late: who tells of another one lets them pass first.

    Its time is then the moment at which it is told.
    """

    def __init__(self, runtime: Runtime, emit: Callable[[Event], None]) -> None:
        self._runtime = runtime
        self._emit = emit
        self._turn = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._turn:
            with contextlib.suppress(EngineError):  # it has ended, and tells nothing more
                self._runtime.catch_up()
            self._emit(replace(event, at=max(event.at, time.monotonic_ns())))

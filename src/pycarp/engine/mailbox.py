"""Calls from other threads into a loop (supervisor, Python runtime), with a descriptor that wakes it.

Thread: any caller; `work`: supervisor, runtime
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .._unpatched import threading
from ..errors import EngineError

T = TypeVar("T")


class Outcome(Generic[T]):
    """What a call comes to, once. As `concurrent.futures.Future`, which would load logging and five more modules."""

    def __init__(self) -> None:
        self._settled = threading.Event()
        self._value: T
        self._error: BaseException | None = None
        self._then: Callable[[Outcome[T]], object] | None = None

    def result(self, timeout: float | None = None) -> T:
        """What came of it: returned, or raised. `TimeoutError` where nothing has."""
        if not self._settled.wait(timeout):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value

    def exception(self) -> BaseException | None:
        """What was raised, once it has come to something."""
        self._settled.wait()
        return self._error

    def done(self) -> bool:
        return self._settled.is_set()

    def set_result(self, value: T) -> None:
        self._value = value
        self._settle()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._settle()

    def _settle(self) -> None:
        self._settled.set()
        if self._then is not None:
            self._then(self)


class Mailbox:
    """The loop selects on `fileno()` and calls `work()`; other threads `call` and wait, or `post` and do not wait."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._calls: deque[tuple[Callable[[], Any], Outcome[Any]]] = deque()
        self._open = True

    def fileno(self) -> int:
        return self._fd

    def call(self, function: Callable[[], T]) -> T:
        """Have the loop call it: returns what it returns, raises what it raises, or `EngineError` if the loop ended."""
        return self.post(function).result()

    def post(self, function: Callable[[], T], then: Callable[[Outcome[T]], object] | None = None) -> Outcome[T]:
        """Have the loop call it, without waiting; `then` gets the outcome, in the loop's thread."""
        outcome: Outcome[T] = Outcome()
        outcome._then = then
        with self._lock:
            if not self._open:
                raise EngineError("the engine is not running")
            self._calls.append((function, outcome))
            os.eventfd_write(self._fd, 1)
        return outcome

    def work(self) -> None:
        """In the loop: carry out the calls that have come so far."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        for _ in range(len(self._calls)):
            if not self._calls:
                return  # one of the calls has closed it
            function, outcome = self._calls.popleft()
            try:
                outcome.set_result(function())
            except BaseException as error:
                outcome.set_exception(error)

    def close(self) -> None:
        """Take no more calls; those that are left fail."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            os.close(self._fd)
        while self._calls:
            _, outcome = self._calls.popleft()
            outcome.set_exception(EngineError("the engine is not running"))

    def abandon(self) -> None:
        """In a forked child, where the thread that holds the lock may not exist: only close the descriptor."""
        if self._open:
            self._open = False
            os.close(self._fd)

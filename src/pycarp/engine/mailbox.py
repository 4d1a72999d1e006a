"""Calls from other threads into a loop (supervisor, Python runtime), with a descriptor that wakes it.

Thread: any caller; `work`: supervisor, runtime
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from .._unpatched import futures, threading
from ..errors import EngineError

T = TypeVar("T")


class Mailbox:
    """The loop selects on `fileno()` and calls `work()`; other threads `call` and wait, or `post` and do not wait."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._calls: deque[tuple[Callable[[], Any], futures.Future[Any]]] = deque()
        self._open = True

    def fileno(self) -> int:
        return self._fd

    def call(self, function: Callable[[], T]) -> T:
        """Have the loop call it: returns what it returns, raises what it raises, or `EngineError` if the loop ended."""
        return self.post(function).result()

    def post(self, function: Callable[[], T]) -> futures.Future[T]:
        """Have the loop call it, without waiting."""
        future: futures.Future[T] = futures.Future()
        with self._lock:
            if not self._open:
                raise EngineError("the engine is not running")
            self._calls.append((function, future))
            os.eventfd_write(self._fd, 1)
        return future

    def work(self) -> None:
        """In the loop: carry out the calls that have come so far."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        for _ in range(len(self._calls)):
            if not self._calls:
                return  # one of the calls has closed it
            function, future = self._calls.popleft()
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

    def close(self) -> None:
        """Take no more calls; those that are left fail."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            os.close(self._fd)
        while self._calls:
            _, future = self._calls.popleft()
            future.set_exception(EngineError("the engine is not running"))

    def abandon(self) -> None:
        """In a forked child, where the thread that holds the lock may not exist: only close the descriptor."""
        if self._open:
            self._open = False
            os.close(self._fd)

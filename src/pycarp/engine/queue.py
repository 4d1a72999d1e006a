"""The queue of events between the engine's threads and their consumer. No thread of the engine waits for a consumer.

Thread: any caller
"""

from __future__ import annotations

import os
from collections import deque

from .._records import replace
from .._unpatched import patched, threading, time, wait_as_program
from ..events import Event, EventsLost


class EventQueue:
    """A bounded queue of events. When it is full the oldest are dropped, counted, and reported as `EventsLost`."""

    def __init__(self, capacity: int) -> None:
        self._fd: int | None = None
        if capacity < 1:
            raise ValueError(f"a queue of {capacity} events holds none: give 1 or more")
        self._capacity = capacity
        self._items: deque[Event] = deque()
        self._lost = 0
        self._taken_at = 0
        self._closed = False
        self._ready = threading.Condition(threading.Lock())

    def put(self, event: Event) -> None:
        """Add an event in the order of `at`; after `close` it is discarded. Never blocks on a consumer."""
        with self._ready:
            if self._closed:
                return
            if len(self._items) == self._capacity:
                self._items.popleft()
                self._lost += 1
            self._insert(event)
            self._signal()
            self._ready.notify()

    def _insert(self, event: Event) -> None:
        """By its time, among those that nobody has taken yet: several threads report, each a little late.

        One that comes later still, by some us, has the time of the last that was taken.
        """
        if event.at < self._taken_at:
            event = replace(event, at=self._taken_at)
        at = len(self._items)
        while at and self._items[at - 1].at > event.at:
            at -= 1
        self._items.insert(at, event)

    def get(self, timeout: float | None = None) -> Event | None:
        """The next event; None when the queue is closed and empty, or when `timeout` seconds have passed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._ready:
            while not self._items:
                left = None if deadline is None else deadline - time.monotonic()
                if self._closed or (left is not None and left <= 0):
                    return None
                self._ready.wait(left)
            return self._pop()

    def get_for_program(self, timeout: float | None = None) -> Event | None:
        """As `get`, for a thread of the program: under gevent and eventlet, other greenlets run meanwhile."""
        if not patched():
            return self.get(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while (event := self.get(0)) is None and not self._closed:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            wait_as_program(self.fileno(), left)
        return event or self.get(0)

    def fileno(self) -> int:
        """A descriptor that is readable while events wait or the queue is closed.

        It is the queue's: do not read or close it.
        """
        with self._ready:
            if self._fd is None:
                self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                if self._items or self._closed:
                    self._signal()
            return self._fd

    @property
    def closed(self) -> bool:
        """Whether no more events come."""
        return self._closed

    def close(self) -> None:
        """Take no more events; consumers get those that are left, then None."""
        with self._ready:
            self._closed = True
            self._signal()
            self._ready.notify_all()

    def close_descriptor(self) -> None:
        """Call it when nothing waits on it any longer."""
        with self._ready:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def abandon(self) -> None:
        """In a forked child, where the thread that holds the lock may not exist: only close the descriptor."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __del__(self) -> None:
        # Of an engine that was never started, or asked for its descriptor after the stop.
        self.abandon()

    def _signal(self) -> None:
        if self._fd is not None:
            os.eventfd_write(self._fd, 1)

    def _pop(self) -> Event:
        if self._lost:
            lost, self._lost = self._lost, 0
            return EventsLost(vhid=0, name="", at=self._items[0].at, count=lost)
        event = self._items.popleft()
        self._taken_at = event.at
        if not self._items and not self._closed and self._fd is not None:
            os.eventfd_read(self._fd)
        return event

"""Signals that end a command, or must not, while a context lasts."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any, NoReturn


def interrupt(*_: Any) -> NoReturn:
    """The handler of a signal that ends the command as Ctrl-C does."""
    raise KeyboardInterrupt


@contextlib.contextmanager
def on_signals(handler: Callable[..., Any] | signal.Handlers, *names: str) -> Iterator[None]:
    """Signals of these names go to `handler`; a system that does not have one goes without it."""
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    former = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, each in zip(numbers, former, strict=True):
            signal.signal(number, each)

"""A forked child runs none of its parent's engines.

A fork copies descriptors, and with them locks and group memberships: the child closes them.

Thread: any caller
"""

from __future__ import annotations

import os
import weakref

TYPE_CHECKING = False  # importing typing would take longer than this module
if TYPE_CHECKING:
    from .engine import Engine

_running: weakref.WeakSet[Engine] = weakref.WeakSet()


def keep(engine: Engine) -> None:
    """It runs: a child that is forked from now on abandons its copy."""
    _running.add(engine)


def forget(engine: Engine) -> None:
    _running.discard(engine)


def _after_fork_in_child() -> None:
    for engine in list(_running):
        engine._abandon()
    _running.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)

"""Calls into another thread's loop, and what becomes of those that come too late."""

from __future__ import annotations

import os
import select
import threading

import pytest

from pycarp import EngineError
from pycarp.engine.mailbox import Mailbox


def test_a_letter_that_closes_the_box_is_the_last() -> None:
    box = Mailbox()
    closing, late = box.post(box.close), box.post(lambda: 1)
    box.work()
    assert closing.result(0) is None
    with pytest.raises(EngineError, match="not running"):
        late.result(0)
    with pytest.raises(EngineError, match="not running"):
        box.post(lambda: 1)


def test_a_forked_child_waits_for_no_lock() -> None:
    """The thread that held it at the fork does not exist there."""
    box = Mailbox()
    number = box.fileno()
    assert box._lock.acquire()
    thread = threading.Thread(target=box.abandon, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    with pytest.raises(OSError):
        os.fstat(number)
    box._lock.release()
    box.close()


def test_the_loop_is_woken() -> None:
    box = Mailbox()
    box.post(lambda: 1)
    assert select.select([box], [], [], 0)[0]
    box.work()
    assert not select.select([box], [], [], 0)[0]
    box.close()

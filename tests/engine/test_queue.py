"""The bounded queue between the engine's threads and whoever reads its events."""

from __future__ import annotations

import gc
import os
import select
import threading
import time

import pytest

from pycarp import Event, Reason, State, events
from pycarp.engine.queue import EventQueue
from pycarp.engine.teller import Others


def event(number: int) -> Event:
    return events.Demoted(vhid=101, name="carp0", at=number, demotion=number)


def readable(queue: EventQueue) -> bool:
    return bool(select.select([queue.fileno()], [], [], 0)[0])


def test_events_come_out_as_they_went_in() -> None:
    queue = EventQueue(8)
    for number in range(5):
        queue.put(event(number))
    assert [queue.get(0) for _ in range(5)] == [event(number) for number in range(5)]
    assert queue.get(0) is None
    assert queue.get(0) is None


def test_the_oldest_go_and_are_counted() -> None:
    queue = EventQueue(3)
    for number in range(10):
        queue.put(event(number))
    lost = queue.get(0)
    assert lost == events.EventsLost(vhid=0, name="", at=7, count=7)
    assert [queue.get(0) for _ in range(4)] == [event(7), event(8), event(9), None]
    queue.put(event(10))
    assert queue.get(0) == event(10), "what was told once is not told again"


def test_a_queue_of_one() -> None:
    queue = EventQueue(1)
    queue.put(event(1))
    queue.put(event(2))
    assert queue.get(0) == events.EventsLost(vhid=0, name="", at=2, count=1)
    assert queue.get(0) == event(2)


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_queue_of_none(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"a queue of {capacity} events holds none"):
        EventQueue(capacity)


def test_what_is_left_can_be_read_after_the_close() -> None:
    queue = EventQueue(8)
    queue.put(event(1))
    queue.close()
    queue.put(event(2))
    assert queue.get() == event(1)
    assert queue.get() is None, "without a timeout, and it does not wait"


def test_a_timeout_is_kept() -> None:
    queue = EventQueue(8)
    before = time.monotonic()
    assert queue.get(0.05) is None
    assert 0.05 <= time.monotonic() - before < 2


def test_a_waiting_reader_is_woken() -> None:
    queue = EventQueue(8)
    found: list[Event | None] = []
    reader = threading.Thread(target=lambda: found.extend((queue.get(5), queue.get(5))))
    reader.start()
    queue.put(event(1))
    queue.close()
    reader.join()
    assert found == [event(1), None]


def test_all_readers_see_the_end_and_each_event_goes_to_one() -> None:
    queue = EventQueue(1000)
    found: list[Event] = []

    def read() -> None:
        while (one := queue.get()) is not None:
            found.append(one)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(500):
        queue.put(event(number))
    queue.close()
    for reader in readers:
        reader.join()
    assert sorted(one.at for one in found) == list(range(500))


def test_the_descriptor_follows_the_content() -> None:
    queue = EventQueue(3)
    queue.put(event(0))
    assert readable(queue), "asked for after the event"
    assert queue.get(0) and not readable(queue)
    for number in range(5):
        queue.put(event(number))
    for _ in range(4):  # EventsLost, and three events
        assert readable(queue)
        assert queue.get(0) is not None
    assert not readable(queue)
    queue.close()
    assert readable(queue), "the end is news as well"
    assert queue.get(0) is None
    assert readable(queue)
    queue.close_descriptor()
    queue.close_descriptor()


def test_a_descriptor_first_asked_for_after_the_close() -> None:
    queue = EventQueue(3)
    queue.close()
    assert readable(queue)
    queue.close_descriptor()


def test_the_descriptor_does_not_pass_to_programs() -> None:
    queue = EventQueue(3)
    assert not os.get_inheritable(queue.fileno())
    queue.close_descriptor()


def test_a_forgotten_queue_leaves_no_descriptor() -> None:
    queue = EventQueue(3)
    number = queue.fileno()
    del queue
    gc.collect()
    with pytest.raises(OSError):
        os.fstat(number)


def test_writers_in_many_threads() -> None:
    queue = EventQueue(100)

    def write() -> None:
        for number in range(1000):
            queue.put(event(number))

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    queue.close()
    seen = lost = 0
    while (one := queue.get(0)) is not None:
        if isinstance(one, events.EventsLost):
            lost += one.count
        else:
            seen += 1
    assert (seen, seen + lost) == (100, 4000)


def test_events_as_plain_values() -> None:
    change = events.StateChanged(
        vhid=101,
        name="carp0",
        at=5,
        before=State.BACKUP,
        after=State.MASTER,
        reason=Reason.BOWOUT,
        peer="10.0.0.1",
    )
    assert change.as_dict() == {
        "event": "StateChanged", "vhid": 101, "name": "carp0", "at": 5, "before": "BACKUP", "after": "MASTER",
        "reason": "the master bowed out", "peer": "10.0.0.1",
    }  # fmt: skip
    taken = events.AddressesTaken(vhid=101, name="carp0", at=5, addresses=("10.0.0.1/24",), took=7)
    assert taken.as_dict()["addresses"] == ["10.0.0.1/24"]
    with pytest.raises(AttributeError):
        change.at = 6  # type: ignore[misc]


def test_events_that_wait_are_in_the_order_of_their_time() -> None:
    queue = EventQueue(3)
    for at in (5, 9, 7):
        queue.put(events.GuardianReplaced(vhid=0, name="", at=at))
    first = queue.get(0)
    queue.put(events.GuardianReplaced(vhid=0, name="", at=4))
    queue.put(events.GuardianReplaced(vhid=0, name="", at=9))
    left = [queue.get(0) for _ in range(4)]
    assert first is not None and first.at == 5
    assert [(type(event).__name__, event.at) for event in left if event is not None] == [
        ("EventsLost", 7), ("GuardianReplaced", 7), ("GuardianReplaced", 9), ("GuardianReplaced", 9),
    ]  # fmt: skip


def test_an_event_that_comes_too_late_has_the_time_of_the_last_that_was_told() -> None:
    queue = EventQueue(8)
    queue.put(event(5))
    assert queue.get(0) == event(5)
    queue.put(event(4))
    queue.put(event(6))
    told = [queue.get(0), queue.get(0)]
    assert [(one.at, one.demotion) for one in told if isinstance(one, events.Demoted)] == [(5, 4), (6, 6)]


def test_what_others_tell_waits_for_its_time() -> None:
    told: list[Event] = []
    others = Others(told.append)
    for number in (3, 5, 4, 9):
        others.put(event(number))
    others.tell(4)
    assert told == [event(3)], "they do not overtake each other"
    others.tell(5)
    assert told == [event(3), event(5), event(4)]
    others.tell()
    others.tell()
    assert told == [event(3), event(5), event(4), event(9)]

"""How often an instance is repaired, and how long its pauses are."""

from __future__ import annotations

from pycarp.engine.backoff import Backoff


def test_five_repairs_in_ten_seconds_are_made() -> None:
    backoff = Backoff()
    assert [backoff.count(1000 + number) for number in range(6)] == [False] * 5 + [True]


def test_what_happens_seldom_is_always_repaired() -> None:
    backoff = Backoff()
    assert not any(backoff.count(1000 + 2.1 * number) for number in range(100))


def test_pauses_grow_to_five_minutes() -> None:
    backoff, now, pauses = Backoff(), 1000.0, []
    for _ in range(8):
        pauses.append(backoff.pause(now))
        now += pauses[-1] + 1
    assert pauses == [10, 20, 40, 80, 160, 300, 300, 300]


def test_after_a_time_without_pauses_the_next_is_short_again() -> None:
    backoff = Backoff()
    assert [backoff.pause(1000), backoff.pause(1015)] == [10, 20]
    assert backoff.pause(1035 + 39) == 40
    assert backoff.pause(1114 + 81) == 10


def test_a_pause_forgets_what_was_counted() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.count(1000)
    backoff.pause(1000)
    assert [backoff.count(1010) for _ in range(5)] == [False] * 5

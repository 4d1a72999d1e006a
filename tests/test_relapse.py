"""How often something is put back, and how long is stood back after that."""

from __future__ import annotations

from pycarp._relapse import Relapses


def test_five_times_in_ten_seconds_are_put_back() -> None:
    relapses = Relapses()
    assert [relapses.count(1000 + number) for number in range(6)] == [False] * 5 + [True]


def test_what_happens_seldom_is_always_put_back() -> None:
    relapses = Relapses()
    assert not any(relapses.count(1000 + 2.1 * number) for number in range(100))


def test_pauses_grow_to_five_minutes() -> None:
    relapses, now, pauses = Relapses(), 1000.0, []
    for _ in range(8):
        pauses.append(relapses.pause(now))
        now += pauses[-1] + 1
    assert pauses == [10, 20, 40, 80, 160, 300, 300, 300]


def test_after_a_calm_time_the_pause_is_short_again() -> None:
    relapses = Relapses()
    assert [relapses.pause(1000), relapses.pause(1015)] == [10, 20]
    assert relapses.pause(1035 + 39) == 40
    assert relapses.pause(1114 + 81) == 10


def test_standing_back_forgets_what_was_counted() -> None:
    relapses = Relapses()
    for _ in range(5):
        relapses.count(1000)
    relapses.pause(1000)
    assert [relapses.count(1010) for _ in range(5)] == [False] * 5

"""How long an address may live without its owner's word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycarp.protocol import NS_PER_SECOND, NS_PER_SKEW
from pycarp.protocol.timing import lease, no_lease, takeover_after


@pytest.mark.parametrize(
    "advbase, advskew, least, seconds",
    [
        (1, 0, 1, 2),
        (1, 100, 1, 2),
        (1, 230, 1, 2),
        (1, 231, 1, None),  # 3 s would end after the others' takeover
        (1, 240, 1, None),  # demoted
        (2, 0, 2, 3),
        (2, 240, 2, 4),
        (2, 0, 1, None),  # somebody in the group is in more of a hurry
        (5, 240, 5, 7),
        (254, 254, 254, 256),
        (0, 10, 0, None),
    ],
)
def test_the_fewest_whole_seconds(advbase: int, advskew: int, least: int, seconds: int | None) -> None:
    assert lease(advbase * NS_PER_SECOND + advskew * NS_PER_SKEW, least) == seconds


@given(st.integers(0, 254), st.integers(0, 254), st.integers(0, 254))
def test_it_lasts_and_it_ends(advbase: int, advskew: int, least: int) -> None:
    """Until the next advert, 0.1 s late; and before anybody takes over, even if the kernel is 0.98 s late."""
    interval = advbase * NS_PER_SECOND + advskew * NS_PER_SKEW
    seconds = lease(interval, least)
    if seconds is None:
        needed = -(-(interval + 100_000_000) // NS_PER_SECOND)
        assert needed * NS_PER_SECOND + 980_000_000 >= 3 * least * NS_PER_SECOND
    else:
        assert interval + 100_000_000 <= seconds * NS_PER_SECOND < 3 * least * NS_PER_SECOND - 980_000_000
        assert (seconds - 1) * NS_PER_SECOND < interval + 100_000_000


def test_others_wait_for_three_intervals() -> None:
    assert takeover_after(1, 200) == 3 * NS_PER_SECOND
    assert takeover_after(0, 64) == 3 * NS_PER_SECOND // 4


def test_why_there_is_none() -> None:
    assert no_lease(1_937_500_000, 1).startswith(
        "adverts every 1.94 s and a smallest advbase of 1 leave no whole second"
    )

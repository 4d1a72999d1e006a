"""How long an address lives without a new word from its owner, and how long an owner may be silent.

Times of a host's own are integer nanoseconds. The native runtime does the same sums.
"""

from __future__ import annotations

from . import NS_PER_SECOND, NS_PER_SKEW

FOREVER = 0xFFFFFFFF
"""The lifetime of an address that the kernel never removes by itself."""
_SLACK = 100_000_000
"""A renewal comes with the next advert, at most so late."""
_LATENESS = 980_000_000
"""The kernel's timer for lifetimes is deferrable: a busy machine ends a lease so late, an idle one later yet."""


def lease(interval: int, advbase: int) -> int | None:
    """The fewest whole seconds (the kernel counts no others) that last until the next renewal.

    None where they would not end before other hosts take over: after three times the smallest `advbase` of the group,
    in seconds.
    """
    seconds = -(-(interval + _SLACK) // NS_PER_SECOND)
    return seconds if seconds * NS_PER_SECOND + _LATENESS < 3 * advbase * NS_PER_SECOND else None


def patience(advbase: int, advskew: int) -> int:
    """After so many ns of our silence another host of the group may have taken over."""
    return 3 * advbase * NS_PER_SECOND if advbase else 3 * advskew * NS_PER_SKEW


def no_lease(interval: int, advbase: int) -> str:
    """One sentence for those whose intervals leave no room for a lease."""
    return (
        f"adverts every {interval / NS_PER_SECOND:.3g} s and a smallest advbase of {advbase} leave no whole second "
        "that lasts from one advert to the next and ends before others take over: the guardian alone lets go of the "
        "addresses"
    )

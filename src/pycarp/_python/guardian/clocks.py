"""The two clocks whose difference shows a suspend: the twin of `ext/guardian/clocks.h`.

The time limits are `pycarp.protocol.timing`'s, which the program does not import; a test compares them.
Thread: any.
"""

import time

NS_PER_SECOND = 1_000_000_000
NS_PER_MS = 1_000_000

BOWOUT_AFTER_DROP = 300_000
LINK_DOWN_AFTER_DROP = 50 * NS_PER_MS
LATE_AFTER_TAKE = 10 * NS_PER_MS
LEASE_MAY_BE_OVER = 900 * NS_PER_MS
NOTICES_AT_ONCE = 20
NOTICE_SPACING = 25 * NS_PER_MS
TAKE_WAITS_AT_MOST = 50 * NS_PER_MS
LINK_WAITS_AT_MOST = 5 * NS_PER_SECOND
LISTENERS_LOOKED_AT_AGAIN = NS_PER_MS
LISTENER_STUCK_AFTER = NS_PER_SECOND
GUARDIAN_WOKEN_LATE = 5 * NS_PER_MS
GUARDIAN_WOKEN_LATE_ALLOWANCE = 20 * NS_PER_MS

monotonic = time.monotonic_ns


def boottime() -> int:
    """Goes on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def sleep_until(when: int) -> None:
    left = when - monotonic()
    if left > 0:
        time.sleep(left / NS_PER_SECOND)

"""The socket between engine and guardian: the twin of `ext/guardian/protocol.h`, with which a test compares it.

Thread: any caller.
"""

from struct import Struct

ORDER_TAKE, ORDER_RENEW, ORDER_DROP, ORDER_BEAT, ORDER_ADD, ORDER_FORGET, ORDER_QUIET, ORDER_REMOVE, ORDER_RESTORE = (
    range(9)
)
REPLY_HELLO, REPLY_RELEASED = 16, 17

LEASE_FOREVER = 0xFFFFFFFF
"""A lease that does not end."""
ORDER_NOBODY = 0xFFFFFFFF
"""The index of no instance: an order for it is answered at once."""
REPLY_SUPERSEDED = 1
"""A reply's flag: another order came before this one could be carried out."""

WATCH_PORT, WATCH_PORT_MASK = 0x70630000, 0xFFFF0000
"""The ports of engines' own netlink sockets that hear of addresses begin so. They have much room, and nobody waits for
them. The kernel chooses no such port."""

ORDER = Struct("=BBHIqIIIIq")
"""kind, flags, 0, index, at (CLOCK_MONOTONIC, ns), lease (s; with a gate ms), next_beat_ms, takeover_after_ms, number,
boot (CLOCK_BOOTTIME of `at`, ns)."""
REPLY = Struct("=BBHIiIqqQ")
"""kind, flags, 0, index, error, number, started, finished (CLOCK_MONOTONIC, ns), extra."""

BATCH_TAKE, BATCH_RENEW, BATCH_DROP, BATCH_MUTE, BATCH_REMOVE, BATCH_RESTORE, BATCH_LATE, BATCH_UP, BATCHES = range(9)

DESCRIPTION = Struct("=7I9I")
"""The head of the memory that comes with ORDER_ADD: version, index, essential, link, ipv6, number of frames, length of
what is said of the gate; lengths of the batches and of all frames, which follow in this order, and the gate last."""
DESCRIPTION_VERSION = 4
FRAME_LENGTH = Struct("=H")
"""Stands before each frame."""

KEY_WHAT, KEY_LENGTH = 16, 60
"""A key is a frame with which the guardian opens and shuts a gate; at KEY_WHAT stands what it asks for."""
KEY_SHUT, KEY_DISARM, KEY_FIRST_STEP = range(3)
GATE_LAST = 1
"""The number of the last request of a transaction."""
GATE_DESCRIPTION = Struct("=5I60s")
"""The head of what is said of a gate: the interface that keys go by, whether it was made, the number of steps, the
lengths of two transactions, the key. The steps (ms, from the shortest, 32 bits each) and the transactions follow."""

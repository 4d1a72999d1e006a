"""The protocol's numbers, names, states and actions: the words that both implementations share.

Nothing here computes; `_python` and `ext` do, and both speak in these types.
"""

from __future__ import annotations

from enum import Enum, IntEnum

from .._records import dataclass

TYPE_CHECKING = False  # importing typing would take longer than this module
if TYPE_CHECKING:
    from .choices import Standing

IPPROTO_CARP = 112
CARP_VERSION = 2
CARP_TYPE_ADVERTISEMENT = 1
CARP_AUTHLEN = 7
CARP_HEADER_LENGTH = 36
CARP_TTL = 255
GROUP_IPV4 = "224.0.0.18"
GROUP_IPV6 = "ff02::12"
GROUPS = {4: bytes((224, 0, 0, 18)), 6: bytes((0xFF, 2, *(0,) * 13, 0x12))}
"""The same, packed, by family."""
BOWOUT = 255
"""advbase and advskew of a bow-out."""
SUPPRESSED_ADVSKEW = 240
"""While demoted, the advskew sent and compared is at least this (NetBSD `carp_send_ad_state`)."""

NS_PER_SECOND = 1_000_000_000
NS_PER_SKEW = NS_PER_SECOND // 256
"""One unit of advskew: 3,906,250 ns exactly."""

DIALECT_BSD = "bsd"
DIALECT_NETBSD = "netbsd"
DIALECT_OPENBSD = "openbsd"
NEXT = "next-"
"""Before the name of a dialect: with the secret and the addresses that hold after a change."""
DIALECTS = (
    DIALECT_BSD,
    DIALECT_NETBSD,
    DIALECT_OPENBSD,
    *(NEXT + one for one in (DIALECT_BSD, DIALECT_NETBSD, DIALECT_OPENBSD)),
)
SPOKEN = ("old", "both", "new")
"""During a change of the secret or the addresses: with which an instance signs."""


class State(IntEnum):
    """The three states of carp(4), with the kernel's numbers."""

    INIT = 0
    BACKUP = 1
    MASTER = 2

    def __str__(self) -> str:
        return self.name


class Reason(str, Enum):
    """Why a virtual host changed its state."""

    STARTED = "started"
    STOPPED = "administratively down"
    LINK_DOWN = "link down"
    LINK_UP = "link up"
    MASTER_DOWN = "master-down timer expired"
    BOWOUT = "the master bowed out"
    TOO_SLOW = "the master advertises too slowly"
    PREEMPT = "preempted a slower master"
    DEMOTED = "the master is more demoted"
    BETTER = "a better master was heard"
    TIE = "an equal master was heard"
    FORCED = "forced"
    STALLED = "stalled"
    WATCHDOG = "watchdog"
    SIBLING = "sibling"
    HANDED_OVER = "handed over"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Advert:
    """One CARP advertisement as it stood on the wire, whoever sent it.

    `family` is 4 or 6; `source` and `destination` are IP addresses as text; `source_mac` is six bytes (empty when the
    advert did not come in an Ethernet frame); `demotion` is the byte that NetBSD, FreeBSD and UCarp call pad.
    """

    family: int
    source: str
    destination: str
    source_mac: bytes
    version: int
    type: int
    vhid: int
    advskew: int
    authlen: int
    demotion: int
    advbase: int
    counter: bytes
    digest: bytes

    @property
    def bowout(self) -> bool:
        return self.advbase == BOWOUT and self.advskew == BOWOUT

    @property
    def interval(self) -> int:
        """The interval that the advert promises, in nanoseconds."""
        return self.advbase * NS_PER_SECOND + self.advskew * NS_PER_SKEW


@dataclass(frozen=True, slots=True)
class SendAdvert:
    """Send one advert in each family that the virtual host has; 255/255 is a bow-out.

    `pace` is the code of what its counter says (`timing.PACES`). One `between` those of its interval counts for nothing
    else: a failure is no reason to demote this host.
    """

    advbase: int
    advskew: int
    pace: int = 0
    between: bool = False


@dataclass(frozen=True, slots=True)
class Announce:
    """Send one gratuitous ARP for each IPv4 address and one unsolicited neighbour advertisement for each IPv6
    address."""


@dataclass(frozen=True, slots=True)
class Take:
    """Put the addresses on this host."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Take the addresses off this host."""


@dataclass(frozen=True, slots=True)
class Transition:
    """The state changed. `peer` is the source address (as claimed) of the advert that caused it, or None."""

    before: State
    after: State
    reason: Reason
    peer: str | None
    at: int


@dataclass(frozen=True, slots=True)
class Suppress:
    """This virtual host's trouble demotes (by > 0) or no longer demotes (by < 0) every *other* one on this host.

    The machine that returns it has counted it for itself already (NetBSD `carp_suppress_preempt`).
    """

    by: int


@dataclass(frozen=True, slots=True)
class FamilySilent:
    """The master is still heard in the other family, but no longer in this one (4 or 6): not a takeover."""

    family: int


STANDINGS: tuple[Standing, ...] = ("yield", "prefer", "stalemate", "several", "warn")


@dataclass(frozen=True, slots=True)
class SiblingFound:
    """Hosts of another vhid have our addresses, so they are no part of our group. Told once, and when it changes.

    `vhid` is theirs, `peer` who was heard (as claimed). `standing` is what comes of it here: "yield" (theirs is the
    higher vhid: they own the addresses while they are heard), "prefer" (ours is: they have to let go first),
    "stalemate" (they do not let go: we hold no address while they are heard), "several" (two other vhids at least:
    nobody arbitrates) or "warn" (the same by configuration).
    """

    vhid: int
    standing: Standing
    peer: str | None


Action = SendAdvert | Announce | Take | Drop | Transition | Suppress | FamilySilent | SiblingFound

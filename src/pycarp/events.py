"""What an engine tells its owner: frozen dataclasses that say what happened, when, why, and which peer caused it."""

from __future__ import annotations

from enum import Enum

from . import sentences
from ._records import dataclass, fields
from .event_log import log as log
from .protocol import BOWOUT, Reason, State

TYPE_CHECKING = False  # importing typing would take longer than this module
if TYPE_CHECKING:
    from typing import Any, ClassVar, Literal

    from ._types import Severity as Severity

GUARDIAN_DIED = sentences.GUARDIAN_DIED
deaf_advice = sentences.deaf_advice
no_other_guardian = sentences.no_other_guardian
not_sent = sentences.not_sent
order_failed = sentences.order_failed
sibling_advice = sentences.sibling_advice


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class BaseEvent:
    """`vhid` and `name` (of the interface, "carp0") say whom it concerns; `at` is CLOCK_MONOTONIC in ns.

    What concerns the engine as a whole has vhid 0 and an empty name. Every `peer` is the source address that an advert
    claimed; nothing proves it. A view needs only `severity`, `text` and `as_dict`: none knows the kinds of events.
    """

    if TYPE_CHECKING:
        severity: ClassVar[Severity]
    else:
        severity = "news"
    says: ClassVar[str] = ""
    """The sentence of `text`, with the event's fields in braces."""
    vhid: int
    name: str
    at: int

    def __init_subclass__(cls, severity: Severity | None = None, says: str | None = None) -> None:
        # None also where the dataclass makes the class once more, for its slots.
        cls.severity, cls.says = severity or cls.severity, says or cls.says

    # Once for all events: twenty dataclasses that make their own cost every import some ms.

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._values().items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaseEvent) and type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(tuple(self._values().values()))

    def _values(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def text(self) -> str:
        """What happened, in one sentence without the name of the virtual host."""
        return self.says.format_map({name: sentences.shown(name, value) for name, value in self._values().items()})

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the event's name first."""
        values: dict[str, Any] = {"event": type(self).__name__}
        for name, value in self._values().items():
            if isinstance(value, State):
                value = value.name
            elif isinstance(value, Enum):
                value = value.value
            elif isinstance(value, tuple):
                value = list(value)
            values[name] = value
        return values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StateChanged(BaseEvent):
    """The virtual host moved from one state to another."""

    before: State
    after: State
    reason: Reason
    peer: str | None = None

    @property
    def text(self) -> str:
        peer = f" ({self.peer})" if self.peer is not None else ""
        return f"{self.before.name} -> {self.after.name}: {self.reason}{peer}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class AddressesTaken(BaseEvent, says="holds {addresses} ({took})"):
    """The kernel confirmed that the addresses are on this host; `took` is ns from the decision to the confirmation."""

    addresses: tuple[str, ...]
    took: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class AddressesDropped(BaseEvent, says="gave up {addresses} ({took})"):
    """The kernel confirmed that the addresses are no longer on this host; `took` as in `AddressesTaken`."""

    addresses: tuple[str, ...]
    took: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class PeerHeard(BaseEvent):
    """A valid advert came from an address, or under a dialect, that had not been heard before."""

    peer: str
    dialect: str
    advbase: int
    advskew: int

    @property
    def text(self) -> str:
        bows_out = self.advbase == self.advskew == BOWOUT
        pace = "it bows out" if bows_out else f"advbase {self.advbase}, advskew {self.advskew}"
        return f"heard {self.peer}: {pace}, key as {self.dialect}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class AdvertRejected(BaseEvent, severity="warning", says="refuses adverts of {peer}: {counter}, {hint}"):
    """An advert was not obeyed: `counter` is the kernel's name for the check it failed, `hint` says what to look at.

    Reported when first seen from a peer, not for every frame.
    """

    counter: str
    peer: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class VrrpHeard(BaseEvent, severity="warning", says="{advice}"):
    """A VRRP router, `peer`, has the number of this virtual host: both use one virtual MAC. `advice` says what to do.

    Reported once for each `peer`, and once more when VRRP is heard again after ten minutes.
    """

    peer: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class UnicastPeer(BaseEvent, severity="warning", says="{advice}"):
    """Adverts are sent to `peer` alone, and either a router is on the way, or nobody answers there. Told once each."""

    peer: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class SiblingHeard(BaseEvent, severity="warning", says="{advice}"):
    """A host with the same addresses and the same secret advertises under another vhid, `sibling`.

    `standing` says what that means here: "yield" (this host stands by), "prefer" (this host is the owner as soon as
    the other lets go), "stalemate" (the other does not arbitrate, so this host holds no address), "several" (there are
    two other vhids: nothing is done), "warn" (nothing is done, by siblings="warn"). `advice` says it in words, with
    the remedy. Reported when a sibling is found and when the standing changes, not for every advert.
    """

    sibling: int
    peer: str
    standing: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class RivalHeard(BaseEvent, severity="warning"):
    """Another MASTER of this virtual host was heard while it was MASTER here: for a moment, two hosts held the
    addresses.

    `rule` says how the two compare: "better" (the other is, and this host yields), "tie" (they are equal, and this host
    yields), "worse" (the other is, and has to yield).
    """

    peer: str
    rule: Literal["better", "worse", "tie"]

    @property
    def text(self) -> str:
        return f"another master is heard, {self.peer}: {sentences.RULES[self.rule]}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class RivalDeaf(BaseEvent, severity="alarm", says="{advice}"):
    """Another MASTER of this virtual host, a worse one, was heard for three intervals and did not yield.

    So two hosts hold the addresses. The other does not hear this host's adverts: `advice` says what to look for.
    Reported once until this host's state changes or the other falls silent.
    """

    peer: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Stalled(BaseEvent, severity="warning"):
    """The engine was MASTER and did not run for `pause` ns (stopped, starved, or the machine slept): it stands by.

    `released` says whether the guardian let go of the addresses meanwhile, so that another host could take over.
    """

    pause: int
    released: bool

    @property
    def text(self) -> str:
        outcome = "the guardian let go of the addresses" if self.released else "it stands by"
        return f"did not run for {self.pause / 1e9:.1f} s; {outcome}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class TenureEnded(BaseEvent, severity="warning", says="the program has not renewed its tenure: the addresses go"):
    """The time for which the program of a `pycarp.Owner` had the addresses here is over."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class WatchdogExpired(
    BaseEvent, severity="warning", says="the program gave no sign of life for {silence}: adverts count as advskew 240"
):
    """The program has not called `Engine.alive()` for `silence` ns: the engine is BACKUP at advskew 240 until it does.

    It takes no address meanwhile, even where no other host is there: nobody would serve there.
    It concerns every virtual host: `vhid` is 0 and `name` empty.
    """

    silence: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class WatchdogFed(BaseEvent, says="the program gives signs of life again"):
    """The program called `Engine.alive()` again: its adverts have their own advskew. `vhid` is 0 and `name` empty."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class TakeoverDelayed(
    BaseEvent,
    severity="warning",
    says="no master is heard, but frames were lost here ({losses}): waits for one more interval",
):
    """The master seems silent, but `losses` frames were lost on the way into this program since it was last heard.

    That is no silence: the takeover waits for one more interval, at most twice in a row.
    """

    losses: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class PaceChanged(BaseEvent, severity="warning", says="{what}"):
    """A pace that is sent, said or obeyed is slower than it was to be, or no longer; `what` is one sentence."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Inherited(BaseEvent, says="goes on from process {process}, as {state}"):
    """This engine goes on with a virtual host where that process stopped: with its addresses, state and deadlines."""

    process: int
    state: State


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class HandedOn(BaseEvent):
    """This engine no longer has a virtual host. `process` goes on with it; 0: it was stopped for another to start
    it."""

    process: int

    @property
    def text(self) -> str:
        if self.process:
            return f"process {self.process} goes on with it"
        return "is stopped, for another process to start it"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class GuardianLost(BaseEvent, severity="alarm", says="the guardian is lost: {what}"):
    """The process that lets go of the addresses when this one dies has ended; `what` is one sentence.

    Until `GuardianReplaced` only the addresses' lease protects against two owners. `vhid` is 0 and `name` empty.
    """

    what: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class GuardianReplaced(BaseEvent, says="there is a guardian again"):
    """A new guardian has taken over from the one that was lost. `vhid` is 0 and `name` empty."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class NativeUnavailable(BaseEvent, severity="warning", says="adverts are timed less sharply, in plain Python: {why}"):
    """The engine runs in plain Python though nobody asked for that; `why` is one sentence. Reported at the start."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class LeaseUnavailable(
    BaseEvent, severity="warning", says="holds addresses without a limit that ends before others may take over: {why}"
):
    """No time fits that lasts from one advert to the next and ends before others take over; `why` is one sentence.

    The guardian alone lets go of the addresses in time if this process dies. Reported once.
    """

    why: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class GateUnavailable(BaseEvent, severity="warning", says=sentences.NO_GATE):
    """This kernel makes no gate; `why` is its answer. `vhid` is 0 and `name` empty. Reported once by each engine."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class AddressConflict(BaseEvent, severity="warning"):
    """A host with this MAC answers for one of the addresses, while no advert of the group is heard; or, `held`, while
    this host has them: for a `pycarp.Owner`, or as a MASTER to which that host does not yield."""

    address: str
    mac: str
    held: bool = False

    @property
    def text(self) -> str:
        why = "this host has it" if self.held else "no master is heard"
        return f"{self.mac} answers for {self.address}, though {why}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class VirtualMacFiltered(
    BaseEvent,
    severity="alarm",
    says="{neighbour} answers the MAC of {carpdev}, but not {mac}: a switch or hypervisor filters the virtual MAC "
    "(port security, forged transmits); allow it there, or use mac interface on all hosts of the group",
):
    """This MASTER asked a `neighbour` on the LAN from the carpdev's own MAC and from the virtual one, several times.

    No answer ever came to the virtual MAC: so no other host hears the adverts, and no client reaches the addresses.
    Reported once while it is MASTER.
    """

    carpdev: str
    mac: str
    neighbour: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class FamilySilent(
    BaseEvent, severity="warning", says="the master is no longer heard in IPv{family}, though in the other family"
):
    """The master is heard in one address family only; `family` (4 or 6) is the one that fell silent."""

    family: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ChangeStep(BaseEvent, says="of the old and the new secret or addresses it speaks {speaks}: {why}"):
    """A change of the secret or the addresses went on; adverts are signed with what `speaks` says."""

    speaks: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ChangedAtOnce(BaseEvent, severity="warning", says="{advice}"):
    """A reload changed the secret or the addresses without a second set; `what` says which."""

    what: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Demoted(BaseEvent):
    """The demotion counter changed: above 0 the advskew sent and compared is at least 240."""

    demotion: int

    @property
    def text(self) -> str:
        return f"demoted, {self.demotion}: advskew counts as 240 or more" if self.demotion else "no longer demoted"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class DemotionReason(BaseEvent):
    """What demotes by a reason changed: `by` is how much it counts now, 0 for no more; `fault` hands over as well.

    `vhid` 0 is about all virtual hosts.
    """

    reason: str
    by: int
    fault: bool

    @property
    def text(self) -> str:
        if not self.by:
            return f"no longer demoted by: {self.reason}"
        return f"{'fault, handing over' if self.fault else f'demoted by {self.by}'}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CheckChanged(BaseEvent):
    """A check of the health became healthy, or ill; `said` is what it found last. `vhid` 0: it is about all."""

    check: str
    up: bool
    said: str

    @property
    def text(self) -> str:
        return f"check {self.check} {'passes' if self.up else 'fails'}: {self.said}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CarpdevChanged(BaseEvent):
    """The interface that the virtual host speaks on came, went, or changed; `present` and `up` say how it is now.

    `why` says in one sentence why it counts as down although it is up; otherwise it is empty.
    """

    carpdev: str
    present: bool
    up: bool
    why: str = ""

    @property
    def text(self) -> str:
        if self.why:
            return f"{self.carpdev} cannot be used: {self.why}"
        return f"{self.carpdev} is {'gone' if not self.present else 'up' if self.up else 'down, or without carrier'}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Waiting(BaseEvent, severity="warning", says="waits: {what}"):
    """The virtual host has no interface to speak on yet: `what` says what is missing and what there is instead.

    It is INIT, and starts by itself when that comes.
    """

    what: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CarpdevMacUsed(
    BaseEvent,
    severity="warning",
    says="{carpdev} is a {driver}, which does not hear another host's virtual MAC: its own MAC answers, as with mac "
    "interface",
):
    """Not a virtual MAC but the carpdev's answers for the addresses, because of the carpdev's `driver`."""

    carpdev: str
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ChangedByOthers(BaseEvent, severity="warning", says="another program {what}: it is put right"):
    """Another program changed what is the virtual host's; `what` says how."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Failed(BaseEvent, severity="alarm", says="failed: {what}"):
    """Something the engine tried on the machine did not work; `what` is one sentence, and the engine goes on."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class HostFinding(BaseEvent, severity="warning", says="{what}"):
    """What of this host keeps a virtual host from working, seen when the engine started; it goes on.

    `finding` is its name in docs/findings.md; `what` is one sentence, with the remedy. `vhid` is 0 and `name` empty
    where it concerns the whole host.
    """

    finding: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ControlClientDropped(
    BaseEvent, says="a client of the control socket (process {pid}, user {uid}) is dropped: {why}"
):
    """A client that keeps messages waiting; `pid` and `uid` are its own. `vhid` is 0 and `name` empty."""

    pid: int
    uid: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class HookSaid(BaseEvent, says="hook {hook}: {line}"):
    """A line that a hook wrote; `hook` is when it runs and the name of its program, in all events of hooks."""

    hook: str
    line: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class HookDone(BaseEvent, says="hook {hook} is done ({took})"):
    """A hook ended with exit code 0; `took` is ns."""

    hook: str
    took: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class HookFailed(BaseEvent, severity="warning", says="hook {hook} failed: {why}"):
    """A hook ended with another code, took too long, or cannot be started; `why` says which. Nothing else changes."""

    hook: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class HooksSkipped(
    BaseEvent, severity="warning", says="{count} changes were not told to hooks: one before them takes too long"
):
    """So many events had to wait for a hook that the oldest were left out. The last state is told in any case."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class EventsLost(BaseEvent, severity="warning", says="{count} events are not shown: what reads them is too slow"):
    """The consumer was too slow: `count` events were dropped here. `vhid` is 0 and `name` empty."""

    count: int


Event = (
    AddressConflict
    | AddressesDropped
    | AddressesTaken
    | AdvertRejected
    | CarpdevChanged
    | CarpdevMacUsed
    | ChangedAtOnce
    | ChangedByOthers
    | ChangeStep
    | CheckChanged
    | ControlClientDropped
    | Demoted
    | DemotionReason
    | EventsLost
    | Failed
    | FamilySilent
    | GateUnavailable
    | GuardianLost
    | GuardianReplaced
    | HandedOn
    | HookDone
    | HookFailed
    | HookSaid
    | HooksSkipped
    | HostFinding
    | Inherited
    | LeaseUnavailable
    | NativeUnavailable
    | PaceChanged
    | PeerHeard
    | RivalDeaf
    | RivalHeard
    | SiblingHeard
    | Stalled
    | StateChanged
    | TakeoverDelayed
    | TenureEnded
    | UnicastPeer
    | VirtualMacFiltered
    | VrrpHeard
    | Waiting
    | WatchdogExpired
    | WatchdogFed
)
"""One of the events. A `match` over their kinds can be exhaustive: by `typing.assert_never` a type checker sees it."""


def __getattr__(name: str) -> object:
    if name == "Severity":
        from ._types import Severity

        return Severity
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What a machine and an authenticator leave to those of another process, as plain values: numbers, texts, lists.

The twin of `ext/machine_bequest.pxi`. Moments are CLOCK_MONOTONIC, ns; a timer that does not run is None.

Thread: runtime, or the one that holds the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._records import fields
from ..protocol import Reason, State
from .arbitration import Sibling

if TYPE_CHECKING:
    from .machine import Machine

_TIMERS = (
    "advert_due", "master_down_due", "takeover_due", "forget_errors_due", "withheld_until", "leaving_until",
    "preempt_from",
)  # fmt: skip
_NUMBERS = ("demotion", "send_errors", "send_successes", "tie_wait", "tie_copies_end", "master_since", "held_until")
_SIGNS = ("started", "link", "link_suppressed", "stands_back")
_REASONS = ("master_reason", "takeover_reason")


def of_machine(machine: Machine) -> dict[str, Any]:
    """All that a machine of the same configuration needs to go on."""
    values: dict[str, Any] = {name: getattr(machine, f"_{name}") for name in (*_TIMERS, *_NUMBERS, *_SIGNS)}
    values["pace_due"] = machine._pace_due
    values |= {name: str(getattr(machine, f"_{name}")) for name in _REASONS}
    return values | {
        "state": int(machine._state),
        "families": {str(family): due for family, due in machine._family_due.items()},
        "silent": sorted(machine._silent_families),
        "peer": machine._peer,
        "siblings": [
            [int(getattr(one, field.name)) for field in fields(one)] for one in machine._arbitration._siblings
        ],
        "standings": {str(vhid): standing for vhid, standing in machine._arbitration._standings.items()},
    }


def to_machine(machine: Machine, values: dict[str, Any]) -> None:
    """Go on from there. Where the values make no sense it raises `KeyError`, `TypeError` or `ValueError`, and nothing
    has changed."""
    fresh: dict[str, Any] = {name: values[name] for name in (*_TIMERS, *_NUMBERS, "peer")}
    fresh["pace_due"] = values.get("pace_due")  # hosts before paces have none
    fresh |= {name: bool(values[name]) for name in _SIGNS}
    fresh |= {name: Reason(values[name]) for name in _REASONS}
    fresh["state"] = State(values["state"])
    fresh["family_due"] = {int(family): due for family, due in values["families"].items()}
    fresh["silent_families"] = set(values["silent"])
    siblings = [_sibling(*one) for one in values["siblings"]]
    standings = {int(vhid): standing for vhid, standing in values["standings"].items()}
    for name, value in fresh.items():
        setattr(machine, f"_{name}", value)
    machine._arbitration._siblings, machine._arbitration._standings = siblings, standings


def _sibling(
    vhid: int, interval: int, gone_at: int, answers: int, first: int, copies_end: int, stalemate: int
) -> Sibling:
    return Sibling(vhid, interval, gone_at, answers, first, copies_end, bool(stalemate))

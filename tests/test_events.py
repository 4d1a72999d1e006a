"""What all events have in common: they compare by their fields, and each has a sentence and plain values."""

from __future__ import annotations

import json
import pickle
import typing

import pytest

from pycarp import Reason, State, events
from pycarp.events import Event

KINDS = [
    kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
]
SAMPLES = {int: 1_500_000_000, str: "worse", bool: True, State: State.MASTER, Reason: Reason.FORCED}


def example(kind: type[Event], **changes: object) -> Event:
    values: dict[str, object] = {}
    for name, hint in typing.get_type_hints(kind).items():
        if typing.get_origin(hint) is not typing.ClassVar:
            values[name] = ("10.13.37.42",) if typing.get_origin(hint) is tuple else SAMPLES.get(hint, "worse")
    return kind(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_event_has_a_sentence_and_plain_values(kind: type[Event]) -> None:
    event = example(kind)
    assert event.text and "{" not in event.text
    assert event.severity in typing.get_args(events.Severity)
    plain = json.loads(json.dumps(event.as_dict()))
    assert plain["event"] == kind.__name__
    assert plain["at"] == 1_500_000_000


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_events_compare_by_kind_and_fields(kind: type[Event]) -> None:
    event, same, other = example(kind), example(kind), example(kind, at=2)
    assert event == same and hash(event) == hash(same) and event != other
    assert event != "an event"
    assert len({event, same, other}) == 2
    assert repr(event).startswith(f"{kind.__name__}(vhid=1500000000, name='worse', at=1500000000")
    assert pickle.loads(pickle.dumps(event)) == event
    with pytest.raises(AttributeError):
        event.at = 3  # type: ignore[misc]


def test_two_kinds_with_the_same_fields_differ() -> None:
    assert example(events.AddressesTaken) != example(events.AddressesDropped)

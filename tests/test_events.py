"""What all events have in common: they compare by their fields, and each has a sentence and plain values."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pickle
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import pycarp
from pycarp import Reason, State, events
from pycarp.events import BaseEvent, Event
from pycarp.stats import EngineStats, Measures, Stats

KINDS = [
    kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, BaseEvent) and kind is not BaseEvent
]
SAMPLES = {int: 1_500_000_000, str: "worse", bool: True, State: State.MASTER, Reason: Reason.FORCED}


def example(kind: type[Event], **changes: object) -> Event:
    values: dict[str, object] = {}
    assert dataclasses.fields(kind)  # who wants the types looks at the fields first
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


def test_a_peer_that_bows_out_has_no_pace() -> None:
    heard = events.PeerHeard(vhid=1, name="carp1", at=0, peer="10.0.0.2", dialect="netbsd", advbase=255, advskew=255)
    assert heard.text == "heard 10.0.0.2: it bows out, key as netbsd"
    assert "advbase 1, advskew 0" in dataclasses.replace(heard, advbase=1, advskew=0).text


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


def test_the_union_has_every_event() -> None:
    assert set(typing.get_args(Event)) == set(KINDS)
    assert all(isinstance(example(kind), Event) for kind in KINDS)


def test_an_event_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """As the program has set up logging: news are INFO, and the record has the event."""
    caplog.set_level(logging.INFO)
    told = [
        events.WatchdogFed(vhid=0, name="", at=1),
        events.Failed(vhid=1, name="carp0", at=1, what="a 100% loss"),
        events.TenureEnded(vhid=1, name="carp0", at=1),
    ]
    for event in told[:2]:
        events.log(event)
    events.log(told[2], logging.getLogger("mine"))
    assert caplog.record_tuples == [
        ("pycarp", logging.INFO, "the program gives signs of life again"),
        ("pycarp", logging.ERROR, "carp0: failed: a 100% loss"),
        ("mine", logging.WARNING, "carp0: the program has not renewed its tenure: the addresses go"),
    ]
    assert [record.carp_event for record in caplog.records] == told  # type: ignore[attr-defined]
    assert {record.filename for record in caplog.records} == {Path(__file__).name}


def test_the_figures_of_an_engine_are_those_of_both_classes() -> None:
    fields = {field.name for kind in (Stats, Measures) for field in dataclasses.fields(kind)}
    assert set(EngineStats.__annotations__) == fields


def test_mypy_agrees_with_a_users_program(tmp_path: Path) -> None:
    """A match over the events that forgets one is found, and one that forgets none passes; figures have types."""
    program = Path(__file__).with_name("typed_program.py")
    mypy = [sys.executable, "-m", "mypy", "--config-file", "", "--strict", "--cache-dir", str(tmp_path)]
    ignored = ["--follow-imports", "silent", "--ignore-missing-imports"]
    place = Path(pycarp.__file__).parents[1]
    # Of an installed package mypy knows where it is.
    environment = {**os.environ} if place.name == "site-packages" else {**os.environ, "MYPYPATH": str(place)}
    checked = subprocess.run([*mypy, *ignored, program], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr

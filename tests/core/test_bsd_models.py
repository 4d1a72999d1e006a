"""The models of the BSDs that the elections use do what was recorded of these systems."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support import behaviour
from support.bsds import FreeBsd, NetBsd
from support.elections import heard
from support.openbsd import OpenBsd

from pycarp import VirtualHost
from pycarp.protocol import NS_PER_SECOND, State

MODELS: dict[str, type[Any]] = {"netbsd": NetBsd, "openbsd": OpenBsd, "freebsd": FreeBsd}
ELECTION = re.compile(
    r"(own \d+/\d+; )?(better|worse|equal|slower|bow-out|peer|advert|worse:|by one|with demote \d+|heard as MASTER"
    r"|while own demote is \d+|own demotion 0|preempt (on|off)|\(advbase 0\)|\d+/\d+|[ ,])+"
)
"""Events that are nothing but a valid advert."""


def election_rows(system: str) -> list[dict[str, Any]]:
    rows = [row for row in behaviour.rows(system) if row.get("before") in ("MASTER", "BACKUP")]
    return [row for row in rows if ELECTION.fullmatch(row.get("event", row.get("advert", "")))]


@pytest.mark.parametrize("system", MODELS)
def test_a_model_does_as_its_system(system: str) -> None:
    rows = election_rows(system)
    assert len(rows) >= {"netbsd": 12, "openbsd": 100, "freebsd": 130}[system]
    for row in rows:
        words = row.get("event", row.get("advert", ""))
        own = row.get("own_advbase_advskew", "1/100")
        advbase, advskew = map(int, own.split("/"))
        timing = "openbsd" if system == "openbsd" else "bsd"
        host = VirtualHost(
            vhid=101, passphrase="", addresses=["10.0.0.1"], advbase=advbase, advskew=advskew,
            preempt=row.get("preempt", False), timing=timing,  # type: ignore[arg-type]
        )  # fmt: skip
        model = MODELS[system](host)
        model.start(0)
        model.demote(row.get("own_demote", row.get("demotion", 0)), 0)
        if row["before"] == "MASTER":
            model.timeout(model.deadline)
        assert model.state.name == row["before"]
        frame = behaviour.frame_of(re.sub(r"^own \d+/\d+; ", "", words), own)
        now = 100 * NS_PER_SECOND
        model.receive(heard(frame.advbase, frame.advskew, demotion=frame.pad), "10.0.0.2", now, frame.pad)
        assert model.state.name == row["after"], row
        later = row.get("master_s_after_event")
        if later is not None and model.state is State.BACKUP:
            assert abs((model.deadline - now) / NS_PER_SECOND - later) <= 0.021, row

"""A group changes its secret and its addresses, with a BSD in it, on simulated time: one MASTER at every moment."""

from __future__ import annotations

from typing import Any

import pytest

from pycarp import ConfigError, State, VirtualHost, _impl, events
from pycarp.testing import CarpLan, SimulatedEngine

VIP, JOINING, LEAVING = "10.13.37.42", "10.13.37.43", "10.13.37.44"
OLD, NEW = "motdepassehalakon", "unautremotdepasse"
BEFORE, AFTER = [f"{VIP}/24", f"{LEAVING}/24"], [f"{VIP}/24", f"{JOINING}/24"]
GROUP = VirtualHost(vhid=101, passphrase=OLD, addresses=BEFORE, advskew=10)
CHANGE: dict[str, dict[str, Any]] = {
    "secret": {"nextpass": NEW},
    "addresses": {"addresses": [*BEFORE, f"{JOINING}/24"], "joining": [JOINING], "leaving": [LEAVING]},
}
CHANGE["both"] = CHANGE["secret"] | CHANGE["addresses"]
DONE: dict[str, dict[str, Any]] = {"secret": {"passphrase": NEW}, "addresses": {"addresses": AFTER}}
DONE["both"] = DONE["secret"] | DONE["addresses"]


@pytest.fixture(autouse=True)
def both(impl: _impl.Implementation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_impl, "current", impl)


def run(lan: CarpLan, seconds: float, engines: tuple[SimulatedEngine, ...], master: SimulatedEngine) -> None:
    """In small steps, each with this one as the only MASTER."""
    for _ in range(int(seconds * 20)):
        lan.run(0.05)
        assert [one for one in engines if one.state(101) is State.MASTER] == [master]
        assert lan.holder(VIP) is not None


def steps(engine: SimulatedEngine) -> list[str]:
    return [one.speaks for one in engine.events(timeout=0) if isinstance(one, events.ChangeStep)]


@pytest.mark.parametrize("dialect", ["bsd", "netbsd"])
@pytest.mark.parametrize("what", CHANGE)
@pytest.mark.parametrize("master_is_bsd", [False, True], ids=["", "bsd-master"])
def test_a_group_with_a_bsd_changes_with_one_master(
    carp_lan: CarpLan, what: str, dialect: Any, master_is_bsd: bool
) -> None:
    """The BSD has one secret and one set of addresses at a time, and a key form that its recorded frames have."""
    change, done = CHANGE[what], DONE[what]
    kernel = GROUP.replace(dialect=dialect, replay="off", demotion="ignore", advskew=0 if master_is_bsd else 200)
    first, second = carp_lan.engine("first", GROUP), carp_lan.engine("second", GROUP.replace(advskew=100))
    bsd = carp_lan.engine("bsd", kernel)
    engines = (first, second, bsd)
    for one in (bsd, first, second) if master_is_bsd else engines:
        one.start()
        carp_lan.run(4 if one is (bsd if master_is_bsd else first) else 1)
    run(carp_lan, 2, engines, bsd if master_is_bsd else first)
    # All of ours accept both, and nothing else is different.
    for one in (second, first):
        steps(one)
        one.reconfigure(one.hosts[0].replace(**change))
        assert steps(one) == ["old"]
        assert one.snapshot().instances[0].speaks == "old"
    run(carp_lan, 5, engines, bsd if master_is_bsd else first)
    if master_is_bsd:
        bsd.hand_over()
        carp_lan.run(1)
    run(carp_lan, 1, engines, first)
    # While the MASTER speaks both, the BSD changes in its own time.
    first.speak("both")
    run(carp_lan, 5, engines, first)
    assert (steps(first), steps(second)) == (["both"], ["both"])
    bsd.reconfigure(kernel.replace(**done))
    run(carp_lan, 8, engines, first)
    first.speak("new")
    run(carp_lan, 15, engines, first)
    assert (steps(first), steps(second)) == (["new"], ["new"])
    for one in (second, first):
        one.reconfigure(one.hosts[0].replace(**{"nextpass": None, "joining": (), "leaving": ()} | done))
        run(carp_lan, 5, engines, first)
        assert steps(one) == ["new"]
        assert one.snapshot().instances[0].speaks == ""
    assert (carp_lan.holder(JOINING), carp_lan.holder(LEAVING)) == (
        ("first", None) if what != "secret" else (None, "first")
    )
    # Whoever takes over is understood by the others.
    first.stop()
    carp_lan.run(1)
    run(carp_lan, 5, (second, bsd), bsd if master_is_bsd else second)
    assert not [one for one in bsd.events(timeout=0) if isinstance(one, events.ChangedAtOnce)][1:]


@pytest.mark.parametrize("advskew", [10, 200], ids=["better", "worse"])
def test_who_starts_amid_a_change_follows_the_master(carp_lan: CarpLan, advskew: int) -> None:
    """A restart, at any step: nobody takes over, and what the group speaks is spoken."""
    amid = GROUP.replace(advskew=100, nextpass=NEW)
    first = carp_lan.engine("first", amid)
    first.start()
    carp_lan.run(4)
    assert steps(first) == ["both"]
    for spoken in ("old", "both", "new"):
        first.speak(spoken)
        second = carp_lan.engine(f"second-{spoken}", amid.replace(advskew=advskew))
        second.start()
        run(carp_lan, 12, (first, second), first)
        assert second.snapshot().instances[0].speaks == spoken
        # It takes over as such: whoever knows what the group speaks understands it.
        first.hand_over()
        carp_lan.run(1)
        run(carp_lan, 2, (first, second), second)
        second.hand_over()
        carp_lan.run(1)
        run(carp_lan, 2, (first, second), first)
        second.stop()


def test_a_change_without_a_second_set_is_told(carp_lan: CarpLan) -> None:
    first = carp_lan.engine("first", GROUP)
    first.start()
    carp_lan.run(4)
    list(first.events(timeout=0))
    with pytest.raises(ConfigError, match="nextpass"):
        first.speak("new")
    for changes, what in (
        ({"passphrase": NEW}, "secret"),
        ({"addresses": AFTER}, "addresses"),
        ({"passphrase": OLD, "nextpass": NEW}, "secret"),
        # The group speaks the old one still.
        ({"passphrase": NEW, "nextpass": None}, "secret"),
    ):
        if first.hosts[0].nextpass is not None:
            first.speak("old")
        first.reconfigure(first.hosts[0].replace(**changes))
        told = [one for one in first.events(timeout=0) if isinstance(one, events.ChangedAtOnce)]
        assert [one.what for one in told] == [what]
        assert "both are MASTER" in told[0].text and NEW not in told[0].text and OLD not in told[0].text
    first.reconfigure(first.hosts[0].replace(nextpass=OLD))
    first.reconfigure(first.hosts[0].replace(nextpass=None))
    assert [(one.speaks, one.why) for one in first.events(timeout=0) if isinstance(one, events.ChangeStep)] == [
        ("old", "both are accepted"),
        ("old", "the change is withdrawn"),
    ]

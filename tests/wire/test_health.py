"""Health and groups that move together, on two hosts."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.lan import VIP, Lan, stays, wait_until

from pycarp import Check, State, VirtualHost
from pycarp.events import CheckChanged

MASTER, BACKUP = State.MASTER, State.BACKUP


@pytest.mark.figures
def test_a_check_that_fails_hands_over_and_comes_back(net: Lan, tmp_path: Path) -> None:
    # Fault: What the MASTER carries fails, without preempt on the other host; later there as well; then here no longer.
    # Expected: The other host takes over within interval x fall + 20 ms. Where both are ill it moves once, and stays.
    well = {name: tmp_path / name for name in ("main", "second")}
    for file in well.values():
        file.touch()
    check = {
        name: Check(name="svc", kind="exec", words=("test", "-e", str(well[name])), interval=0.1, fall=2)
        for name in well
    }
    main = net.start("main", checks=[check["main"]])
    main.become(MASTER)
    second = net.start("second", advskew=25, checks=[check["second"]])
    second.become(BACKUP)
    wait_until(lambda: all(one.up for node in (main, second) for one in node.engine.snapshot().instances[0].checks))
    begun = time.monotonic()
    well["main"].unlink()
    second.become(MASTER)
    took = time.monotonic() - begun
    assert took < 0.1 + 0.1 * 2 + 0.05, took
    assert main.wait(CheckChanged, up=False).check == "svc"
    assert main.engine.snapshot().instances[0].standing_back.why == "fault"
    stays(lambda: second.state() is MASTER and main.state() is BACKUP, 0.5)

    well["second"].unlink()
    main.become(MASTER)
    stays(lambda: main.state() is MASTER and second.state() is BACKUP, 1.0, "it moves back")
    well["main"].touch()
    well["second"].touch()
    wait_until(lambda: all(one.up for node in (main, second) for one in node.engine.snapshot().instances[0].checks))
    stays(lambda: main.state() is MASTER, 0.3)


def test_virtual_hosts_that_move_together(net: Lan) -> None:
    # Fault: One of two virtual hosts is handed over; a better host with preempt comes.
    # Expected: The other one follows, each time.
    def pair(advskew: int, preempt: bool) -> tuple[VirtualHost, VirtualHost]:
        common = {"passphrase": "motdepassehalakon", "advbase": 0, "carpdev": "eth0", "preempt": preempt}
        return (
            VirtualHost(vhid=101, addresses=[f"{VIP}/24"], advskew=advskew, name="carp0", sync=["carp1"], **common),
            VirtualHost(vhid=102, addresses=["10.13.37.43/24"], advskew=advskew, name="carp1", **common),
        )

    main = net.start("main", *pair(10, False))
    for vhid in (101, 102):
        main.become(MASTER, vhid)
    second = net.start("second", *pair(25, False))
    for vhid in (101, 102):
        second.become(BACKUP, vhid)
    main.engine.hand_over(101)
    for vhid in (101, 102):
        second.become(MASTER, vhid)
        main.become(BACKUP, vhid)
    stays(lambda: {second.state(101), second.state(102)} == {MASTER}, 0.5)
    main.reconfigure(*pair(2, True))
    # It stands back after its hand-over, until the other lets go.
    second.engine.hand_over(102)
    for vhid in (101, 102):
        main.become(MASTER, vhid)
    stays(lambda: {main.state(101), main.state(102)} == {MASTER}, 0.5)

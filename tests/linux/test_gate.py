"""The gate's table as bytes, and what is done where there can be none."""

from __future__ import annotations

import errno
import itertools
import os
import re

import pytest
from support.linux import carpdev, floating, needs_namespaces

from pycarp.lab.namespaces import Lab
from pycarp.linux import gate
from pycarp.linux.device import Device
from pycarp.linux.lock import VirtualHostLock
from pycarp.protocol import NS_PER_SECOND, NS_PER_SKEW, timing

pytestmark = needs_namespaces()


@pytest.mark.parametrize("missed", [1, 2, 3, 10])
@pytest.mark.parametrize("advbase", [0, 1, 2, 3, 60, 254, 255])
def test_it_shuts_before_anybody_can_take_over(advbase: int, missed: int) -> None:
    """Nor before our next advert. For each advskew, demoted and not, beside hosts of either timing. Where advskew alone
    counts theirs is no better than ours."""
    steps: dict[int, tuple[int, ...]] = {}
    for advskew in range(255):
        after = timing.takeover_after(advbase, advskew, missed)
        longest, slowest = timing.gate_bounds(advbase, advskew, missed)
        longest = max(longest, gate.SHORTEST_STEP)
        if longest not in steps:
            steps[longest] = gate.steps(longest, slowest)
            assert list(steps[longest]) == sorted(set(steps[longest])) and steps[longest][0] >= gate.SHORTEST_STEP
            assert all(later <= before * 1.5 + 1 for before, later in itertools.pairwise(steps[longest]))
        others = min(
            timing.master_down(advbase, other, missed, way)
            for way in ("bsd", "openbsd")
            for other in ([max(advskew, 1)] if advbase == 0 else [0, 1, advskew])
        )
        for demotion in (0, 1, 100, 240):
            interval = advbase * NS_PER_SECOND + max(advskew, demotion) * NS_PER_SKEW
            lease = timing.gate(interval, after)
            for passed in (0, 1, 4):  # ms from the advert to the key
                left = (timing.gate_without_room(interval) if lease is None else lease) - passed
                chosen = max((step for step in steps[longest] if step <= left), default=0)
                if lease is not None:
                    assert (passed + chosen) * 1_000_000 + timing.GATE_SHUTS_BEFORE <= others
                elif advbase and missed >= 2:
                    assert 2 * interval > others, "there is room"
                if passed <= 1 and max(advbase, advskew, demotion):
                    assert chosen * 1_000_000 > interval


def unexpired(ruleset: str) -> str:
    return re.sub(r"expires \w+", "", ruleset)


@pytest.mark.parametrize("mac", ["virtual", "interface"])
class TestTable:
    def test_nft_shows_it_and_takes_it_back(self, mac: str) -> None:
        with Lab() as lab:
            main = lab["main"]
            with main.enter():
                device = Device(floating(mac=mac), carpdev())
                device.setup()
                if device.gate is None:
                    pytest.skip(f"this kernel makes no gates: {device.no_gate}")
                shown = main.run(["nft", "list", "ruleset"]).stdout
                assert 'comment "carp0: vhid 101 on eth0"' in shown
                assert re.findall(r"^table (.*) {", shown, re.M) == ["netdev pycarp-2-101"]
                main.run('saved=$(nft list ruleset) && nft flush ruleset && echo "$saved" | nft -f -', shell=True)
                # A carpdev's own gate is open for a hundred years, less what has passed.
                assert unexpired(main.run(["nft", "list", "ruleset"]).stdout) == unexpired(shown)
                device.teardown()
            assert not main.run(["nft", "list", "ruleset"]).stdout

    def test_others_tables_stay_and_those_of_dead_hosts_go(self, mac: str) -> None:
        with Lab() as lab:
            main = lab["main"]
            main.run("nft add table netdev pycarp; nft add table inet pycarp-2-7", shell=True)
            before = main.run(["nft", "list", "ruleset"]).stdout
            with main.enter(), VirtualHostLock("carp7", carpdev(), 7):
                for vhid in (7, 9, 101):
                    left = floating(f"10.13.37.{vhid}/24", name=f"carp{vhid}", mac=mac).replace(vhid=vhid)
                    Device(left, carpdev()).setup()
                device = Device(floating("10.13.37.200/24", mac=mac), carpdev())
                device.setup()
                if device.gate is None:
                    pytest.skip(f"this kernel makes no gates: {device.no_gate}")
                with gate.FilterSocket() as filters:
                    assert sorted(filters.tables()) == [(2, 7, False), (2, 101, False)]
                    device.teardown()
                    assert filters.tables() == [(2, 7, False)]
                    filters.execute(gate.deletion(2, 7, False))
            assert main.run(["nft", "list", "ruleset"]).stdout == before


def test_without_nf_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    # Fault: the kernel has no NETLINK_NETFILTER, or answers that it has no netdev tables.
    # Expected: the device is there without a gate, and says why; nothing is asked of netfilter at its end.
    class Refusing(gate.FilterSocket):
        def execute(self, transaction: bytes) -> OSError | None:
            return OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def refuse() -> gate.FilterSocket:
        raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))

    with Lab() as lab, lab["main"].enter():
        for made, why in ((Refusing, "Operation not supported"), (refuse, "Protocol not supported")):
            with monkeypatch.context() as patch:
                patch.setattr(gate, "FilterSocket", made)
                device = Device(floating(), carpdev())
                device.setup()
                assert device.gate is None and device.no_gate == why
                device.teardown()

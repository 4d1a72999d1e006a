"""The fixture `carp_netns`: hosts as they are in the field, and engines on them."""

from __future__ import annotations

import pytest
from support.linux import needs_namespaces

from pycarp import State, VirtualHost
from pycarp.errors import InterfaceError
from pycarp.testing import CarpNetns, netns

pytestmark = needs_namespaces()
VIP = "10.13.37.7"
SWIFT = VirtualHost(vhid=7, passphrase="motdepassehalakon", addresses=[f"{VIP}/24"], advbase=0, advskew=10)


@pytest.mark.parametrize("carp_netns", netns.PROFILES, indirect=True)
def test_each_profile_fails_over(carp_netns: CarpNetns) -> None:
    # Fault: The program's engine stops, on hosts of each profile.
    # Expected: The other host answers.
    first, second = carp_netns.engine("main", SWIFT), carp_netns.engine("second", SWIFT.replace(advskew=30))
    first.start()
    second.start()
    with carp_netns["client"].ping(VIP) as ping:
        assert ping.wait(5)
        assert first.state(7) is State.MASTER
        first.stop()
        assert ping.wait(5)
        assert second.state(7) is State.MASTER
    assert ping.longest < 1e9


def test_what_it_wears(monkeypatch: pytest.MonkeyPatch) -> None:
    # Fault: A profile that there is not, a program that it needs is missing, no permission.
    # Expected: One sentence for each.
    with pytest.raises(ValueError, match="no profile 'suit': there is plain, debian, firewalld, docker"):
        CarpNetns(profile="suit")
    with CarpNetns(("main",), "firewalld") as lan:
        assert "chain input" in lan["main"].run(["nft", "list", "ruleset"]).stdout
        assert lan["main"].run(["sysctl", "-n", "net.ipv4.conf.eth0.rp_filter"]).stdout == "1\n"
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InterfaceError, match="the profile debian cannot be had here: .*sysctl"):
        CarpNetns(("main",), "debian")
    monkeypatch.setattr(netns, "available", lambda: "user")
    assert netns.hindrance().startswith("needs root: run `unshare")
    monkeypatch.setattr(netns, "available", lambda: None)
    assert "which this machine refuses" in netns.hindrance()

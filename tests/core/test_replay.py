"""One's own adverts that come back, and adverts whose priority was altered: dropped, counted, told; BSDs are obeyed."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from pycarp._impl import Implementation
from pycarp.config import VirtualHost
from pycarp.engine.plan import make_plan
from pycarp.errors import ConfigError
from pycarp.protocol import State
from pycarp.protocol.frames import virtual_mac

PASSPHRASE = "motdepassehalakon"
ADDRESSES = ["10.13.37.42/24"]
VHID = 101


def authenticator(impl: Implementation, dialect: str = "auto", replay: str = "guard"):
    return impl.auth.Authenticator(PASSPHRASE, VHID, ADDRESSES, dialect, replay)


def input_with(impl: Implementation, own):
    input_ = impl.input.Input()
    input_.set_instance(VHID, own, virtual_mac(VHID), [b"\x0a\x0d\x25\x2a"])
    input_.set_state(VHID, State.MASTER)
    input_.set_carpdev(bytes(6), [ip_interface("10.13.37.12/24")])
    return input_


def advert(impl: Implementation, by, nonce: int, *, advbase: int = 1, advskew: int = 100) -> bytes:
    """A frame signed by an authenticator whose counter vouches for 1/100, whatever the header says."""
    template = impl.packet.AdvertTemplate(VHID, virtual_mac(VHID), "10.13.37.12")
    counter = by.counter(1, 100, nonce)
    return template.frame(advbase, advskew, counter, by.sign(counter))


def test_an_echo_is_ignored(impl: Implementation) -> None:
    own = authenticator(impl)
    input_ = input_with(impl, own)
    for nonce in range(3):
        verdict = input_.receive(advert(impl, own, nonce))
        assert (verdict.counter, verdict.dialect) == ("echo", None)
    assert input_.stats(VHID).echo == 3
    assert input_.stats(VHID).ipackets == 3


def test_an_echo_from_another_address_is_one_too(impl: Implementation) -> None:
    """The source is covered by nothing: who sends our last advert again with another one must not depose us."""
    own = authenticator(impl)
    input_ = input_with(impl, own)
    input_.set_carpdev(bytes(6), [])
    assert input_.receive(advert(impl, own, 3)).counter == "echo"


def test_bowouts_of_two_hosts_in_one_second(impl: Implementation) -> None:
    own = authenticator(impl)
    input_ = input_with(impl, own)
    counter = own.counter(255, 255, 3)
    template = impl.packet.AdvertTemplate(VHID, virtual_mac(VHID), "10.13.37.12")
    bowout = template.frame(255, 255, counter, own.sign(counter))
    assert input_.receive(bowout).counter == "echo"
    input_.set_carpdev(bytes(6), [])
    assert input_.receive(bowout).counter == ""


@pytest.mark.parametrize("pace", [0, 1, 15])
def test_a_valid_advert_has_its_senders_pace(impl: Implementation, pace: int) -> None:
    input_ = input_with(impl, authenticator(impl))
    peer = authenticator(impl, "bsd")
    template = impl.packet.AdvertTemplate(VHID, virtual_mac(VHID), "10.13.37.12")
    for counter, heard in (
        (peer.counter(1, 100, 3, pace=pace), pace),
        (bytes((1, 2, pace << 4, 0, 3, 4, 1, 100)), 0),  # a BSD's, or an earlier pycarp's
    ):
        verdict = input_.receive(template.frame(1, 100, counter, peer.sign(counter)))
        assert (verdict.counter, verdict.pace) == ("", heard)


def test_the_last_64_adverts_under_two_keys_are_known(impl: Implementation) -> None:
    own = authenticator(impl)
    issued = [own.counter(1, 0, 7, dialect, None, second) for second in range(65) for dialect in ("bsd", "netbsd")]
    assert [own.check(counter, 1, 0, "bsd") for counter in issued[:2]] == ["", ""]
    assert {own.check(counter, 1, 0, "bsd") for counter in issued[2:]} == {"echo"}


@pytest.mark.parametrize("dialect", ["bsd", "netbsd"])
def test_an_altered_priority_is_dropped(impl: Implementation, dialect: str) -> None:
    input_ = input_with(impl, authenticator(impl))
    peer = authenticator(impl, dialect)
    for header in ({"advskew": 0}, {"advbase": 0}, {"advbase": 255, "advskew": 255}):
        assert input_.receive(advert(impl, peer, 7, **header)).counter == "altered"
    assert input_.stats(VHID).altered == 3
    # The same advert as it was sent is as valid as its serial.
    assert input_.receive(advert(impl, peer, 7)).counter == ""


def test_a_bsds_counter_says_nothing(impl: Implementation) -> None:
    input_ = input_with(impl, authenticator(impl))
    peer = authenticator(impl, "bsd")
    template = impl.packet.AdvertTemplate(VHID, virtual_mac(VHID), "10.13.37.12")
    for counter in (0, 1, 2**64 - 1, 0x1000, int.from_bytes(peer.counter(1, 100, 5), "big") + 1):
        octets = counter.to_bytes(8, "big")
        for advskew in (0, 100, 255):
            assert input_.receive(template.frame(1, advskew, octets, peer.sign(octets))).counter == ""


def test_without_the_guard_everything_is_obeyed(impl: Implementation) -> None:
    own = authenticator(impl, replay="off")
    input_ = input_with(impl, own)
    assert input_.receive(advert(impl, own, 1)).counter == ""
    assert input_.receive(advert(impl, authenticator(impl), 1, advskew=0)).counter == ""


def test_a_wrong_word_is_refused(impl: Implementation) -> None:
    with pytest.raises(ConfigError, match="replay has an unknown value: give guard or off"):
        authenticator(impl, replay="on")
    with pytest.raises(ConfigError, match="replay has an unknown value: give guard or off"):
        VirtualHost(vhid=1, passphrase="", addresses=["10.0.0.1/24"], replay="on")  # type: ignore[arg-type]


def test_a_plan_passes_the_choice_on(impl: Implementation) -> None:
    host = VirtualHost(vhid=VHID, passphrase=PASSPHRASE, addresses=ADDRESSES, replay="off")
    plan = make_plan(impl, host, bytes(6), {})
    counter = plan.authenticator.counter(1, 0, 1)
    assert plan.authenticator.check(counter, 1, 0, "bsd") == ""
    guarded = make_plan(impl, host.replace(replay="guard"), bytes(6), {}, plan)
    assert guarded.authenticator is not plan.authenticator

"""What is wrong with a group: each fault gets one sentence that names the remedy."""

from __future__ import annotations

import pytest
from support.scene import EPOCH, GROUP, MAIN, SECOND_HOST, SECRET, VIP, Scene, observed
from support.wire import PASSPHRASE, Frame

from pycarp.monitor.observer import Observer


def test_two_dialects() -> None:
    scene = Scene(Observer(SECRET, [VIP]), {"dialect": "bsd"}, {"dialect": "netbsd"})
    scene.run(8)
    assert ("two masters", SECOND_HOST) in scene.kinds() or ("two masters", MAIN) in scene.kinds()
    (finding,) = scene.observer.findings()
    assert "vhid 101: 10.13.37.11 and 10.13.37.12 are master at once" in finding
    assert "10.13.37.12 with the passphrase as NetBSD's ifconfig reads it, its last character lost" in finding
    assert {key.source for key in scene.observer.contenders} == {MAIN, SECOND_HOST}


def test_without_the_secret_it_says_how_to_learn_why() -> None:
    scene = Scene(Observer(), {"dialect": "bsd"}, {"dialect": "netbsd"})
    scene.run(8)
    (finding,) = scene.observer.findings()
    assert "--passfile and --address help to say why" in finding


def test_two_masters_end_when_one_of_them_does() -> None:
    scene = Scene(Observer(), {"dialect": "bsd"}, {"dialect": "netbsd"})
    scene.run(8)
    scene.second.stop()
    scene.run(4)
    assert scene.observer.contenders == frozenset() == frozenset(scene.observer.findings())
    assert scene.kinds()[-1] == ("one master", MAIN)


@pytest.mark.parametrize(
    ("passphrase", "says"),
    [
        (SECRET + "\n", "a line end after it"),
        (SECRET[:-2], "without its last two characters"),
        (f'"{SECRET}"', None),
        ("", "no passphrase at all"),
        ("something else", "fits no form of this passphrase"),
    ],
)
def test_wrong_passphrases(passphrase: str, says: str | None) -> None:
    scene = Scene(Observer(SECRET, [VIP]), {"passphrase": passphrase, "dialect": "bsd"})
    scene.run(8)
    assert scene.speaker(MAIN).faults["badauth"] > 0
    assert any((says or "fits no form") in finding for finding in scene.observer.findings())


def test_missing_and_added_addresses() -> None:
    scene = Scene(
        Observer(SECRET, [VIP, "10.13.37.43"]),
        {"addresses": [f"{VIP}/24", "10.13.37.43/24", "10.13.37.11/24"]},
    )
    scene.run(8)
    findings = "\n".join(scene.observer.findings())
    assert "10.13.37.12 signs over 10.13.37.42, without 10.13.37.43" in findings
    assert "with 10.13.37.11 in addition" in findings
    assert "10.13.37.12 over 10.13.37.42: give both the same addresses" in findings


def test_addresses_are_learned_from_announcements_when_none_are_given() -> None:
    scene = Scene(Observer(SECRET), second={"addresses": [f"{VIP}/24", "10.13.37.43/24"]})
    scene.run(8)
    assert {str(address) for address in scene.observer.learned[101]} == {VIP, "10.13.37.43"}
    (finding,) = [one for one in scene.observer.findings() if "master at once" in one]
    assert "signs over 10.13.37.42, 10.13.37.12 over 10.13.37.42 and 10.13.37.43" in finding


def test_link_local_addresses_that_openbsd_leaves_out() -> None:
    addresses = (VIP, "2001:db8::42", "fe80::42")
    frame = bytes(Frame(addresses=addresses, link_local=False))
    observer = observed(Observer(SECRET, addresses), frame)
    (finding,) = observer.findings()
    assert "leaves link-local addresses out of its digest, as OpenBSD does" in finding
    (speaker,) = observer.speakers.values()
    assert not speaker.faults
    assert observed(Observer(SECRET, addresses), bytes(Frame(addresses=addresses))).findings() == []


def test_one_group_under_two_vhids() -> None:
    # As BSDs do it: hosts of ours would come to one owner, and one of them be silent.
    scene = Scene(Observer(SECRET, [VIP]), main={"siblings": "warn"}, second={"vhid": 102, "siblings": "warn"})
    scene.run(8)
    (finding,) = scene.observer.findings()
    assert finding.startswith("10.13.37.42 is spoken for by 10.13.37.11 under vhid 101, 10.13.37.12 under vhid 102")


def test_another_group_is_not_judged_by_this_ones_secret() -> None:
    scene = Scene(
        Observer(SECRET, [VIP], vhid=101), second={"vhid": 7, "passphrase": "of another group", "addresses": []}
    )
    scene.second.stop()
    other = GROUP.replace(vhid=7, passphrase="of another group", addresses=["10.13.37.77/24"])
    scene.lan.host("other", "10.13.37.15/24", other).start()
    scene.run(8)
    assert scene.observer.findings() == []
    assert not scene.speaker("10.13.37.15").faults


def test_a_host_that_does_not_hear_the_other_signs_alike() -> None:
    scene = Scene(Observer(SECRET, [VIP]))
    scene.run(5)
    scene.lan.deafen(scene.second)
    scene.run(8)
    (finding,) = scene.observer.findings()
    assert "they sign alike, so one does not hear the other" in finding


def test_signed_as_another_vhid() -> None:
    frame = bytearray(bytes(Frame(vhid=7)))
    frame[35] = 101
    # 7 became 101: the checksum follows, the digest does not.
    word = int.from_bytes(frame[40:42], "big") - (101 - 7)
    frame[40:42] = (word if word >= 0 else word + 0xFFFF).to_bytes(2, "big")
    observer = observed(Observer(SECRET, [VIP]), bytes(frame))
    assert any("signs as vhid 7" in finding for finding in observer.findings())


def test_a_header_that_was_altered_on_its_way() -> None:
    scene = Scene(Observer(SECRET, [VIP]), {"dialect": "bsd", "advskew": 50})
    scene.run(4)
    frame = bytearray(next(frame for _, frame in scene.frames if frame[23:24] == b"\x70"))
    frame[36] = 0
    word = int.from_bytes(frame[40:42], "big") + (50 << 8)
    frame[40:42] = (word if word <= 0xFFFF else word - 0xFFFF).to_bytes(2, "big")
    changes = scene.observer.frame(bytes(frame), EPOCH + scene.lan.now)
    assert [change.details.get("counter") for change in changes] == ["altered"]
    assert scene.speaker(MAIN).advskew == 50


def _heard(observer: Observer, *frames: Frame) -> Observer:
    for number in range(5):
        for at, frame in enumerate(frames):
            counter = (16 * number + at).to_bytes(8, "big")
            observer.frame(bytes(frame.but(counter=counter)), EPOCH + number * 10**9 + at * 300_000_000)
    return observer


@pytest.mark.parametrize("addresses", [(), (VIP,), ("10.13.37.43",)])
def test_without_a_passphrase_none_is_blamed(addresses: tuple[str, ...]) -> None:
    for frames in ((Frame(),), (Frame(passphrase=""),), (Frame(), Frame(source="10.13.37.13", passphrase="other"))):
        observer = _heard(Observer(None, addresses), *frames)
        for finding in observer.findings():
            assert "pass" not in finding.replace("--passfile", ""), finding


def test_a_host_of_the_group_under_another_vhid_is_named() -> None:
    alone = _heard(Observer(PASSPHRASE, [VIP], vhid=101), Frame(vhid=100))
    (finding,) = alone.findings()
    assert "vhid 100, not 101" in finding and "give it vhid 101" in finding
    both = _heard(Observer(PASSPHRASE, [VIP], vhid=101), Frame(vhid=100), Frame(source="10.13.37.13"))
    (finding,) = both.findings()
    assert "10.13.37.12 under vhid 100" in finding and "give all the same vhid" in finding
    other = _heard(Observer(PASSPHRASE, [VIP], vhid=101), Frame(vhid=100, passphrase="another group's"))
    assert other.findings() == []

"""What a LAN can throw at an engine: wrong secrets, forged and broken adverts, garbage. It counts, and goes on."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.lan import VIP, VIP6, Lan, Node, only, stays, wait_until
from support.wire import GROUP_MAC, PASSPHRASE, Frame, counter_of, key

from pycarp import State, events

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT
CLIENT = "10.13.37.13"
BETTER = Frame(advbase=0, advskew=1, source=CLIENT)
"""What would depose the master, if it were right."""


@pytest.fixture
def main(net: Lan) -> Node:
    node = net.start("main", advskew=10)
    node.become(MASTER)
    return node


@pytest.mark.parametrize(
    "counter, wrong",
    [
        ("badauth", {"passphrase": "motdepassehalakom!"}),
        ("badauth", {"digest_flip": 1}),
        ("badauth", {"addresses": ("10.13.37.43",)}),
        ("badvhid", {"vhid": 102, "passphrase": "another secret"}),
        ("badttl", {"ttl": 254}),
        ("badsum", {"checksum_flip": 1}),
        ("badlen", {"cut": 1}),
        ("badver", {"first": 0x41}),
    ],
    ids=["passphrase", "digest", "addresses", "vhid", "ttl", "checksum", "length", "version"],
)
def test_a_wrong_advert_is_counted_and_not_obeyed(
    net: Lan, with_impl: str, counter: str, wrong: dict[str, Any]
) -> None:
    # Fault: A better advert with one thing wrong: secret, digest, addresses, vhid, TTL, checksum, length or version.
    # Expected: Its one counter rises, one AdvertRejected with a hint comes, and the MASTER stays MASTER.
    main = net.start("main", advskew=10)
    main.become(MASTER)
    before = main.heard()
    net.inject("client", *[bytes(BETTER.but(**wrong))] * 3)
    wait_until(lambda: main.heard()[counter] == before[counter] + 3)
    after = main.heard()
    assert {name for name in after if after[name] != before[name]} == {"ipackets", counter}
    assert main.state() is MASTER
    if counter != "badlen":  # too short to say whose it is
        # Said once, not three times.
        rejected = only(main.log.find(events.AdvertRejected, counter=counter))
        assert rejected.peer == CLIENT
        assert rejected.hint
    assert [change.after for change in main.transitions()] == [BACKUP, MASTER]


def test_hosts_with_different_passphrases_are_two_masters_and_say_so(
    net: Lan, caplog: pytest.LogCaptureFixture
) -> None:
    # Fault: Two hosts with different passphrases.
    # Expected: Both are MASTER and report badauth of each other; no passphrase is shown anywhere.
    main = net.start("main", advskew=10)
    second = net.start("second", advskew=25, passphrase="anothersecretofmine")
    main.become(MASTER)
    second.become(MASTER)
    assert second.wait(events.AdvertRejected).counter == "badauth"
    assert main.wait(events.AdvertRejected).peer == net["second"].address
    said = repr([*main.log.events, *second.log.events, main.engine, main.hosts]) + caplog.text
    assert PASSPHRASE not in said and "anothersecretofmine" not in said


def test_ipv6_adverts_are_checked_too(net: Lan) -> None:
    # Fault: IPv6 adverts with a wrong hop limit, digest or checksum.
    # Expected: Each counter rises; only a right advert is obeyed, also with NetBSD's checksum.
    addresses = (f"{VIP}/24", f"{VIP6}/64")
    main = net.start("main", advskew=10, addresses=addresses)
    main.become(MASTER)
    base = BETTER.but(source="2001:db8::99", addresses=addresses)
    before = main.stats()
    net.inject("client", bytes(base.but(ttl=64)), bytes(base.but(digest_flip=1)), bytes(base.but(checksum_flip=1)))
    wait_until(lambda: main.stats()["ipackets6"] == before["ipackets6"] + 3)
    after = main.stats()
    assert [after[name] - before[name] for name in ("badttl", "badauth", "badsum")] == [1, 1, 1]
    assert main.state() is MASTER
    net.inject("client", bytes(base.but(pseudo_header=True)))
    main.become(BACKUP)


def test_allow_off_counts_and_does_not_obey(net: Lan) -> None:
    # Fault: A better advert, with allow off (net.inet.carp.allow=0).
    # Expected: It is counted and not obeyed.
    main = net.start("main", advskew=10, options={"allow": False})
    main.become(MASTER)
    net.inject("client", bytes(BETTER))
    wait_until(lambda: main.stats()["ipackets"] == 1)
    assert main.state() is MASTER


def test_an_advert_of_a_minute_ago(with_impl: str, net: Lan) -> None:
    # Fault: A better host's advert of a minute ago is sent again three times; our own one comes under another address.
    # Expected: replayed and echo count them, one AdvertRejected tells; the MASTER yields to the better host's next one.
    main = net.start("main", advskew=10)
    main.become(MASTER)

    def advert(ago: int) -> bytes:
        counter = counter_of(key(PASSPHRASE), 101, 0, 1, int(time.time()) - ago & 0xFFFF, nonce=ago & 7, demotion=0)
        return bytes(BETTER.but(counter=counter))

    net.inject("client", *[advert(60)] * 3)
    wait_until(lambda: main.stats()["replayed"] == 3)
    rejected = only(main.log.find(events.AdvertRejected, counter="replayed"))
    assert rejected.peer == CLIENT and "sends old ones again" in rejected.hint
    own = main.stats()["opackets"]
    wait_until(lambda: main.stats()["opackets"] > own)
    (spoken,) = [one.data for one in net.capture.frames if one.data[23:24] == b"\x70" and one.port == "main"][-1:]
    copied = Frame(
        advskew=10, pad=spoken[38], counter=spoken[42:50], digest=spoken[50:70], source=CLIENT
    )  # fmt: skip
    net.inject("client", bytes(copied))
    wait_until(lambda: main.stats()["echo"] == 1)
    assert [change.after for change in main.transitions()] == [BACKUP, MASTER]
    net.inject("client", advert(0))
    main.become(BACKUP)


def test_garbage_does_not_stop_it(with_impl: str, net: Lan, main: Node) -> None:
    # Fault: A thousand frames of garbage: cut, random, of other protocols, with single bits changed.
    # Expected: No transition; a right advert is obeyed afterwards.
    dice = random.Random(20170101)
    whole = bytes(BETTER)
    frames = [whole[:length] for length in range(14, len(whole))]
    frames += [whole[:14] + dice.randbytes(dice.randrange(1, 1400)) for _ in range(300)]
    frames += [whole[:34] + dice.randbytes(dice.randrange(1, 1400)) for _ in range(300)]
    frames += [GROUP_MAC + whole[6:12] + b"\x86\xdd" + dice.randbytes(dice.randrange(1, 100)) for _ in range(100)]
    for _ in range(300):
        at = dice.randrange(14, len(whole))
        frames.append(whole[:at] + bytes((whole[at] ^ dice.randrange(1, 256),)) + whole[at + 1 :])
    net.inject("client", *(frame for frame in frames if not _valid(frame, whole)))
    pinger = net.ping()
    assert pinger.wait(3)
    assert [change.after for change in main.transitions()] == [BACKUP, MASTER]
    net.inject("client", whole)
    main.become(BACKUP)


def _valid(frame: bytes, whole: bytes) -> bool:
    """What a mutation can change and NetBSD accepts: anything that no check covers (TOS, identification ...)."""
    from pycarp._impl import current

    input_ = current.input.Input()
    input_.set_instance(101, current.auth.Authenticator(PASSPHRASE, 101, [VIP]), bytes(6), [])
    input_.set_state(101, BACKUP)
    return input_.receive(frame).counter == ""


def test_big_frames(make_lan: Callable[..., Lan], with_impl: str) -> None:
    # Fault: Adverts in frames of up to 64 KiB, as jumbo frames and offloading cards make them.
    # Expected: They are checked to their end, and a right one is obeyed.
    net = make_lan()
    net.cable("main", "client", mtu=65535)
    main = net.start("main", addresses=["192.0.2.42/24"], advskew=10)
    main.become(MASTER)
    better = BETTER.but(addresses=("192.0.2.42",), source="192.0.2.2")
    before = main.stats()
    frames = [bytes(better.but(trailer=bytes(size), digest_flip=1)) for size in (1400, 9000, 32000, 65535 - 20 - 36)]
    net.inject("client", *frames, ifname="eth1")
    wait_until(lambda: main.stats()["ipackets"] == before["ipackets"] + len(frames))
    # Trailing bytes belong to the checksum, and a long frame is no wrong one.
    assert main.stats()["badauth"] == before["badauth"] + len(frames)
    assert main.state() is MASTER
    net.inject("client", bytes(better.but(trailer=bytes(60000))), ifname="eth1")
    main.become(BACKUP)


def test_a_flood_delays_no_take_over(net: Lan) -> None:
    # Fault: 3,000 forged adverts while the MASTER stops.
    # Expected: The backup takes over, and reports one AdvertRejected.
    main = net.start("main", advskew=10)
    second = net.start("second", advskew=25)
    main.become(MASTER)
    second.wait(events.PeerHeard)
    forged = bytes(BETTER.but(digest_flip=1))
    net.inject("client", *[forged] * 3000)
    main.stop()
    second.become(MASTER)
    wait_until(lambda: second.stats()["badauth"] > 1000)
    assert len(second.log.find(events.AdvertRejected)) == 1


def test_a_liar_with_many_addresses_is_not_remembered_for_ever(net: Lan, main: Node) -> None:
    # Fault: Forged adverts from 400 addresses.
    # Expected: All are counted; at most 64 are reported and remembered.
    liars = [
        bytes(BETTER.but(digest_flip=1, source=f"10.13.{number // 250}.{number % 250 + 1}")) for number in range(400)
    ]
    net.inject("client", *liars)
    wait_until(lambda: main.stats()["badauth"] >= 400)
    stays(lambda: len(main.log.find(events.AdvertRejected)) <= 64, 0.05)


def test_wrong_group_or_protocol_is_not_even_counted(net: Lan, main: Node) -> None:
    # Fault: Frames of another multicast group, protocol or ethertype.
    # Expected: None of them is counted.
    before = main.stats()
    net.inject(
        "client",
        bytes(BETTER.but(destination="224.0.0.19", destination_mac=bytes.fromhex("01005e000013"))),
        bytes(BETTER.but(protocol=113)),
        bytes(BETTER.but(ethertype=b"\x88\xb5")),
        bytes(BETTER.but(digest_flip=1)),
    )
    wait_until(lambda: main.stats()["badauth"] > before["badauth"])
    assert main.stats()["ipackets"] == before["ipackets"] + 1

"""Two secrets, or two sets of addresses, at a time: what is believed, and with what an instance signs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pycarp import ConfigError, VirtualHost
from pycarp._impl import Implementation
from pycarp.engine.plan import make_plan
from pycarp.ifconfig import parse_words
from pycarp.protocol import BOWOUT, NS_PER_SECOND

VECTORS = Path(__file__).parents[1] / "vectors"
OLD, NEW = "motdepassehalakon", "unautremotdepasse"
VIP, OTHER, LINK_LOCAL = "10.13.37.42/24", "10.13.37.43/24", "fe80::42/64"
MAC = bytes.fromhex("02000000000c")
SECOND = NS_PER_SECOND


def host(**changes: Any) -> VirtualHost:
    return VirtualHost(**{"vhid": 101, "passphrase": OLD, "addresses": [VIP], **changes})


def authenticator(impl: Implementation, one: VirtualHost) -> Any:
    return impl.auth.Authenticator(one.passphrase, one.vhid, one.signed, one.dialect, one.replay, one.following)


def recorded(system: str) -> list[Any]:
    text = json.loads((VECTORS / f"{system}-frames.json").read_text())
    records = text["records"] if isinstance(text, dict) else text
    return [
        pytest.param(record, frame, id=f"{system}-{record['name']}-{frame['kind']}-{number}")
        for record in records
        for number, frame in enumerate(record["frames"])
        if frame["kind"] in ("advert", "advert6") and "hex" in frame and record.get("passphrase")
        and not {"lladdr", "carpnodes"} & record.keys() and record["name"] != "rawkey20_by_netlink"
    ]  # fmt: skip


@pytest.mark.parametrize(("record", "frame"), [*recorded("netbsd"), *recorded("openbsd")])
def test_what_a_bsd_signed_is_believed_as_old_and_as_new(
    impl: Implementation, record: dict[str, Any], frame: dict[str, Any]
) -> None:
    """Its frame is known for what it is on whichever side of a change its secret stands, and ours is the same there."""
    octets = bytes.fromhex(frame["hex"])
    counter, digest = octets[-28:-20], octets[-20:]
    vhid, secret, addresses = record["vhid"], record["passphrase"], record["addresses"]
    alone = impl.auth.Authenticator(secret, vhid, addresses).verify(counter, digest)
    assert alone is not None
    before = impl.auth.Authenticator(secret, vhid, addresses, following=(NEW, addresses))
    assert before.verify(counter, digest) == alone
    assert before.sign(counter, alone) == digest
    after = impl.auth.Authenticator(NEW, vhid, addresses, following=(secret, addresses))
    assert after.verify(counter, digest) == f"next-{alone}"
    assert after.sign(counter, f"next-{alone}") == digest
    more = impl.auth.Authenticator(secret, vhid, [*addresses, "10.99.99.99/24"], following=(secret, addresses))
    assert more.verify(counter, digest) == f"next-{alone}"
    assert (
        impl.auth.Authenticator(NEW, vhid, addresses, following=("x" * 12, addresses)).verify(counter, digest) is None
    )


def test_all_forms_of_both_are_spoken_and_believed(impl: Implementation) -> None:
    one = host(nextpass=NEW, addresses=[VIP, LINK_LOCAL, OTHER], joining=[OTHER])
    auth = authenticator(impl, one)
    old, new = ("bsd", "netbsd", "openbsd"), ("next-bsd", "next-netbsd", "next-openbsd")
    assert auth.accepts == auth.dialects == (*old, *new)
    assert auth.speaks == "both"
    for which, spoken in (("old", old), ("new", new), ("both", (*old, *new))):
        auth.speak(which)
        assert (auth.speaks, auth.dialects) == (which, spoken)
    for secret, addresses, names in ((OLD, [VIP, LINK_LOCAL], old), (NEW, [VIP, LINK_LOCAL, OTHER], new)):
        peer = impl.auth.Authenticator(secret, 101, addresses)
        for name in names:
            counter = peer.counter(1, 0, 77, name.removeprefix("next-"), 5)
            assert auth.verify(counter, peer.sign(counter, name.removeprefix("next-"))) == name
            # Each key has a tag of its own.
            assert auth.check(counter, 1, 0, name, 5) == ""
            assert auth.vouches(counter, 1, 0, name, 5)
            assert auth.check(counter, 1, 1, name, 5) == "altered"
            # Whoever has one of the two believes what is signed with it.
            mine = auth.counter(1, 0, 78, name)
            assert peer.verify(mine, auth.sign(mine, name)) == name.removeprefix("next-")
            assert auth.check(mine, 1, 0, name) == "echo"
    # What was heard is spoken, of each of the two.
    auth = authenticator(impl, one)
    for secret, addresses, name in ((OLD, [VIP, LINK_LOCAL], "netbsd"), (NEW, [VIP, LINK_LOCAL, OTHER], "bsd")):
        peer = impl.auth.Authenticator(secret, 101, addresses)
        assert auth.verify(bytes(8), peer.sign(bytes(8), name))
    assert auth.dialects == ("netbsd", "next-bsd")
    # Another vhid has both as well.
    sibling = auth.sibling(102)
    peer = impl.auth.Authenticator(NEW, 102, [VIP, LINK_LOCAL, OTHER])
    assert sibling.verify(bytes(8), peer.sign(bytes(8), "bsd")) == "next-bsd"


STEPS: dict[str, list[tuple[float, str, str]]] = {
    # At which second what is heard, and what is spoken then.
    "a start beside the old": [(1, "bsd", "old"), (2, "bsd", "old"), (2.5, "next-bsd", "both")],
    "a start beside the new": [(1, "next-bsd", "new"), (2, "next-bsd", "new")],
    "both are heard": [(1, "bsd", "old"), (1.1, "next-bsd", "both"), (9, "bsd", "both"), (18, "next-bsd", "both"),
                       (19.2, "next-bsd", "new")],
    "one falls back": [(1, "next-bsd", "new"), (60, "bsd", "both"), (65, "next-bsd", "both"), (71, "next-bsd", "new")],
    "the old for long": [(1, "next-bsd", "new"), (60, "bsd", "both"), (600, "bsd", "both")],
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_it_follows_what_it_hears(impl: Implementation, name: str) -> None:
    auth = authenticator(impl, host(nextpass=NEW))
    before = auth.speaks
    for at, dialect, spoken in STEPS[name]:
        said = auth.follow(dialect, int(at * SECOND), SECOND)
        assert (said, auth.speaks) == (spoken if spoken != before else "", spoken)
        before = spoken
        other = authenticator(impl, host(nextpass=NEW))
        other.inherit(json.loads(json.dumps(auth.bequest())))
        assert other.bequest() == auth.bequest()


def test_what_is_told_stays(impl: Implementation) -> None:
    auth = authenticator(impl, host(nextpass=NEW))
    for which, other in (("old", "next-bsd"), ("new", "bsd"), ("both", "bsd")):
        auth.speak(which)
        assert auth.follow(other, SECOND, SECOND) == ""
        assert auth.speaks == which
    auth.speak("auto")
    assert auth.follow("next-bsd", 100 * SECOND, SECOND) == "new"
    plain = authenticator(impl, host())
    assert plain.speaks == "" == plain.follow("bsd", SECOND, SECOND)
    for one, which in ((plain, "new"), (auth, "newer")):
        with pytest.raises(ConfigError):
            one.speak(which)


def test_a_plan_goes_on_where_the_former_one_was(impl: Implementation) -> None:
    def plan(former: Any = None, **changes: Any) -> Any:
        return make_plan(impl, host(**changes), MAC, {}, former)

    first = plan()
    peer = impl.auth.Authenticator(OLD, 101, [VIP])
    first.authenticator.verify(bytes(8), peer.sign(bytes(8), "netbsd"))
    second = plan(first, nextpass=NEW)
    assert second.authenticator.speaks == "old"
    assert second.authenticator.dialects == ("netbsd",)
    # The guardian's bow-outs are for those who have either.
    for secret in (OLD, NEW):
        theirs = impl.auth.Authenticator(secret, 101, [VIP])
        assert any(theirs.verify(frame[-28:-20], frame[-20:]) for frame in second.bowouts)
    assert all(frame[34 + 2] == frame[34 + 5] == BOWOUT for frame in second.bowouts)
    assert plan(second, nextpass=NEW, advskew=3).authenticator is second.authenticator
    new = impl.auth.Authenticator(NEW, 101, [VIP])
    second.authenticator.verify(bytes(8), new.sign(bytes(8), "bsd"))
    second.authenticator.speak("new")
    third = plan(second, passphrase=NEW)
    assert third.authenticator.speaks == ""
    assert third.authenticator.dialects == ("bsd",)
    assert plan(second).authenticator.dialects == ("netbsd",)
    assert plan(third, passphrase="yet another one").authenticator.dialects == ("bsd", "netbsd")


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        ({"nextpass": OLD}, "nextpass", "same secret"),
        ({"passphrase": "x" * 19, "nextpass": "x" * 30}, "nextpass", "19 bytes"),
        ({"joining": [OTHER]}, "joining", "none of the addresses"),
        ({"leaving": [VIP]}, "leaving", "names all"),
        ({"addresses": [VIP, OTHER], "leaving": [OTHER], "joining": [OTHER]}, "leaving", "joining and leaving"),
    ],
)
def test_what_is_no_change_is_refused(changes: dict[str, Any], field: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        host(**changes)
    assert caught.value.field == field


def test_words(tmp_path: Path) -> None:
    (tmp_path / "new.pass").write_text(f"{NEW}\n")
    (tmp_path / "new.pass").chmod(0o600)
    words = (
        f"vhid 101 pass {OLD} nextpassfile new.pass {VIP} {OTHER} 10.13.37.44/24 joining {OTHER} leaving 10.13.37.44"
    )
    parsed = parse_words(words.split(), source="file", directory=tmp_path)
    one = parsed.require()
    assert not parsed.warnings
    assert (one.nextpass, one.passphrase) == (NEW.encode(), OLD)
    assert [str(each.ip) for each in (*one.joining, *one.leaving)] == ["10.13.37.43", "10.13.37.44"]
    assert [str(each) for each in one.signed] == [VIP, "10.13.37.44/24"]
    assert one.following == (NEW.encode(), one.addresses[:2])
    assert NEW not in repr(one)
    told = parse_words(f"vhid 101 pass {OLD} nextpass {NEW} {VIP}".split())
    assert told.require().nextpass == NEW
    said = " ".join(map(str, told.diagnostics))
    assert "'nextpassfile FILE'" in said and NEW not in said
    # Nothing that may be a secret is repeated.
    for wrong in (
        f"nextpass {NEW} {NEW}x",
        f"nextpas {NEW}",
        f"nextpass={NEW}",
        f"nextpassfile {NEW}",
        f"joining {NEW}",
    ):
        parsed = parse_words(f"vhid 101 pass {OLD} {VIP} {wrong}".split(), directory=tmp_path)
        assert parsed.errors
        assert NEW not in " ".join(map(str, parsed.diagnostics))

"""`VirtualHost`: what it takes, what it refuses and in which words; and the small shared types beside it."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import traceback
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.elections import heard

from pycarp import VirtualHost, errors, events, sentences
from pycarp.errors import ConfigError
from pycarp.protocol import NS_PER_SECOND, NS_PER_SKEW, Reason, State
from pycarp.stats import Stats

SECRET = "sesame-ouvre-toi"


def test_defaults() -> None:
    host = VirtualHost(vhid=101, passphrase="")
    assert (host.advbase, host.advskew, host.addresses, host.passphrase) == (1, 0, (), "")
    assert (host.name, host.carpdev, host.dialect, host.mac) == ("carp101", None, "auto", "virtual")
    assert (host.preempt, host.state, host.up, host.families) == (False, None, True, ())
    assert (host.replay, host.siblings, host.announcements, host.conflict) == ("guard", "arbitrate", 3, "warn")


def test_blog() -> None:
    host = VirtualHost(vhid=101, passphrase="motdepassehalakon", addresses=["10.13.37.42/24"])
    assert host.addresses == (IPv4Interface("10.13.37.42/24"),)
    assert host.interval == NS_PER_SECOND
    assert host.families == (4,)


def test_keywords_only() -> None:
    with pytest.raises(TypeError):
        VirtualHost(101)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vhid", 0), ("vhid", 256), ("vhid", -1), ("vhid", "101"), ("vhid", 1.0), ("vhid", True), ("vhid", None),
        ("advbase", -1), ("advbase", 255), ("advbase", "1"), ("advbase", 0.5), ("advbase", False),
        ("advskew", -1), ("advskew", 255), ("advskew", 256), ("advskew", None), ("advskew", True),
        ("carpdev", ""), ("carpdev", "a" * 16), ("carpdev", "eth 0"), ("carpdev", "eth/0"), ("carpdev", ".."),
        ("carpdev", "eth0\n"), ("carpdev", "éth0"), ("carpdev", 7),
        ("name", ""), ("name", "."), ("name", "carp:0"), ("name", "x" * 16), ("name", 5),
        ("dialect", "freebsd"), ("dialect", ""), ("dialect", None),
        ("mac", "vmac"), ("mac", b"virtual"),
        ("replay", "on"), ("siblings", "off"), ("siblings", None), ("conflict", "allow"), ("conflict", True),
        ("announcements", 0), ("announcements", 11), ("announcements", "3"), ("announcements", True),
        ("state", 3), ("state", "MASTER"), ("state", -1),
        ("passphrase", "a\0b"), ("passphrase", b"a\0b"), ("passphrase", 5), ("passphrase", ["x"]),
        ("passphrase", "x\ud800"), ("passphrase", None), ("passphrase", bytearray(b"x")),
        ("preempt", "no"), ("preempt", "yes"), ("preempt", 0), ("preempt", 1), ("preempt", None), ("preempt", []),
        ("up", "down"), ("up", 1), ("state", True), ("state", 1.0), ("state", b"MASTER"), ("dialect", ["auto"]),
        ("addresses", None), ("addresses", 5), ("addresses", b"10.0.0.1"), ("addresses", IPv4Address("10.0.0.1")),
    ],
)  # fmt: skip
def test_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        VirtualHost(**({"vhid": 101, "passphrase": ""} | {name: value}))
    assert caught.value.field == name
    message = str(caught.value)
    assert message and "\n" not in message and not message.endswith(".")
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, errors.CarpError)


ADDRESSES_REFUSED = [
    "10.13.37", "10.13.37.42/33", "nonsense", "", "10.13.37.42/24/24", "::g", "fe80::1%eth0/64", "224.0.0.18",
    "239.1.1.1/32", "ff02::12", "0.0.0.0", "::", "127.0.0.1", "::1", "255.255.255.255", "10.13.37.0/24",
    "10.13.37.255/24", None, 1.5, 1, True, b"\x0a\x0d\x25\x2a", ("10.13.37.43", 24), IPv4Network("10.13.37.43/32"),
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES_REFUSED)
def test_addresses_refused(address: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        VirtualHost(vhid=101, passphrase="", addresses=["10.13.37.42/24", address])
    assert caught.value.field == "addresses"


@pytest.mark.parametrize(
    ("given_", "taken"),
    [
        ("10.13.37.42", IPv4Interface("10.13.37.42/32")),
        ("10.13.37.42/255.255.255.0", IPv4Interface("10.13.37.42/24")),
        (IPv4Address("10.13.37.42"), IPv4Interface("10.13.37.42/32")),
        (IPv4Interface("10.13.37.42/24"), IPv4Interface("10.13.37.42/24")),
        ("10.13.37.0/31", IPv4Interface("10.13.37.0/31")),
        ("10.13.37.255/32", IPv4Interface("10.13.37.255/32")),
        ("2001:DB8::0042/64", IPv6Interface("2001:db8::42/64")),
        (IPv6Address("fe80::42"), IPv6Interface("fe80::42/128")),
        ("2001:db8::/64", IPv6Interface("2001:db8::/64")),
    ],
)
def test_addresses_taken(given_: Any, taken: Any) -> None:
    assert VirtualHost(vhid=101, passphrase="", addresses=[given_]).addresses == (taken,)


@pytest.mark.parametrize("twice", [["10.13.37.42/24"] * 2, ["10.13.37.42/24", "10.13.37.42/16"], ["::2", "0::2/64"]])
def test_address_twice(twice: list[str]) -> None:
    with pytest.raises(ConfigError, match="twice"):
        VirtualHost(vhid=101, passphrase="", addresses=twice)


def test_one_text_is_not_a_list() -> None:
    with pytest.raises(ConfigError, match="list") as caught:
        VirtualHost(vhid=101, passphrase="", addresses="10.13.37.42/24")
    assert caught.value.field == "addresses"


def test_addresses_keep_their_order_and_may_be_an_iterator() -> None:
    texts = ["10.13.37.200/24", "2001:db8::42/64", "10.13.37.42/24"]
    host = VirtualHost(vhid=101, passphrase="", addresses=(text for text in texts))
    assert [str(address) for address in host.addresses] == texts
    assert host.families == (4, 6)
    assert VirtualHost(vhid=101, passphrase="", addresses=["2001:db8::42/64"]).families == (6,)


def test_no_time_between_adverts() -> None:
    with pytest.raises(ConfigError, match="advbase 0 with advskew 0") as caught:
        VirtualHost(vhid=101, passphrase="", advbase=0, advskew=0)
    assert caught.value.field == "advbase"
    assert VirtualHost(vhid=101, passphrase="", advbase=0, advskew=1).interval == NS_PER_SKEW


@given(
    vhid=st.integers(1, 255),
    advbase=st.integers(0, 254),
    advskew=st.integers(1, 254),
    preempt=st.booleans(),
    passphrase=st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.just(b"\xff\xfe"),
)
def test_everything_in_range(vhid: int, advbase: int, advskew: int, preempt: bool, passphrase: Any) -> None:
    host = VirtualHost(vhid=vhid, advbase=advbase, advskew=advskew, preempt=preempt, passphrase=passphrase)
    assert host.interval == advbase * 1_000_000_000 + advskew * 1_000_000_000 // 256
    assert host.passphrase == passphrase
    assert host.replace() == host and hash(host.replace()) == hash(host)


def test_a_number_is_kept_as_one() -> None:
    assert repr(VirtualHost(vhid=State.BACKUP, passphrase="")).startswith("VirtualHost(vhid=1, ")


def test_frozen() -> None:
    host = VirtualHost(vhid=101, passphrase="")
    with pytest.raises(dataclasses.FrozenInstanceError):
        host.vhid = 7  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        host.other = 7  # type: ignore[attr-defined]
    assert not hasattr(host, "__dict__")


def test_replace_validates() -> None:
    host = VirtualHost(vhid=101, passphrase=SECRET, addresses=["10.13.37.42/24"], name="floating")
    other = host.replace(advskew=100)
    assert (other.advskew, other.passphrase, other.name, other.addresses) == (100, SECRET, "floating", host.addresses)
    assert host.advskew == 0
    with pytest.raises(ConfigError):
        host.replace(advskew=255)
    with pytest.raises(TypeError):
        host.replace(colour="red")


def test_copies() -> None:
    host = VirtualHost(vhid=101, passphrase=SECRET, addresses=["10.13.37.42/24", "fe80::42/64"], state=State.MASTER)
    assert copy.copy(host) == copy.deepcopy(host) == pickle.loads(pickle.dumps(host)) == host


# The secret stays one


def test_passphrase_is_not_shown() -> None:
    for passphrase in (SECRET, SECRET.encode()):
        host = VirtualHost(vhid=101, passphrase=passphrase)
        assert "sesame" not in f"{host!r} {host} {host.replace(vhid=7)!r}"
        assert host.passphrase == passphrase


def test_a_passphrase_has_to_be_given() -> None:
    with pytest.raises(ConfigError, match=r'a passphrase is missing: give the group\'s, or passphrase=""') as caught:
        VirtualHost(vhid=101)
    assert caught.value.field == "passphrase"
    assert VirtualHost(vhid=101, passphrase="").passphrase == ""


FIELDS = sorted(VirtualHost.__dataclass_fields__)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    "value", [SECRET, SECRET + "\0", SECRET.encode() + b"\0", [SECRET], (SECRET,), {SECRET: 1}, SECRET + "\ud800",
              f"10.0.0.1/{SECRET}", [f"fe80::1%{SECRET}"], [SECRET.encode()], 7357735773577357, 7357.7357],
)  # fmt: skip
def test_no_error_has_a_passphrase(field: str, value: Any) -> None:
    """In whichever field it stands: not in the message, the arguments, the traceback, or an error behind it."""
    try:
        VirtualHost(**({"vhid": 101, "passphrase": ""} | {field: value}))
    except ConfigError as error:
        assert error.__cause__ is None and error.__context__ is None
        said = "".join(traceback.format_exception(error)) + repr(error) + repr(error.args) + repr(vars(error))
        assert "sesame" not in said and "7357" not in said
    else:
        assert field in ("passphrase", "nextpass") or (field == "name" and len(SECRET) > 15)


# The types beside it


def test_errors_are_what_python_programs_expect() -> None:
    for error, builtin in (
        (errors.ConfigError, ValueError), (errors.InterfaceError, OSError), (errors.CapabilityError, PermissionError),
        (errors.EngineError, RuntimeError), (errors.ImplementationError, ImportError),
    ):  # fmt: skip
        assert issubclass(error, builtin) and issubclass(error, errors.CarpError)
        assert str(error("why")) == "why"


def test_stats_have_the_kernels_names() -> None:
    names = [
        "ipackets", "ipackets6", "badif", "badttl", "hdrops", "badsum", "badver", "badlen", "badauth", "badvhid",
        "badaddrs", "opackets", "opackets6", "onomem", "ostates", "preempt",
    ]  # fmt: skip
    ours = ["altered", "echo", "replayed"]
    assert Stats().as_dict() == dict.fromkeys(names + ours, 0)
    assert Stats(badauth=3).as_dict()["badauth"] == 3


def test_events_as_plain_values() -> None:
    event = events.StateChanged(
        vhid=101, name="carp0", at=5, before=State.BACKUP, after=State.MASTER, reason=Reason.BOWOUT, peer="10.13.37.12"
    )
    assert event.as_dict() == {
        "event": "StateChanged", "vhid": 101, "name": "carp0", "at": 5, "before": "BACKUP", "after": "MASTER",
        "reason": "the master bowed out", "peer": "10.13.37.12",
    }  # fmt: skip
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.at = 6  # type: ignore[misc]


def test_advice_about_a_sibling() -> None:
    plainly = (
        "10.13.37.2 (claimed) holds the same addresses under vhid 100: these hosts are not in one group; use one vhid, "
        "and advskew 100 on the second. "
    )
    for standing in ("yield", "prefer", "stalemate", "warn"):
        assert events.sibling_advice(standing, 100, "10.13.37.2").startswith(plainly)
    assert set(sentences.SIBLINGS) == {"yield", "prefer", "stalemate", "warn", "several"}
    for standing in sentences.SIBLINGS:
        advice = events.sibling_advice(standing, 100, "10.13.37.2")
        assert "10.13.37.2 (claimed)" in advice and "vhid 100" in advice
        assert "{" not in advice and "\n" not in advice and not advice.endswith(".")


def test_adverts() -> None:
    advert = heard(2, 100)
    assert advert.interval == 2 * NS_PER_SECOND + 100 * NS_PER_SKEW
    assert not advert.bowout and heard(255, 255).bowout
    assert hash(advert) == hash(heard(2, 100))


def test_states_have_the_kernels_numbers() -> None:
    assert [(state.name, int(state)) for state in State] == [("INIT", 0), ("BACKUP", 1), ("MASTER", 2)]
    assert str(Reason.TIE) == "an equal master was heard"
    assert f"{State.MASTER} {State.BACKUP:d} {State.INIT!s}" == "MASTER 1 INIT"


def test_an_unknown_argument_is_told_of_the_public_class() -> None:
    with pytest.raises(TypeError, match=r"^VirtualHost\.__init__\(\) got an unexpected keyword argument 'strangers'"):
        VirtualHost(vhid=1, strangers="warn")  # type: ignore[call-arg]

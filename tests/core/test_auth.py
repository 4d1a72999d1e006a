"""Keys, digests and counters against hmac and hashlib as docs/protocol.md says (support.wire), never against ours."""

from __future__ import annotations

import gc
import itertools
import traceback
from ipaddress import IPv4Address, IPv6Interface
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support import wire

from pycarp._impl import Implementation
from pycarp.errors import ConfigError

ADDRESSES = (wire.VIP,)
COUNTER = bytes.fromhex("d10c3a007a24499f")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def keyed(secret: bytes, counter: bytes = COUNTER, addresses: tuple[str, ...] = ADDRESSES, vhid: int = 101) -> bytes:
    """The digest under a key given as it is, but for the padding with zeros."""
    return wire.digest(secret.ljust(20, b"\0"), vhid, addresses, counter)


# From the passphrase to the key


KEYS = [
    # passphrase, the key of dialect bsd, of dialect netbsd; padding left out
    pytest.param("", b"", b"", id="none"),
    pytest.param("a", b"a", b"", id="1"),
    pytest.param("ab", b"ab", b"a", id="2"),
    pytest.param(LETTERS[:7], b"abcdefg", b"abcdef", id="7"),
    pytest.param(LETTERS[:8], b"abcdefgh", b"abcdefg", id="8"),
    pytest.param("motdepassehalakon", b"motdepassehalakon", b"motdepassehalako", id="blog"),
    pytest.param(LETTERS[:18], b"abcdefghijklmnopqr", b"abcdefghijklmnopq", id="18"),
    pytest.param(LETTERS[:19], b"abcdefghijklmnopqrs", b"abcdefghijklmnopqr", id="19"),
    pytest.param(LETTERS[:20], b"abcdefghijklmnopqrs", b"abcdefghijklmnopqrs", id="20"),
    pytest.param(LETTERS[:21], b"abcdefghijklmnopqrs", b"abcdefghijklmnopqrs", id="21"),
    pytest.param(LETTERS * 5, b"abcdefghijklmnopqrs", b"abcdefghijklmnopqrs", id="130"),
    pytest.param("0x00112233445566778899", b"0x00112233445566778", b"", id="hex-zero-first"),
    pytest.param("0x11223344", b"0x11223344", b"\x11\x22\x33", id="hex-4"),
    pytest.param("0X1122334455667788", b"0X1122334455667788", b"\x11\x22\x33\x44\x55\x66\x77", id="hex-capital-x"),
    pytest.param("0xaAbBcCdD", b"0xaAbBcCdD", b"\xaa\xbb\xcc", id="hex-mixed-case"),
    pytest.param("0x1122003344", b"0x1122003344", b"\x11\x22", id="hex-zero-within"),
    pytest.param("0x" + "41" * 19, b"0x41414141414141414", b"A" * 18, id="hex-19"),
    pytest.param("0x" + "41" * 20, b"0x41414141414141414", b"A" * 19, id="hex-20"),
    pytest.param("0x" + "41" * 21, b"0x41414141414141414", b"A" * 19, id="hex-21"),
    pytest.param("x0112233", b"x0112233", b"x011223", id="not-hex"),
    pytest.param("clé-à-molette", "clé-à-molette".encode(), "clé-à-molett".encode(), id="UTF-8"),
    pytest.param("éééééééééé", ("é" * 9).encode() + b"\xc3", ("é" * 9).encode() + b"\xc3", id="UTF-8-cut-within"),
    pytest.param(b"\xe9\xff\x80", b"\xe9\xff\x80", b"\xe9\xff", id="bytes"),
    pytest.param("caf\udce9", b"caf\xe9", b"caf", id="Latin-1-in-argv"),
]


@pytest.mark.parametrize(("passphrase", "bsd", "netbsd"), KEYS)
def test_keys(impl: Implementation, passphrase: str | bytes, bsd: bytes, netbsd: bytes) -> None:
    for dialect, key in (("bsd", bsd), ("netbsd", netbsd)):
        authenticator = impl.auth.Authenticator(passphrase, 101, ADDRESSES, dialect)
        assert authenticator.sign(COUNTER) == keyed(key), dialect
        assert authenticator.verify(COUNTER, keyed(key)) == dialect
        assert authenticator.dialects == (dialect,)


def test_no_passphrase_is_the_zero_key(impl: Implementation) -> None:
    for nothing in (None, "", b""):
        for dialect in ("auto", "bsd", "netbsd"):
            assert impl.auth.Authenticator(nothing, 101, ADDRESSES, dialect).sign(COUNTER) == keyed(bytes(20))


@pytest.mark.parametrize("passphrase", ["0x", "0X", "0x1", "0x123", "0xgg", "0x12 34", "0x1 ", "0x\u0661\u0662"])
def test_bad_hexadecimal(impl: Implementation, passphrase: str) -> None:
    """NetBSD's ifconfig refuses it; everywhere else it is a passphrase as any."""
    with pytest.raises(ConfigError, match="hexadecimal") as caught:
        impl.auth.Authenticator(passphrase, 101, ADDRESSES, "netbsd")
    assert caught.value.field == "passphrase"
    for dialect in ("bsd", "auto"):
        authenticator = impl.auth.Authenticator(passphrase, 101, ADDRESSES, dialect)
        assert authenticator.dialects == ("bsd",)
        assert authenticator.sign(COUNTER) == keyed(passphrase.encode()[:19])


# What the digest covers


def test_digest_follows_vhid_addresses_and_counter(impl: Implementation) -> None:
    base: dict[str, Any] = {"passphrase": "motdepassehalakon", "vhid": 101, "addresses": ADDRESSES, "dialect": "bsd"}
    assert impl.auth.Authenticator(**base).sign(COUNTER) == keyed(b"motdepassehalakon")
    seen = {impl.auth.Authenticator(**base).sign(COUNTER), impl.auth.Authenticator(**base).sign(bytes(8))}
    for change in (
        {"vhid": 102}, {"addresses": ("10.13.37.43",)}, {"addresses": ()}, {"passphrase": "motdepassehalakom"}
    ):  # fmt: skip
        seen.add(impl.auth.Authenticator(**(base | change)).sign(COUNTER))
    assert len(seen) == 6


MIXED = ("10.13.37.200/24", "10.13.37.42/24", "2001:db8::42/64", "fe80::42/64", "9.255.0.1/8", "2001:db8::1:0/64")


def test_addresses_in_any_order_and_form(impl: Implementation) -> None:
    expected = wire.digest(wire.key("motdepassehalakon"), 101, MIXED, COUNTER)
    for addresses in itertools.islice(itertools.permutations(MIXED), 0, 720, 71):
        assert impl.auth.Authenticator("motdepassehalakon", 101, addresses).sign(COUNTER) == expected
    without_prefix = [address.partition("/")[0] for address in MIXED]
    objects: list[Any] = [IPv4Address("10.13.37.42"), *without_prefix, IPv6Interface("2001:db8::42/48"), *MIXED]
    for iterable in (without_prefix, iter(without_prefix), objects):  # objects: some of them twice and thrice
        assert impl.auth.Authenticator("motdepassehalakon", 101, iterable).sign(COUNTER) == expected


@pytest.mark.parametrize("count", [0, 1, 2, 10, 11, 12, 13, 14, 15, 27, 28, 29, 60])
def test_many_addresses(impl: Implementation, count: int) -> None:
    """From 12 IPv4 addresses on a whole block of the prefix is hashed beforehand."""
    addresses = tuple(f"10.13.37.{number}" for number in range(1, count + 1))
    authenticator = impl.auth.Authenticator("motdepassehalakon", 101, addresses)
    expected = wire.digest(wire.key("motdepassehalakon"), 101, addresses, COUNTER)
    assert authenticator.sign(COUNTER) == expected
    assert authenticator.verify(COUNTER, expected) == "bsd"
    mixed = (*addresses, "2001:db8::1", "fe80::9")
    both = impl.auth.Authenticator("motdepassehalakon", 101, mixed)
    for link_local in (True, False):
        digest = wire.digest(wire.key("motdepassehalakon"), 101, mixed, COUNTER, link_local)
        assert both.verify(COUNTER, digest) == ("bsd" if link_local else "openbsd")


@pytest.mark.parametrize(
    "addresses", [("10.13.37.42", "fe80::42"), ("fe80::42",), ("fe80::1", "febf::1", "2001:db8::1")], ids=len
)
def test_link_local_variants(impl: Implementation, addresses: tuple[str, ...]) -> None:
    """OpenBSD leaves link-local addresses out, or has its own among them; all are believed, and spoken until one is
    heard."""
    key = wire.key("motdepassehalakon")
    authenticator = impl.auth.Authenticator("motdepassehalakon", 101, addresses)
    full, short = (wire.digest(key, 101, addresses, COUNTER, link_local) for link_local in (True, False))
    assert full != short
    assert authenticator.sign(COUNTER) == full
    assert authenticator.dialects == ("bsd", "netbsd", "openbsd")
    assert authenticator.sign(COUNTER, "openbsd") == short
    assert authenticator.verify(COUNTER, short) == "openbsd"
    assert authenticator.dialects == ("openbsd",) and authenticator.sign(COUNTER) == short
    own = wire.digest(key, 101, (*addresses, "fe80::200:5eff:fe00:165"), COUNTER)
    assert authenticator.verify(COUNTER, own) == "openbsd"
    assert (
        authenticator.verify(COUNTER, wire.digest(key, 101, (*addresses, "fe80::200:5eff:fe00:166"), COUNTER)) is None
    )
    assert authenticator.verify(COUNTER, full) == "bsd"
    assert authenticator.dialects == ("bsd", "netbsd", "openbsd")
    netbsd = wire.key("motdepassehalakon", "netbsd")
    assert authenticator.verify(COUNTER, wire.digest(netbsd, 101, addresses, COUNTER)) == "netbsd"
    assert authenticator.verify(COUNTER, wire.digest(netbsd, 101, addresses, COUNTER, False)) is None
    fixed = impl.auth.Authenticator("motdepassehalakon", 101, addresses, "bsd")
    assert fixed.dialects == ("bsd", "openbsd")
    assert impl.auth.Authenticator("motdepassehalakon", 101, addresses, "netbsd").dialects == ("netbsd",)


def test_scope_of_a_link_local_address_is_zeroed(impl: Implementation) -> None:
    """The kernel's own form, with the interface in bytes 2 and 3."""
    plain = impl.auth.Authenticator("motdepassehalakon", 101, ["fe80::42"]).sign(COUNTER)
    assert impl.auth.Authenticator("motdepassehalakon", 101, ["fe80:3::42"]).sign(COUNTER) == plain
    assert impl.auth.Authenticator("motdepassehalakon", 101, ["fe80::42%eth0"]).sign(COUNTER) == plain
    assert impl.auth.Authenticator("motdepassehalakon", 101, ["fe80::42", "fe80:7::42/64"]).sign(COUNTER) == plain
    assert impl.auth.Authenticator("motdepassehalakon", 101, ["fec0:3::42"]).sign(COUNTER) != plain


# auto


def digests(passphrase: str) -> tuple[bytes, bytes]:
    return tuple(  # type: ignore[return-value]
        wire.digest(wire.key(passphrase, dialect), 101, ADDRESSES, COUNTER) for dialect in ("bsd", "netbsd")
    )


def test_auto_signs_under_both_until_somebody_is_heard(impl: Implementation) -> None:
    authenticator = impl.auth.Authenticator("motdepassehalakon", 101, ADDRESSES)
    bsd, netbsd = digests("motdepassehalakon")
    assert authenticator.dialects == ("bsd", "netbsd")
    assert authenticator.sign(COUNTER) == bsd
    assert authenticator.sign(COUNTER, "bsd") == bsd
    assert authenticator.sign(COUNTER, "netbsd") == netbsd


@pytest.mark.parametrize("first", [0, 1])
def test_auto_follows_what_it_heard(impl: Implementation, first: int) -> None:
    names = ("bsd", "netbsd")
    authenticator = impl.auth.Authenticator("motdepassehalakon", 101, ADDRESSES)
    pair = digests("motdepassehalakon")
    for _ in range(3):
        assert authenticator.verify(COUNTER, pair[first]) == names[first]
        assert authenticator.dialects == (names[first],)
        assert authenticator.sign(COUNTER) == pair[first]
        assert authenticator.sign(COUNTER, names[1 - first]) == pair[1 - first]
    # Once both were heard, both are served again, and what was heard last is what `sign` gives.
    assert authenticator.verify(COUNTER, pair[1 - first]) == names[1 - first]
    assert set(authenticator.dialects) == set(names)
    assert authenticator.sign(COUNTER) == pair[1 - first]
    assert authenticator.verify(COUNTER, pair[first]) == names[first]
    assert set(authenticator.dialects) == set(names)
    assert authenticator.sign(COUNTER) == pair[first]


def test_a_wrong_digest_teaches_nothing(impl: Implementation) -> None:
    authenticator = impl.auth.Authenticator("motdepassehalakon", 101, ADDRESSES)
    _, netbsd = digests("motdepassehalakon")
    for wrong in (bytes(20), netbsd[:19] + bytes((netbsd[19] ^ 1,)), netbsd[:19], netbsd + b"\0", b""):
        assert authenticator.verify(COUNTER, wrong) is None
        assert authenticator.verify(int.from_bytes(COUNTER, "big") ^ 1, netbsd) is None
    assert authenticator.dialects == ("bsd", "netbsd")


@pytest.mark.parametrize("length", range(1, 8))
def test_short_passphrases_are_bsd_under_auto(impl: Implementation, length: int) -> None:
    """The shortened key would be easier still to guess; of one character it would be the empty one."""
    authenticator = impl.auth.Authenticator(LETTERS[:length], 101, ADDRESSES)
    bsd, netbsd = digests(LETTERS[:length])
    assert authenticator.dialects == ("bsd",)
    assert authenticator.verify(COUNTER, netbsd) is None
    assert authenticator.verify(COUNTER, bsd) == "bsd"
    with pytest.raises(ConfigError, match="^dialect netbsd is not in use"):
        authenticator.sign(COUNTER, "netbsd")


def test_eight_bytes_are_enough_for_auto(impl: Implementation) -> None:
    """Bytes, not characters."""
    for passphrase in (LETTERS[:8], "éééé"):
        assert impl.auth.Authenticator(passphrase, 101, ADDRESSES).dialects == ("bsd", "netbsd")


@pytest.mark.parametrize("length", [20, 21, 40])
def test_from_20_bytes_on_the_dialects_are_one(impl: Implementation, length: int) -> None:
    passphrase = (LETTERS * 2)[:length]
    authenticator = impl.auth.Authenticator(passphrase, 101, ADDRESSES)
    assert authenticator.dialects == ("bsd",)
    assert authenticator.verify(COUNTER, digests(passphrase)[1]) == "bsd"


@pytest.mark.parametrize("passphrase", ["0x0011223344556677", "0x1122330044556677", "0x112233445566", "0x00", "0x0000"])
def test_hexadecimal_with_little_left_is_bsd_under_auto(impl: Implementation, passphrase: str) -> None:
    """What NetBSD keeps of these is empty or short: `auto` must not believe a peer that knows only that."""
    authenticator = impl.auth.Authenticator(passphrase, 101, ADDRESSES)
    assert authenticator.dialects == ("bsd",)
    assert authenticator.verify(COUNTER, keyed(b"")) is None


def test_hexadecimal_under_auto(impl: Implementation) -> None:
    authenticator = impl.auth.Authenticator("0x1122334455667788", 101, ADDRESSES)
    assert authenticator.dialects == ("bsd", "netbsd")
    assert authenticator.verify(COUNTER, keyed(bytes.fromhex("11223344556677"))) == "netbsd"


@given(passphrase=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_auto_never_believes_an_empty_key(impl: Implementation, passphrase: str) -> None:
    assume(passphrase)
    assert impl.auth.Authenticator(passphrase, 101, ADDRESSES).verify(COUNTER, keyed(b"")) is None


# Counters


@given(number=st.integers(0, 2**64 - 1))
def test_counter_as_number_or_bytes(impl: Implementation, number: int) -> None:
    authenticator = impl.auth.Authenticator("motdepassehalakon", 101, ADDRESSES)
    octets = number.to_bytes(8, "big")
    expected = keyed(b"motdepassehalakon", octets)
    assert authenticator.sign(number) == authenticator.sign(octets) == expected
    assert authenticator.verify(number, expected) == authenticator.verify(octets, expected) == "bsd"


@pytest.mark.parametrize("counter", [-1, 2**64, 2**200, b"", bytes(7), bytes(9)])
def test_counter_out_of_range(impl: Implementation, counter: int | bytes) -> None:
    authenticator = impl.auth.Authenticator("motdepassehalakon", 101, ADDRESSES)
    with pytest.raises(ValueError, match="counter"):
        authenticator.sign(counter)
    with pytest.raises(ValueError, match="counter"):
        authenticator.verify(counter, bytes(20))
    assert authenticator.dialects == ("bsd", "netbsd")


@given(
    vhid=st.integers(1, 255),
    advbase=st.integers(0, 255),
    advskew=st.integers(0, 255),
    nonce=st.integers(0, 7),
    serial=st.integers(0, 2**16 - 1),
    pace=st.integers(0, 15),
    demotion=st.none() | st.integers(0, 255),
    dialect=st.sampled_from(["bsd", "netbsd"]),
)
def test_tagged_counter(
    impl: Implementation, vhid: int, advbase: int, advskew: int, nonce: int, serial: int, pace: int,
    demotion: int | None, dialect: str,
) -> None:  # fmt: skip
    authenticator = impl.auth.Authenticator("motdepassehalakon", vhid, ADDRESSES)
    key = wire.key("motdepassehalakon", dialect)
    counter = authenticator.counter(advbase, advskew, nonce, dialect, demotion, serial, pace)
    assert counter == wire.counter_of(
        key, vhid, advbase, advskew, serial, nonce=nonce, demotion=demotion, pace=pace
    )  # fmt: skip
    assert authenticator.tagged(counter, dialect)
    assert not authenticator.tagged(wire.tagged_counter(key, vhid, advbase, advskew, serial), dialect)


def test_the_counter_that_docs_show(impl: Implementation) -> None:
    """Bytes that nobody computed with this code's help: openssl dgst -sha1 -mac HMAC."""
    authenticator = impl.auth.Authenticator("motdepassehalakon", 101, ADDRESSES)
    counter = authenticator.counter(1, 100, 5, "bsd", 3, 0xBEEF, 2)
    assert counter.hex() == "f1952d03beef0164"


def test_tagged_counter_takes_what_fits(impl: Implementation) -> None:
    authenticator = impl.auth.Authenticator("motdepassehalakon", 101, ADDRESSES)
    assert authenticator.counter(1, 0, 0x1234567) == authenticator.counter(1, 0, 7)
    assert authenticator.counter(1, 0, 0, serial=0x12345) == authenticator.counter(1, 0, 0, serial=0x2345)
    assert len({authenticator.counter(1, 0, nonce) for nonce in range(256)}) == 8
    for wrong in ({"pace": 16}, {"pace": -1}, {"demotion": 256}, {"demotion": -1}):
        with pytest.raises(ValueError):
            authenticator.counter(1, 0, 0, **wrong)


def test_tagged_counter_goes_with_the_signature(impl: Implementation) -> None:
    """Without a dialect both are under the one last heard."""
    authenticator = impl.auth.Authenticator("motdepassehalakon", 101, ADDRESSES)
    assert authenticator.counter(1, 0, 5) == authenticator.counter(1, 0, 5, "bsd")
    authenticator.verify(COUNTER, digests("motdepassehalakon")[1])
    assert authenticator.counter(1, 0, 5) == authenticator.counter(1, 0, 5, "netbsd")


@pytest.mark.parametrize(("advbase", "advskew"), [(256, 0), (-1, 0), (0, 256), (0, -1)])
def test_tagged_counter_out_of_range(impl: Implementation, advbase: int, advskew: int) -> None:
    with pytest.raises(ValueError):
        impl.auth.Authenticator("motdepassehalakon", 101, ADDRESSES).counter(advbase, advskew, 0)


# Bad use


@pytest.mark.parametrize("vhid", [0, 256, -1, True, "101", 1.0, None])
def test_bad_vhid(impl: Implementation, vhid: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        impl.auth.Authenticator("motdepassehalakon", vhid, ADDRESSES)
    assert caught.value.field == "vhid"


@pytest.mark.parametrize("dialect", ["", "BSD", "openbsd", "any"])
def test_bad_dialect(impl: Implementation, dialect: str) -> None:
    with pytest.raises(ConfigError) as caught:
        impl.auth.Authenticator("motdepassehalakon", 101, ADDRESSES, dialect)
    assert caught.value.field == "dialect"


@pytest.mark.parametrize("dialect", ["netbsd", "auto", ""])
def test_dialect_that_is_not_in_use(impl: Implementation, dialect: str) -> None:
    authenticator = impl.auth.Authenticator("motdepassehalakon", 101, ADDRESSES, "bsd")
    with pytest.raises(ConfigError):
        authenticator.sign(COUNTER, dialect)
    with pytest.raises(ConfigError):
        authenticator.counter(1, 0, 0, dialect)


@pytest.mark.parametrize("passphrase", [5, 0, 1.5, ["a"], object()], ids=["five", "zero", "float", "list", "object"])
def test_passphrase_that_is_none(impl: Implementation, passphrase: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        impl.auth.Authenticator(passphrase, 101, ADDRESSES)
    assert caught.value.field == "passphrase"


@pytest.mark.parametrize("address", ["10.13.37", "nonsense", "10.13.37.42/33", ""])
def test_bad_address(impl: Implementation, address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        impl.auth.Authenticator("motdepassehalakon", 101, [wire.VIP, address])
    assert caught.value.field == "addresses"


# The secret stays one


SECRET = "sesame-ouvre-toi"


@pytest.mark.parametrize("dialect", ["auto", "bsd", "netbsd"])
def test_passphrase_is_not_shown(impl: Implementation, dialect: str) -> None:
    authenticator = impl.auth.Authenticator(SECRET, 101, ADDRESSES, dialect)
    for shown in (repr(authenticator), str(authenticator), f"{authenticator}", ascii(authenticator)):
        assert "sesame" not in shown and "101" in shown
    assert not hasattr(authenticator, "__dict__")


@pytest.mark.parametrize(
    ("passphrase", "dialect"),
    [("0x" + SECRET, "netbsd"), (SECRET, SECRET[:6]), (SECRET + "\ud800", "auto"), ([SECRET], "auto")],
    ids=["hexadecimal", "dialect", "surrogate", "list"],
)
def test_passphrase_is_not_in_errors(impl: Implementation, passphrase: Any, dialect: str) -> None:
    """Nor in an error that was the cause of one, as a traceback would show it."""
    with pytest.raises(ConfigError) as caught:
        impl.auth.Authenticator(passphrase, 101, ADDRESSES, dialect)
    shown = "".join(traceback.format_exception(caught.value)[-1:]) + repr(caught.value)
    if dialect != SECRET[:6]:  # a passphrase given in the wrong place is named as the dialect it is not
        assert "sesame" not in shown
    assert "ouvre" not in shown
    assert caught.value.__cause__ is None and (caught.value.__context__ is None or caught.value.__suppress_context__)


def test_sign_and_verify_do_not_keep_what_they_were_given(impl: Implementation) -> None:
    """Two authenticators share nothing; one used a thousand times gives what it gave first."""
    one = impl.auth.Authenticator("motdepassehalakon", 101, ADDRESSES)
    other = impl.auth.Authenticator("another secret", 102, ("10.0.0.1",))
    first = one.sign(COUNTER)
    for number in range(1000):
        other.sign(number)
        one.verify(number, first)
    assert one.sign(COUNTER) == first


# The same secret and addresses under another vhid


@pytest.mark.parametrize("count", [0, 1, 11, 12, 15, 27, 28, 60])
@pytest.mark.parametrize("passphrase", ["motdepassehalakon", "abc", "0x1122334455667788", None, LETTERS])
def test_sibling(impl: Implementation, passphrase: str | None, count: int) -> None:
    addresses = (*(f"10.13.37.{number}" for number in range(1, count + 1)), "fe80::42", "2001:db8::1")
    origin = impl.auth.Authenticator(passphrase, 101, addresses)
    for vhid in (1, 100, 101, 255):
        made, plain = origin.sibling(vhid), impl.auth.Authenticator(passphrase, vhid, addresses)
        assert repr(made) == repr(plain)
        assert made.dialects == plain.dialects
        for dialect in plain.dialects:
            assert made.sign(COUNTER, dialect) == plain.sign(COUNTER, dialect)
            assert made.counter(1, 2, 3, dialect) == plain.counter(1, 2, 3, dialect)
            assert origin.sibling(vhid).verify(COUNTER, plain.sign(COUNTER, dialect)) == dialect
        key = wire.key(passphrase or "")
        for link_local in (True, False):
            assert made.verify(COUNTER, wire.digest(key, vhid, addresses, COUNTER, link_local)) is not None


@pytest.mark.parametrize("dialect", ["auto", "bsd", "netbsd"])
@pytest.mark.parametrize("replay", ["guard", "off"])
def test_sibling_keeps_dialect_and_guard(impl: Implementation, dialect: str, replay: str) -> None:
    made = impl.auth.Authenticator("motdepassehalakon", 101, ADDRESSES, dialect, replay).sibling(100)
    peer = impl.auth.Authenticator("motdepassehalakon", 100, ADDRESSES, dialect)
    assert made.dialects == peer.dialects
    counter = peer.counter(1, 100, 7)
    under = made.verify(counter, peer.sign(counter))
    assert under == ("bsd" if dialect == "auto" else dialect)
    assert made.check(counter, 1, 100, under) == ""
    assert made.check(counter, 1, 0, under) == ("altered" if replay == "guard" else "")


def test_sibling_has_no_past_and_outlives_its_origin(impl: Implementation) -> None:
    origin = impl.auth.Authenticator("motdepassehalakon", 101, MIXED)
    expected = impl.auth.Authenticator("motdepassehalakon", 100, MIXED).sign(COUNTER, "netbsd")
    issued = origin.counter(1, 0, 1)
    assert origin.verify(COUNTER, origin.sign(COUNTER, "netbsd")) == "netbsd"
    made = origin.sibling(101)
    assert made.dialects == ("bsd", "netbsd", "openbsd")
    assert made.check(issued, 1, 0, "bsd") == ""
    del origin
    again = made.sibling(3).sibling(100)
    del made
    gc.collect()
    assert again.verify(COUNTER, expected) == "netbsd"


@pytest.mark.parametrize("vhid", [0, 256, -1, True, "100", None, 1.0])
def test_sibling_of_a_bad_vhid(impl: Implementation, vhid: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        impl.auth.Authenticator("motdepassehalakon", 101, ADDRESSES).sibling(vhid)
    assert caught.value.field == "vhid"

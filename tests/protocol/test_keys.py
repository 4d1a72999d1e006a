"""Keys from passphrases and the address variants, as bytes. tests/core/test_auth.py has them at work."""

from __future__ import annotations

import re
from ipaddress import IPv4Interface, IPv6Address, ip_address, ip_interface
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import wire

from pycarp.errors import ConfigError
from pycarp.protocol import keys

PASSPHRASES = (
    st.binary(max_size=30)
    | st.text("abcdefghijklmnop", max_size=30).map(str.encode)
    | st.builds(lambda x, octets: x + octets.hex().encode(), st.sampled_from([b"0x", b"0X"]), st.binary(max_size=24))
    | st.text("0123456789abcdefABCDEFg \n", max_size=30).map(lambda text: b"0x" + text.encode())
    | st.builds(lambda one, other: one + b"\0" + other, st.binary(max_size=10), st.binary(max_size=15))
)


def c_string(passphrase: bytes) -> bytes | None:
    """What NetBSD's ifconfig leaves of it: bytes from hexadecimal, then strlcpy with a size one too small."""
    if passphrase[:2] in (b"0x", b"0X"):
        if not re.fullmatch(rb"0[xX](?:[0-9a-fA-F]{2})+", passphrase):
            return None
        passphrase = bytes.fromhex(passphrase[2:].decode())
    kept = bytearray(20)
    for at in range(min(len(passphrase), 20) - 1):
        if passphrase[at] == 0:
            break
        kept[at] = passphrase[at]
    return bytes(kept)


@given(passphrase=PASSPHRASES)
def test_keys_of_any_passphrase(passphrase: bytes) -> None:
    assert keys.bsd_key(passphrase) == wire.key(passphrase)
    assert keys.netbsd_key(passphrase) == c_string(passphrase)


@given(passphrase=PASSPHRASES)
def test_dialects_that_are_in_use(passphrase: bytes) -> None:
    bsd, netbsd = keys.bsd_key(passphrase), keys.netbsd_key(passphrase)
    auto = keys.keys(passphrase, "auto")
    assert list(auto) in (["bsd"], ["bsd", "netbsd"])
    assert auto["bsd"] == bsd and auto.get("netbsd", netbsd) == netbsd
    if "netbsd" in auto:
        assert netbsd is not None and netbsd != bsd
        assert len(passphrase) >= keys.AUTO_MINIMUM <= len(netbsd.rstrip(b"\0")) + 1
    assert keys.keys(passphrase, "bsd") == {"bsd": bsd}
    if netbsd is None:
        with pytest.raises(ConfigError, match="hexadecimal"):
            keys.keys(passphrase, "netbsd")
    else:
        assert keys.keys(passphrase, "netbsd") == {"netbsd": netbsd}


@pytest.mark.parametrize(
    ("passphrase", "dialects"),
    [
        (b"abcdefg", ["bsd"]),
        (b"abcdefgh", ["bsd", "netbsd"]),
        (b"a" * 19, ["bsd", "netbsd"]),
        (b"a" * 20, ["bsd"]),
        (b"0x11223344556677", ["bsd"]),
        (b"0x1122334455667788", ["bsd", "netbsd"]),
        (b"0x1122330044556677", ["bsd"]),
        (b"0x112233445566778", ["bsd"]),
        (b"", ["bsd"]),
    ],
)
def test_auto(passphrase: bytes, dialects: list[str]) -> None:
    assert list(keys.keys(passphrase, "auto")) == dialects


@pytest.mark.parametrize(
    ("given_", "expected"),
    [(None, b""), ("", b""), (b"\xff\0", b"\xff\0"), ("caf\u00e9", b"caf\xc3\xa9"), ("caf\udce9", b"caf\xe9")],
)
def test_passphrase_as_bytes(given_: str | bytes | None, expected: bytes) -> None:
    assert keys.passphrase_bytes(given_) == expected


ADDRESSES = st.lists(
    st.ip_addresses(v=4) | st.ip_addresses(v=6) | st.ip_addresses(network="fe80::/9") | st.ip_addresses(v=6),
    max_size=20,
)


@given(addresses=ADDRESSES)
def test_variants(addresses: list[Any]) -> None:
    """IPv4 ascending, then IPv6; OpenBSD's ways after that, where they differ."""
    packed = {address.packed for address in addresses}
    ipv4 = sorted(octets for octets in packed if len(octets) == 4)
    ipv6 = {octets for octets in packed if len(octets) == 16}
    link_local = {octets for octets in ipv6 if int.from_bytes(octets[:2], "big") >> 6 == 0xFE80 >> 6}
    cleared = {octets[:2] + bytes(2) + octets[4:] for octets in link_local}
    full = b"".join([*ipv4, *sorted(ipv6 - link_local | cleared)])
    short = b"".join([*ipv4, *sorted(ipv6 - link_local)])
    own = bytes.fromhex("fe800000000000000200 5efffe000165")
    other = b"".join([*ipv4, *sorted(ipv6 - link_local | cleared | {own})])
    assert keys.address_variants(addresses, 101) == ([full, short, other] if link_local else [full])
    again = keys.address_variants([*reversed(addresses), *map(str, addresses)], 101)
    assert again == keys.address_variants(addresses, 101)


def test_any_form_of_an_address() -> None:
    forms: list[Any] = [
        IPv4Interface("10.0.0.1/24"),
        "10.0.0.1/8",
        "10.0.0.1",
        ip_address("10.0.0.1"),
        "fe80:7::1%eth0",
    ]
    ipv4, ipv6, own = bytes((10, 0, 0, 1)), IPv6Address("fe80::1").packed, IPv6Address("fe80::200:5eff:fe00:102").packed
    assert keys.address_variants(forms, 2) == [ipv4 + ipv6, ipv4, ipv4 + ipv6 + own]


@pytest.mark.parametrize("address", ["fe80::1", "febf::1"])
def test_link_local(address: str) -> None:
    assert keys.is_link_local(ip_address(address))
    assert keys.covered(ip_address(address.replace("::", ":5::"))) == ip_address(address).packed


@pytest.mark.parametrize("address", ["fec0:5::1", "fe7f:5::1", "ff02::1", "::ffff:169.254.0.1", "169.254.0.1"])
def test_not_link_local(address: str) -> None:
    assert not keys.is_link_local(ip_interface(address).ip)
    assert keys.covered(ip_interface(address).ip) == ip_interface(address).ip.packed


@given(
    vhid=st.integers(1, 255), advbase=st.integers(0, 255), advskew=st.integers(0, 255), nonce=st.integers(0, 0xFFFFFF)
)
def test_tag(vhid: int, advbase: int, advskew: int, nonce: int) -> None:
    key = wire.key("motdepassehalakon")
    counter = wire.tagged_counter(key, vhid, advbase, advskew, nonce)
    assert keys.tags(key, vhid, counter[3:])[0] == counter[:3]


def test_errors_say_which_field() -> None:
    good: dict[str, Any] = {
        "passphrase": "secret secret", "vhid": 1, "addresses": ["10.0.0.1"], "dialect": "auto", "replay": "guard"
    }  # fmt: skip
    assert keys.prepare(**good)[1] and not keys.prepare(**good | {"replay": "off"})[1]
    for field, bad in (
        ("passphrase", 5), ("vhid", True), ("vhid", 256), ("addresses", ["10.0.0.256"]), ("dialect", "freebsd"),
        ("replay", "on"),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            keys.prepare(**good | {field: bad})
        assert caught.value.field == field
        assert "secret secret" not in str(caught.value)

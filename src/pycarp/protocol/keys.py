"""From passphrase to keys, from addresses to what a digest covers: all that an authenticator is made of, as bytes.

Both implementations start from here. Sources: NetBSD `carp_hmac_prepare` and ifconfig(8)'s `setcarp_passwd`.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_interface

from ..errors import ConfigError
from . import DIALECT_BSD, DIALECT_NETBSD, DIALECT_OPENBSD, NEXT, SPOKEN
from .frames import exactly

TYPE_CHECKING = False  # importing typing would take longer than this module
if TYPE_CHECKING:
    from ..config import AddressLike

    Following = tuple[str | bytes | None, Iterable[AddressLike]]

KEY_LENGTH = 20
AUTO_MINIMUM = 8
"""Below this many bytes a passphrase is read in one way only: the shortened key would be too easy to guess."""


def prepare(
    passphrase: str | bytes | None,
    vhid: int,
    addresses: Iterable[AddressLike],
    dialect: str,
    replay: str,
    following: Following | None = None,
) -> tuple[dict[str, tuple[bytes, list[bytes]]], bool]:
    """What an `Authenticator` works with: the key of each dialect and the addresses as its digests cover them, and
    whether it guards.

    Of several forms of the addresses the first is the one to sign with. Those of `following` have `NEXT` before their
    names. Raises `ConfigError`.
    """
    if isinstance(vhid, bool) or not isinstance(vhid, int) or not 1 <= vhid <= 255:
        raise ConfigError("vhid is not a number of 1-255", "vhid")
    if replay not in ("guard", "off"):
        raise ConfigError("replay has an unknown value: give guard or off", "replay")
    ways = _ways(passphrase, vhid, addresses, dialect)
    if following is not None:
        ways |= {NEXT + name: way for name, way in _ways(following[0], vhid, following[1], dialect).items()}
    return ways, replay == "guard"


def _ways(
    passphrase: str | bytes | None, vhid: int, addresses: Iterable[AddressLike], dialect: str
) -> dict[str, tuple[bytes, list[bytes]]]:
    full, *openbsd = address_variants(addresses, vhid)
    made = keys(passphrase_bytes(passphrase), dialect)
    ways = {name: (key, [full]) for name, key in made.items()}
    if openbsd and DIALECT_BSD in made:
        ways[DIALECT_OPENBSD] = (made[DIALECT_BSD], openbsd)
    return ways


def passphrase_bytes(passphrase: str | bytes | None) -> bytes:
    """The passphrase as bytes: text in UTF-8, and what came from argv in another encoding as it stood there."""
    if passphrase is None or isinstance(passphrase, bytes):
        return passphrase or b""
    if not isinstance(passphrase, str):
        raise ConfigError("the passphrase is neither text nor bytes: give one of them", "passphrase")
    encoded = _encoded(passphrase)
    if encoded is None:
        raise ConfigError("the passphrase has characters that no encoding knows: give it as bytes", "passphrase")
    return encoded


def _encoded(text: str) -> bytes | None:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None  # The error is not chained: it carries the whole text.


def bsd_key(passphrase: bytes) -> bytes:
    """The key as OpenBSD, FreeBSD and UCarp make it: the first 19 bytes, padded with zeros to 20."""
    return passphrase[: KEY_LENGTH - 1].ljust(KEY_LENGTH, b"\0")


def netbsd_key(passphrase: bytes) -> bytes | None:
    """The key as NetBSD's ifconfig has made it since 2008: one byte short. None for "0x" without proper hexadecimal.

    It copies as a C string what it was given as data, and so loses the last byte; "0x..." is hexadecimal bytes to it,
    and a zero among them ends the string.
    """
    if passphrase[:2] in (b"0x", b"0X"):
        digits = passphrase[2:]
        # Not bytes.fromhex alone: that skips white space.
        if not digits or not all(digit in b"0123456789abcdefABCDEF" for digit in digits) or len(digits) % 2:
            return None
        passphrase = bytes.fromhex(digits.decode("ascii"))
    shortened = passphrase[: max(0, min(len(passphrase), KEY_LENGTH) - 1)]
    return shortened.split(b"\0", 1)[0].ljust(KEY_LENGTH, b"\0")


def keys(passphrase: bytes, dialect: str) -> dict[str, bytes]:
    """The keys of a dialect ("auto": of those that are in use), the one to sign with first."""
    bsd, netbsd = bsd_key(passphrase), netbsd_key(passphrase)
    if dialect == DIALECT_BSD:
        return {DIALECT_BSD: bsd}
    if dialect == DIALECT_NETBSD:
        if netbsd is None:
            raise ConfigError(
                "NetBSD's ifconfig reads a passphrase that starts with 0x as hexadecimal bytes, and this one is not: "
                'give an even number of hexadecimal digits, or dialect "bsd"',
                "passphrase",
            )
        return {DIALECT_NETBSD: netbsd}
    if dialect != "auto":
        raise ConfigError("dialect has an unknown value: give auto, bsd or netbsd", "dialect")
    # An embedded zero can empty the shortened key, or leave less of it than a guess needs.
    if netbsd in (None, bsd) or min(len(passphrase), len(netbsd.rstrip(b"\0")) + 1) < AUTO_MINIMUM:
        return {DIALECT_BSD: bsd}
    return {DIALECT_BSD: bsd, DIALECT_NETBSD: netbsd}


def address_variants(addresses: Iterable[AddressLike], vhid: int) -> list[bytes]:
    """The addresses as the digest covers them: N's and F's way first; then, where one is link-local IPv6, O's two.

    OpenBSD signs without the link-local ones. It also believes a digest over all and its own fe80::200:5eff:fe00:1VV.
    """
    ipv4: set[bytes] = set()
    ipv6: set[bytes] = set()
    link_local: set[bytes] = set()
    for value in addresses:
        try:
            ip = ip_interface(value).ip
        except ValueError:
            ip = None  # The error is not chained: it repeats the value.
        if ip is None:
            raise ConfigError("an address is not an IP address: give one like 10.13.37.42/24", "addresses")
        (ipv4 if ip.version == 4 else link_local if is_link_local(ip) else ipv6).add(covered(ip))
    full = b"".join(sorted(ipv4)) + b"".join(sorted(ipv6 | link_local))
    if not link_local:
        return [full]
    own = IPv6Address(f"fe80::200:5eff:fe00:{0x100 | vhid:x}").packed
    without, among = sorted(ipv6), sorted(ipv6 | link_local | {own})
    return [full, *(b"".join(sorted(ipv4)) + b"".join(one) for one in (without, among))]


def is_link_local(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is a link-local IPv6 address (fe80::/10), which OpenBSD's digest leaves out."""
    packed = address.packed
    return address.version == 6 and packed[0] == 0xFE and packed[1] & 0xC0 == 0x80


def covered(address: IPv4Address | IPv6Address) -> bytes:
    """The bytes of an address as the digest covers it."""
    packed = address.packed
    # The kernel keeps a link-local address's scope in bytes 2 and 3 and clears it before it hashes.
    return packed[:2] + b"\0\0" + packed[4:] if is_link_local(address) else packed


def tags(key: bytes, vhid: int, vouched: bytes) -> tuple[bytes, bytes]:
    """How our counters begin, so that they vouch for their last five bytes: in the first layout, and in today's.

    First: three bytes, before a nonce of three, advbase and advskew. Today's: two bytes; the last five are the
    demotion, a serial of two, advbase and advskew (`counter_fields`).
    """
    import hmac  # here: it loads OpenSSL, which the compiled implementation does without

    made = hmac.digest(key, b"pycarp\x01" + bytes((vhid,)) + vouched, "sha1")
    return made[:3], made[3:5]


def counter_fields(
    advbase: int, advskew: int, nonce: int, demotion: int | None, serial: int, pace: int
) -> tuple[bytes, bytes]:
    """A counter of ours but for its tag of two bytes: the byte that the tag leaves out, and the five that it covers.

    The nonce has 3 bits, the serial 16. A `demotion` of None says that the sender takes no part in it.
    """
    if not 0 <= pace <= 15:
        raise ValueError(f"pace {pace} is out of range: give 0 to 15")
    first = pace << 4 | (demotion is not None) << 3 | nonce & 7
    return bytes((first,)), bytes((demotion or 0,)) + (serial & 0xFFFF).to_bytes(2, "big") + bytes((advbase, advskew))


def counter_bytes(value: bytes | int) -> bytes:
    """A counter of 8 bytes, also from an integer below 2**64."""
    if isinstance(value, int):
        if not 0 <= value < 1 << 64:
            raise ValueError(f"counter {value} is out of range: give 0 to 2**64-1")
        return value.to_bytes(8, "big")
    return exactly("a counter", value, 8)


def spoken(which: str, changing: bool) -> int:
    """The number in `SPOKEN` of what an authenticator is told to sign with; -1: "auto", what it hears decides."""
    if not changing:
        raise ConfigError(
            "there is no second secret and no second set of addresses here: give nextpass first", "nextpass"
        )
    if which not in (*SPOKEN, "auto"):
        raise ConfigError("what is to be spoken is unknown: give old, both, new or auto", "speak")
    return SPOKEN.index(which) if which in SPOKEN else -1


def not_in_use(dialect: object, used: Iterable[str]) -> ConfigError:
    """The error for a dialect that an authenticator was not made for."""
    shown = f"dialect {dialect}" if dialect in (DIALECT_BSD, DIALECT_NETBSD) else "the dialect"
    return ConfigError(f"{shown} is not in use here: {' and '.join(used)} is", "dialect")

"""Who may speak: keys from passphrases, digests over adverts, and the counter that vouches for the header.

Sources: NetBSD `carp_hmac_prepare`, `carp_hmac_generate`, `carp_hmac_verify` and ifconfig(8)'s `setcarp_passwd`; RFC
2104.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_interface

from ..config import AddressLike
from ..errors import ConfigError
from ..protocol import CARP_TYPE_ADVERTISEMENT, CARP_VERSION, DIALECT_BSD, DIALECT_NETBSD

KEY_LENGTH = 20
REMEMBERED = 64
"""So many of one's own adverts are known again when they come back."""
AUTO_MINIMUM = 8
"""Below this many bytes a passphrase is read in one way only: the shortened key would be too easy to guess."""
_LINK_LOCAL = 0xFE80


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


class Authenticator:
    """Signs and verifies the adverts of one virtual host.

    `passphrase` is text (UTF-8) or bytes, "" or None for the zero key; `addresses` those of the virtual host, with or
    without prefix length, in any order; `dialect` is "bsd", "netbsd", or "auto": both are understood, and the
    signature follows what was heard. Passphrases under 8 bytes are "bsd" under "auto". From 20 bytes on both dialects
    are one, called "bsd". `replay` is "guard" or "off": whether `check` looks.

    Raises `ConfigError`. Not safe to share between threads: `verify` remembers which dialects it met.
    """

    __slots__ = ("_bodies", "_guard", "_heard", "_issued", "_keys", "_macs", "_vhid")

    def __init__(
        self,
        passphrase: str | bytes | None,
        vhid: int,
        addresses: Iterable[AddressLike],
        dialect: str = "auto",
        replay: str = "guard",
    ) -> None:
        if isinstance(vhid, bool) or not isinstance(vhid, int) or not 1 <= vhid <= 255:
            raise ConfigError(f"vhid {vhid!r} is not a number of 1-255", "vhid")
        self._vhid = vhid
        self._keys = _keys(_secret(passphrase), dialect)
        self._heard: tuple[str, ...] = ()
        if replay not in ("guard", "off"):
            raise ConfigError(f"replay {replay!r} is unknown: give guard or off", "replay")
        self._guard = replay == "guard"
        # Each advert goes out under each key, with a counter of its own.
        self._issued: deque[bytes] = deque(maxlen=2 * REMEMBERED)
        self._bodies = _address_variants(addresses)
        self._macs = self._prepared()

    def __repr__(self) -> str:
        return f"<Authenticator vhid {self._vhid} {'+'.join(self._keys)}>"

    @property
    def dialects(self) -> tuple[str, ...]:
        """The dialects under which the next advert is to be sent, one frame each.

        All that are known until a peer is heard, and again once peers of both were; the one last heard otherwise.
        """
        if len(self._heard) == 1:
            return self._heard
        return tuple(self._keys)

    def sign(self, counter: bytes | int, dialect: str | None = None) -> bytes:
        """The 20-byte digest for an advert with this counter (8 bytes, or an integer below 2**64).

        Without `dialect`: the one last heard, "bsd" when nobody was (or the fixed one).
        """
        return self._digest(self._macs[self._choose(dialect)][0], _counter(counter))

    def verify(self, counter: bytes | int, digest: bytes) -> str | None:
        """The dialect under which `digest` is right for `counter`, or None. Compares in constant time.

        Accepts a digest with and without the link-local IPv6 addresses (OpenBSD leaves them out).
        """
        octets = _counter(counter)
        found = None
        for name, macs in self._macs.items():
            for mac in macs:
                if hmac.compare_digest(self._digest(mac, octets), digest) and found is None:
                    found = name
        if found is not None:
            self._heard = (*(name for name in self._heard if name != found), found)
        return found

    def counter(self, advbase: int, advskew: int, nonce: int, dialect: str | None = None) -> bytes:
        """The 8-byte counter of an advert of ours: a tag over nonce (24 bits), advbase and advskew, then those three.

        Whoever has the key sees from the tag whether the header was altered, which the digest alone does not cover.
        """
        vouched = (nonce & 0xFFFFFF).to_bytes(3, "big") + bytes((advbase, advskew))
        counter = self._tag(vouched, self._choose(dialect)) + vouched
        self._issued.append(counter)
        return counter

    def check(self, counter: bytes | int, advbase: int, advskew: int, dialect: str) -> str:
        """What is wrong with an advert whose digest is right under `dialect`: "echo", "altered", or "" for nothing.

        An echo is one of our own last 64 adverts. Altered is one of a pycarp host whose counter vouches for another
        advbase or advskew than it bears. Every other counter is a BSD's, and says nothing. With replay="off": "".
        """
        octets = _counter(counter)
        if not self._guard:
            return ""
        if octets in self._issued:
            return "echo"
        vouched = octets[3:]
        if vouched[3:] != bytes((advbase, advskew)) and self._tag(vouched, self._choose(dialect)) == octets[:3]:
            return "altered"
        return ""

    def sibling(self, vhid: int) -> Authenticator:
        """One for another vhid, with the same passphrase, addresses, dialect and replay; it has heard nobody yet.

        Raises `ConfigError`.
        """
        made = Authenticator(None, vhid, (), DIALECT_BSD)
        made._keys, made._bodies, made._guard = self._keys, self._bodies, self._guard
        made._macs = made._prepared()
        return made

    def _prepared(self) -> dict[str, list[hmac.HMAC]]:
        head = bytes((CARP_VERSION, CARP_TYPE_ADVERTISEMENT, self._vhid))
        # hmac keeps both pads pre-hashed; a copy costs no compression.
        return {name: [hmac.new(key, head + body, "sha1") for body in self._bodies] for name, key in self._keys.items()}

    def _tag(self, vouched: bytes, dialect: str) -> bytes:
        return hmac.digest(self._keys[dialect], b"pycarp\x01" + bytes((self._vhid,)) + vouched, "sha1")[:3]

    def _choose(self, dialect: str | None) -> str:
        if dialect is None:
            return self._heard[-1] if self._heard else next(iter(self._keys))
        if dialect not in self._keys:
            raise ConfigError(f"dialect {dialect!r} is not in use here: {' and '.join(self._keys)} is", "dialect")
        return dialect

    @staticmethod
    def _digest(prepared: hmac.HMAC, counter: bytes) -> bytes:
        mac = prepared.copy()
        mac.update(counter)
        return mac.digest()


def _secret(passphrase: str | bytes | None) -> bytes:
    """The passphrase as bytes: text in UTF-8, and what came from argv in another encoding as it stood there."""
    if isinstance(passphrase, str):
        try:
            return passphrase.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            # Not chained: the codec's error carries the whole passphrase.
            raise ConfigError("the passphrase has characters that no encoding knows", "passphrase") from None
    if passphrase is None or isinstance(passphrase, bytes):
        return passphrase or b""
    raise ConfigError("the passphrase is neither text nor bytes", "passphrase")


def _keys(secret: bytes, dialect: str) -> dict[str, bytes]:
    bsd, netbsd = bsd_key(secret), netbsd_key(secret)
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
        raise ConfigError(f"dialect {dialect!r} is unknown: give auto, bsd or netbsd", "dialect")
    keys = {DIALECT_BSD: bsd}
    # An embedded zero can empty the shortened key, or leave less of it than a guess needs.
    if netbsd is not None and netbsd != bsd and min(len(secret), len(netbsd.rstrip(b"\0")) + 1) >= AUTO_MINIMUM:
        keys[DIALECT_NETBSD] = netbsd
    return keys


def _address_variants(addresses: Iterable[AddressLike]) -> list[bytes]:
    """The addresses as the digest covers them: N's and F's way first, then O's, without link-local IPv6, if it
    differs."""
    ipv4: set[bytes] = set()
    ipv6: set[bytes] = set()
    link_local: set[bytes] = set()
    for value in addresses:
        try:
            ip: IPv4Address | IPv6Address = ip_interface(value).ip
        except ValueError:
            raise ConfigError(f"{value!r} is not an IP address: give one like 10.13.37.42/24", "addresses") from None
        if ip.version == 4:
            ipv4.add(ip.packed)
        elif int.from_bytes(ip.packed[:2], "big") & 0xFFC0 == _LINK_LOCAL:
            # The kernel keeps a scope in bytes 2 and 3 and clears it before it hashes.
            link_local.add(ip.packed[:2] + b"\0\0" + ip.packed[4:])
        else:
            ipv6.add(ip.packed)
    full = b"".join(sorted(ipv4)) + b"".join(sorted(ipv6 | link_local))
    return [full, b"".join(sorted(ipv4)) + b"".join(sorted(ipv6))] if link_local else [full]


def _counter(value: bytes | int) -> bytes:
    if isinstance(value, int):
        if not 0 <= value < 1 << 64:
            raise ValueError(f"counter {value} is out of range: give 0 to 2**64-1")
        return value.to_bytes(8, "big")
    if len(value) != 8:
        raise ValueError(f"a counter has 8 bytes, not {len(value)}")
    return bytes(value)

"""The adverts that the benchmarks work on, made by the reference implementation."""

from __future__ import annotations

import random
from ipaddress import IPv4Interface

from pycarp import _impl
from pycarp.protocol import State
from pycarp.protocol.abc import Authenticator, Input
from pycarp.protocol.frames import virtual_mac

PASSPHRASE = "correct horse battery staple"
"""Beyond 20 bytes there is one dialect only: one digest an advert."""
VHID = 101
ADDRESSES = ("10.13.37.42/24",)
MAC = bytes.fromhex("02000a0d250b")
PEER = "10.13.37.12"

_python = _impl.load("python")


def authenticator(impl: _impl.Implementation, vhid: int = VHID, dialect: str = "auto") -> Authenticator:
    return impl.auth.Authenticator(PASSPHRASE, vhid, ADDRESSES, dialect)


def input_of_backup(impl: _impl.Implementation) -> Input:
    """The input path of a host that is BACKUP of one group."""
    path = impl.input.Input()
    path.set_carpdev(MAC, [IPv4Interface("10.13.37.11/24")])
    addresses = [IPv4Interface(address).packed for address in ADDRESSES]
    path.set_instance(VHID, authenticator(impl), virtual_mac(VHID), addresses)
    path.set_state(VHID, State.BACKUP)
    return path


def records(count: int) -> list[tuple[bytes, bytes]]:
    """Counters, each with its right digest."""
    signer, numbers = authenticator(_python), random.Random(1)
    counters = [numbers.randbytes(8) for _ in range(count)]
    return [(counter, signer.sign(counter)) for counter in counters]


def advert(counter: bytes, digest: bytes, source: str = PEER, vhid: int = VHID) -> bytes:
    """A whole frame; right but for what may be wrong with the digest."""
    return _python.packet.AdvertTemplate(vhid, virtual_mac(vhid), source).frame(1, 100, counter, digest)


def valid(count: int) -> list[bytes]:
    """Adverts of a peer."""
    return [advert(counter, digest) for counter, digest in records(count)]


def forged(count: int, source: str = "10.13.37.99", vhid: int = VHID) -> list[bytes]:
    """Adverts of somebody without the key: only the digest shows it."""
    numbers = random.Random(2)
    return [advert(numbers.randbytes(8), numbers.randbytes(20), source, vhid) for _ in range(count)]

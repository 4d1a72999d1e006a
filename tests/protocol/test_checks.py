"""The table of checks, and the checks that need no key, in the kernel's order."""

from __future__ import annotations

from dataclasses import fields

import pytest
from support.wire import Frame

from pycarp._impl import Implementation
from pycarp.protocol.checks import HINTS, first_fault
from pycarp.stats import Stats

# Each with all that the kernel looks at later.
FAULTS = [
    ("badttl", {"ttl": 254}),
    ("badlen", {"cut": 1}),
    ("badsum", {"checksum_flip": 1}),
    ("badver", {"first": 0x31}),
]


@pytest.mark.parametrize("first", range(len(FAULTS)), ids=[name for name, _ in FAULTS])
@pytest.mark.parametrize("source", ["10.13.37.12", "2001:db8::12"], ids=["IPv4", "IPv6"])
def test_the_first_fault_is_told(impl: Implementation, source: str, first: int) -> None:
    frame = Frame(source=source)
    for name, fault in FAULTS[first:]:
        frame = frame.but(**fault)
        if name == "badlen":
            break
    datagram = impl.packet.dissect(bytes(frame))
    assert datagram is not None
    advert = impl.packet.advert(datagram)
    fault_ = first_fault(datagram, advert, impl.packet.checksum_ok)
    assert fault_ == FAULTS[first][0]
    # Between the checksum and the version comes the vhid.
    assert first_fault(datagram, advert, impl.packet.checksum_ok, False) == fault_.replace("badver", "badvhid")


def test_what_is_right_has_no_fault(impl: Implementation) -> None:
    datagram = impl.packet.dissect(bytes(Frame(digest_flip=1)))
    assert datagram is not None
    advert = impl.packet.advert(datagram)
    assert first_fault(datagram, advert, impl.packet.checksum_ok) == ""
    assert first_fault(datagram, advert, impl.packet.checksum_ok, False) == "badvhid"


def test_every_hint_is_of_a_counter() -> None:
    assert HINTS.keys() <= {field.name for field in fields(Stats)}
    for hint in HINTS.values():
        assert hint and not hint.endswith(".") and hint[0].islower()

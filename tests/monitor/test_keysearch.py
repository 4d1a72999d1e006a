"""Which form of the passphrase made a signature."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from support.scene import SECRET, VIP, observed
from support.wire import Frame

from pycarp.monitor.keysearch import KeySearch
from pycarp.monitor.observer import Observer
from pycarp.monitor.signatures import PROPER_FORMS


@pytest.mark.parametrize(
    ("given", "configured", "form"),
    [
        ('"motdepassehalakon"', "motdepassehalakon", "stripped"),
        (" motdepassehalakon", "motdepassehalakon", "stripped"),
        ("mot de passé secret", "mot de passé secret".encode("latin-1"), "latin-1"),
        ("motdepassehalakon", b"motdepassehalakon\r\n", "line-end"),
    ],
)
def test_forms_that_people_make(given: str, configured: str | bytes, form: str) -> None:
    frame = bytes(Frame(passphrase=configured))
    (speaker,) = observed(Observer(given, [VIP]), frame).speakers.values()
    assert [signature.form for signature in speaker.signatures] == [form]
    assert form not in PROPER_FORMS


def test_all_of_twenty_bytes() -> None:
    long = "abcdefghijklmnopqrstuvwxyz"
    # Twenty bytes as the key, where everybody pads the twentieth with zero: made by hand.
    counter = bytes(8)
    digest = hmac.new(long[:20].encode(), bytes((2, 1, 101, 10, 13, 37, 42)) + counter, hashlib.sha1).digest()
    observer = observed(Observer(long, [VIP]), bytes(Frame(counter=counter, digest=digest)))
    (speaker,) = observer.speakers.values()
    assert [signature.form for signature in speaker.signatures] == ["twenty"]


def test_secrets_show_nowhere() -> None:
    search = KeySearch(SECRET, [VIP])
    (speaker,) = observed(Observer(SECRET, [VIP]), bytes(Frame())).speakers.values()
    shown = repr(search) + repr(speaker) + str(speaker.as_dict())
    assert SECRET not in shown and SECRET.encode().hex() not in shown and "motdepasse" not in shown

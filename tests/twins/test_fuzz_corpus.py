"""The scenarios that fuzzing kept, played over both implementations; tests/fuzz/run.py looks for more."""

from __future__ import annotations

import pytest
from fuzz import corpus, scenario
from support import IMPLEMENTATIONS

from pycarp import _impl

PAIR = _impl.load(IMPLEMENTATIONS[0]), _impl.load(IMPLEMENTATIONS[-1])


def test_kept_scenarios() -> None:
    """None of them lets the two differ, or breaks a promise; one failure names them all."""
    broken = {}
    for data in corpus.scenarios():
        try:
            scenario.play(PAIR, data)
        except Exception as error:
            broken[data.hex()] = f"{type(error).__name__}: {error}"
    assert not broken
    assert len(corpus.kept()) > 50


def test_no_key_no_belief() -> None:
    """The harness itself: an authenticator that believes everything does not pass."""

    class Gullible(_impl.load("python").auth.Authenticator):  # type: ignore[misc, name-defined]
        def verify(self, counter: bytes | int, digest: bytes) -> str | None:
            return super().verify(counter, digest) or self.dialects[0]

    class Module:
        Authenticator = Gullible

    python = _impl.load("python")
    wrong = _impl.Implementation("wrong", python.packet, python.input, Module, python.machine)  # type: ignore[arg-type]
    with pytest.raises(scenario.Broken, match="without the key"):
        for data in corpus.scenarios():
            scenario.play((wrong, wrong), data)

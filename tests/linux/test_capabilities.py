"""Missing capabilities are named before anything is changed."""

from __future__ import annotations

import builtins
import io

import pytest

from pycarp.errors import CapabilityError
from pycarp.linux import capabilities


def _status(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    text = f"Name:\tpython\nCapEff:\t{bits:016x}\nCapBnd:\t0\n"
    monkeypatch.setattr(builtins, "open", lambda _path: io.StringIO(text))


def test_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    _status(monkeypatch, 1 << 12 | 1 << 13)
    assert capabilities.effective() == {"CAP_NET_ADMIN", "CAP_NET_RAW"}
    capabilities.require("CAP_NET_ADMIN", "CAP_NET_RAW")


@pytest.mark.parametrize(
    ("bits", "missing"), [(0, "CAP_NET_ADMIN and CAP_NET_RAW"), (1 << 12, "CAP_NET_RAW"), (1 << 13, "CAP_NET_ADMIN")]
)
def test_the_missing_ones_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, bits: int, missing: str) -> None:
    _status(monkeypatch, bits)
    with pytest.raises(CapabilityError) as raised:
        capabilities.require("CAP_NET_ADMIN", "CAP_NET_RAW")
    text = str(raised.value)
    assert text.startswith(f"missing {missing}:")
    assert "AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW" in text and "setcap" not in text


def test_the_real_file_is_understood() -> None:
    assert capabilities.effective() <= set(capabilities.NUMBERS)

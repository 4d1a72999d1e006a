"""Each program, started by its own implementation."""

from __future__ import annotations

import importlib.util

import pytest
from support import IMPLEMENTATIONS


@pytest.fixture(params=IMPLEMENTATIONS)
def program(request: pytest.FixtureRequest) -> str:
    if importlib.util.find_spec(f"pycarp._{request.param}.spawn") is None:
        pytest.skip("the compiled guardian was not built")
    return str(request.param)

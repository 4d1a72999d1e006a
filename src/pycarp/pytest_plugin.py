"""The pytest plugin, which pytest finds by the entry point: the fixtures `carp_lan` and `carp_netns`.

It imports nothing of pycarp before a test asks for one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import CarpLan


@pytest.fixture
def carp_lan(request: pytest.FixtureRequest) -> Iterator[CarpLan]:
    """A LAN in memory, on a clock of its own: `pycarp.testing.CarpLan`. Nothing needs root.

    A parameter, given by ``@pytest.mark.parametrize("carp_lan", [1, 2, 3], indirect=True)``, is its seed.
    """
    from .testing import CarpLan

    with CarpLan(seed=getattr(request, "param", 0)) as lan:
        yield lan

"""The pytest plugin, which pytest finds by the entry point: the fixtures `carp_lan` and `carp_netns`.

It imports nothing of pycarp before a test asks for one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import CarpLan
    from .testing.netns import CarpNetns


@pytest.fixture
def carp_lan(request: pytest.FixtureRequest) -> Iterator[CarpLan]:
    """A LAN in memory, on a clock of its own: `pycarp.testing.CarpLan`. Nothing needs root.

    A parameter, given by ``@pytest.mark.parametrize("carp_lan", [1, 2, 3], indirect=True)``, is its seed.
    """
    from .testing import CarpLan

    with CarpLan(seed=getattr(request, "param", 0)) as lan:
        yield lan


@pytest.fixture
def carp_netns(request: pytest.FixtureRequest) -> Iterator[CarpNetns]:
    """Real hosts, main, second and client, on a switch: `pycarp.testing.CarpNetns`. Skips where that cannot be.

    A parameter is the profile of the hosts: ``@pytest.mark.parametrize("carp_netns", ["docker"], indirect=True)``.
    """
    from .errors import InterfaceError
    from .testing.netns import CarpNetns, hindrance

    if why := hindrance():
        pytest.skip(f"carp_netns {why}")
    try:
        made = CarpNetns(profile=getattr(request, "param", "plain"))
    except InterfaceError as error:
        pytest.skip(str(error))
    with made:
        yield made

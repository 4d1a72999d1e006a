"""For the tests of programs that embed an engine: a LAN in memory whose engines are `pycarp.Engine`s.

`CarpLan` is what the pytest fixture `carp_lan` gives. `CarpNetns` is `carp_netns`: hosts in network namespaces.
"""

from typing import TYPE_CHECKING, Any

from .engine import SimulatedEngine
from .lan import CarpLan

if TYPE_CHECKING:
    from .netns import CarpNetns

__all__ = ["CarpLan", "CarpNetns", "SimulatedEngine"]


def __getattr__(name: str) -> Any:
    if name == "CarpNetns":
        from .netns import CarpNetns

        return CarpNetns
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

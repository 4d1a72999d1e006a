"""For the tests of programs that embed an engine: a LAN in memory whose engines are `pycarp.Engine`s.

`CarpLan` is what the pytest fixture `carp_lan` gives. `CarpNetns` is `carp_netns`: hosts in network namespaces.
"""

from .engine import SimulatedEngine
from .lan import CarpLan

__all__ = ["CarpLan", "SimulatedEngine"]

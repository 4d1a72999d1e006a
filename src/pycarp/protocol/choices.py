"""The values of words that choose one of several, for type checkers; `options` has the same in its table."""

from typing import Literal

Dialect = Literal["auto", "bsd", "netbsd"]
Mac = Literal["virtual", "interface"]
Replay = Literal["guard", "off"]
Siblings = Literal["arbitrate", "warn"]
Conflict = Literal["warn", "refuse"]
Timing = Literal["bsd", "openbsd"]
Demotion = Literal["auto", "obey", "ignore", "add"]
Spoken = Literal["old", "both", "new"]
"""With which secret or addresses adverts are signed during a change."""
Standing = Literal["yield", "prefer", "stalemate", "several", "warn"]
"""Of this host, towards a sibling's vhid."""

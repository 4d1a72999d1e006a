"""`Check`: what is looked at, how often, and what follows from it. Frozen, validated, knows no I/O."""

from __future__ import annotations

from .._records import dataclass, field
from ..errors import ConfigError
from .arguments import read

KINDS = ("exec", "tcp", "http", "dns", "udp", "file", "process", "interface")
"""What can be looked at."""
SECONDS = (0.01, 86400.0)
TIMES = (1, 1000)
WEIGHTS = (-254, 254)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of a virtual host.

    name      what events and status call it.
    kind      one of `KINDS`.
    words     the arguments of the kind, a program and its arguments for ``exec``; they stay out of the repr.
    interval  seconds from one look to the next.
    timeout   seconds after which a look has failed.
    rise      how many good looks in a row make it healthy; `fall`: how many bad ones make it ill.
    weight    how much it demotes while it is ill; 0: it is only shown. None: a number in a file says it.
    fault     while it is ill, this host is no MASTER while another is heard. So it is where no weight is given.

    Raises `ConfigError`, which repeats none of the words.
    """

    name: str
    kind: str
    words: tuple[str, ...] = field(default=(), repr=False)
    interval: float = 1.0
    timeout: float = 1.0
    rise: int = 2
    fall: int = 3
    weight: int | None = None
    fault: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))
        if self.kind not in KINDS:
            raise ConfigError(f"the kind of a check is unknown: give one of {', '.join(KINDS)}", "checks")
        for what, seconds in (("interval", self.interval), ("timeout", self.timeout)):
            if not SECONDS[0] <= seconds <= SECONDS[1]:
                raise ConfigError(f"{what} of a check is out of range: give {SECONDS[0]:g}-{SECONDS[1]:g} s", "checks")
        for what, times in (("rise", self.rise), ("fall", self.fall)):
            if not TIMES[0] <= times <= TIMES[1]:
                raise ConfigError(f"{what} of a check is out of range: give {TIMES[0]}-{TIMES[1]}", "checks")
        if self.weight is not None and (isinstance(self.weight, bool) or not isinstance(self.weight, int)):
            raise ConfigError("the weight of a check is a whole number: give -254 to 254", "checks")
        if self.weight is not None and not WEIGHTS[0] <= self.weight <= WEIGHTS[1]:
            raise ConfigError(f"the weight of a check is out of range: give {WEIGHTS[0]} to {WEIGHTS[1]}", "checks")
        read(self.kind, self.words)
        if self.weight is not None and self.fault:
            raise ConfigError("a check has a weight or is a fault: give one of the two", "checks")

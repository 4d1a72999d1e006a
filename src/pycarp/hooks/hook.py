"""`Hook`: which program runs when. Frozen, validated, knows no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, get_args

from .._records import dataclass, field
from ..errors import ConfigError

When = Literal["master", "backup", "init", "fault", "any", "drain", "fifo", "directory"]
WHEN: tuple[str, ...] = get_args(When)
"""A state that is entered, or how the program is called."""
TIMEOUTS = (0.05, 3600.0)
TIMEOUT = 10.0
DRAIN_TIMEOUT = 2.0
DRAIN_LONGEST = 60.0
"""The addresses are held for so long at most after a hand-over was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hook:
    """The fields as they may be given; `Hook` has the types as they are kept."""

    when: When
    command: Iterable[str] = field(default=(), repr=False)
    timeout: float | None = None
    user: str | None = None

    def __post_init__(self) -> None:
        if self.when not in WHEN:
            raise ConfigError(f"when a hook runs is unknown: give one of {', '.join(WHEN)}", "hooks")
        if isinstance(self.command, str | bytes):
            raise ConfigError("the command of a hook is one text: give a list, the program and its arguments", "hooks")
        command = tuple(self.command)
        if not all(isinstance(word, str) and "\0" not in word for word in command) or not command or not command[0]:
            raise ConfigError("a hook needs a command: give the program and its arguments, texts without NUL", "hooks")
        if self.when in ("fifo", "directory") and len(command) != 1:
            raise ConfigError(f"a hook with {self.when} takes one path, and no more", "hooks")
        object.__setattr__(self, "command", command)
        default = DRAIN_TIMEOUT if self.when == "drain" else TIMEOUT
        seconds = default if self.timeout is None else self.timeout
        low, high = TIMEOUTS[0], DRAIN_LONGEST if self.when == "drain" else TIMEOUTS[1]
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not low <= seconds <= high:
            raise ConfigError(f"timeout of a hook is out of range: give {low:g}-{high:g} seconds", "hooks")
        object.__setattr__(self, "timeout", float(seconds))
        if self.user is not None and (not isinstance(self.user, str) or not self.user):
            raise ConfigError("user of a hook is no name: give the login name of a user, or none", "hooks")


_Hook.__init__.__qualname__ = "Hook.__init__"


class Hook(_Hook):
    """A program that runs when a virtual host changes its state, in a process of its own that delays nothing.

    when     ``master``, ``backup``, ``init``: it entered this state; ``fault``: something is wrong with it, an alarm;
             ``any``: all of these. ``drain``: before it drops its addresses in order, which waits for the program.
             ``fifo``: no program, each event is a line of JSON in a named pipe. ``directory``: as ``any``, for all
             executable files in it, in the order of their names.
    command  the program and its arguments, or the one path. It stays out of the repr.
    timeout  seconds after which the program and all that it started is killed: 10, for ``drain`` 2.
    user     the login name of the user that it runs as; None is the one that runs this program.

    Raises `ConfigError`, which repeats nothing of the command.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        command: tuple[str, ...]
        timeout: float

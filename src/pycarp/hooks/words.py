"""The words of ``hook``: when, options, and the program with its arguments."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError
from ..ifconfig.statements import Words
from .hook import DRAIN_LONGEST, TIMEOUTS, WHEN, Hook


def read(words: Words) -> Hook:
    """``WHEN [timeout S] [user NAME] PROGRAM ARGUMENT...``; a path alone after ``fifo`` and ``directory``."""
    when: Any = words.one_of(WHEN, "when a hook runs")
    given: dict[str, Any] = {}
    while words.next in ("timeout", "user"):
        option = words.take("a word")
        if option.text in given:
            words.wrong(option, f"'{option.text}' is given twice: remove one of them")
        if option.text == "timeout":
            given["timeout"] = words.seconds("timeout", TIMEOUTS[0], DRAIN_LONGEST if when == "drain" else TIMEOUTS[1])
        else:
            given["user"] = words.name("the name of a user")
    if when in ("fifo", "directory"):
        command: tuple[str, ...] = (str(words.path(f"the path of the {when}")),)
        words.end()
    else:
        command = words.command("a program")
    try:
        return Hook(when=when, command=command, **given)
    except ConfigError as error:
        words.wrong(words.first, str(error))

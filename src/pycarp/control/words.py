"""The words of ``control``: where to listen, and who may connect."""

from __future__ import annotations

from ..errors import ConfigError
from ..ifconfig.statements import Words
from .places import parse_place


def read(words: Words) -> str:
    """``PATH|off [group NAME] [mode 0660]``, as ``--control`` takes it."""
    texts = [word.text for word in words.rest()]
    try:
        parse_place(texts)
    except ConfigError as error:
        words.wrong(words.first, str(error))
    return " ".join(texts)

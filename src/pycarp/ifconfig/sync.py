"""The words of ``sync``: the names of virtual hosts."""

from __future__ import annotations

from ..errors import ConfigError
from ..protocol.options import SYNC
from .statements import Words


def read(words: Words) -> tuple[str, ...]:
    """At least one name, as that of an interface."""
    names = [words.take("the names of virtual hosts"), *words.rest()]
    for word in names:
        try:
            SYNC.check([word.text])
        except ConfigError:
            words.wrong(word, "this is not the name of a virtual host: give 1-15 letters, digits, '_', '.' or '-'")
    return tuple(word.text for word in names)

"""The command line, ``pycarp``. Importing this package imports neither click nor rich."""

from __future__ import annotations

import sys
from collections.abc import Sequence

OPTIONAL = ("click", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``pycarp`` with these arguments, or with the process's; returns the exit code.

    0: done, or stopped in order. 1: something failed on the way. 2: the words, the files, the options or the machine
    do not allow what was asked for, and nothing was changed.
    """
    try:
        from .group import run
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        return missing(error.name)
    return run(sys.argv[1:] if arguments is None else list(arguments))


def missing(module: str) -> int:
    """Say which extra brings a module that is not there; returns the exit code."""
    print(f"pycarp: the command line needs {module}: install it with pip install 'pycarp[cli]'", file=sys.stderr)
    return 2

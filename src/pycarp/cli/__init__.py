"""The command line, ``pycarp``. Importing this package imports neither click nor rich."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing takes as long to import as all that is here
if TYPE_CHECKING:
    from collections.abc import Sequence

OPTIONAL = ("click", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``pycarp`` with these arguments, or with the process's; returns the exit code.

    0: done, or stopped in order. 1: something failed on the way. 2: the words, the files, the options or the machine
    do not allow what was asked for, and nothing was changed. 130: Ctrl-C, where that is no orderly stop.
    """
    if arguments is None:
        _be_a_program()
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


def _be_a_program() -> None:
    """What a process of its own needs before anything else: Ctrl-C ends it without a traceback, wherever it is; and
    descriptors 0 to 2 are taken, so that no socket becomes one of them and is written to."""
    former = sys.excepthook

    def end(*_: object) -> None:
        os._exit(130)

    # For an interrupt during the next import.
    sys.excepthook = lambda kind, *rest: end() if issubclass(kind, KeyboardInterrupt) else former(kind, *rest)
    import signal
    import warnings

    from ..errors import ImplementationWarning

    warnings.simplefilter("ignore", ImplementationWarning)  # an engine's first event says it
    # Commands that have to stop in order put their own handler in its place.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
    if sys.argv[1:2] in (["run"], ["up"]):
        # They would end it until it has a handler for them: they wait for that.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest one that is free

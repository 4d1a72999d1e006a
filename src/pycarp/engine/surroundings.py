"""What an interpreter or a system refuses that an engine cannot do without, in one sentence."""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator

from ..errors import CarpError, EngineError
from ..linux.capabilities import refused

__all__ = ["explained"]

_ENDS_FIRST = (
    "Python before 3.12 cannot end a sub-interpreter in which an engine runs: it raises, or aborts at the program's "
    "end. Stop the engine first, or run it in the main interpreter"
)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """What is refused inside raises `EngineError` or `CapabilityError`; other errors pass as they are."""
    if sys.version_info < (3, 12) and _is_sub_interpreter():
        warnings.warn(_ENDS_FIRST, RuntimeWarning, stacklevel=5)
    try:
        yield
    except CarpError:
        raise
    except PermissionError as error:
        raise refused(error) from error
    except (RuntimeError, ImportError) as error:
        if "thread" not in str(error) and "subinterpreters" not in str(error):
            raise
        raise EngineError(
            f"an engine cannot run here ({error}): it needs threads and the C library, which an isolated "
            "sub-interpreter or a limit on this process denies it; run it in the main interpreter of a process"
        ) from error


def _is_sub_interpreter() -> bool:
    try:
        interpreters = importlib.import_module("_xxsubinterpreters")
    except ImportError:
        return False
    return bool(interpreters.get_current() != interpreters.get_main())

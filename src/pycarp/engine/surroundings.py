"""What an interpreter or a system refuses that an engine cannot do without, in one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..errors import CarpError, EngineError
from ..linux.capabilities import refused

__all__ = ["explained"]


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """What is refused inside raises `EngineError` or `CapabilityError`; other errors pass as they are."""
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

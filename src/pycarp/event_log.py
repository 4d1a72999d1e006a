"""Events in the program's own log."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would take longer than this module
if TYPE_CHECKING:
    import logging

    from .events import Event

_LEVELS = {"news": 20, "warning": 30, "alarm": 40}
"""Those of `logging`: INFO, WARNING and ERROR."""


def log(event: Event, logger: logging.Logger | None = None) -> None:
    """Log an event; as it stands it can be an engine's `on_event`. Nothing is set up: that is the program's.

    News are INFO, warnings WARNING, alarms ERROR. The record has the event itself as `carp_event`. `logger` is
    `logging.getLogger("pycarp")` where none is given.
    """
    # Imported here: its import takes some ms, and most programs have no use for it.
    import logging

    about = f"{event.name}: {event.text}" if event.name else event.text
    where = logging.getLogger("pycarp") if logger is None else logger
    where.log(_LEVELS[event.severity], "%s", about, extra={"carp_event": event}, stacklevel=2)

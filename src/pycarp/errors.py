"""The errors that pycarp raises. Every message is one plain sentence that says what, where and what to do."""

from __future__ import annotations

NO_GUARDIAN = "the guardian of the addresses is gone"
NOT_ENTRUSTED = "the guardian of the addresses does not know the virtual host"
GUARDIAN_HANGS = "the guardian of the addresses does not answer"
HANDED_ON = "the virtual host is on its way to another process"
"""What an `EngineError` of either runtime says."""
DEADLINE = (
    "a thread under SCHED_DEADLINE may not start others, and an engine has some: start the engine first, or give the "
    "program SCHED_RESET_ON_FORK too (chrt --reset-on-fork --deadline)"
)


class CarpError(Exception):
    """Base of everything that pycarp raises on purpose."""


class ConfigError(CarpError, ValueError):
    """A virtual host that cannot work as described.

    `field` names the attribute of `VirtualHost` that is wrong (``"vhid"``, ``"addresses"`` ...), or is None
    when the fault lies between several of them.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class InterfaceError(CarpError, OSError):
    """A network interface is missing, unsuitable, ambiguous, or is in somebody else's use."""


class InterfaceMissing(InterfaceError):
    """No interface, or no address on one, is there that the virtual host could speak on: it may come later."""


class CapabilityError(CarpError, PermissionError):
    """The process lacks a capability that the kernel asks for (CAP_NET_ADMIN, CAP_NET_RAW)."""


class EngineError(CarpError, RuntimeError):
    """The engine was asked for something that its state does not allow (started twice, used after stop)."""


class ImplementationError(CarpError, ImportError):
    """The implementation that was asked for (``PYCARP_IMPL``) is not there."""


class ImplementationWarning(RuntimeWarning):
    """The native implementation cannot be used, and nobody chose the other with ``PYCARP_IMPL=python``."""

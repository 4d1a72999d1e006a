"""An engine at run time: what starts, keeps and stops virtual hosts on this machine. Programs import `Engine`."""

from .engine import Engine

__all__ = ["Engine"]

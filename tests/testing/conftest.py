"""The fixtures of the plugin, also where the package is not installed and pytest finds no entry point."""

from __future__ import annotations

from pycarp.pytest_plugin import carp_lan, carp_netns

__all__ = ["carp_lan", "carp_netns"]

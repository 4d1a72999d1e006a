"""For PyInstaller: modules that are imported by name, and the guardian, which is a program of its own."""

from importlib.util import find_spec
from pathlib import Path

from PyInstaller.utils.hooks import collect_submodules

# Not what is for the extras: that is there if the program imports it.
_EXTRAS = ("__main__", "cli", "_pyinstaller", "lab", "monitor", "metrics", "anyio", "pytest_plugin", "testing")

hiddenimports = collect_submodules(
    "pycarp", filter=lambda name: not name.startswith(tuple(f"pycarp.{extra}" for extra in _EXTRAS))
)
_package = find_spec("pycarp")
assert _package is not None and _package.origin is not None
_guardian = Path(_package.origin).with_name("_native") / "guardian"
binaries = [(str(_guardian), "pycarp/_native")] if _guardian.exists() else []
excludedimports = ["pycarp.anyio"]  # in the program if that imports it; the package does so for type checkers alone

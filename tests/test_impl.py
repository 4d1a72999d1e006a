"""One place chooses the implementation; what was asked for and is missing is an error, never a silent fallback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support import IMPLEMENTATIONS

import pycarp
from pycarp import _impl, errors


def in_new_interpreter(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `program` in an interpreter that imports pycarp anew, with PYCARP_IMPL as given or not at all."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYCARP_IMPL"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# What an interpreter sees in which the native package cannot be imported, compiled or not.
WITHOUT_NATIVE = (
    "import sys\n"
    "class Absent:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    "        if name.startswith('pycarp._native'): raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
    "sys.meta_path.insert(0, Absent())\n"
)


def test_impl_is_public() -> None:
    assert pycarp.__impl__ == _impl.current.name
    assert pycarp.__impl__ in ("native", "python")


def test_asked_for_is_what_one_gets(impl: _impl.Implementation) -> None:
    done = in_new_interpreter("import pycarp; print(pycarp.__impl__)", PYCARP_IMPL=impl.name)
    assert (done.returncode, done.stdout.strip()) == (0, impl.name), done.stderr


def test_modules_come_from_the_one_package(impl: _impl.Implementation) -> None:
    package = {"native": "pycarp._native", "python": "pycarp._python"}[impl.name]
    for module in (impl.packet, impl.input, impl.auth, impl.machine):
        assert module.__name__.startswith(package + ".")  # type: ignore[attr-defined]
    assert impl.machine.Machine.__module__.startswith(package)
    assert impl.auth.Authenticator.__module__.startswith(package)
    assert impl.input.Input.__module__.startswith(package)


def test_unknown_name_is_an_error() -> None:
    with pytest.raises(errors.ImplementationError, match="'rust' is unknown.*native or python"):
        _impl.load("rust")
    for used in ("__impl__", "Machine", "Input", "Authenticator"):
        done = in_new_interpreter(f"import pycarp; pycarp.{used}", PYCARP_IMPL="rust")
        assert done.returncode != 0
        assert "ImplementationError" in done.stderr and "'rust'" in done.stderr


def test_missing_native_is_an_error_when_asked_for() -> None:
    done = in_new_interpreter(WITHOUT_NATIVE + "import pycarp; pycarp.__impl__", PYCARP_IMPL="native")
    assert done.returncode != 0
    assert "ImplementationError: implementation 'native' is not there" in done.stderr
    assert "PYCARP_IMPL=python" in done.stderr  # the remedy


def test_missing_native_falls_back_when_nothing_was_asked_for() -> None:
    done = in_new_interpreter(WITHOUT_NATIVE + "import pycarp; print(pycarp.__impl__)")
    assert (done.returncode, done.stdout.strip()) == (0, "python"), done.stderr


def test_empty_means_not_asked() -> None:
    done = in_new_interpreter(WITHOUT_NATIVE + "import pycarp; print(pycarp.__impl__)", PYCARP_IMPL="")
    assert (done.returncode, done.stdout.strip()) == (0, "python"), done.stderr


@pytest.mark.skipif("native" not in IMPLEMENTATIONS, reason="says something only where the native one was built")
def test_native_is_preferred() -> None:
    done = in_new_interpreter("import pycarp; print(pycarp.__impl__)")
    assert (done.returncode, done.stdout.strip()) == (0, "native"), done.stderr


def test_implementation_error_is_an_import_error() -> None:
    assert issubclass(errors.ImplementationError, ImportError)
    assert issubclass(errors.ImplementationError, errors.CarpError)


def test_both_offer_the_same_names(impl: _impl.Implementation) -> None:
    """Every public name of the reference, and of its classes, is in this one too."""
    reference = _impl.load("python")
    for module in ("packet", "input", "auth", "machine"):
        asked, has = getattr(reference, module), getattr(impl, module)
        own = [
            name
            for name, value in vars(asked).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == asked.__name__
        ]
        assert own, module
        for name in own:
            assert hasattr(has, name), f"{impl.name}.{module}.{name}"
            if isinstance(value := getattr(asked, name), type):
                missing = [n for n in vars(value) if not n.startswith("_") and not hasattr(getattr(has, name), n)]
                assert not missing, f"{impl.name}.{module}.{name}: {missing}"


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_the_core_imports_nothing_of_the_engine(name: str) -> None:
    program = f"""
import sys
from pycarp import _impl
_impl.load({name!r})
from pycarp.protocol import abc, checks, frames, keys, timing
print(*[one for one in sys.modules if one.split(".")[1:2] in (["engine"], ["linux"], ["events"], ["monitor"])])
"""
    done = in_new_interpreter(program)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr

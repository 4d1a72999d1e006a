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


CANNOT_BE_LOADED = WITHOUT_NATIVE.replace(
    "raise ModuleNotFoundError(f'No module named {name!r}', name=name)",
    "raise ImportError('auth.so: failed to map segment from shared object')",
)


@pytest.mark.parametrize(
    ("absent", "environment", "why"),
    [
        (
            WITHOUT_NATIVE,
            {},
            "this installation has no compiled modules: reinstall it where there is a C compiler, or ",
        ),
        (CANNOT_BE_LOADED, {}, "(auth.so: failed to map segment from shared object): a file system mounted noexec "),
        (WITHOUT_NATIVE, {"PYCARP_IMPL": "python"}, ""),
    ],
)
def test_a_fallback_has_its_reason(absent: str, environment: dict[str, str], why: str) -> None:
    done = in_new_interpreter(absent + "from pycarp import _impl; print(_impl.current.instead)", **environment)
    assert done.returncode == 0, done.stderr
    assert why in done.stdout if why else done.stdout == "\n"


@pytest.mark.parametrize("absent", ["", WITHOUT_NATIVE])
def test_an_engine_tells_of_a_fallback(absent: str) -> None:
    program = (
        f"{absent}\nimport pycarp, types\nfrom pycarp.engine import supervisor\n"
        "parts = {'hosts': (), 'stop': lambda self: None, 'demotions': types.SimpleNamespace()}\n"
        "supervisor.Supervisor = lambda *arguments: type('Double', (), parts)()\n"
        "engine = pycarp.Engine(pycarp.VirtualHost(vhid=1, passphrase='motdepassehalakon', addresses=['10.0.0.1']))\n"
        "engine.start(); event = engine.poll(); engine.stop()\n"
        "print(event.text if event else 'nothing')\n"
    )
    done = in_new_interpreter(program)
    assert done.returncode == 0, done.stderr
    fell_back = absent or "native" not in IMPLEMENTATIONS
    assert done.stdout.startswith("adverts are timed less sharply, in plain Python: this" if fell_back else "nothing")


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

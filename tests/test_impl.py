"""One place chooses the implementation; what was asked for and is missing is an error, never a silent fallback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import IMPLEMENTATIONS

import pycarp
from pycarp import _impl, errors


def in_new_interpreter(program: str, warnings: str = "error", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `program` in an interpreter that imports pycarp anew, with PYCARP_IMPL as given or not at all."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYCARP_IMPL"}
    return subprocess.run(
        [sys.executable, "-W", warnings, "-c", program],
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


def test_dir_has_every_public_name() -> None:
    """In a process of its own, where nothing was imported yet: and naming them imports nothing."""
    program = (
        "import sys, pycarp; names = dir(pycarp); assert set(pycarp.__all__) <= set(names);"
        "assert not {'pycarp.engine', 'pycarp.config', 'pycarp.events'} & set(sys.modules);"
        "assert all(getattr(pycarp, name) for name in names)"
    )
    paths = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": paths})


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


def test_missing_native_falls_back_when_nothing_was_asked_for_and_says_so_once() -> None:
    program = WITHOUT_NATIVE + "import pycarp\nfor _ in '12': print(pycarp.__impl__, pycarp.Machine)"
    done = in_new_interpreter(program, "default")
    assert done.returncode == 0 and done.stdout.startswith("python "), done.stderr
    first, *line = done.stderr.splitlines()
    assert first == (  # of the line of the program that came to need it
        "<string>:7: ImplementationWarning: pycarp runs in plain Python, and times adverts less sharply: this "
        "installation has no compiled modules: reinstall it where there is a C compiler, or set PYCARP_IMPL=python if "
        "this is meant"
    )
    # From 3.13 on Python shows the line also of a program that is no file.
    assert [text.strip() for text in line] in ([], [program.splitlines()[6]])
    for quiet in ("import pycarp; pycarp.VirtualHost; pycarp.Engine", "import pycarp.cli; pycarp.cli.main(['--help'])"):
        assert in_new_interpreter(WITHOUT_NATIVE + quiet).returncode == 0
    chosen = in_new_interpreter(WITHOUT_NATIVE + "import pycarp; print(pycarp.__impl__)", PYCARP_IMPL="python")
    assert (chosen.returncode, chosen.stdout, chosen.stderr) == (0, "python\n", "")


def test_warnings_that_are_errors_stop_a_fallback() -> None:
    done = in_new_interpreter(WITHOUT_NATIVE + "import pycarp; pycarp.Machine")
    assert done.returncode == 1 and "ImplementationWarning: pycarp runs in plain Python" in done.stderr


def test_a_command_leaves_the_fallback_to_the_engine_s_event() -> None:
    program = WITHOUT_NATIVE + "import sys, pycarp.cli; sys.argv = ['pycarp', '--version']; pycarp.cli.main()"
    done = in_new_interpreter(program)
    assert "(python, " in done.stdout and not done.stderr, done.stderr


@pytest.mark.skipif("native" not in IMPLEMENTATIONS, reason="says something only where the native one was built")
@pytest.mark.skipif(bool(os.geteuid()), reason="mounting needs root")
def test_a_file_system_without_execution_is_told_in_one_sentence(tmp_path: Path) -> None:
    """The whole package on a real one: first the modules, then, as if they were elsewhere, the guardian."""
    package = Path(pycarp.__file__).parent
    programs = (
        "import pycarp; pycarp.Machine",
        "import types, pathlib, pycarp._native; from pycarp.linux.guardian_client import program\n"
        "program(types.SimpleNamespace(__file__=str(pathlib.Path(pycarp._native.__file__).with_name('spawn.so'))))",
    )
    said = []
    mount = f"mount -t tmpfs -o noexec none {tmp_path} && cp -r {package} {tmp_path}"
    for impl, program in zip(("native", "python"), programs, strict=True):
        script = f'{mount} && cd {tmp_path} && exec $0 -c "$1"'
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, sys.executable, program],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "PYCARP_IMPL": impl},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        said.append(done.stderr.splitlines()[-1])
    place = tmp_path / "pycarp" / "_native"
    assert said[0].startswith("pycarp.errors.ImplementationError: implementation 'native' is not there (")
    assert f": install pycarp on another file system, {place} is on one that is mounted noexec, or set" in said[0]
    assert said[1] == (
        f"pycarp.errors.EngineError: the guardian {place / 'guardian'} is on a file system that is mounted noexec: "
        "install pycarp on another, or set PYCARP_IMPL=python"
    )


CANNOT_BE_LOADED = WITHOUT_NATIVE.replace(
    "raise ModuleNotFoundError(f'No module named {name!r}', name=name)",
    "raise ImportError('auth.so: wrong ELF class')",
)


@pytest.mark.parametrize(
    ("absent", "environment", "why"),
    [
        (
            WITHOUT_NATIVE,
            {},
            "this installation has no compiled modules: reinstall it where there is a C compiler, or ",
        ),
        (
            CANNOT_BE_LOADED,
            {},
            "the compiled modules cannot be loaded (auth.so: wrong ELF class): reinstall pycarp; set ",
        ),
        (WITHOUT_NATIVE, {"PYCARP_IMPL": "python"}, ""),
    ],
)
def test_a_fallback_has_its_reason(absent: str, environment: dict[str, str], why: str) -> None:
    program = absent + "from pycarp import _impl; print(_impl.current.instead)"
    done = in_new_interpreter(program, "ignore", **environment)
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
    done = in_new_interpreter(program, "ignore")
    assert done.returncode == 0, done.stderr
    fell_back = absent or "native" not in IMPLEMENTATIONS
    assert done.stdout.startswith("adverts are timed less sharply, in plain Python: this" if fell_back else "nothing")


def test_empty_means_not_asked() -> None:
    done = in_new_interpreter(WITHOUT_NATIVE + "import pycarp; print(pycarp.__impl__)", "ignore", PYCARP_IMPL="")
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

"""Compiles what the benchmarks have in C and Cython, on the fly, into a directory that is thrown away."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
EXT = HERE.parent / "ext"
SHA1 = sorted((EXT / "sha1").glob("*.c"))
# What the extension modules are compiled with, so that both are.
FLAGS = ["-O2", "-g0", "-fvisibility=hidden"]


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CC", "") or shutil.which("cc") or "gcc")


def program(name: str, directory: Path) -> Path:
    """An executable from ``NAME.c`` here."""
    target = directory / name
    subprocess.run([*compiler(), "-O2", "-Wall", "-Wextra", "-o", target, HERE / f"{name}.c"], check=True)
    return target


def library(name: str, directory: Path) -> ctypes.CDLL:
    """``NAME.c`` here as a shared object; its functions are called without the GIL."""
    target = directory / f"{name}.so"
    subprocess.run(
        [*compiler(), "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", target, HERE / f"{name}.c"], check=True
    )
    return ctypes.CDLL(str(target))


def loops(directory: Path) -> Any:
    """`loops.pyx`, linked against the installed native core."""
    include = directory / "include"
    package = include / "pycarp" / "_native"
    package.mkdir(parents=True)
    for declarations in EXT.rglob("*.pxd"):
        # sha1 is C, and no module of the package.
        if declarations.stem != "sha1":
            shutil.copy2(declarations, package)
    source = directory / "loops.c"
    subprocess.run(
        [sys.executable, "-m", "cython", "-3", "-I", include, "-I", EXT, "-o", source, HERE / "loops.pyx"], check=True
    )
    target = directory / f"loops{sysconfig.get_config_var('EXT_SUFFIX')}"
    headers = ["-I", sysconfig.get_path("include"), "-I", str(EXT), "-I", str(EXT / "sha1")]
    subprocess.run([*compiler(), *FLAGS, "-shared", "-fPIC", *headers, "-o", target, source, *SHA1], check=True)
    spec = importlib.util.spec_from_file_location("loops", target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

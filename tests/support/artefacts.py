"""sdist and wheels of this source tree, built as pip would, without the network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SWITCHES = ("PYCARP_NO_EXTENSIONS", "PYCARP_REQUIRE_EXTENSIONS", "PYCARP_WERROR", "PYCARP_SANITIZE", "CFLAGS")
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "wheelhouse", "venv", "*.egg-info", "__pycache__", "*.so")


def copy_of_source(target: Path) -> Path:
    """A copy of the source tree that a build may write into."""
    return shutil.copytree(ROOT, target, ignore=NOT_SOURCE)


def build(tree: Path, kind: str, umask: int = -1, **environment: str) -> tuple[Path, str]:
    """Build a "wheel" or an "sdist" of `tree`: the file, and what the build said on stderr. Fails as the build does."""
    target = tree / "dist"
    target.mkdir(exist_ok=True)
    # The environment of this test run must not decide, but its compiler and path may.
    clean = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(target)!r}))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tree,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        umask=umask,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return target / done.stdout.split()[-1], done.stderr

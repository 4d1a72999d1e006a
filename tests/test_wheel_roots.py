"""The wheel in a clean root directory: tools/wheel_roots.py, as docs/reference-platforms.md has its table from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.artefacts import ROOT

SUITES = ("bookworm", "trixie", "sid")


@pytest.mark.long
@pytest.mark.root
@pytest.mark.skipif(not shutil.which("debootstrap") or bool(os.geteuid()), reason="needs debootstrap and root")
@pytest.mark.parametrize("suite", SUITES)
def test_installed_without_a_compiler_it_takes_over(tmp_path: Path, suite: str) -> None:
    # Fault: A distribution that has nothing but Python, and whose C library is another.
    # Expected: pip installs the wheel, and the second of two engines takes over from the first.
    root = tmp_path / suite
    words = ["debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates", suite, str(root)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, timeout=600)
    command = [sys.executable, ROOT / "tools" / "wheel_roots.py", root]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| native |" in done.stdout and done.stdout.endswith("| right |\n")

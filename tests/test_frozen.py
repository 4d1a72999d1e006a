"""A program that PyInstaller froze, with the hook that the package brings: nothing of Python is beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import IMPLEMENTATIONS

import pycarp
from pycarp.lab import namespaces

pytest.importorskip("PyInstaller")
PROGRAM = """
import os, sys
import pycarp
from pycarp import events
from pycarp.lab.namespaces import Lab

host = pycarp.VirtualHost(vhid=1, passphrase="motdepassehalakon", addresses=["10.13.37.42/24"], advbase=0, advskew=10)
with Lab() as lab:
    with lab["main"].enter():
        engine = pycarp.Engine(host)
        engine.start()
    for event in engine.events(timeout=8):
        if isinstance(event, events.AddressesTaken):
            break
    guardian = os.path.realpath(f"/proc/{engine.snapshot().guardian}/exe")
    print(pycarp.__impl__, engine.state(1).name, os.path.relpath(guardian, os.path.dirname(sys.executable)))
    engine.stop()
"""


@pytest.mark.slow
@pytest.mark.skipif("native" not in IMPLEMENTATIONS, reason="says something only where the native one was built")
def test_a_frozen_program_becomes_master(tmp_path: Path) -> None:
    # Fault: An interpreter, and a package that is seen by its files, are not there.
    # Expected: The engine is native, becomes MASTER, and its guardian is the one in the bundle.
    if namespaces.available() != "root":
        pytest.skip("no network namespaces here")
    (tmp_path / "service.py").write_text(PROGRAM)
    package = Path(pycarp.__file__).parent
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")]),
        "PYINSTALLER_CONFIG_DIR": str(tmp_path / "config"),
    }
    # As the entry point says, which is not there in a source tree.
    words = [
        "--log-level=ERROR",
        "--exclude-module=dns",
        f"--additional-hooks-dir={package / '_pyinstaller'}",
        "service.py",
    ]
    subprocess.run(
        [sys.executable, "-m", "PyInstaller", *words], cwd=tmp_path, env=environment, check=True, timeout=110
    )
    program = tmp_path / "dist" / "service" / "service"
    done = subprocess.run([program], env={"PATH": "/bin"}, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "native MASTER _internal/pycarp/_native/guardian\n", done.stdout + done.stderr


def test_the_entry_point_names_the_hook() -> None:
    from pycarp._pyinstaller import hook_directories

    (place,) = hook_directories()
    assert (Path(place) / "hook-pycarp.py").exists()

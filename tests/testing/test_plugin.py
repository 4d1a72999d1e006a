"""The plugin as users meet it: found by its entry point, in a pytest of theirs with a configuration of theirs."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.pages import ROOT, steps

import pycarp
from pycarp.lab.namespaces import available

STRICT = "[pytest]\naddopts = --strict-markers --strict-config -p no:cacheprovider\nfilterwarnings = error\n"


@pytest.fixture
def run(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """A function that runs pytest on files, in a process of its own in which pycarp is installed."""
    place = tmp_path / "installed"
    place.mkdir()
    # The package that is tested comes first, whatever a tool of the source tree has put there.
    paths = [str(place), str(Path(pycarp.__file__).parents[1]), *filter(None, sys.path)]
    if not any(one.name == "pycarp" for one in importlib.metadata.entry_points(group="pytest11")):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        points = project["entry-points"]["pytest11"]
        information = place / "pycarp-0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: pycarp\nVersion: 0\n")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (information / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines, ""]))

    def run(files: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        directory = tmp_path / "theirs"
        directory.mkdir()
        for name, text in {"pytest.ini": STRICT, **files}.items():
            (directory / name).write_text(text)
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:xdist", *arguments], cwd=directory, capture_output=True,
            text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip

    return run


def test_who_does_not_use_it_pays_nothing(run) -> None:
    text = """
import sys

def test_nothing_is_there(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("pycarp")
    loaded = {name for name in sys.modules if name.partition(".")[0] == "pycarp"}
    assert loaded == {"pycarp", "pycarp._version", "pycarp.pytest_plugin"}


"""
    done = run({"test_theirs.py": text}, "-q")
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_it_there_is_no_fixture(run) -> None:
    done = run({"test_theirs.py": "def test_it(carp_lan):\n    pass\n"}, "-p", "no:pycarp")
    assert "fixture 'carp_lan' not found" in done.stdout


def test_seeds_are_parameters(run) -> None:
    text = """
import pytest
from pycarp import VirtualHost

@pytest.mark.parametrize("carp_lan", [1, 2, 3], indirect=True)
def test_it(carp_lan):
    carp_lan.loss = 0.1
    for number in range(3):
        carp_lan.engine(f"h{number}", VirtualHost(vhid=7, passphrase="s", addresses=["10.0.0.7"])).start()
    carp_lan.run(30)
    assert carp_lan.masters()
    print(len(carp_lan.log), [record.at for record in carp_lan.log][-1])
"""
    done = run({"test_theirs.py": text}, "-q", "-s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(set(re.findall(r"^\.?(\d+ \d+)$", done.stdout, re.MULTILINE))) == 3, done.stdout


def test_the_page_about_testing_is_right(run) -> None:
    files = {}
    for step in steps(ROOT / "docs" / "howto" / "testing.md"):
        name, _, text = step.text.partition("\n")
        if step.language == "python":
            files[name.removeprefix("# ")] = text + "\n"
    program = (ROOT / "examples" / "dns" / "nameserver.py").read_text()
    (shown,) = (name for name in files if not name.endswith(".py"))
    assert f"{shown}\n{files.pop(shown)}".strip() in program
    assert set(files) == {"test_nameserver.py", "test_on_hosts.py"}
    files["nameserver.py"] = program
    done = run(files, "-q", "-rs", "--durations=0", "--durations-min=0")
    assert done.returncode == 0, done.stdout + done.stderr
    if os.geteuid() == 0 and available() == "root":
        assert "3 passed" in done.stdout, done.stdout
    else:
        assert "carp_netns needs" in done.stdout, done.stdout
    took = re.search(r"([\d.]+)s call +test_nameserver", done.stdout)
    assert took is not None and float(took[1]) < 2, done.stdout

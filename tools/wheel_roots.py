"""Tries wheels where nothing else is: in clean root directories of distributions, without a compiler.

    python tools/wheel_roots.py [--wheel FILE] [--python PATH] ROOT...

A ROOT is what debootstrap makes, with python3 and python3-venv in it; nothing in it is changed. Without --wheel, the
wheel of this source tree is built in a throw-away copy of the ROOT, with the distribution's compiler. Then, in another
copy: pip installs it, `pycarp --help` runs, and of two engines in network namespaces the second takes over from the
first. The dependencies come from the index that pip has here. Needs root and overlayfs. One row of a table for each
ROOT; exit code 1 if one failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
DEPENDENCIES = ("pip", "pyroute2", "click", "rich")
TO_BUILD = ("setuptools>=77", "cython>=3.1")
COMPILER = "gcc libc6-dev"
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "*.so")

ENTER = """
set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
cd "$2/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs tmpfs tmp
mkdir -p exchange
mount --bind "$3" exchange
rm -f etc/resolv.conf
cp /etc/resolv.conf etc/resolv.conf
exec chroot . env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 PYTHON="$4" sh -euc "$5"
"""
VENV = """
"$PYTHON" -m venv --without-pip /tmp/venv
/tmp/venv/bin/python "$(ls /exchange/pip-*.whl)/pip" install --quiet --no-index --find-links /exchange"""
BUILD = f"""
apt-get -o Acquire::Check-Valid-Until=false update --quiet=2
export DEBIAN_FRONTEND=noninteractive
apt-get install --quiet=2 --yes --no-install-recommends {COMPILER} >/dev/null
header=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
[ -e "$header" ] || apt-get install --quiet=2 --yes --no-install-recommends "$(basename "$PYTHON")-dev" >/dev/null
{VENV} {" ".join(f"'{one}'" for one in TO_BUILD)}
cp -r /exchange/source /tmp/source
cd /tmp/source
export PYCARP_REQUIRE_EXTENSIONS=1
/tmp/venv/bin/python -W ignore -c 'from setuptools import build_meta; build_meta.build_wheel("/exchange/built")' \
>/tmp/log 2>&1 || {{ tail -n 30 /tmp/log; exit 1; }}
"""
TRY = f"""
for one in cc gcc clang; do ! command -v $one; done
{VENV} "$(ls /exchange/built/*.whl)[cli]"
cd /
/tmp/venv/bin/pycarp --help | grep -q "A floating IP address"
/tmp/venv/bin/python -W error /exchange/smoke.py
"""
SMOKE = """
import platform, sys
import pycarp
from pycarp import State, events
from pycarp.lab.namespaces import Lab

def owns(engine):
    for event in engine.events(timeout=8):
        if isinstance(event, events.AddressesTaken):
            assert engine.state(1) is State.MASTER
            return
    raise SystemExit("nobody took the address")

with Lab() as lab:
    engines = []
    for name, advskew in (("main", 10), ("second", 25)):
        with lab[name].enter():
            words = {"vhid": 1, "passphrase": "motdepassehalakon", "addresses": ["10.13.37.42/24"], "advbase": 0}
            engines.append(pycarp.Engine(pycarp.VirtualHost(**words, advskew=advskew)))
            engines[-1].start()
    main, second = engines
    owns(main)
    lab.unplug("main")
    owns(second)
    for engine in engines:
        engine.stop()
version = platform.freedesktop_os_release()
libc = " ".join(platform.libc_ver()) or "musl"
name = version.get("PRETTY_NAME") or version["NAME"]
print("|", name, "|", platform.python_version(), "|", platform.machine(), "|", libc, "|", pycarp.__impl__, "|", end=" ")
"""


def in_copy(root: Path, exchange: Path, python: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the shell in a throw-away copy of a root directory; `exchange` is /exchange there."""
    with tempfile.TemporaryDirectory(prefix="pycarp-root-") as place:
        for name in ("upper", "work", "root"):
            Path(place, name).mkdir()
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "sh"]
        words += [str(root.resolve()), place, str(exchange), python, script]
        return subprocess.run(words, capture_output=True, text=True, check=False)


def prepare(exchange: Path, wheel: Path | None) -> None:
    """What the copies need: source or wheel, the smoke test, the wheels of others."""
    (exchange / "smoke.py").write_text(SMOKE)
    wanted = list(DEPENDENCIES)
    if wheel is None:
        shutil.copytree(SOURCE, exchange / "source", ignore=NOT_SOURCE)
        wanted += TO_BUILD
    # Those without code: any Python takes them.
    options = ["--quiet", "--only-binary=:all:", "--platform=any", "--python-version=3.11", "--dest", str(exchange)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, *wanted], check=True)


def tried(root: Path, exchange: Path, wheel: Path | None, python: str) -> tuple[str, bool]:
    """The row of one root directory, and whether all went well."""
    built = exchange / "built"
    shutil.rmtree(built, ignore_errors=True)
    built.mkdir()
    if wheel is not None:
        shutil.copy(wheel, built)
    for what, script in (("build", BUILD if wheel is None else ""), ("try", TRY)):
        done = in_copy(root, exchange, python, script)
        if done.returncode:
            return f"| {root.name} | {what}: {done.stdout}{done.stderr}", False
    (found,) = built.iterdir()
    return f"{done.stdout.strip()} {found.stat().st_size // 1000} kB | right |", True


def main(arguments: list[str] | None = None) -> int:
    """Try each root directory that the command line names; 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="this one, instead of one that is built there")
    parser.add_argument("--python", default="/usr/bin/python3", help="the interpreter, as the ROOT has it")
    parser.add_argument("roots", nargs="+", type=Path, metavar="ROOT")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        parser.error("this mounts file systems: run it as root")
    well = True
    print("| distribution | Python | processor | C library | implementation | wheel | result |")
    print("|---|---|---|---|---|--:|---|")
    with tempfile.TemporaryDirectory(prefix="pycarp-wheel-") as place:
        prepare(Path(place), options.wheel)
        for root in options.roots:
            row, right = tried(root, Path(place), options.wheel, options.python)
            print(row, flush=True)
            well = well and right
    return int(not well)


if __name__ == "__main__":
    raise SystemExit(main())

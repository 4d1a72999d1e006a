"""systemd as process 1, in namespaces of its own over a throw-away copy of this machine's files.

The copy is an overlay whose upper side is memory: what is installed or changed inside is gone at the end. Nothing of
the machine's own services runs inside. It needs root, systemd, and a kernel with overlayfs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import pycarp
from pycarp.lab.namespaces import Host

from .lan import wait_until

SYSTEMD = Path("/lib/systemd/systemd")
_SCRIPT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
for one in run dev; do mount -t tmpfs -o mode=755 tmpfs $one; done
for one in null zero full random urandom tty; do cp -a /dev/$one dev/$one; done
ln -s /proc/self/fd dev/fd
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
for one in sysctl modules-load remount-fs binfmt; do ln -sf /dev/null etc/systemd/system/systemd-$one.service; done
# It would empty /tmp, where what is tested may be.
ln -sf /dev/null etc/tmpfiles.d/tmp.conf
rm -rf etc/systemd/system/*.wants etc/systemd/system/pycarp* etc/ifconfig.carp* etc/pycarp var/lib/pycarp
if [ -d /sys/fs/cgroup/systemd ]; then hierarchy="-t cgroup -o none,name=systemd cgroup"; place=systemd
else hierarchy="-t cgroup2 cgroup2"; place=; fi
# Read-only, which tells systemd that there is no udev to start.
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mkdir -p sys/fs/cgroup/$place
exec unshare --cgroup sh -c "mount $hierarchy sys/fs/cgroup/$place; mount --make-rshared .; exec chroot . env -i \
container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin $2 --log-target=journal --show-status=0 --unit=basic.target"
"""


def why_not() -> str:
    """Why it cannot be had here, or ""."""
    if os.geteuid() != 0 or not SYSTEMD.exists() or not Path("/sys/fs/cgroup").exists():
        return "needs root, systemd and cgroups"
    return "" if "overlay" in Path("/proc/filesystems").read_text() else "this kernel has no overlayfs"


class Booted:
    """A host of a lab with systemd as its process 1, until the context ends. ``/usr/local/bin/pycarp`` is this tree's.

    `implementation` is the one that it runs.
    """

    def __init__(self, host: Host, place: Path, implementation: str) -> None:
        self._place = place
        self._implementation = implementation
        place.mkdir()
        words = ["unshare", "--pid", "--mount", "--uts", "--ipc", "--fork", "--kill-child", "bash", "-c", _SCRIPT, "-"]
        quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        self._outside = host.popen([*words, str(place), str(SYSTEMD)], stderr=subprocess.DEVNULL, **quiet)

    def __enter__(self) -> Self:
        try:
            wait_until(lambda: self._inside() != "", 10, "systemd does not start")
            self._enter = ["nsenter", f"--target={self._inside()}", "--all", "--root", "env", "--chdir=/"]
            self._install()
            up = ("running", "degraded")
            wait_until(lambda: self.run("systemctl", "is-system-running").strip() in up, 20, "systemd does not come up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        # With process 1 goes all that runs in its namespace.
        self._outside.kill()
        self._outside.wait(10)

    @property
    def root(self) -> Path:
        """Its files, seen from outside."""
        return Path(f"/proc/{self._inside()}/root")

    def run(self, *words: str, **options: Any) -> str:
        """Run a command inside: what it printed, on both streams."""
        options = {"check": False, "timeout": 60, "text": True, "stdin": subprocess.DEVNULL, **options}
        done = subprocess.run([*self._enter, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
        return str(done.stdout)

    def show(self, unit: str, field: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", field, unit).strip()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def _inside(self) -> str:
        """The number of its process 1 in this machine, or "" before it is there."""
        try:
            children = Path(f"/proc/{self._outside.pid}/task/{self._outside.pid}/children").read_text().split()
            name = Path(f"/proc/{children[0]}/comm").read_text().strip() if children else ""
        except OSError:
            return ""
        return children[0] if name == "systemd" else ""

    def _install(self) -> None:
        """This tree's command, readable by every user: the copy's folders say so, not the machine's."""
        source = Path(pycarp.__file__).resolve().parents[1]
        for place in (source, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()):
            for folder in (place, *place.parents):
                inside = self.root / str(folder).lstrip("/")
                inside.chmod(inside.stat().st_mode | 0o555)
        python = Path(sys.executable)
        script = f"""#!/bin/sh
export PYTHONPATH={source} PYTHONDONTWRITEBYTECODE=1 PYCARP_IMPL={self._implementation}
exec {python} -m pycarp "$@"
"""
        self.write("/usr/local/bin/pycarp", script, 0o755)

"""systemd-networkd beside a virtual host, with the files of packaging/networkd/."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from support.lan import Lan, stays, wait_until
from support.linux import VIRTUAL_MAC, from_host

from pycarp import State

MASTER, BACKUP = State.MASTER, State.BACKUP

PACKAGING = Path(__file__).resolve().parents[2] / "packaging" / "networkd"
NETWORKD = Path("/lib/systemd/systemd-networkd")
_START = """
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
chown -R systemd-network: /run/systemd/netif
mount -t sysfs -o ro sysfs /sys
cp "$@" /run/systemd/network/
printf '[Match]\\nName=carp*\\n[Network]\\nDHCP=yes\\n' > /run/systemd/network/80-everything.network
exec /lib/systemd/systemd-networkd
"""


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(not NETWORKD.exists(), reason="no systemd-networkd on this machine")
@pytest.mark.parametrize("packaged", [True, False])
def test_networkd_leaves_the_device_alone(net: Lan, packaged: bool) -> None:
    # Fault: A file for networkd matches every interface, and asks for DHCP on it.
    # Expected: With packaging/networkd/10-pycarp.network beside it, networkd leaves the macvlan alone. Without it
    # networkd sets it up, and no frame leaves a BACKUP all the same.
    net.audited = packaged
    files = [str(PACKAGING / "10-pycarp.network")] if packaged else ["/dev/null"]
    networkd = net["main"].popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _START, "sh", *files],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    links = Path(f"/proc/{networkd.pid}/root/run/systemd/netif/links")
    wait_until(lambda: (links / str(net["main"].index("eth0"))).exists(), complaint="networkd does not start")
    better = net.start("second", advskew=1)
    better.become(MASTER)
    main = net.start("main", advskew=25)
    state = links / str(net["main"].index(main.hosts[0].name))

    def left_alone() -> bool:
        return state.exists() and "ADMIN_STATE=unmanaged" in state.read_text()

    wait_until(lambda: state.exists() and "ADMIN_STATE=pending" not in state.read_text())
    time.sleep(0.5)
    assert main.state() is BACKUP and not from_host(net.capture.frames, net["main"], VIRTUAL_MAC)
    better.stop()
    main.become(MASTER)
    if packaged:
        stays(left_alone, 1.0)
    else:
        wait_until(lambda: not left_alone() and "80-everything" in state.read_text())
    main.engine.force(101, BACKUP)
    networkd.terminate()
    networkd.wait(8)

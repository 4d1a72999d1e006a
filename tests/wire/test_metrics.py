"""Figures and the page of a running command, as Prometheus and a browser get them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.lan import VIP, Command, Lan, wait_until

from pycarp import State

PORT = 9112
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_ASK = f"""
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", {PORT}, timeout=5)
connection.request(sys.argv[1], sys.argv[2], headers=json.loads(sys.argv[3]))
answer = connection.getresponse()
print(json.dumps([answer.status, dict(answer.getheaders()), answer.read().decode()]))
"""
_FOLLOW = f"""
import socket
feed = socket.create_connection(("127.0.0.1", {PORT}), 5)
feed.sendall(b"GET /events HTTP/1.0\\r\\n\\r\\n")
while data := feed.recv(1 << 16):
    print(data.decode(), end="", flush=True)
"""
_HOLD = f"""
import socket, sys
held = [socket.create_connection(("127.0.0.1", {PORT}), 5) for _ in range(60)]
print("held", flush=True)
sys.stdin.read()
"""


def ask(net: Lan, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    done = net["main"].run([sys.executable, "-c", _ASK, method, path, json.dumps(headers)])
    status, answered, body = json.loads(done.stdout)
    return status, answered, body


def start(net: Lan, *more: str) -> Command:
    words = (
        "vhid",
        "101",
        "pass",
        "motdepassehalakon",
        "carpdev",
        "eth0",
        "advbase",
        "0",
        "advskew",
        "10",
        f"{VIP}/24",
    )
    return net.command("main", "up", "carp0", *words, "--metrics", f":{PORT}", "--control", "off", *more)


def test_figures_and_the_page(net: Lan) -> None:
    # Fault: Sixty connections that never ask, a browser lured by a name, a port that is taken, a reader who follows.
    # Expected: Figures and the page, read-only; one sentence where the port is taken, and the address all the same.
    main = start(net)
    main.become(State.MASTER)
    status, headers, body = ask(net, "/metrics", Accept="application/openmetrics-text")
    assert status == 200 and "openmetrics" in headers["Content-Type"]
    assert 'pycarp_state{name="carp0",pycarp_state="MASTER",vhid="101"} 1.0' in body
    assert body.rstrip().endswith("# EOF")
    assert 'pycarp_takeover_duration_seconds_bucket{le="+Inf"} 1.0' in body

    status, headers, body = ask(net, "/")
    assert status == 200 and "MASTER" in body and VIP in body and "this host" in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "http" not in body.replace("http-equiv", "")
    assert ask(net, "/nothing")[0] == 404
    assert ask(net, "/", method="POST")[0] == 501
    assert ask(net, "/", Host="elsewhere.example")[0] == 403
    assert net["client"].run(
        [sys.executable, "-c", f"import socket; print(socket.socket().connect_ex(('{net['main'].address}', {PORT})))"]
    ).stdout.strip() not in ("", "0")

    second = net.command(
        "main", "up", "carp1", "vhid", "102", "pass", "motdepassehalakon", "carpdev", "eth0", "10.13.37.43/24",
        "--metrics", f":{PORT}", "--control", "off",
    )  # fmt: skip
    second.become(State.BACKUP)
    wait_until(lambda: f"metrics cannot be served at 127.0.0.1:{PORT}" in second.errors)
    second.send_signal(signal.SIGTERM)
    assert second.end() == 0

    follower = net["main"].popen([sys.executable, "-c", _FOLLOW], stdout=subprocess.PIPE)
    assert follower.stdout is not None
    told = follower.stdout.readline().decode()
    holder = net["main"].popen([sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    begun = time.monotonic()
    main.send_signal(signal.SIGTERM)
    assert main.end() == 0
    assert time.monotonic() - begun < 5
    follower.wait(5)
    told += follower.stdout.read().decode()
    assert "text/event-stream" in told and "data: " in told and "carp0" in told


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus on this machine")
def test_prometheus_alerts_when_nobody_is_master(net: Lan, tmp_path: Path) -> None:
    # Fault: The only host of a group is in maintenance.
    # Expected: Prometheus, with the example's configuration, has its figures, and an alert is pending.
    main = start(net)
    main.become(State.MASTER)
    for name in ("prometheus.yml", "alerts.yml"):
        text = (EXAMPLES / "prometheus" / name).read_text().replace("_interval: 5s", "_interval: 300ms")
        (tmp_path / name).write_text(text)
    words = ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    prometheus = net["main"].popen(
        [*words, "--web.listen-address=127.0.0.1:9090"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def query(expression: str) -> list[Any]:
        ask_it = (
            "import json, sys, urllib.parse as p, urllib.request as r;"
            "u = 'http://127.0.0.1:9090/api/v1/query?' + p.urlencode({'query': sys.argv[1]});"
            "print(r.build_opener(r.ProxyHandler({})).open(u, timeout=5).read().decode())"
        )
        done = net["main"].run([sys.executable, "-c", ask_it, expression], check=False)
        return json.loads(done.stdout)["data"]["result"] if done.returncode == 0 else []

    wait_until(lambda: bool(query('pycarp_state{pycarp_state="MASTER"} == 1')), 20, "Prometheus has no figures")
    net.lab.unplug("main")
    wait_until(lambda: bool(query('ALERTS{alertname="CarpNoMaster"}')), 20, "there is no alert")
    prometheus.terminate()
    prometheus.wait(10)
    main.stop()

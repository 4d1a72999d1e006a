"""What only shows when virtual hosts are looked at together."""

from __future__ import annotations

from pathlib import Path

from support.words import SECRET, messages, write

from pycarp.ifconfig import check_together, parse_file, parse_text


def together(*lines: str, carpdevs: dict[int, str] | None = None) -> list[str]:
    parsed = [parse_text(f"pass {SECRET} {line}", name=f"carp{n}", source=f"/f{n}") for n, line in enumerate(lines)]
    assert all(p.host is not None for p in parsed), [messages(p) for p in parsed]
    return [str(d) for d in check_together(parsed, carpdevs)]


def test_hosts_that_get_along() -> None:
    assert together("vhid 1 10.0.0.1/24", "vhid 2 10.0.0.2/24", "vhid 1 10.0.1.1/24") == []
    assert together("vhid 1 10.0.0.1/24 carpdev eth0", "vhid 1 10.0.0.2/24 carpdev eth1") == []
    assert together("vhid 1 10.0.0.1", "vhid 1 10.0.0.2", carpdevs={0: "eth0", 1: "eth1"}) == []
    assert together("vhid 1 fe80::1/64 carpdev eth0", "vhid 1 fe80::1/64 carpdev eth1") == []


def test_one_vhid_twice_on_one_interface() -> None:
    for found in (
        together("vhid 1 10.0.0.1/24", "vhid 1 10.0.0.2/24"),
        together("vhid 1 10.0.0.1/24 carpdev eth0", "vhid 1 10.0.1.2/24 carpdev eth0"),
        together("vhid 1 10.0.0.1", "vhid 1 10.0.0.2", carpdevs={0: "eth0", 1: "eth0"}),
    ):
        assert len(found) == 1
        assert found[0].startswith(f"/f1:1:{len('pass  vhid ') + len(SECRET) + 1}: error: vhid 1 on ")
        assert "carp0 (/f0)" in found[0]


def test_one_name_or_one_address_twice(tmp_path: Path) -> None:
    for n in (0, 1):
        (tmp_path / str(n)).mkdir()
        write(tmp_path / str(n) / "ifconfig.carp0", f"vhid {n + 1} pass {SECRET}\n10.0.0.1/24")
    found = check_together([parse_file(tmp_path / str(n) / "ifconfig.carp0") for n in (0, 1)])
    assert [d.message.split(" is also")[0] for d in found] == ["the name carp0", "10.0.0.1"]
    assert [(d.line, d.column) for d in found] == [(None, None), (2, 1)]

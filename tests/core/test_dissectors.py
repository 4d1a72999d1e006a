"""What others' eyes see in what we build: tcpdump and, where it is installed, tshark read a capture of our frames."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from support import wire

from pycarp._impl import Implementation
from pycarp.protocol.frames import arp_reply, gratuitous_arp, gratuitous_arp_reply, neighbour_advertisement, virtual_mac

CASES = [
    # vhid, advbase, advskew, source
    (101, 1, 0, "10.13.37.11"),
    (101, 1, 100, "10.13.37.11"),
    (255, 0, 50, "10.13.37.11"),
    (1, 254, 254, "192.0.2.1"),
    (101, 255, 255, "10.13.37.11"),
    (101, 1, 0, "2001:db8::b"),
    (255, 3, 240, "fe80::b"),
]


def adverts(impl: Implementation) -> list[bytes]:
    frames = []
    for vhid, advbase, advskew, source in CASES:
        authenticator = impl.auth.Authenticator("motdepassehalakon", vhid, ["10.13.37.42/24", "2001:db8::42/64"])
        counter = authenticator.counter(advbase, advskew, 0xABCDEF)
        template = impl.packet.AdvertTemplate(vhid, virtual_mac(vhid), source)
        frames.append(template.frame(advbase, advskew, counter, authenticator.sign(counter)))
    return frames


def capture(path: Path, frames: list[bytes]) -> Path:
    """A classic pcap file: little endian, microseconds, Ethernet."""
    records = b"".join(
        struct.pack("<IIII", 1_700_000_000 + number, 0, len(frame), len(frame)) + frame
        for number, frame in enumerate(frames)
    )
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + records)
    return path


def read(*command: str | Path) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [line for line in done.stdout.splitlines() if line.strip()]


needs_tcpdump = pytest.mark.skipif(not shutil.which("tcpdump"), reason="no tcpdump on this machine")
needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="no tshark on this machine")


@needs_tcpdump
def test_tcpdump_understands_adverts(impl: Implementation, tmp_path: Path) -> None:
    # One line each: -e puts the link header on it, -v would break it in two for IPv4.
    lines = read("tcpdump", "-n", "-t", "-e", "-T", "carp", "-r", capture(tmp_path / "ours.pcap", adverts(impl)))
    assert len(lines) == len(CASES)
    for line, (vhid, advbase, advskew, source) in zip(lines, CASES, strict=True):
        group, mac = ("ff02::12", "33:33:00:00:00:12") if ":" in source else ("224.0.0.18", "01:00:5e:00:00:12")
        assert f"00:00:5e:00:01:{vhid:02x} > {mac}" in line
        assert f"{source} > {group}: CARPv2-advertise 36:" in line
        assert f"vhid={vhid} advbase={advbase} advskew={advskew} " in line
        assert "authlen=7" in line


@needs_tcpdump
def test_tcpdump_finds_nothing_wrong(impl: Implementation, tmp_path: Path) -> None:
    frames = adverts(impl)
    options = ("tcpdump", "-n", "-t", "-vvv", "-T", "carp", "-r")
    text = "\n".join(read(*options, capture(tmp_path / "ours.pcap", frames)))
    assert "bad" not in text and "trunc" not in text
    assert text.count("ttl 255, id 0, offset 0, flags [DF], proto VRRP (112), length 56") == 5
    assert text.count("hlim 255, next-header VRRP (112) payload length: 36") == 2
    # It does look at the checksum.
    wrong = [frame[:-1] + bytes((frame[-1] ^ 1,)) for frame in frames]
    assert "\n".join(read(*options, capture(tmp_path / "wrong.pcap", wrong))).count("bad carp cksum") == len(frames)


@needs_tcpdump
def test_tcpdump_understands_announcements(tmp_path: Path) -> None:
    frames = [
        gratuitous_arp(wire.VIRTUAL_MAC, wire.VIP),
        arp_reply(wire.VIRTUAL_MAC, wire.VIP, bytes.fromhex("021122334455"), "10.13.37.99"),
        gratuitous_arp_reply(wire.VIRTUAL_MAC, wire.VIP),
        neighbour_advertisement(wire.VIRTUAL_MAC, "2001:db8::42"),
    ]
    request, reply, unasked, *advertisement = read(
        "tcpdump", "-n", "-t", "-e", "-vv", "-r", capture(tmp_path / "a.pcap", frames)
    )
    assert "00:00:5e:00:01:65 > ff:ff:ff:ff:ff:ff" in request
    assert "Request who-has 10.13.37.42" in request and "tell 10.13.37.42" in request
    assert "Reply 10.13.37.42 is-at 00:00:5e:00:01:65" in reply
    assert "ff:ff:ff:ff:ff:ff" in unasked and "Reply 10.13.37.42 is-at 00:00:5e:00:01:65" in unasked
    text = " ".join(advertisement)
    assert "2001:db8::42 > ff02::1: [icmp6 sum ok] ICMP6, neighbor advertisement" in text
    assert "tgt is 2001:db8::42, Flags [override]" in text
    assert "destination link-address option (2), length 8 (1): 00:00:5e:00:01:65" in text


@needs_tshark
def test_tshark_finds_nothing_wrong(impl: Implementation, tmp_path: Path) -> None:
    """Every field as a machine reads it, both checksums verified, no expert information. It knows CARP in IPv4 only."""
    names = [
        "carp.version", "carp.type", "carp.vhid", "carp.advskew", "carp.authlen", "carp.demotion", "carp.adver_int",
        "carp.checksum.status", "carp.counter", "carp.hmac", "ip.checksum.status", "_ws.expert.message",
    ]  # fmt: skip
    # Protocol 112 is VRRP to tshark unless the look of a packet is asked first.
    options = ("-n", "-o", "ip.check_checksum:TRUE", "-o", "ip.try_heuristic_first:TRUE")
    fields = [part for name in names for part in ("-e", name)]
    path = capture(tmp_path / "ours.pcap", adverts(impl))
    lines = read("tshark", *options, "-T", "fields", "-E", "separator=|", *fields, "-r", path, "-Y", "ip")
    ours = [(frame, case) for frame, case in zip(adverts(impl), CASES, strict=True) if ":" not in case[-1]]
    assert len(lines) == len(ours)
    for line, (frame, (vhid, advbase, advskew, _)) in zip(lines, ours, strict=True):
        seen = line.split("|")
        assert [int(number) for number in seen[:7]] == [2, 1, vhid, advskew, 7, 0, advbase]
        assert (seen[7], seen[10], seen[11]) == ("1", "1", "")  # both checksums good, nothing to remark
        assert int(seen[8]) == int.from_bytes(frame[-28:-20], "big")
        assert seen[9].replace(":", "") == frame[-20:].hex()

"""Other programs' configurations become files that our parser reads, and what is lost is said by its line."""

from __future__ import annotations

import shlex
from ipaddress import ip_address
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from pycarp.cli.group import pycarp
from pycarp.config import VirtualHost
from pycarp.convert import KINDS, Conversion, convert, kind_of
from pycarp.ifconfig import parse_text

SECRET = "motdepassehalakon"


def hosts(conversion: Conversion, directory: Path) -> list[VirtualHost]:
    """What our parser makes of the files, without a single mistake."""
    made = []
    for target in conversion.targets:
        secret = target.secret if target.secret is not None else b"a secret of the test"
        path = directory / target.secret_name
        path.write_bytes(secret if isinstance(secret, bytes) else secret.encode())
        path.chmod(0o600)
        parsed = parse_text(target.text(), name=target.name, directory=directory)
        assert not parsed.errors, [str(error) for error in parsed.errors]
        made.append(parsed.require())
        assert SECRET not in target.text()
    assert SECRET not in "".join(map(str, conversion.remarks))
    return made


def remarks(conversion: Conversion) -> dict[int | None, str]:
    return {remark.line: remark.message for remark in conversion.remarks}


UCARP = f"""#!/bin/sh
# ucarp -i eth9 -v 9 is only a comment
/usr/sbin/ucarp --interface=eth0 --srcip=10.1.1.1 --vhid=1 --pass={SECRET} \\
  --addr=10.1.1.252 -P --advskew 7 -b2 -zB --deadratio=5 \\
  --upscript=/etc/vip-up.sh --downscript="/etc/vip down.sh" -x extra &
ExecStart=/usr/sbin/ucarp -i eth1 -s 10.2.0.1 -v 2 -o /etc/ucarp.pass -a 10.2.0.2 -k 255 -M
exec="ucarp -i $IFACE -v 300 -p x -a 10.3.0.300"
"""


def test_ucarp_command_lines(tmp_path):
    conversion = convert(UCARP, "start.sh")
    first, second = conversion.targets
    assert (first.passfile, first.secret) == ("", SECRET)
    assert second.passfile == "/etc/ucarp.pass"
    assert first.statements == [
        "hook master /etc/vip-up.sh eth0 10.1.1.252 extra",
        "hook backup '/etc/vip down.sh' eth0 10.1.1.252 extra",
        "hook init '/etc/vip down.sh' eth0 10.1.1.252 extra",
    ]
    second.passfile = "two.pass"
    one, two = hosts(conversion, tmp_path)
    assert (one.vhid, one.advbase, one.advskew, one.preempt, one.carpdev) == (1, 2, 7, True, "eth0")
    assert (one.address_texts, one.mac, one.name) == (("10.1.1.252",), "interface", "carp1")
    assert (two.vhid, two.advskew, two.preempt) == (2, 254, False)
    said = remarks(conversion)
    assert "no virtual host came of this: --vhid (-v) and --addr (-a)" in said[7]
    messages = " ".join(map(str, conversion.remarks))
    for part in ("--deadratio (-r) was left out", "became a hook", "advskew 255 became 254", "--nomcast", "variable"):
        assert part in messages


INTERFACES = f"""auto eth0 eth1
iface eth0 inet static
    address 10.0.0.2
    netmask 255.255.255.0
    ucarp-vid 3
    ucarp-vip 10.0.0.1
    ucarp-password {SECRET}
    ucarp-advskew 1
    ucarp-master yes
iface eth0:ucarp inet static
    address 10.0.0.1
    netmask 255.255.255.255
iface eth1 inet static
    address 10.4.0.2/24
    ucarp-vid 4
    ucarp-master no
source /etc/network/interfaces.d/*
"""


def test_debians_interfaces(tmp_path):
    conversion = convert(INTERFACES, "/etc/network/interfaces")
    (host,) = hosts(conversion, tmp_path)
    assert (host.vhid, host.advskew, host.preempt, host.carpdev) == (3, 1, True, "eth0")
    assert (host.address_texts, host.mac) == (("10.0.0.1",), "interface")
    said = remarks(conversion)
    assert "eth0:ucarp" in said[2]
    assert "ucarp-vip and ucarp-password is missing" in said[13]
    assert "not read" in said[17]


KEEPALIVED = f"""! a comment
global_defs {{ router_id LVS_DEVEL }}
vrrp_script chk {{
    script "/usr/bin/pgrep -x 'my daemon'"   # quoted twice
    interval 2
    fall 3
    rise 2
    weight -20
}}
vrrp_script pipe {{ script "curl -s localhost | grep ok" }}
vrrp_sync_group G {{
    group {{
        VI_1
        VI_2
    }}
    notify_fault "/usr/local/bin/f a b" nobody nogroup
}}
vrrp_instance VI_1 {{
    state MASTER
    interface eth0
    virtual_router_id 51
    priority 150
    advert_int 0.5
    authentication {{
        auth_type PASS
        auth_pass {SECRET}
    }}
    virtual_ipaddress {{
        192.168.200.11/24 dev eth0 label eth0:1
        192.168.200.12
    }}
    virtual_ipaddress_excluded {{ 2001:db8::1/64 }}
    track_interface {{
        eth1
        eth2 weight -5
    }}
    track_script {{
        chk
        pipe weight 0
        nowhere
    }}
    unicast_peer {{
        192.168.200.3 min_ttl 255 max_ttl 255
        192.168.200.4
        nowhere.example
    }}
    notify_master /usr/local/bin/m
    garp_master_delay 10
    preempt_delay 300
}}
vrrp_instance VI_2
{{
    interface eth1
    use_vmac
    nopreempt
    virtual_router_id 51
    virtual_ipaddress {{ 10.9.0.1/24 }}
}}
virtual_server 10.0.0.1 80 {{
    delay_loop 6
}}
"""


def test_keepalived(tmp_path):
    conversion = convert(KEEPALIVED, "keepalived.conf")
    one, two = conversion.targets
    assert [one.name, two.name] == ["carp51", "carp52"]
    assert one.statements == [
        "check eth1 interface eth1 rise 1 fall 1 fault",
        "check eth2 interface eth2 rise 1 fall 1 weight 5",
        "check pipe exec /bin/sh -c 'curl -s localhost | grep ok' interval 1 timeout 1 rise 1 fall 1 fault",
        "hook master /usr/local/bin/m",
        "sync carp52",
        "hook fault user nobody /usr/local/bin/f a b",
    ]
    assert two.statements == ["sync carp51"]
    first, second = hosts(conversion, tmp_path)
    assert (first.vhid, first.advskew, first.advbase, first.preempt, first.mac) == (51, 104, 1, True, "interface")
    assert first.address_texts == ("192.168.200.11/24", "192.168.200.12", "2001:db8::1/64")
    assert [str(one) for one in first.peers] == ["192.168.200.3", "192.168.200.4"] and not second.peers
    assert (second.vhid, second.advskew, second.preempt, second.mac) == (51, 154, False, "virtual")
    said = [str(remark) for remark in conversion.remarks]
    lines = KEEPALIVED.splitlines()
    for number, part in (
        ("advert_int 0.5", "advbase 0 and an advskew"),
        ("auth_pass", "sent in clear"),
        ("label eth0:1", "label of an address"),
        ("        chk", "ignores a script with a weight in a member of a sync group"),
        ("nowhere", "no block of its own"),
        ("192.168.200.3", "TTLs"),
        ("nowhere.example", "a unicast_peer cannot be taken"),
        ("preempt_delay", "cannot be delayed"),
        ("garp_master_delay", "announcements N"),
        ("notify_fault", "the group of this script"),
        ("virtual_server", "IPVS"),
    ):
        line = next(at for at, text in enumerate(lines, 1) if number in text)
        assert any(text.startswith(f"keepalived.conf:{line}: ") and part in text for text in said), (number, said)


TRACKERS = """
vrrp_script chk { script "/usr/bin/pgrep -x 'my daemon'"
    interval 2
    fall 3
    weight 20
}
vrrp_script fails { script /bin/b
    weight -30
    init_fail
}
vrrp_script turned { script /bin/c
    weight 7 reverse
}
track_file number { file /etc/number
}
track_file zero { file /etc/zero
    weight 0
    init_file 0
}
vrrp_track_process daemon { process daemon
}
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    priority 100
    virtual_ipaddress { 10.9.0.1/24
    }
    track_interface { eth0
        eth2 weight 10
    }
    track_script { chk
        fails
        turned
    }
    track_file { number
        zero weight 0
    }
    track_process { daemon
    }
    start_delay 5
}
"""


def test_keepaliveds_trackers_with_its_defaults(tmp_path):
    """One failure counts, a script may take an interval, and a healthy host has its positive weights."""
    conversion = convert(TRACKERS, "keepalived.conf")
    (target,) = conversion.targets
    assert target.statements == [
        "check eth2 interface eth2 rise 1 fall 1 weight 10",
        "check chk exec /usr/bin/pgrep -x 'my daemon' interval 2 timeout 2 rise 1 fall 3 weight 20",
        "check fails exec /bin/b interval 1 timeout 1 rise 1 fall 1 weight 30",
        "check daemon process daemon rise 1 fall 1 fault",
        "check number file /etc/number rise 1 fall 1 weight 1",
        "check zero file /etc/zero rise 1 fall 1 fault",
    ]
    (host,) = hosts(conversion, tmp_path)
    assert (host.advskew, len(host.checks)) == (254 - 100 - 10 - 20, 6)
    messages = " ".join(map(str, conversion.remarks))
    for part in ("weights of 30", "always followed", "'reverse'", "missing file", "init_fail", "start_delay"):
        assert part in messages, part
    assert "is not known" not in messages


@pytest.mark.parametrize(("heeded", "advskew", "files"), [(False, 154, "fault"), (True, 134, "weight 1")])
def test_weights_in_a_sync_group(tmp_path, heeded, advskew, files):
    """As keepalived 2.2.7: without sync_group_tracking_weight it ignores a script's weight, and a file is a fault."""
    word = "sync_group_tracking_weight" if heeded else ""
    conversion = convert(f"{TRACKERS}vrrp_sync_group G {{ group {{ VI_1\n }}\n {word}\n}}\n", "k")
    (host,) = hosts(conversion, tmp_path)
    # The interface's weight counts in any case.
    assert host.advskew == advskew - 10
    texts = " ".join(conversion.targets[0].statements)
    assert ("exec" in texts) is heeded
    assert f"check number file /etc/number rise 1 fall 1 {files}" in texts


def test_openbsd_and_freebsd(tmp_path):
    one = convert(
        f"inet 10.0.1.1 255.255.255.0 10.0.1.255 vhid 1 carpdev em0 \\\n pass {SECRET} advskew 100 \\\n"
        " carppeer 10.0.1.2\n!route add x\n",
        "/etc/hostname.carp1",
    )
    (host,) = hosts(one, tmp_path)
    assert (host.name, host.vhid, host.advskew, host.carpdev) == ("carp1", 1, 100, None)
    assert (host.address_texts, host.peers) == (("10.0.1.1/24",), (ip_address("10.0.1.2"),))
    assert any("shell command" in remark.message for remark in one.remarks)
    assert any("write 'carpdev'" in remark.message for remark in one.remarks)

    rc = f"""hostname="fw1"
ifconfig_em0="inet 192.168.1.3/24"
ifconfig_em0_alias0="inet vhid 1 advskew 100 pass {SECRET} alias 192.168.1.50/32"
ifconfig_em0_alias1="inet vhid 2 pass {SECRET} alias 192.168.1.51/32"
ifconfig_em0_alias2="inet vhid 2 pass {SECRET} alias 192.168.1.52/32"
net.inet.carp.preempt=1
net.inet.carp.ifdown_demotion_factor=240
"""
    two = convert(rc, "rc.conf")
    first, second = hosts(two, tmp_path)
    assert [first.vhid, second.vhid] == [1, 2]
    assert (first.advskew, first.preempt, second.preempt) == (100, True, True)
    assert second.address_texts == ("192.168.1.51", "192.168.1.52")
    assert "ifdown_demotion_factor" in remarks(two)[7]


@pytest.mark.parametrize(
    ("text", "source", "kind"),
    [
        ("vrrp_instance X {\n", "k", "keepalived"),
        ("iface eth0 inet dhcp\n", "i", "interfaces"),
        ("/usr/sbin/ucarp -i eth0\n", "u", "ucarp"),
        ("", "hostname.carp0", "bsd"),
        ("vhid 1 pass x 10.0.0.1\n", "f", "bsd"),
        ("hello\n", "f", None),
    ],
)
def test_the_kind_is_recognised(text, source, kind):
    assert kind_of(text, source) == kind


_TOKENS = st.sampled_from(
    f"vrrp_instance VI_1 {{ }} virtual_router_id 51 virtual_ipaddress 10.0.0.1/24 auth_pass {SECRET} ucarp -v -a -p "
    f"--pass={SECRET} --vhid=3 -zP iface eth0 inet ucarp-vid 3 ucarp-vip 10.0.0.1 ucarp-password vhid 1 pass \" ' \\ "
    "\n \n \n # ! @ $ track_script weight interval x ifconfig_em0= inet6 fe80::1 300 notify group sync".split(" ")
)


@given(st.lists(_TOKENS, max_size=60), st.sampled_from(list(KINDS)))
@settings(max_examples=300, deadline=None)
def test_whatever_stands_there_is_a_remark(tokens, kind):
    """No text makes it fail, and no remark repeats the secret."""
    conversion = convert(" ".join(tokens), "f", kind)
    for target in conversion.targets:
        assert SECRET not in target.text() or target.passfile or target.statements
        shlex.split(target.text(), comments=True)
    assert SECRET not in " ".join(map(str, conversion.remarks))


def test_the_command_writes_all_or_nothing(tmp_path):
    source = tmp_path / "keepalived.conf"
    source.write_text(KEEPALIVED)
    out = tmp_path / "out"
    out.mkdir()
    run = CliRunner().invoke

    result = run(pycarp, ["convert", str(source)])
    assert result.exit_code == 0
    assert "vhid 51" in result.stdout and SECRET not in result.output

    result = run(pycarp, ["convert", "--output", str(out), str(source)])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["carp51.pass", "ifconfig.carp51", "ifconfig.carp52"]
    assert (out / "carp51.pass").read_text() == f"{SECRET}\n"
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o600}
    assert f"{out / 'carp52.pass'}: write the passphrase into it" in result.stderr

    (out / "ifconfig.carp51").unlink()
    result = run(pycarp, ["convert", "--output", str(out), str(source)])
    assert result.exit_code == 2
    assert "is there already: nothing was written" in result.stderr
    assert not (out / "ifconfig.carp51").exists()
    assert run(pycarp, ["convert", "--force", "--output", str(out), str(source)]).exit_code == 0

    result = run(pycarp, ["convert", "--output", str(tmp_path / "absent"), str(source)])
    assert (result.exit_code, "cannot be written" in result.stderr) == (2, True)
    result = run(pycarp, ["convert", "-"], input="hello\n")
    assert (result.exit_code, "say with --from which it is" in result.stderr) == (2, True)


def test_the_name_of_a_file_adds_no_line():
    text = "ucarp -i eth0 -v 5 -p secret -a 10.0.0.1 --unknown"
    conversion = convert(text, "a\nhook master evil\n", "ucarp")
    [target] = conversion.targets
    assert not [line for line in target.text().splitlines() if line.startswith("hook")]
    assert all("\n" not in str(remark) for remark in conversion.remarks)

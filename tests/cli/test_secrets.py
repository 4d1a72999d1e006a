"""The passphrase comes out nowhere, whatever is wrong with the words around it: the command line, a file, Python."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pycarp
from pycarp import ConfigError
from pycarp.cli import main
from pycarp.cli.group import COMMANDS
from pycarp.ifconfig import Parsed, parse_text, parse_words

up = importlib.import_module("pycarp.cli.up")
serve_files = importlib.import_module("pycarp.cli.run")

PASS_WORDS = (
    "pass", "pas", "pss", "paas", "psas", "Pass", "PASS", "-pass", "--pass", "passwd", "password", "passphrase",
    "pass_phrase", "auth", "auth_pass", "authpass", "authkey", "key", "psk", "secret", "pw", "pwd", "passfile",
    "passfil", "xpass", "wpakey", "community", "vhid", "advskew", "carppeer", "description", "frobnicate", "inet",
    "inet6", "netmask", "state", "mac", "",
)  # fmt: skip
JOINS = (" ", "=", ":", "", "\t", "  ", "\u00a0", ", ", " = ", "\r")
QUOTES = (
    "{}", "'{}'", '"{}"', "'{}", '"{}', "{}'", '{}"', "`{}`", "$({})", "\\{}", "<{}>", "{}#", "#{}", "\u201c{}\u201d",
)  # fmt: skip
REST = ("vhid 101", "advskew 100", "10.13.37.42/24", "carpdev eth0", "preempt", "inet6 2001:db8::42 prefixlen 64", "up")
WRAPPERS = (
    "{}", 'ifconfig_em0="{}"', 'ifconfig_em0_alias0="{}"', "ifconfig_carp0='{}'", 'ifconfig_em0="{}',
    'create_args_carp0="{}"', 'em0="{}"', '"{}"', "'{}'", "ifconfig carp0 {}", "inet {}", "!ifconfig carp0 {}", "{};",
    "[{}]", "pass{}", "{} \\", "dhcp {}", "# {}\n{}", "{}\n{}", 'sysrc ifconfig_em0="{}"', "hook {}", "check {}",
    "hook master {}", "hook drain timeout {}", "hook any user {}", "hook fifo {}", "check x exec {}", "check x tcp {}",
    "check x exec y interval {}", "sync {}", "metrics {}", "control {}", "hok {}", "hook: {}", "up hook {}",
    "vhid 1 {}\nhook any {}",
)  # fmt: skip

MISTAKES = ("vhid 300", "advskw 7", "fe80::1%eth0", "10.0.0.300", "pass", "vhid")

secrets = st.one_of(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=24),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=6, max_size=24),
    st.from_regex(r"[0-9]{6,12}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{4}:[0-9a-f]{4}:[0-9a-f]{4}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9+/]{12,20}={0,2}", fullmatch=True),
    st.from_regex(r"[a-z]{4,7}( [a-z]{4,7}){1,3}", fullmatch=True),
    st.from_regex(r"(10|192)\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{4,6}(/[a-z]{4})?", fullmatch=True),
)


@st.composite
def lines(draw: st.DrawFn) -> tuple[str, str]:
    """A secret, and a text that has it somewhere in otherwise valid words, but with mistakes in them."""
    secret = draw(secrets)
    quoted = draw(st.sampled_from(QUOTES)).replace("{}", secret)
    told = draw(st.sampled_from(PASS_WORDS)) + draw(st.sampled_from(JOINS)) + quoted
    words = draw(st.permutations([*draw(st.lists(st.sampled_from(REST), max_size=5)), told]))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(words) - 1))
        words.insert(at, draw(st.sampled_from((*MISTAKES, secret))))
    return secret, draw(st.sampled_from(WRAPPERS)).replace("{}", " ".join(words))


def _own_text() -> str:
    """All that our sentences, and click's, are made of."""
    folders = [Path(pycarp.__file__).parent / name for name in (".", "cli", "ifconfig", "protocol", "linux")]
    texts = [
        file.read_text("utf-8") for folder in [*folders, Path(click.__file__).parent] for file in folder.glob("*.py")
    ]
    return "\n".join([*texts, *map(str, (REST, PASS_WORDS, WRAPPERS, MISTAKES)), USAGES]).lower()


USAGES = " ".join(f"pycarp {name} --help" for name in COMMANDS)
OWN_TEXT = _own_text()
PLACES = re.compile(r":[0-9]+:[0-9]+: (error|warning)|line=[0-9]+, column=[0-9]+|\([0-9]+, [0-9]+, ")


def comes_out(secret: str, said: str) -> list[str]:
    """The secret, and each part of four characters that no sentence of ours has, if it is in what was said."""
    said = PLACES.sub("", said)
    parts = {secret[at : at + 4] for at in range(len(secret) - 3)}
    forms = {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], *(part for part in parts if part.isascii())}
    return sorted(form for form in forms if form in said and form.lower() not in OWN_TEXT)


def everything(parsed: Parsed) -> str:
    """Whatever can be shown of words that were parsed."""
    said = [repr(parsed), *map(str, parsed.diagnostics), json.dumps([one.as_dict() for one in parsed.diagnostics])]
    if parsed.host is None:
        try:
            parsed.require()
        except ConfigError as error:
            said += [*traceback.format_exception(error), repr(vars(error))]
    return "\n".join(said)


def run(arguments: list[str]) -> str:
    """What a command says; the engine is not started."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        main(arguments)
    return out.getvalue()


relaxed = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None)


@relaxed
@given(lines())
def test_no_parser_tells(line: tuple[str, str]) -> None:
    secret, written = line
    for parsed in (parse_text(written, source="file"), parse_words(written.split(), name="carp0")):
        assert comes_out(secret, everything(parsed)) == [], written


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that happen to be right start nothing."""
    for module in (up, serve_files):
        monkeypatch.setattr(module, "serve", lambda *_arguments, **_options: 0)


@pytest.mark.usefixtures("idle")
@relaxed
@given(
    lines(),
    st.sampled_from(["up carp0", "up", "check", "run", "monitor x", "observe x", "demo x", "doctor", ""]),
    st.booleans(),
)
def test_no_command_tells(line: tuple[str, str], command: str, cut: bool) -> None:
    secret, written = line
    arguments = [*command.split(), *(written.split() if cut else [written])]
    assert comes_out(secret, run(arguments)) == [], arguments


@pytest.mark.usefixtures("idle")
@relaxed
@given(lines(), st.booleans())
def test_no_file_tells(tmp_path: Path, line: tuple[str, str], as_json: bool) -> None:
    secret, written = line
    file = tmp_path / "ifconfig.carp0"
    file.write_text(written, "utf-8")
    options = ["--json"] if as_json else []
    assert comes_out(secret, run(["check", *options, str(file)]) + run(["run", str(file)])) == [], written


@pytest.mark.parametrize(
    "arguments",
    [
        "up carp0 vhid 101 10.13.37.42/24 --pass {}", "up carp0 vhid 101 10.13.37.42/24 --pass={}", "up carp0 --{}",
        "up carp0 --{}=x", "up carp0 --mac {}", "up carp0 --mac={}", "up carp0 --json={}", "up carp0 -p{}",
        "up carp0 auth {}", "up carp0 pass {} {} vhid 300", "up carp0 passfile {}", "up carp0 passfile ./{}",
        "up --hook {} carp0", "up --hook=any=timeout={} carp0 vhid 1 10.0.0.1", "up --check {} carp0 vhid 300",
        "up carp0 --sync {}{}{}", "run --hook {} x", "up --hok {} carp0", "up carp0 hook {}",
        "up --passfile {} carp0", "up {}", "check {}", "check ./{}", "check --{}", "check vhid 1 pass {}", "run {}",
        "run --{}", "monitor {}", "monitor -i lo {}", "monitor -i lo --passfile {}", "monitor -i lo --address {}",
        "monitor -i lo --vhid {}", "doctor {}", "doctor --{}", "observe {}", "demo {}", "demo --{}", "{}", "pass {}",
        "--{}", "-{}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("secret", ["hunter2-hunter2", "s3cr3t/Pa55word==", "0123456789"])
def test_no_process_tells(arguments: str, secret: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "pycarp", *arguments.replace("{}", secret).split()],
        capture_output=True, text=True, env=environment, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2, done
    assert comes_out(secret, done.stdout + done.stderr) == []
    assert "Traceback" not in done.stderr

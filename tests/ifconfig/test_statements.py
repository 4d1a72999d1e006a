"""Lines that begin with a word of ours, and the options of the same name."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from pycarp import ConfigError, VirtualHost
from pycarp.cli import main
from pycarp.health.check import Check
from pycarp.hooks.hook import Hook
from pycarp.ifconfig import Parsed, parse_text
from pycarp.ifconfig.lexer import Word
from pycarp.ifconfig.statements import STATEMENTS, Misstated, Words, parse_statement
from pycarp.ifconfig.vocabulary import WORDS

HOST = "vhid 101 pass motdepassehalakon\ninet 10.13.37.42/24\n"


def text(line: str) -> Parsed:
    return parse_text(HOST + line, name="carp0", source="f")


def test_statements_stand_among_the_lines_of_a_file() -> None:
    parsed = parse_text(
        "vhid 101 pass motdepassehalakon\n"
        "hook master timeout 2.5 user nobody ./up.sh 'a b' -x # not this\n"
        "check web http http://[::1]:80/ok interval 0.5s fall 2 weight 20\n"
        "sync carp1 carp2\nhook any \\\n  /bin/true\ninet 10.13.37.42/24\nsync carp3\n"
        "check dns exec dig @127.0.0.1 interval 2 timeout 1 rise 3 fault\n",
        name="carp0", directory=Path("/etc"),
    )  # fmt: skip
    host = parsed.require()
    assert parsed.diagnostics == ()
    assert host.hooks == (
        Hook(when="master", command=["/etc/up.sh", "a b", "-x"], timeout=2.5, user="nobody"),
        Hook(when="any", command=("/bin/true",)),
    )
    assert host.checks == (
        Check(name="web", kind="http", words=("http://[::1]:80/ok",), interval=0.5, fall=2, weight=20),
        Check(name="dns", kind="exec", words=("dig", "@127.0.0.1"), interval=2.0, timeout=1.0, rise=3,
              fault=True),
    )  # fmt: skip
    assert host.sync == ("carp1", "carp2", "carp3")
    assert (parsed.places["hooks"][:2], parsed.places["hooks[1]"][:2]) == ((2, 1), (5, 1))


@pytest.mark.parametrize(
    ("line", "column", "said"),
    [
        ("hook", 1, "'hook' needs when a hook runs, one of master, backup, "),
        ("hook mster /bin/true", 6, "when a hook runs of 'hook' is unknown: did you mean 'master'?"),
        ("hook master", 6, "'hook' needs a program at its end"),
        ("hook master timeout", 13, "'hook' needs seconds after 'timeout' at its end"),
        ("hook drain timeout 61 /bin/true", 20, "timeout is no number of seconds in its range: give 0.05-60"),
        ("hook any timeout 1 timeout 2 /bin/true", 20, "'timeout' is given twice"),
        ("hook any ''", 10, "the name of the program is empty"),
        ("hook fifo /run/x more", 18, "'hook' takes no more words here"),
        ("hook any user a/b c", 15, "this is not the name of a user"),
        ("hook any 'x", 10, "the quotation that ' begins does not end"),
        ("hooks any x", 1, "the word that begins this line is unknown: did you mean 'hook'?"),
        ("Check: web tcp x", 1, "the word that begins this line is unknown: did you mean 'check'?"),
        ("preempt hook any x", 9, "'hook' does not stand among other words: begin a line with it"),
        ("check a/b tcp x", 7, "this is not the name of the check"),
        ("check web tpc x", 11, "the kind of 'check' is unknown: did you mean 'tcp'?"),
        ("check web tcp :80 intervl 2", 19, "an option of 'check' is unknown: did you mean 'interval'?"),
        ("check web tcp :80 rise 0", 24, "rise is no number in its range: give 1-1000"),
        ("check web tcp :80 rise 1 rise 2", 19, "'rise' is given twice"),
        ("check web exec", 1, "'check' needs a program at its end"),
        ("check web tcp :80 weight 5 fault", 1, "a check has a weight or is a fault"),
        ("sync", 1, "'sync' needs the names of virtual hosts"),
        ("sync carp/1", 6, "this is not the name of a virtual host"),
    ],
)
def test_mistakes_have_their_place(line: str, column: int, said: str) -> None:
    (error,) = text(line).errors
    assert (error.source, error.line, error.column) == ("f", 3, column), error
    assert error.message.startswith(said)


def test_no_shell_reads_a_command() -> None:
    (warning,) = text("hook any echo $X > /tmp/x").warnings
    assert warning.message.startswith("no shell reads this command") and warning.column == 18
    assert text("hook any sh -c 'echo $X > /tmp/x'").diagnostics == ()


def test_the_words_are_nobody_elses() -> None:
    """No BSD's file has such a line: the words are unknown to their ifconfig."""
    assert not set(STATEMENTS) & WORDS
    assert text('ifconfig_carp1="hook any x"').host is None or text('ifconfig_carp1="hook any x"').require().hooks == ()
    assert [one.text for one in parse_text("hook any x").diagnostics if "hook" in one.message] == []


def test_an_option_has_the_same_words() -> None:
    stated = parse_statement("hook", "master 'a b' -x", "--hook")
    assert stated.made == Hook(when="master", command=["a b", "-x"]) and stated.diagnostics == ()
    for wrong in ("mster x", "master x\nhook any y", "master 'x", ""):
        one = parse_statement("hook", wrong, "--hook")
        assert one.made is None and str(one.diagnostics[0]).startswith("--hook: error: "), one


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("127.0.0.1:9112", ("127.0.0.1", 9112)), (":9112", ("127.0.0.1", 9112)), ("[::1]:1", ("::1", 1)),
        ("localhost:80", ("127.0.0.1", 80)), (":0", None), ("1.2.3:80", None), ("x", None), ("[::1]", None),
        ("127.0.0.1:70000", None), ("::1:80", None), ("1.2.3.4", None), ("[1::1::1]:80", None),
    ],
)  # fmt: skip
def test_addresses_with_ports(value: str, found: tuple[str, int] | None) -> None:
    words = Words(Word("metrics", 1, 1), [Word(value, 1, 9)])
    if found is not None:
        assert words.address_and_port() == found
        return
    with pytest.raises(Misstated, match=r"'metrics' needs ADDRESS:PORT: give one like ") as caught:
        words.address_and_port()
    assert caught.value.word is words.words[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [("hooks", "x"), ("hooks", ["x"]), ("hooks", None), ("checks", [Hook(when="any", command=["x"])]), ("sync", "x"),
     ("sync", ["a b"]), ("checks", 5), ("sync", [1])],
)  # fmt: skip
def test_fields_of_a_virtual_host(field: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        VirtualHost(vhid=1, passphrase="", **{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field and field in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"when": "never"}, {"command": "one text"}, {"command": []}, {"command": [""]}, {"command": ["a\0b"]},
        {"timeout": 0}, {"timeout": True}, {"timeout": 4000}, {"when": "drain", "timeout": 61}, {"user": ""},
        {"when": "fifo", "command": ["a", "b"]},
    ],
)  # fmt: skip
def test_hooks_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Hook(**{"when": "any", "command": ["s3cr3t-word"], **wrong})
    assert caught.value.field == "hooks" and "s3cr3t" not in str(caught.value)


def test_a_hook_keeps_its_command_to_itself() -> None:
    host = VirtualHost(vhid=1, passphrase="", hooks=[Hook(when="any", command=iter(["curl", "s3cr3t"]))])
    assert "s3cr3t" not in repr(host) and host.hooks[0].command == ("curl", "s3cr3t")
    assert (host.hooks[0].timeout, Hook(when="drain", command=["x"]).timeout) == (10.0, 2.0)


def look_at(file: Path) -> list[str]:
    """What `pycarp check` says of the hooks in a file."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main(["check", str(file)])
    return out.getvalue().splitlines()


def test_commands_understand_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` says what is wrong by line and column; `up` and `run` take the same as options, each for what it is."""
    monkeypatch.setattr("pycarp.cli.load._fit", lambda *_: None)
    file = tmp_path / "ifconfig.carp0"
    file.write_text(HOST + "hook mster x\n")
    file.chmod(0o600)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["check", "--offline", "--json", str(file)]) == 2
    assert json.loads(out.getvalue())["line"] == 3
    file.write_text(HOST + "hook any /bin/true\nhook drain /nonexistent/x\n")
    (warning,) = [one for one in look_at(file) if "nonexistent" in one or "its program" in one]
    assert warning == f"{file}:4:1: warning: hook drain x: its program is not there: give the path of one that is"
    served: list[tuple[VirtualHost, ...]] = []
    folder = tmp_path / "hooks.d"
    folder.mkdir()
    monkeypatch.setattr(importlib.import_module("pycarp.cli.run"), "HOOKS", folder)
    for name in ("up", "run"):
        module = importlib.import_module(f"pycarp.cli.{name}")
        monkeypatch.setattr(module, "serve", lambda hosts, *_arguments, **_options: served.append(hosts) or 0)
    words = ["carp0", "vhid", "101", "pass", "motdepassehalakon", "10.13.37.42/24"]
    options = ["--hook", "any /bin/a", "--hook=master /bin/b", "--sync", "carp1", "--check", "x tcp :80 fault"]
    assert main(["up", *words, *options]) == 0
    file.write_text(HOST + "hook any /bin/0\n")
    assert main(["run", str(file), "--hook", "any /bin/a"]) == 0
    (upped,), (ran,) = served
    assert [hook.command[0] for hook in upped.hooks] == ["/bin/a", "/bin/b"]
    assert [hook.command[0] for hook in ran.hooks] == ["/bin/0", "/bin/a", str(folder)]
    assert (upped.sync, upped.checks[0].fault) == (("carp1",), True)
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        assert main(["up", *words, "--hook", "s3cr3t /bin/a"]) == 2
    assert err.getvalue().splitlines()[-1].startswith("--hook: error: ") and "s3cr3t" not in err.getvalue()


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("control off", "off"),
        ("control /run/p.sock group 0 mode 0660", "/run/p.sock group 0 mode 0660"),
        ("control relative", None),
        ("control /run/p.sock mode 0777", None),
    ],
)
def test_where_to_listen_for_control(line: str, made: str | None) -> None:
    parsed = parse_text(f"vhid 1 pass motdepassehalakon 10.0.0.1/24\n{line}\n")
    assert parsed.services.get("control") == made
    assert bool(parsed.errors) is (made is None)

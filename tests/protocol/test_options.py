"""The table of the configuration's words, and that all who need a word have it from there."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, get_args, get_type_hints

import pytest
from support.words import GOOD, only, words

import pycarp
from pycarp import ConfigError, State, VirtualHost, config
from pycarp.health.check import Check
from pycarp.hooks.hook import Hook
from pycarp.ifconfig.vocabulary import KNOWN, nearest
from pycarp.protocol import choices
from pycarp.protocol.options import DEFAULT, OPTIONS, REQUIRED, STATED, Choice, Flag, Milliseconds, Number, Option

ROOT = Path(__file__).parents[2]
PLAIN = [pytest.param(option, id=option.name) for option in OPTIONS if isinstance(option.kind, Number | Choice | Flag)]
TYPES: dict[type, type] = {Number: int, Milliseconds: int, Flag: bool}


def test_every_field_is_a_row() -> None:
    fields = VirtualHost.__dataclass_fields__
    assert set(fields) == {*DEFAULT, "name", *(option.name for option in STATED)}
    for option in OPTIONS:
        if option.default is not REQUIRED:
            assert fields[option.name].default == option.default, f"{option.name} = DEFAULT[...] is missing"


@pytest.mark.parametrize("option", PLAIN)
def test_the_type_of_a_field(option: Option) -> None:
    hint = get_type_hints(
        config._VirtualHost, {**vars(choices), **vars(config), "Check": Check, "Hook": Hook, "ClassVar": ClassVar}
    )[option.name]
    if isinstance(option.kind, Choice):
        assert get_args(hint) == option.kind.values
        assert option.default in option.kind.values
    else:
        assert hint is TYPES[type(option.kind)]


@pytest.mark.parametrize("option", PLAIN)
def test_a_row_is_the_word_and_the_field(option: Option) -> None:
    """Every value, as a word and as an argument, and the nearest that are none."""
    match option.kind:
        case Number():
            right, wrong = (option.kind.low, option.kind.high), (option.kind.low - 1, option.kind.high + 1)
        case Choice():
            right, wrong = option.kind.values, ("never",)  # type: ignore[assignment]
        case _:
            for word, value in ((option.name, True), (option.opposite, False)):
                assert getattr(words(f"{GOOD} {word}").require(), option.name) is value
            return
    line = GOOD.replace("vhid 101 ", "") if option.name == "vhid" else GOOD
    for value in right:
        arguments: dict[str, Any] = {"vhid": 1, "passphrase": "", "advskew": 1, option.name: value}
        assert getattr(VirtualHost(**arguments), option.name) == value
        assert getattr(words(f"{line} advskew 1 {option.name} {value}").require(), option.name) == value
    for value in wrong:
        with pytest.raises(ConfigError, match=f"^{option.name} ({value} is out of range|has an unknown value): give "):
            VirtualHost(**{"vhid": 1, "passphrase": "", option.name: value})  # type: ignore[arg-type]
        assert f"{option.name} " in only(words(f"{GOOD} {option.name} {value}")).message
    assert option.kind.takes in only(words(f"{GOOD} {option.name}")).message


@pytest.mark.parametrize("name", ["README.md", "src/pycarp/config.py"])
def test_what_is_made_of_the_table(name: str) -> None:
    specification = importlib.util.spec_from_file_location("word_table", ROOT / "tools" / "word_table.py")
    assert specification is not None and specification.loader is not None
    tool = importlib.util.module_from_spec(specification)
    before = list(sys.path)
    specification.loader.exec_module(tool)
    sys.path[:] = before
    text = (ROOT / name).read_text("utf-8")
    assert text == tool.FILES[name](text), "the table of words has changed: run python tools/word_table.py"


def test_the_suggestions_of_the_table() -> None:
    for option in OPTIONS:
        for word, spellings in option.similar.items():
            assert word in option.words
            for spelling in spellings.split():
                assert nearest(spelling) == word and spelling not in KNOWN
        if option.former:
            found = only(words(f"{GOOD} {option.former} x"))
            assert found.message == f"'{option.former}' is unknown: it is called '{option.name}' here"


def test_the_former_word() -> None:
    found = only(words(f"{GOOD} strangers refuse"))
    assert (found.column, found.word) == (6, "strangers")
    assert found.message == "'strangers' is unknown: it is called 'conflict' here"


def test_states_and_interfaces() -> None:
    assert VirtualHost(vhid=1, passphrase="", state=1).state is State.BACKUP  # type: ignore[arg-type]
    assert VirtualHost(vhid=1, passphrase="", state=None, carpdev=None).name == "carp1"
    assert (
        "carpdev is empty: give the name of an interface"
        in only(pycarp.ifconfig.parse_words([*GOOD.split(), "carpdev", ""], source="test")).message
    )


# A new word

ROW = '    Option("weight", Number(1, 9), 3, "how heavy it is", former="mass"),\n'
FIELD = '    weight: int = DEFAULT["weight"]\n'
USE = """
from pycarp import VirtualHost
from pycarp.cli import main
from pycarp.ifconfig import parse_words

def said(*words):
    parsed = parse_words(["vhid", "1", "pass", "motdepassehalakon", "10.0.0.1/24", *words], source="test")
    return parsed.host.weight if parsed.host else parsed.errors[0].message

print(VirtualHost(vhid=1, passphrase="").weight, said(), said("weight", "9"))
for words in (["weight", "10"], ["weight"], ["weightt", "3"], ["mass", "3"]):
    print(said(*words))
try:
    VirtualHost(vhid=1, passphrase="", weight=0)
except ValueError as error:
    print(error)
main(["up", "--help"])
"""


def test_a_new_word_is_a_row_and_a_field(tmp_path: Path) -> None:
    """In a copy of the package, so that nothing but these two lines is new."""
    source = Path(pycarp.__file__).parent
    shutil.copytree(source, tmp_path / "pycarp", ignore=shutil.ignore_patterns("_native", "__pycache__"))
    for file, line, before in (
        # A wheel's modules have no comments: the table ends with the last bracket before what follows it.
        ("protocol/options.py", ROW, r"\)\n(?:#.*)?\n\nNAME = "),
        ("config.py", FIELD, r"    state: State \|"),
    ):
        path = tmp_path / "pycarp" / file
        head, found, tail = re.split(f"({before})", path.read_text("utf-8"), maxsplit=1)
        path.write_text(head + line + found + tail, "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", USE],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYCARP_IMPL": "python"},
        check=True,
        cwd=tmp_path,
    )
    values, *messages = done.stdout.splitlines()
    assert values == "3 3 9"
    assert messages[:5] == [
        "weight 10 is out of range: give 1-9",
        "'weight' needs a number 1-9 after it",
        "the word is unknown: did you mean 'weight'?",
        "'mass' is unknown: it is called 'weight' here",
        "weight 0 is out of range: give 1-9",
    ]
    assert re.search(r"^ +weight N +1-9, how heavy it is \(3\)$", done.stdout, re.MULTILINE)

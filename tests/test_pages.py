"""The pages of docs/howto/ without a lab: what is in them, and that nothing in them is left untried unsaid."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the pages are for Linux", allow_module_level=True)

from support.pages import PAGES, PROGRAMS, steps

from pycarp import events

HOWTO = Path(__file__).resolve().parents[1] / "docs" / "howto"
ORDERS = {"run", "file", "output", "not run:", "setup"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_run_or_says_why_not(page: Path) -> None:
    for step in steps(page):
        where = f"{page.name}:{step.line}"
        assert step.language, f"{where}: a block without a language"
        assert step.order in ORDERS or (not step.order and step.language not in PROGRAMS), f"{where}: is it run?"
        if step.order == "not run:":
            assert len(step.words) > 2, f"{where}: why is it not run?"
        elif step.order == "run":
            assert step.language in PROGRAMS, f"{where}: what runs {step.language}?"
            assert step.words[1:2] in ((), ("background",)), where
        elif step.order == "file":
            text = page.read_text("utf-8")
            assert f"\n`{step.words[1]}`" in text, f"{where}: a reader does not see where this goes"


def test_the_index_names_every_page() -> None:
    named = set(re.findall(r"\]\((\w+\.md)\)", (HOWTO / "README.md").read_text("utf-8")))
    assert named == {page.name for page in PAGES if page.parent == HOWTO} - {"README.md"}


def test_a_page_is_short() -> None:
    for page in HOWTO.glob("*.md"):
        assert len(page.read_text("utf-8").splitlines()) <= 150, page.name


def test_troubleshooting_has_every_event_that_is_no_news() -> None:
    text = (HOWTO / "troubleshooting.md").read_text("utf-8")
    known = [value for value in vars(events).values() if isinstance(value, type) and issubclass(value, events.Event)]
    assert [one.__name__ for one in known if one.severity != "news" and f"`{one.__name__}`" not in text] == []


def test_what_a_page_runs_is_seen(tmp_path: Path) -> None:
    """The reader of the pages itself."""
    page = tmp_path / "page.md"
    page.write_text(
        "Words.\n\n<!-- run main background until yes -->\n```sh\na\nb\n```\n\n<!-- output -->\n```text\nc\n```\n"
        "<!-- not run: no reason at all -->\n```sh\nd\n```\n<!-- setup client\ne\nf\n-->\n"
        "```ini\ng\n```\n```sh\nh\n```\n"
    )
    found = [(step.order, step.words, step.language, step.text) for step in steps(page)]
    assert found == [
        ("run", ("main", "background", "until", "yes"), "sh", "a\nb\n"),
        ("output", (), "text", "c\n"),
        ("not run:", ("no", "reason", "at", "all"), "sh", "d"),
        ("setup", ("client",), "sh", "e\nf\n"),
        ("", (), "ini", "g\n"),
        ("", (), "sh", "h\n"),
    ]

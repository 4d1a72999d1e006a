"""Writes what README and `VirtualHost`'s docstring say of the configuration's words, from `pycarp.protocol.options`.

    python tools/word_table.py

Run it from the source tree when a row of the table changed; a test fails until then.
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))

from pycarp.protocol.options import OPTIONS, Choice, Option  # noqa: E402

_WIDTH = 120
_COLUMN = 15


def readme(text: str) -> str:
    """README with the table of the words that are ours between its markers."""
    rows = "\n".join(
        f"| {_code(option.usage)} | {_code(option.default_word)} | {option.sentence} |"
        for option in OPTIONS
        if option.ours
    )
    table = f"<!-- words -->\n| word | default | |\n|---|---|---|\n{rows}\n<!-- /words -->"
    return re.sub(r"<!-- words -->.*<!-- /words -->", lambda _: table, text, flags=re.DOTALL)


def docstring(text: str) -> str:
    """config.py with the fields that are plain words in the docstring of `VirtualHost`."""
    fields = "\n".join(_field(option) for option in OPTIONS if not option.own_words)
    pattern = r"(as `protocol\.options` has them:\n).*?(    Raises `ConfigError`)"
    return re.sub(pattern, lambda match: f"{match[1]}{fields}\n\n{match[2]}", text, flags=re.DOTALL)


def _code(text: str) -> str:
    return ", ".join(f"`{word}`" for word in text.replace("|", r"\|").split(", ")) if text else ""


def _field(option: Option) -> str:
    choices = f"{option.kind.argument}: " if isinstance(option.kind, Choice) else ""
    default = f" ({option.default})" if option.default_word else ""
    return textwrap.fill(
        choices + option.sentence + default,
        _WIDTH,
        initial_indent=f"    {option.name:{_COLUMN}}",
        subsequent_indent=" " * (4 + _COLUMN),
        break_on_hyphens=False,
    )


FILES = {"README.md": readme, "src/pycarp/config.py": docstring}
"""What is written where: each function returns the text of a file as it should be."""

if __name__ == "__main__":
    for name, written in FILES.items():
        path = ROOT / name
        path.write_text(written(path.read_text("utf-8")), "utf-8")

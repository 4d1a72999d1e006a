"""What libFuzzer runs: ``target.py NAME ARGUMENTS``, where NAME is a program that runs this; see `run.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent


def main() -> None:
    sys.path.insert(0, str(HERE.parent))
    # The reference tells the fuzzer which bytes lead to new ground; its twin, compiled, follows.
    with atheris.instrument_imports(include=["pycarp._python"]):
        from pycarp import _impl

        impls = _impl.load("python"), _impl.load("native")
    from fuzz import scenario

    def one(data: bytes) -> None:
        scenario.play(impls, data)

    # Its first argument is what libFuzzer calls when it wants another process of itself.
    atheris.Setup(sys.argv[1:], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

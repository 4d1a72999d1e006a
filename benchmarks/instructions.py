"""How many instructions the verification of one advert costs, from the frame to the verdict, counted by callgrind.

    python benchmarks/instructions.py --tree base=/path/to/python:/path/to/tree --tree now=/path/to/python:/path/to/tree

Without --tree, of this source tree alone. Each tree has `benchmarks/`, and its package is installed or built in place.
With --most 1.02 it fails where the last tree needs more than that times what the first one does. The figure is the
difference of two runs, of 11,000 and of 1,000 adverts, so that nothing but the loop counts; SHA-1 is the portable one.
Needs valgrind and Cython.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
KINDS = {"plain": "a BSD's, with any counter", "pycarp": "a pycarp host's, with its tag", "forged": "with another key"}
FEW, MANY = 1000, 11_000


def frames_of(frames: Any, impl: Any, kind: str) -> list[bytes]:
    """64 adverts of a kind, as this tree makes them."""
    if kind == "plain":
        return list(frames.valid(64))
    if kind == "forged":
        return list(frames.forged(64))
    signer = frames.authenticator(impl)
    made = []
    for nonce in range(64):
        try:
            counter = signer.counter(1, 100, nonce, "bsd", 0)
        except TypeError:  # a tree whose counters say no demotion
            counter = signer.counter(1, 100, nonce)
        made.append(frames.advert(counter, signer.sign(counter)))
    return made


def work(directory: Path, kind: str, turns: int) -> None:
    """In a process of its own, with the benchmarks of its tree in the path: verify so many adverts."""
    import frames  # type: ignore[import-not-found, unused-ignore]

    from pycarp import _impl

    native = _impl.load("native")
    (library,) = directory.glob("loops.*.so")
    spec = importlib.util.spec_from_file_location("loops", library)
    assert spec is not None and spec.loader is not None
    loops = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loops)
    sent = frames_of(frames, native, kind)
    if hasattr(loops, "input_frames"):
        loops.input_frames(frames.input_of_backup(native), b"".join(sent), len(sent[0]), turns)
    else:  # as it was called once
        loops.judge(frames.judge(native), b"".join(sent), len(sent[0]), turns)


class Tree:
    """One version of the package, with its interpreter."""

    def __init__(self, text: str, directory: Path) -> None:
        self.name, _, place = text.partition("=")
        python, _, root = place.partition(":")
        self.python, self.root = python, Path(root)
        self.directory = directory / self.name
        self.directory.mkdir()
        paths = [str(self.root / "benchmarks")]
        if list((self.root / "src" / "pycarp" / "_native").glob("*.so")):
            paths.append(str(self.root / "src"))
        self.environment = {**os.environ, "PYTHONPATH": ":".join(paths), "PYCARP_SHA1": "portable"}
        self.environment |= {"PYTHONHASHSEED": "0", "PYCARP_IMPL": "native"}
        build = f"import building, pathlib; building.loops(pathlib.Path({str(self.directory)!r}))"
        subprocess.run([python, "-c", build], check=True, env=self.environment)

    def count(self, kind: str, turns: int) -> int:
        out = self.directory / "callgrind.out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", self.python, "-P", __file__]
        command += ["--work", str(self.directory), kind, str(turns)]
        subprocess.run(command, check=True, env=self.environment, stderr=subprocess.DEVNULL)
        found = re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1])

    def each(self, kind: str) -> float:
        """Instructions for one advert."""
        return (self.count(kind, MANY) - self.count(kind, FEW)) / (MANY - FEW)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", action="append", help="NAME=PYTHON:TREE")
    parser.add_argument("--most", type=float, help="the last tree's instructions, as a part of the first one's")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        directory, kind, turns = given.work
        work(Path(directory), kind, int(turns))
        return 0
    too_many = False
    with tempfile.TemporaryDirectory() as place:
        trees = [Tree(text, Path(place)) for text in given.tree or [f"now={sys.executable}:{HERE.parent}"]]
        for kind, about in KINDS.items():
            costs = [tree.each(kind) for tree in trees]
            ratio = costs[-1] / costs[0]
            shown = ", ".join(f"{tree.name} {cost:,.0f}" for tree, cost in zip(trees, costs, strict=True))
            print(f"{kind} ({about}): {shown}; ratio {ratio:.3f}", flush=True)
            too_many |= given.most is not None and kind != "forged" and ratio > given.most
    return 1 if too_many else 0


if __name__ == "__main__":
    sys.exit(main())

"""Looks for scenarios in which the two implementations differ, or break a promise. Needs atheris (the extra `fuzz`).

    python tests/fuzz/run.py --seconds 60            # exit code 1, and the shortest such scenario, if there is one
    python tests/fuzz/run.py --seconds 600 --keep    # and keep what leads to ground that nothing else leads to
    python tests/fuzz/run.py crash-...               # play one again, step by step

The reference is instrumented, and so leads the search; the native one follows.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from fuzz import corpus, scenario  # noqa: E402
from pycarp import _impl  # noqa: E402

IMPLS = _impl.load("python"), _impl.load("native")


def complaint(data: bytes, trail: list[str] | None = None) -> str:
    """What is wrong with how a scenario is played, "" for nothing."""
    try:
        scenario.play(IMPLS, data, trail)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def shortest(fails: Callable[[bytes], bool], data: bytes) -> bytes:
    """The same without the bytes that do not matter, and with zeros where those do not matter."""
    size = len(data)
    while size:
        at = 0
        while at < len(data):
            tried = data[:at] + data[at + size :]
            if fails(tried):
                data = tried
            else:
                at += size
        size //= 2
    for at in range(len(data)):
        tried = data[:at] + b"\0" + data[at + 1 :]
        if data[at] and fails(tried):
            data = tried
    return data


def report(data: bytes) -> bool:
    """Say what a scenario does; whether something is wrong with it."""
    trail: list[str] = []
    wrong = complaint(data, trail)
    print(f"\n{data.hex()}\n" + "\n".join(trail))
    print(wrong or "nothing is wrong with it")
    return bool(wrong)


class Fuzzer:
    """libFuzzer in processes of its own, with its files in `scratch`."""

    def __init__(self, scratch: Path) -> None:
        self._program = scratch / "fuzzer"
        target = shlex.join([sys.executable, str(HERE / "target.py")])
        self._program.write_text(f'#!/bin/sh\nexec {target} "$0" "$@"\n')
        self._program.chmod(0o755)
        self._scratch = scratch

    def directory(self, name: str, scenarios: Iterable[bytes] = ()) -> Path:
        made = self._scratch / name
        made.mkdir()
        for number, data in enumerate(scenarios):
            (made / f"{number:05}").write_bytes(data)
        return made

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        options = [f"-max_len={scenario.LENGTH}", "-timeout=20", f"-artifact_prefix={self._scratch}/"]
        command = [self._program, *options, *arguments]
        return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)

    def broken(self) -> list[Path]:
        return [path for kind in ("crash", "timeout", "oom") for path in self._scratch.glob(f"{kind}-*")]


def search(seconds: int, keep: bool, seed: int) -> int:
    with tempfile.TemporaryDirectory(prefix="pycarp-fuzz-") as scratch:
        fuzzer = Fuzzer(Path(scratch))
        grown = fuzzer.directory("grown")
        known = fuzzer.directory("known", corpus.scenarios())
        done = fuzzer.run(f"-max_total_time={seconds}", f"-seed={seed}", "-print_final_stats=1", grown, known)
        progress = re.findall(r"cov: \d+ ft: \d+ corp: \d+", done.stderr)
        executed = re.findall(r"number_of_executed_units: (\d+)", done.stderr)
        broken = fuzzer.broken()
        if done.returncode and not broken:
            print(done.stderr[-4000:], file=sys.stderr)
            return 2
        for path in broken:
            Path(path.name).write_bytes(path.read_bytes())
            print(f"kept as {path.name}")
            report(shortest(lambda data: bool(complaint(data)), path.read_bytes()))
        if progress:
            print(f"{executed[-1] if executed else 'some'} scenarios; {progress[0]} became {progress[-1]}")
        if keep and not broken:
            few = fuzzer.directory("few")
            fuzzer.run("-merge=1", few, known, grown)
            corpus.keep({path.read_bytes() for path in few.iterdir()} - set(corpus.recorded()))
            print(f"{len(corpus.kept())} scenarios kept in {corpus.KEPT.name}")
        return 1 if broken else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=60, help="how long to search; default %(default)s")
    parser.add_argument("--keep", action="store_true", help=f"write what was found to {corpus.KEPT.name}")
    parser.add_argument("--seed", type=int, default=0, help="libFuzzer's; default: another one each time")
    parser.add_argument("scenario", nargs="*", type=Path, help="a file to play instead")
    options = parser.parse_args(arguments)
    if options.scenario:
        broken = [path for path in options.scenario if report(path.read_bytes())]
        return int(bool(broken))
    return search(options.seconds, options.keep, options.seed)


if __name__ == "__main__":
    sys.exit(main())

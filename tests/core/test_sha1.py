"""The SHA-1 block function in C, each variant against hashlib: natively, and for AArch64 under an emulator.

The C program tests/sha1_driver.c is compiled here with every warning an error. What the compiled package makes of the
same code (`pycarp._native.auth.sha1`) is held against hashlib at the end.
"""

from __future__ import annotations

import hashlib
import hmac
import platform
import random
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pycarp import _impl

ROOT = Path(__file__).resolve().parents[2]
SHA1 = ROOT / "ext" / "sha1"
WARNINGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]
NO_SUCH_VARIANT = 3
HOST_COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
CROSS_COMPILER = "aarch64-linux-gnu-gcc"
needs_host_compiler = pytest.mark.skipif(not HOST_COMPILERS, reason="no C compiler on this machine")
needs_cross_compiler = pytest.mark.skipif(not shutil.which(CROSS_COMPILER), reason=f"no {CROSS_COMPILER} here")


@dataclass(frozen=True)
class Driver:
    """A compiled driver, and what runs it (an emulator, or nothing)."""

    command: tuple[str, ...]

    def run(self, *arguments: str, messages: Iterable[bytes] = ()) -> subprocess.CompletedProcess[str]:
        data = b"".join(struct.pack("<I", len(message)) + message for message in messages)
        done = subprocess.run([*self.command, *arguments], input=data, capture_output=True, timeout=60, check=False)
        assert not done.stderr, done.stderr
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode("ascii"))

    def lines(self, *arguments: str, messages: Iterable[bytes] = ()) -> list[str]:
        done = self.run(*arguments, messages=messages)
        assert done.returncode == 0
        return done.stdout.split()

    def under(self, *emulator: str) -> Driver:
        return Driver((*emulator, *self.command))


def compile_driver(compiler: str, output: Path, *options: str) -> Driver:
    sources = [str(path) for path in (*sorted(SHA1.glob("*.c")), ROOT / "tests" / "core" / "sha1_driver.c")]
    subprocess.run([compiler, *WARNINGS, *options, f"-I{SHA1}", *sources, "-pthread", "-o", str(output)], check=True)
    return Driver((str(output),))


@pytest.fixture(scope="module", params=HOST_COMPILERS or ["gcc"])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """The driver for this machine, by each compiler it has."""
    return compile_driver(request.param, tmp_path_factory.mktemp("sha1") / "driver")


@pytest.fixture(scope="module")
def aarch64(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """The driver for AArch64, statically linked, under the emulator with a CPU that has every extension."""
    driver = compile_driver(CROSS_COMPILER, tmp_path_factory.mktemp("sha1-aarch64") / "driver", "-static")
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    assert emulator, "the cross compiler is here, but not qemu-aarch64 (Debian: qemu-user)"
    return driver.under(emulator, "-cpu", "max")


def messages() -> list[bytes]:
    """Every length up to four blocks (each way the padding can fall), then longer ones, of fixed random bytes."""
    source = random.Random(112)
    lengths = [*range(4 * 64 + 1), 511, 512, 513, 1000, 4095, 4096, 4097, 65535, 65536 + 55, 65536 + 56]
    return [b"", b"abc", *(source.randbytes(length) for length in lengths)]


def hashes_right(driver: Driver, variants: Sequence[str]) -> None:
    expected = [hashlib.sha1(message).hexdigest() for message in messages()]
    for variant in (*variants, "auto"):
        assert driver.lines("hash", variant, messages=messages()) == expected, variant


def compresses_right(driver: Driver, variants: Sequence[str]) -> None:
    """The block function alone, by what it leaves after a message with its padding: that is the digest."""
    padded = [m + b"\x80" + bytes(-(len(m) + 9) % 64) + struct.pack(">Q", 8 * len(m)) for m in messages()]
    expected = [hashlib.sha1(message).hexdigest() for message in messages()]
    for variant in (*variants, "auto"):
        assert driver.lines("block", variant, messages=padded) == expected, variant
    # No block at all leaves the state as it was.
    assert driver.lines("block", variants[0], messages=[b""]) == ["67452301efcdab8998badcfe10325476c3d2e1f0"]


def authenticates_right(driver: Driver, variants: Sequence[str]) -> None:
    """HMACs of which all but the counter was prepared, in batches: the counter at each place of a block, alone and side
    by side with one that needs as many blocks, or more, or fewer."""
    source = random.Random(2104)
    batch = [source.randbytes(20 + prefix + 8) for prefix in (*range(2 * 64), *range(64, 0, -1), 21, 21, 60, 21, 21)]
    # Forgeries of one group: all have the same head, which the driver then prepares once. Two groups side by side.
    flood = [head + source.randbytes(8) for prefix in range(2 * 64) for head in [source.randbytes(20 + prefix)] * 19]
    mixed = [head + source.randbytes(8) for _ in range(90) for head in (batch[7][:27], batch[60][:80])]
    for wanted in (batch, batch[1:], batch[:1], [], flood, flood[5:], mixed, mixed[:37]):
        expected = [hmac.new(message[:20], message[20:], "sha1").hexdigest() for message in wanted]
        for variant in (*variants, "auto"):
            assert driver.lines("mac", variant, messages=wanted) == expected, variant


def native_variants() -> list[str]:
    """What this CPU should offer, by the kernel's word instead of cpuid."""
    machine, cpuinfo = platform.machine(), Path("/proc/cpuinfo")
    known = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    if machine == "x86_64":
        flags = [
            ("avx512", {"avx512f"}),
            ("sha-ni", {"sha_ni", "ssse3", "sse4_1"}),
            ("avx2", {"avx2"}),
            ("portable", set()),
        ]
        return [name for name, wanted in flags if wanted <= known]
    if machine == "aarch64" and "sha1" in known:
        return ["armv8", "portable"]
    return ["portable"]


@needs_host_compiler
@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="asks /proc/cpuinfo")
def test_the_variants_offered_are_those_of_this_cpu(host: Driver) -> None:
    assert host.lines("list") == native_variants()


@needs_host_compiler
def test_each_variant_hashes_as_hashlib_does(host: Driver) -> None:
    hashes_right(host, host.lines("list"))


@needs_host_compiler
def test_the_chosen_variant_compresses(host: Driver) -> None:
    compresses_right(host, host.lines("list"))


@needs_host_compiler
def test_the_chosen_variant_authenticates(host: Driver) -> None:
    authenticates_right(host, host.lines("list"))


@needs_host_compiler
@pytest.mark.parametrize("name", ["armv9", "", "Portable"])
def test_an_unknown_variant_is_refused_and_the_choice_kept(host: Driver, name: str) -> None:
    assert host.run("hash", name, messages=[b"x"]).returncode == NO_SUCH_VARIANT
    assert host.run("block", name).returncode == NO_SUCH_VARIANT


@needs_host_compiler
def test_threads_may_compress_and_choose_at_once(host: Driver) -> None:
    assert host.run("race").returncode == 0


@needs_host_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="emulates an x86 CPU")
def test_a_cpu_without_sha_extensions_gets_the_portable_one(host: Driver) -> None:
    """An emulated Core 2 has SSSE3 and SSE4.1 but no SHA: cpuid must be obeyed, not what the compiler could do."""
    emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if emulator is None:
        pytest.skip("no qemu-x86_64 on this machine")
    old = host.under(emulator, "-cpu", "Penryn")
    assert old.lines("list") == ["portable"]
    assert old.run("block", "sha-ni").returncode == NO_SUCH_VARIANT
    assert old.lines("hash", "auto", messages=[b"abc"]) == [hashlib.sha1(b"abc").hexdigest()]


@needs_host_compiler
@pytest.mark.slow
def test_clean_under_sanitizers(tmp_path: Path) -> None:
    options = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    try:
        driver = compile_driver(HOST_COMPILERS[0], tmp_path / "sanitized", *options)
    except subprocess.CalledProcessError:
        pytest.skip("the compiler has no sanitizers (musl)")
    variants = driver.lines("list")
    hashes_right(driver, variants)
    compresses_right(driver, variants)
    authenticates_right(driver, variants)


@needs_cross_compiler
def test_armv8_variant_hashes_as_hashlib_does(aarch64: Driver) -> None:
    assert aarch64.lines("list") == ["armv8", "portable"]
    hashes_right(aarch64, ["armv8", "portable"])


@needs_cross_compiler
def test_armv8_variant_compresses(aarch64: Driver) -> None:
    compresses_right(aarch64, ["armv8", "portable"])
    authenticates_right(aarch64, ["armv8", "portable"])
    assert aarch64.run("race").returncode == 0


@needs_cross_compiler
def test_x86_variant_is_refused_on_aarch64(aarch64: Driver) -> None:
    assert aarch64.run("block", "sha-ni").returncode == NO_SUCH_VARIANT


def test_the_compiled_package_hashes_as_hashlib_does(impl: _impl.Implementation) -> None:
    if impl.name != "native":
        pytest.skip("the reference hashes by hashlib itself")
    from pycarp._native import auth

    assert auth.sha1_variants() == tuple(native_variants())
    for variant in auth.sha1_variants():
        for message in messages():
            assert auth.sha1(message, variant) == hashlib.sha1(message).digest()
    with pytest.raises(ValueError, match="no SHA-1 variant 'armv9'"):
        auth.sha1(b"", "armv9")


def test_the_variant_of_the_compiled_package_can_be_chosen(impl: _impl.Implementation) -> None:
    """Each variant signs the same, and a refused choice changes nothing."""
    if impl.name != "native":
        pytest.skip("the reference hashes by hashlib itself")
    from pycarp._native import auth

    signatures = set()
    try:
        for variant in auth.sha1_variants():
            auth.sha1_select(variant)
            assert auth.sha1_variant() == variant
            signatures.add(auth.Authenticator("motdepassehalakon", 101, ["10.13.37.42"], dialect="bsd").sign(0x1000))
            with pytest.raises(ValueError, match="no SHA-1 variant"):
                auth.sha1_select("armv9")
            assert auth.sha1_variant() == variant
    finally:
        auth.sha1_select("auto")
    assert len(signatures) == 1

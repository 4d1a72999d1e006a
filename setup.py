"""The extension modules, the guardian's program, and the switches that decide whether and how they are compiled.

Everything that can be said without code stands in pyproject.toml. Environment variables read here:

PYCARP_NO_EXTENSIONS=1       build pure Python, compile nothing
PYCARP_REQUIRE_EXTENSIONS=1  a failed compile is an error (otherwise: a loud warning, and a pure package)
PYCARP_WERROR=1              -Wall -Wextra -Werror, and Cython's warnings are errors too
PYCARP_SANITIZE=LIST         compile with -fsanitize=LIST, e.g. address,undefined
CFLAGS=-g                    with debugging information and symbols; without it two builds of one source are the same,
                             byte by byte, where SOURCE_DATE_EPOCH is set and the compiler is the same
CFLAGS=-O2                   compile for speed; otherwise for size, which costs some nanoseconds for each advert
"""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import os
import re
import shutil
import sys
import tarfile
import textwrap
from pathlib import Path, PurePosixPath

from setuptools import Distribution, Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

PACKAGE = "pycarp._native"
# The C sources of each module. Each source belongs to one module: they are compiled at the same time, and a choice made
# in C (the variant of SHA-1) is then the same for all. Other modules reach it through that module's declarations.
MODULES: dict[str, list[str]] = {
    "packet": [],
    "auth": [
        "ext/sha1/sha1.c",
        "ext/sha1/portable.c",
        "ext/sha1/x86.c",
        "ext/sha1/armv8.c",
        "ext/sha1/avx2.c",
        "ext/sha1/avx512.c",
    ],
    "input": [],
    "machine": [],
}
EACH_FRAME = {"auth": "-O3", "input": "-O2", "packet": "-O2", "ring": "-O2"}
"""What each frame goes through, forged ones too, is compiled for speed: 24 KB of the wheel, 8 % of the time. SHA-1
without instructions of its own takes 4 % fewer at -O3."""
# A program beside the modules, and its sources: what guards a process's addresses must not end with it.
PROGRAM = "guardian"
PROGRAM_SOURCES: list[str] = []
# The runtime stands on Linux's packet sockets and netlink.
if sys.platform == "linux":
    MODULES |= {"ring": [], "spawn": ["ext/guardian/launch.c"], "runtime": []}
    PROGRAM_SOURCES = [
        f"ext/guardian/{name}.c"
        for name in (
            "main",
            "orders",
            "release",
            "replies",
            "lifeline",
            "bowout",
            "instance",
            "listeners",
            "route",
            "gate",
            "confine",
        )
    ]
ROOT = Path(__file__).resolve().parent
sys.path.append(str(ROOT / "tools"))
from wheel_source import in_wheel  # noqa: E402 - a room of the build beside this file

SMALLER = {f"CYTHON_{name}": "0" for name in ("FAST_PYCALL", "UNPACK_METHODS", "USE_PYLONG_INTERNALS")}
SMALLER |= {f"CYTHON_{name}": "0" for name in ("USE_UNICODE_INTERNALS", "USE_UNICODE_WRITER")}
SMALLER |= {f"CYTHON_{name}": "0" for name in ("USE_DICT_VERSIONS", "FAST_THREAD_STATE")}
"""Cython's short cuts into the interpreter, for calls from Python, names, errors and texts: no frame's way. They would
be 19 KB of the wheel."""


def switch(name: str) -> bool:
    """Whether an environment variable is set to something other than nothing or 0."""
    return os.environ.get(name, "") not in ("", "0")


def source(name: str) -> str:
    """The Cython source of a module: one that has rooms of its own stands in a folder with them."""
    return f"ext/{name}/{name}.pyx" if (ROOT / "ext" / name / f"{name}.pyx").exists() else f"ext/{name}.pyx"


def extensions() -> list[Extension]:
    """The extension modules, their sources still in Cython."""
    headers = [*ROOT.glob("ext/**/*.px[di]"), *ROOT.glob("ext/**/*.h")]
    return [
        Extension(
            f"{PACKAGE}.{name}",
            sources=[source(name), *sources],
            include_dirs=["ext", "ext/sha1"],
            define_macros=list(SMALLER.items()),
            depends=sorted(header.relative_to(ROOT).as_posix() for header in headers),
        )
        for name, sources in MODULES.items()
    ]


def flags() -> tuple[list[str], list[str]]:
    """Compiler and linker flags for GCC and clang."""
    # Hidden: what the modules carry in C is not the process's, nor can the process's take its place.
    compile_flags = ["-fvisibility=hidden", "-ffunction-sections", "-fdata-sections"]
    link_flags = []
    if sys.platform == "linux":
        # No tables for unwinding, no jumps between a call and what is called: nothing here throws.
        compile_flags += ["-fno-asynchronous-unwind-tables", "-fno-plt"]
        link_flags += ["-Wl,--gc-sections", "-Wl,--build-id=none"]
    asked = os.environ.get("CFLAGS", "").split()
    if not any(flag.startswith("-O") for flag in asked):
        compile_flags.append("-Os")  # most of what Cython writes runs once, or never; see EACH_FRAME
    # No debugging information: it is ten times the code, and names the directory that it was built in.
    if not any(flag.startswith("-g") for flag in asked):
        compile_flags.append("-g0")
        link_flags += ["-Wl,-s"] if sys.platform == "linux" and not os.environ.get("PYCARP_SANITIZE") else []
    if switch("PYCARP_WERROR"):
        compile_flags += ["-Wall", "-Wextra", "-Werror"]
    if sanitizers := os.environ.get("PYCARP_SANITIZE"):
        sanitize = f"-fsanitize={sanitizers}"
        compile_flags += [sanitize, "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1"]
        compile_flags.append("-DPYCARP_SANITIZED")
        link_flags += [sanitize]
    return compile_flags, link_flags


def bill_of_materials(package: Distribution, native: bool) -> dict[str, object]:
    """What a wheel is made of and needs, as CycloneDX says it; the same for each build of one source (PEP 770)."""

    def part(name: str, version: str = "", **more: object) -> dict[str, object]:
        package_url = f"pkg:pypi/{name}@{version}" if version else f"pkg:pypi/{name}"
        about = {"type": "library", "bom-ref": name, "name": name, "purl": package_url, **more}
        return {**about, "version": version} if version else about

    needed = sorted({re.split(r"[^\w.-]", one)[0].lower() for one in package.install_requires})
    parts = [part(name, scope="required") for name in needed]
    if native:
        text = "Helpers that it writes into each module are part of the compiled modules."
        parts.append(part("cython", importlib.metadata.version("cython"), scope="required", description=text))
    licence = [{"license": {"id": package.metadata.license_expression}}]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": part("pycarp", package.get_version(), licenses=licence)},
        "components": parts,
        "dependencies": [{"ref": "pycarp", "dependsOn": [str(one["bom-ref"]) for one in parts]}],
    }


def source_date() -> float | None:
    """The time that all files of an sdist get, where SOURCE_DATE_EPOCH asks for one."""
    asked = os.environ.get("SOURCE_DATE_EPOCH", "")
    return float(asked) if asked else None


def as_anyone(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """An entry of an sdist without what it has from the machine and the user that make it."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.mode & 0o100 else 0o644
    if (date := source_date()) is not None:
        entry.mtime = int(date)
    return entry


def program_flags() -> tuple[list[str], list[str]]:
    """The same for the guardian: its own C standard, and every address in it bound before it gives up its rights."""
    compile_flags, link_flags = flags()
    compile_flags = ["-std=c11", "-D_GNU_SOURCE", "-pthread", "-fPIE", *compile_flags]
    link_flags = ["-pthread", "-pie", "-Wl,-z,relro,-z,now", *link_flags]
    return compile_flags, link_flags


class BuildExtensions(build_ext):
    """Compiles all the modules and the program, or none: half a package would be harder to understand than none."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = True  # a compiler on each core

    def run(self) -> None:
        try:
            self.translate()
            super().run()
        except Exception as error:
            if switch("PYCARP_REQUIRE_EXTENSIONS"):
                raise
            self.fall_back(error)

    def translate(self) -> None:
        """Cython to C, into the build directory."""
        from Cython.Build import cythonize
        from Cython.Compiler import Options

        Options.warning_errors = switch("PYCARP_WERROR")
        stage = Path(self.build_temp) / "cython"
        # `from .packet cimport ...` is looked for under the name that the module has once installed.
        package = stage.joinpath("include", *PACKAGE.split("."))
        shutil.rmtree(package, ignore_errors=True)
        package.mkdir(parents=True)
        for declarations in ROOT.glob("ext/**/*.pxd"):
            if declarations.stem in {*MODULES, "arbitration", "guardian", "kept", "system", "timing"}:
                shutil.copy2(declarations, package)
        translated = cythonize(
            # Fresh objects: cythonize wants to see .pyx, and build_ext keeps its own attributes on ours.
            extensions(),
            build_dir=str(stage),
            include_path=["ext", str(stage / "include")],
            compiler_directives={"language_level": "3"},
            quiet=True,
        )
        sources = {extension.name: extension.sources for extension in translated}
        for extension in self.extensions:
            extension.sources = sources[extension.name]

    def build_extensions(self) -> None:
        if self.compiler.compiler_type != "msvc":
            compile_flags, link_flags = flags()
            for extension in self.extensions:
                extension.extra_compile_args += compile_flags
                faster = EACH_FRAME.get(extension.name.rpartition(".")[2])
                if faster and "-Os" in compile_flags:
                    extension.extra_compile_args.append(faster)
                extension.extra_link_args += link_flags
        super().build_extensions()
        if PROGRAM_SOURCES:
            self.build_program()

    @property
    def built_program(self) -> Path:
        """Where the guardian is built: beside the modules."""
        return Path(self.build_lib, *PACKAGE.split("."), PROGRAM)

    @property
    def program_in_place(self) -> Path:
        return ROOT.joinpath("src", *PACKAGE.split("."), PROGRAM)

    def build_program(self) -> None:
        compile_flags, link_flags = program_flags()
        objects = self.compiler.compile(PROGRAM_SOURCES, output_dir=self.build_temp, extra_postargs=compile_flags)
        built = self.built_program
        self.mkpath(str(built.parent))
        self.compiler.link_executable(objects, built.name, output_dir=str(built.parent), extra_postargs=link_flags)
        built.chmod(0o755)

    def copy_extensions_to_source(self) -> None:
        super().copy_extensions_to_source()
        if self.has_program():
            # A guardian may be running: another file in its place, not other bytes in the same file.
            self.program_in_place.unlink(missing_ok=True)
            self.copy_file(str(self.built_program), str(self.program_in_place), level=self.verbose)

    def has_program(self) -> bool:
        return bool(self.extensions and PROGRAM_SOURCES)

    def get_output_mapping(self) -> dict[str, str]:
        mapping: dict[str, str] = super().get_output_mapping()
        if self.inplace and self.has_program():
            mapping[str(self.built_program)] = str(self.program_in_place)
        return mapping

    def get_outputs(self) -> list[str]:
        outputs: list[str] = super().get_outputs()
        # In place, they are the keys of the mapping.
        return [*outputs, str(self.built_program)] if self.has_program() and not self.inplace else outputs

    def fall_back(self, error: Exception) -> None:
        """Leaves a pure package behind and says so."""
        for extension in self.extensions:
            Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
        self.built_program.unlink(missing_ok=True)
        self.extensions = []
        self.distribution.ext_modules = []  # what is installed and how the wheel is tagged follow from it
        reason = textwrap.shorten(str(error).strip() or type(error).__name__, 300)
        print(
            "\n".join(
                [
                    "*" * 78,
                    "WARNING: pycarp's native extension modules could not be built; this is a PURE PYTHON",
                    "installation (pycarp.__impl__ == 'python'). It works, with adverts timed less sharply.",
                    f"Reason: {reason}",
                    "Needed: a C compiler and Python's header files (Debian: gcc, libc6-dev, python3-dev).",
                    "With PYCARP_REQUIRE_EXTENSIONS=1 this is an error.",
                    "*" * 78,
                ]
            ),
            file=sys.stderr,
        )


class BuildSource(sdist):
    """With SOURCE_DATE_EPOCH, two sdists of one source are the same, byte by byte."""

    def make_archive(
        self, base_name: str, format: str, root_dir: str | None = None, base_dir: str = "", **_: object
    ) -> str:
        if format != "gztar":
            return str(super().make_archive(base_name, format, root_dir, base_dir))
        name = f"{base_name}.tar.gz"
        with (
            open(name, "wb") as file,
            # Its header has a name and a time, too.
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=source_date()) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(base_dir, filter=as_anyone)  # in the order of names
        return name


class BuildWheel(bdist_wheel):
    """Builds before it decides what the wheel is tagged for: without extension modules it fits any machine.

    Its name then says so: that is all that pip shows of a build.
    """

    def run(self) -> None:
        self.run_command("build")
        self.root_is_pure = not self.distribution.has_ext_modules()
        if self.root_is_pure:
            self.build_number = "0pure"  # a build tag begins with a digit
        super().run()

    def write_wheelfile(self, *arguments: object, **named: object) -> None:
        super().write_wheelfile(*arguments, **named)
        (info,) = Path(self.bdist_dir).glob("*.dist-info")
        (info / "sboms").mkdir(exist_ok=True)
        bill = bill_of_materials(self.distribution, not self.root_is_pure)
        (info / "sboms" / "pycarp.cdx.json").write_text(json.dumps(bill, indent=1) + "\n")
        for path in Path(self.bdist_dir, "pycarp").rglob("*.py"):
            path.write_bytes(
                in_wheel(path.read_bytes(), PurePosixPath(path.relative_to(Path(self.bdist_dir, "pycarp"))))
            )
        # The last step before all is packed. The builder's umask is nobody else's business.
        for path in Path(self.bdist_dir).rglob("*"):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


setup(
    ext_modules=[] if switch("PYCARP_NO_EXTENSIONS") else extensions(),
    cmdclass={"build_ext": BuildExtensions, "bdist_wheel": BuildWheel, "sdist": BuildSource},
)

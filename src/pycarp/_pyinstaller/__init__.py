"""Where PyInstaller finds what it cannot see of pycarp in a program: it asks by the entry point `pyinstaller40`."""

from pathlib import Path


def hook_directories() -> list[str]:
    return [str(Path(__file__).parent)]

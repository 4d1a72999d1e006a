"""The frameworks that services are built on, with the recipes of docs/howto/frameworks.md, between network namespaces.

A framework that is not installed is skipped: the extra `test-frameworks` has them all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lan import Lan, lan

from pycarp.lab import namespaces


@pytest.fixture
def net() -> Iterator[Lan]:
    """main, second and client on a switch."""
    os.environ.pop("LD_PRELOAD", None)
    if namespaces.available() != "root":
        pytest.skip("no network namespaces here: run as root")
    with lan() as built:
        yield built


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            # Not among what a run on the wire needs: they have a leg of their own.
            for mark in (pytest.mark.frameworks, pytest.mark.wire, pytest.mark.long):
                item.add_marker(mark)

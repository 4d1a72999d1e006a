"""The tutorial and docs/howto/: every command on these pages runs as it stands, on the hosts that the page names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.lan import Lan
from support.pages import PAGES, Reader, steps


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(page: Path, make_lan: Callable[..., Lan], tmp_path: Path) -> None:
    # Fault: None: a reader types what a page of docs/howto/ says.
    # Expected: Each command ends with 0, what runs on goes on running, and the output is as the page shows it.
    for program in ("unshare", "nft", "tcpdump", "ucarp", "named", "dig"):
        if any(program in step.text.split() for step in steps(page) if step.order == "run"):
            assert shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin"), f"{page.name} needs {program}"
    net = make_lan()
    net.audited = False  # a page may add devices and filters
    Reader(net.lab.hosts, tmp_path).follow(page)

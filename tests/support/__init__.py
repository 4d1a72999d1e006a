"""What several tests share. Nothing in `wire` or `scapy_frames` uses pycarp: they are what it is measured by."""

import os

IMPLEMENTATIONS = tuple(os.environ.get("PYCARP_TEST_IMPLS", "native,python").replace(",", " ").split())
"""The implementations under test; see conftest.py."""

"""Times, counts and names as people read them."""

from __future__ import annotations

from pycarp.monitor.text import exact, mac_text, plural, printable, seconds


def test_durations_and_macs_for_people() -> None:
    assert [seconds(n) for n in (80_400, 12_300_000, 1_391_000_000)] == ["80 us", "12.3 ms", "1.391 s"]
    assert [seconds(n) for n in (999_499, 999_600, 999_940_000, 999_999_990)] == [
        "999 us",
        "1.0 ms",
        "999.9 ms",
        "1.000 s",
    ]
    assert (mac_text(bytes.fromhex("00005e000165")), mac_text(bytes(6))) == ("00:00:5e:00:01:65", "")
    assert [exact(n) for n in (12_340, 3_412_000, 1_200_000_000)] == ["12.3 us", "3.41 ms", "1.200000 s"]
    assert [exact(n, signed=True) for n in (0, -80_000)] == ["+0.0 us", "-80.0 us"]
    assert [plural(n, "advert") for n in (0, 1, 2)] == ["0 adverts", "1 advert", "2 adverts"]
    assert printable("a\x1b[2Jb") == r"a\x1b[2Jb"

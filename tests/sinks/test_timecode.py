"""Timecode after a cut, against all that a day has, counted one by one."""

from collections.abc import Iterator
from fractions import Fraction

import pytest

from vsr.sinks.timecode import later_timecode

NTSC = Fraction(30000, 1001)


def day(base: int, dropped: int) -> Iterator[str]:
    """Each timecode of a day, in order."""
    separator = ";" if dropped else ":"
    for hour in range(24):
        for minute in range(60):
            for second in range(60):
                first = dropped if second == 0 and minute % 10 else 0
                for frame in range(first, base):
                    yield f"{hour:02}:{minute:02}:{second:02}{separator}{frame:02}"


@pytest.mark.parametrize(
    ("rate", "dropped"), [(Fraction(25), 0), (NTSC, 0), (NTSC, 2), (2 * NTSC, 4)]
)
def test_every_timecode_of_a_day(rate: Fraction, dropped: int) -> None:
    codes = list(day(round(rate), dropped))
    for start in (0, 1799, len(codes) - 1):
        for frames in [*range(0, 20_000, 7), *range(0, len(codes), 9973)]:
            expected = codes[(start + frames) % len(codes)]
            assert later_timecode(codes[start], frames, rate) == expected


@pytest.mark.parametrize("text", ["", "01:00:00", "01:00:00:25", "01:60:00:00", "a:b:c:d"])
def test_what_is_no_timecode(text: str) -> None:
    assert later_timecode(text, 1, Fraction(25)) is None


def test_numbers_are_dropped_at_30_and_60_alone() -> None:
    assert later_timecode("01:00:00;00", 1, Fraction(24000, 1001)) is None

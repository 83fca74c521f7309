"""Timecode after a cut, against all that a day has, counted one by one."""

from collections.abc import Iterator
from fractions import Fraction

import pytest

from vsr.sinks.timecode import first_timecode, later_timecode

NTSC = Fraction(30000, 1001)


def hour(base: int, dropped: int) -> Iterator[str]:
    """Each timecode of an hour, in order, without the hour."""
    separator = ";" if dropped else ":"
    for minute in range(60):
        for second in range(60):
            first = dropped if second == 0 and minute % 10 else 0
            for frame in range(first, base):
                yield f"{minute:02}:{second:02}{separator}{frame:02}"


@pytest.mark.parametrize(
    ("rate", "dropped"), [(Fraction(25), 0), (NTSC, 0), (NTSC, 2), (2 * NTSC, 4)]
)
def test_timecodes_of_a_day(rate: Fraction, dropped: int) -> None:
    codes = list(hour(round(rate), dropped))

    def code(number: int) -> str:
        return f"{number // len(codes) % 24:02}:{codes[number % len(codes)]}"

    for start in (0, 1799, 24 * len(codes) - 1):
        for frames in [*range(0, 20_000, 7), *range(0, 24 * len(codes), 9973)]:
            assert later_timecode(code(start), frames, rate) == code(start + frames)


@pytest.mark.parametrize("text", ["", "01:00:00", "01:00:00:25", "01:60:00:00", "a:b:c:d"])
def test_what_is_no_timecode(text: str) -> None:
    assert later_timecode(text, 1, Fraction(25)) is None


def test_numbers_are_dropped_at_30_and_60_alone() -> None:
    assert later_timecode("01:00:00;00", 1, Fraction(24000, 1001)) is None


FILM, PAL = Fraction(24000, 1001), Fraction(25)


@pytest.mark.parametrize(
    ("timecode", "rates", "frames", "expected"),
    [
        ("10:20:30:24", (PAL, 2 * PAL), 0, "10:20:30:48"),  # a frame for each field
        ("10:20:30:24", (PAL, 2 * PAL), 20, "10:20:31:18"),
        ("01:00:00;02", (NTSC, 2 * NTSC), 0, "01:00:00;04"),
        ("01:00:59;29", (NTSC, 2 * NTSC), 2, "01:01:00;04"),
        ("01:00:00;08", (NTSC, FILM), 0, "01:00:00:06"),  # there, no numbers are dropped
        ("01:00:00;28", (NTSC, FILM), 12, "01:00:01:10"),
        ("01:00:59;20", (NTSC, PAL), 0, "01:00:59:16"),
        ("01:00:59;20", (NTSC, Fraction(30)), 0, "01:00:59:20"),
        ("01:00:00:23", (FILM, NTSC), 0, "01:00:00:28"),
        ("01:00:00:25", (PAL, 2 * PAL), 0, None),  # there is no frame 25
        ("one o'clock", (PAL, PAL), 0, None),
    ],
)
def test_timecode_at_another_rate(timecode, rates, frames, expected) -> None:
    assert first_timecode(timecode, rates[0], rates[1], frames) == expected

"""SMPTE timecode (ST 12-1): what a film's frames are called in an edit."""

import re
from fractions import Fraction

__all__ = ["drops_numbers", "first_timecode", "later_timecode"]

_FORM = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d+)")
_DROPPING = (30, 60)
"""Whole rates a little below which numbers may be dropped, so that clock and timecode agree."""


def drops_numbers(timecode: str) -> bool:
    """Whether ``timecode`` is written as one that drops numbers."""
    return ";" in timecode or "." in timecode


def first_timecode(
    timecode: str, source_rate: Fraction, rate: Fraction, frames: int = 0
) -> str | None:
    """What the first frame of an output is called.

    The second keeps its name, and the frame within it is counted at the new rate; where that drops
    no numbers, neither does the result.

    Args:
        timecode: of the first frame of the source.
        source_rate: frames a second that it counts.
        rate: frames a second of the output.
        frames: of the output, that lie between the two first frames.

    Returns:
        None: ``timecode`` is none of ``source_rate``.
    """
    if not (match := _FORM.fullmatch(timecode)):
        return None
    base, new = round(source_rate), round(rate)
    if int(match[5]) >= base:
        return None
    separator = match[4] if _may_drop(rate) else ":"
    frame = int(match[5]) * new // base
    named = f"{match[1]}:{match[2]}:{match[3]}{separator}{frame:02}"
    return later_timecode(named, frames, rate)


def _may_drop(rate: Fraction) -> bool:
    return round(rate) in _DROPPING and rate < round(rate)


def later_timecode(timecode: str, frames: int, rate: Fraction) -> str | None:
    """The timecode ``frames`` after ``timecode``; a day begins anew after 24 hours.

    Args:
        timecode: ``01:00:00:00``; with ``;`` or ``.`` ahead of the frame it drops numbers, two of
            each minute that is not a tenth at 30000/1001 frames a second, four at twice that.
        frames: how many frames later.
        rate: frames a second.

    Returns:
        None: ``timecode`` is none of this rate.
    """
    if not (match := _FORM.fullmatch(timecode)):
        return None
    base, separator = round(rate), match[4]
    dropped = 0 if separator == ":" else base // 15
    hours, minutes, seconds, frame = (int(match[part]) for part in (1, 2, 3, 5))
    if max(minutes, seconds) > 59 or frame >= base or (dropped and base not in _DROPPING):
        return None
    minute = 60 * hours + minutes
    number = (60 * minute + seconds) * base + frame - dropped * (minute - minute // 10)
    ten_minutes = 600 * base - 9 * dropped
    number = (number + frames) % (144 * ten_minutes)
    tens, rest = divmod(number, ten_minutes)
    later_minutes = max(0, (rest - dropped) // (60 * base - dropped))  # the first drops none
    number += dropped * (9 * tens + later_minutes)
    seconds, frame = divmod(number, base)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{separator}{frame:02}"

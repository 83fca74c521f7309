"""What can be typed behind an option: each function makes a value of a word, or says what to write.

They raise :class:`argparse.ArgumentTypeError`, which the parser turns into a usage error.
"""

import argparse
import re
from fractions import Fraction

__all__ = [
    "parse_option",
    "parse_rate",
    "parse_ratio",
    "parse_scale",
    "parse_size",
    "parse_time",
]


_UNITS = {"": 1, "s": 1, "ms": 1000, "us": 1_000_000}
"""How many of what FFmpeg writes behind a number are a second."""


def parse_time(text: str) -> Fraction:
    """``90``, ``1:30``, ``0:01:30.5``, ``500ms`` as seconds."""
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)(s|ms|us|)", text):
        return Fraction(match[1]) / _UNITS[match[2]]
    if not re.fullmatch(r"\d+(:[0-5]?\d){1,2}(\.\d+)?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; write seconds, [HH:]MM:SS (each below 60 behind a larger one) "
            "or e.g. 500ms"
        )
    seconds = Fraction(0)
    for part in text.split(":"):
        seconds = seconds * 60 + Fraction(part)
    return seconds


def parse_scale(text: str) -> Fraction | int:
    """``2``, ``2.7``; a whole one as such."""
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no enlargement; write e.g. 2 or 2.7")
    scale = Fraction(text)
    return int(scale) if scale.denominator == 1 else scale


def parse_rate(text: str) -> Fraction:
    """Frames a second: ``25``, ``23.976``, ``24000/1001``."""
    if not re.fullmatch(r"\d+(\.\d+|/[1-9]\d*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no rate; write e.g. 25 or 24000/1001")
    return Fraction(text)


def parse_ratio(text: str) -> Fraction:
    """Of sides: ``16:15``, ``16/15``, ``1.0667``."""
    if not re.fullmatch(r"\d+([:/][1-9]\d*|\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no aspect ratio; write e.g. 16:15")
    return Fraction(text.replace(":", "/"))


def parse_size(text: str) -> tuple[int, int]:
    """Width and height: ``1920x1080``, ``1920:1080``."""
    match = re.fullmatch(r"([1-9]\d*)[x:]([1-9]\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write e.g. 1920x1080")
    return int(match[1]), int(match[2])


def parse_option(text: str) -> tuple[str, str]:
    """``KEY=VALUE``."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is no option; write KEY=VALUE")
    return key, value

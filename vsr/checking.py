"""Arguments of the public API, checked and converted to the types that the code relies on."""

from enum import Enum
from fractions import Fraction
from operator import index
from os import PathLike, fsencode
from pathlib import Path
from typing import Any

from vsr.errors import ConfigError

__all__ = [
    "check_part",
    "check_tile",
    "check_type",
    "file_name",
    "member",
    "number",
    "real",
    "whole",
]


_LONGEST_NAME = 255
_SMALLEST_TILE = 16
_LONGEST_PART = 10**9
"""Seconds, some 30 years: FFmpeg counts microseconds in 64 bits."""


def whole(name: str, value: Any, *, least: int | None = None) -> int:  # noqa: ANN401
    """``value`` as an int, if it is a whole number: NumPy's are, 64.0 and "64" are not.

    Args:
        name: what the caller calls it.
        value: what the caller gave.
        least: the smallest that will do; None: any.

    Raises:
        ConfigError: it is something else, or less.
    """
    kind = "a whole number" if least is None else f"a whole number, {least} or more"
    refusal = ConfigError(f"{name} must be {kind}, not {value!r}")
    try:
        found = index(value)
    except TypeError:
        raise refusal from None
    if least is not None and found < least:
        raise refusal
    return found


def number(name: str, value: Any) -> Fraction:  # noqa: ANN401
    """``value`` as a fraction: a number, or text such as ``30000/1001``.

    Raises:
        ConfigError: it is something else.
    """
    try:
        return Fraction(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        raise ConfigError(f"{name} must be a number, not {value!r}") from None


def real(name: str, value: Any) -> float:  # noqa: ANN401
    """``value`` as a float: a number, or text that is one.

    Raises:
        ConfigError: it is something else.
    """
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{name} must be a number, not {value!r}") from None


def file_name(name: str, value: Any) -> Path:  # noqa: ANN401
    """``value`` as a path.

    Raises:
        ConfigError: it is empty, or has a part of more than the 255 bytes that file systems take.
    """
    if not isinstance(value, str | PathLike) or not str(value):
        raise ConfigError(f"{name} must be the name of a file, not {value!r}")
    path = value if isinstance(value, Path) else Path(value)  # an anchored one stays so
    if any(len(fsencode(part)) > _LONGEST_NAME for part in path.parts):
        raise ConfigError(f"{name}: a name of more than {_LONGEST_NAME} bytes: {str(path)[:60]}…")
    return path


def member[E: Enum](name: str, value: Any, kind: type[E]) -> E:  # noqa: ANN401
    """``value`` as one of ``kind``.

    Raises:
        ConfigError: it is none.
    """
    try:
        return kind(value)
    except ValueError:
        raise ConfigError(f"{name} must be a vsr.tags.{kind.__name__}, not {value!r}") from None


def check_type(name: str, value: object, kind: type) -> None:
    """Refuse ``value`` unless it is a ``kind``.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(value, kind):
        raise ConfigError(f"{name} must be of {kind.__name__}, not {value!r}")


def check_tile(value: Any) -> int:  # noqa: ANN401
    """``value`` as the side of a tile.

    Raises:
        ConfigError: it is no whole number, or too small to be worth its halo.
    """
    if (side := whole("tile", value)) < _SMALLEST_TILE:
        raise ConfigError(f"tile must be at least {_SMALLEST_TILE} pixels, not {side}")
    return side


def check_part(start: Fraction | None, end: Fraction | None, frames: int | None) -> None:
    """Whether the wanted part of an input can be one.

    Args:
        start: seconds to skip, None: none.
        end: seconds from the start of the input, None: all.
        frames: how many at most, None: all.

    Raises:
        ConfigError: it ends before it begins, or has no frame.
    """
    for what, time in (("start", start), ("end", end)):
        if time is not None and time > _LONGEST_PART:
            raise ConfigError(f"{what} must be at most {_LONGEST_PART} s, not {float(time):g} s")
    if start is not None and start < 0:
        raise ConfigError(f"start must not be negative, not {float(start):g} s")
    if end is not None and end <= (start or 0):
        raise ConfigError("the end (-to) must lie after the start (-ss)")
    if frames is not None and frames < 1:
        raise ConfigError(f"frames must be 1 or more, not {frames}")

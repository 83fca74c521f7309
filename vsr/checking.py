"""What callers of the library hand in, as the types that the rest of the code relies on."""

from enum import Enum
from fractions import Fraction
from operator import index
from typing import Any

from vsr.errors import ConfigError

__all__ = ["check_part", "check_type", "member", "number", "whole"]


def whole(name: str, value: Any) -> int:  # noqa: ANN401 - that is what is looked at
    """``value`` as an int, if it is a whole number: NumPy's are, 64.0 is not.

    Raises:
        ConfigError: it is something else.
    """
    try:
        return index(value)
    except TypeError:
        raise ConfigError(f"{name} must be a whole number, not {value!r}") from None


def number(name: str, value: Any) -> Fraction:  # noqa: ANN401
    """``value`` as a fraction: a number, or text such as ``30000/1001``.

    Raises:
        ConfigError: it is something else.
    """
    try:
        return Fraction(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        raise ConfigError(f"{name} must be a number, not {value!r}") from None


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


def check_part(start: Fraction | None, end: Fraction | None, frames: int | None) -> None:
    """Whether the wanted part of an input can be one.

    Args:
        start: seconds to skip, None: none.
        end: seconds from the start of the input, None: all.
        frames: how many at most, None: all.

    Raises:
        ConfigError: it ends before it begins, or has no frame.
    """
    if start is not None and start < 0:
        raise ConfigError(f"start must not be negative, not {float(start):g} s")
    if end is not None and end <= (start or 0):
        raise ConfigError("the end (-to) must lie after the start (-ss)")
    if frames is not None and frames < 1:
        raise ConfigError(f"frames must be 1 or more, not {frames}")

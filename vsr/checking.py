"""Arguments of the public API, checked and converted to the types that the code relies on."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import fields
from enum import Enum
from fractions import Fraction
from numbers import Real
from operator import index
from os import PathLike, fsencode
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from vsr.errors import ConfigError

__all__ = [
    "check_part",
    "check_tile",
    "file_name",
    "fit_fields",
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
    if isinstance(value, bool):
        raise refusal
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
    refusal = ConfigError(f"{name} must be a number, not {value!r}")
    if isinstance(value, bool):
        raise refusal
    try:
        return Fraction(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        raise refusal from None


def real(name: str, value: Any) -> float:  # noqa: ANN401
    """``value`` as a float: a number, or text that is one.

    Raises:
        ConfigError: it is something else.
    """
    refusal = ConfigError(f"{name} must be a number, not {value!r}")
    if isinstance(value, bool):
        raise refusal
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise refusal from None


def file_name(name: str, value: Any) -> Path:  # noqa: ANN401
    """``value`` as a path.

    Raises:
        ConfigError: it is empty, holds a zero byte, or has a part of more than the 255 bytes that
            file systems take.
    """
    if not isinstance(value, str | PathLike) or not str(value) or "\0" in str(value):
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


def fit_fields(config: Any) -> None:  # noqa: ANN401 - a dataclass, which has no type of its own
    """Give each field of a frozen dataclass the type that it says, or refuse its value.

    Taken are also: text for a path or a number, any sequence for a pair, numbers of NumPy, and
    numbers as values of options in a ``dict[str, str]``.

    Args:
        config: whose fields are of one type, or of several of which the first converts: text,
            bool, a number, Path, an Enum, a Literal, a pair, a dictionary, or any other class.

    Raises:
        ConfigError: a value is of another type, or no choice of a Literal.
    """
    for field in fields(config):
        value = _fit(field.name, getattr(config, field.name), field.type)
        object.__setattr__(config, field.name, value)


def _fit(name: str, value: Any, kind: Any) -> Any:  # noqa: ANN401
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if type(value) in kinds:  # None as well
        return value
    kind = kinds[0]
    origin = get_origin(kind) or kind
    if origin is Literal:
        return _choice(name, value, get_args(kind))
    if convert := _CONVERTED.get(origin):
        return convert(name, value)
    if issubclass(origin, Enum):
        return member(name, value, origin)
    if not isinstance(value, origin):
        raise ConfigError(f"{name} must be of {origin.__name__}, not {value!r}")
    return value


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> str:  # noqa: ANN401
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return value


def _text(name: str, value: Any) -> str:  # noqa: ANN401
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be text, not {value!r}")
    return value


def _truth(name: str, value: Any) -> bool:  # noqa: ANN401
    """NumPy's are taken, 0 and 1 as well."""
    if not isinstance(value, Hashable) or value not in (False, True):
        raise ConfigError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def _pair(name: str, value: Any) -> tuple[int, int]:  # noqa: ANN401
    """(width, height)."""
    sides = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else ()
    if len(sides) != 2:
        raise ConfigError(f"{name} must be (width, height), not {value!r}")
    return whole(name, sides[0]), whole(name, sides[1])


def _mapping(name: str, value: Any) -> Mapping[str, Any]:  # noqa: ANN401
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be a dictionary, not {value!r}")
    for key in value:
        _text(f"a name in {name}", key)
    return value


def _options(name: str, value: Any) -> dict[str, str]:  # noqa: ANN401
    """Options of FFmpeg's, of which numbers are written as it reads them."""
    return {key: _option(f"{name}[{key!r}]", of) for key, of in _mapping(name, value).items()}


def _option(name: str, value: Any) -> str:  # noqa: ANN401
    if isinstance(value, bool):
        return str(int(value))
    return str(value) if isinstance(value, Real) else _text(name, value)


_CONVERTED: dict[Any, Callable[[str, Any], Any]] = {
    str: _text, bool: _truth, int: whole, float: real, Fraction: number, Path: file_name,
    tuple: _pair, dict: _options, Mapping: _mapping,
}  # fmt: skip
"""How a field of each type is read."""


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

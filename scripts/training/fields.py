"""Whether what a TOML file says fits a dataclass: names, types and bounds of its fields."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, get_args, get_origin, get_type_hints

__all__ = ["ABOVE_ZERO", "SHARE", "Bounds", "problem_with"]

Bounds = tuple[float, float]
"""The smallest value and the largest, both allowed."""

ABOVE_ZERO: Bounds = (math.ulp(0.0), math.inf)
SHARE: Bounds = (0, 1)

_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def problem_with(
    kind: Any,  # noqa: ANN401 - a dataclass
    values: Mapping[str, Any],
    bounds: Mapping[str, Bounds],
) -> str | None:
    """What keeps ``values`` from being fields of ``kind``, in one line; None if nothing does.

    Args:
        kind: a dataclass. Fields of other types than numbers, texts, truths, tables and lists of
            these are not looked at.
        values: as TOML gives them.
        bounds: of numbers, or of each number in a list.
    """
    known = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(kind)}
    if unknown := sorted(set(values) - set(known)):
        return f"unknown fields {', '.join(unknown)}"
    if missing := [name for name, needed in known.items() if needed and name not in values]:
        return f"missing fields {', '.join(missing)}"
    hints = get_type_hints(kind)
    found = (_problem(n, v, hints[n], bounds.get(n)) for n, v in values.items())
    return next((problem for problem in found if problem), None)


def _problem(name: str, value: object, hint: Any, bounds: Bounds | None) -> str | None:  # noqa: ANN401
    kinds = get_args(hint)
    if kinds[1:] == (...,):
        if not isinstance(value, list | tuple):
            return f"{name} must be a list"
        found = (_problem_of_one(f"each of {name}", part, kinds[0], bounds) for part in value)
        return next((problem for problem in found if problem), None)
    return _problem_of_one(name, value, kinds[0] if kinds[1:] == (type(None),) else hint, bounds)


def _problem_of_one(name: str, value: object, kind: Any, bounds: Bounds | None) -> str | None:  # noqa: ANN401
    words = None
    if get_origin(kind) is dict and not isinstance(value, dict):
        words = "a table"
    elif kind in _WORDS and not _is_a(value, kind):
        words = _WORDS[kind]
    elif kind in _WORDS and bounds and not bounds[0] <= value <= bounds[1]:  # type: ignore[operator]
        words = _range(bounds)
    return words and f"{name} must be {words}, not {value!r}"


def _is_a(value: object, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and _finite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _range(bounds: Bounds) -> str:
    low, high = bounds
    if bounds == ABOVE_ZERO:
        return "above 0"
    return f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"

"""Plain data, as JSON gives it: what is taken from a file is what was written there."""

from typing import Any

__all__ = ["SMALLEST", "items", "lines", "number", "table", "words"]

SMALLEST = -(2**63)
"""Times are not below it, and no number is above its counterpart."""


def number(value: Any, *, least: int = 0) -> int:  # noqa: ANN401
    """``value``, which must be a whole number of 64 bits, and not below ``least``.

    Raises:
        ValueError: it is something else.
    """
    if type(value) is not int or not least <= value < -SMALLEST:
        raise ValueError(f"{value!r} is no number from {least} on")
    return value


def items(value: Any) -> list[Any]:  # noqa: ANN401
    """``value``, which must be a list, of anything.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is no list")  # noqa: TRY004 - as all else here
    return value


def lines(value: Any) -> list[str]:  # noqa: ANN401
    """What stands in the list ``value``, as text.

    Raises:
        ValueError: it is no list.
    """
    return [str(line) for line in items(value)]


def table(value: Any) -> dict[str, Any]:  # noqa: ANN401
    """What stands in the object ``value``, by name.

    Raises:
        ValueError: it is no object.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is no list of names")  # noqa: TRY004 - as all else here
    return {str(key): content for key, content in value.items()}


def words(value: Any) -> dict[str, str]:  # noqa: ANN401
    """What stands in the object ``value``, as text, by name.

    Raises:
        ValueError: it is no object.
    """
    return {key: str(text) for key, text in table(value).items()}

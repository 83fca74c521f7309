"""File names that carry numbers: ``%06d`` patterns, natural order, and what is missing."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Hole", "Pattern", "find_hole", "first_number", "natural_key"]

_TOKEN = re.compile(r"%%|%([0-9]{0,3})d")
_WHOLE = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"((?:(?<![^._])-)?[0-9]+)")
"""A hyphen is a minus at the beginning of a name and behind . and _, else it parts words."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A file name with one number in it, written as FFmpeg and ``printf`` do: ``shot_%04d.png``.

    Frames ahead of a film's first have numbers below 0: ``shot_-001.png``.
    """

    before: str
    digits: int
    """Shorter numbers are padded with zeros; a minus counts as a digit."""
    after: str

    @classmethod
    def parse(cls, name: str) -> "Pattern | None":
        """The pattern that ``name`` is, None if it holds no number or several; ``%%`` is a %."""
        tokens = [match for match in _TOKEN.finditer(name) if match[0] != "%%"]
        if len(tokens) != 1:
            return None
        token = tokens[0]
        before, after = (
            part.replace("%%", "%") for part in (name[: token.start()], name[token.end() :])
        )
        return cls(before, int(token[1] or 1), after)

    def name(self, number: int) -> str:
        """The file name that carries ``number``."""
        return f"{self.before}{number:0{self.digits}d}{self.after}"

    def number(self, name: str) -> int | None:
        """The number that ``name`` carries, None if it is no name of this pattern."""
        inner = name.removeprefix(self.before).removesuffix(self.after)
        if _WHOLE.fullmatch(inner) is None:
            return None
        return int(inner) if self.name(int(inner)) == name else None


@dataclass(frozen=True, slots=True)
class Hole:
    """The first number that a sequence lacks."""

    missing: str
    """The name it would have."""
    follower: str
    """The next name that is there."""


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sorts names as people count: ``a9`` before ``a10``, ``a.-1`` before ``a.0``."""
    # By their places: text may be digits of other scripts, which isdecimal() takes for numbers.
    parts = enumerate(_NUMBER.split(name))
    return [int(part) if index % 2 else part for index, part in parts], name


def find_hole(names: Sequence[str]) -> tuple[Hole | None, bool]:
    """The first hole in names that are numbered, and whether all of them are.

    Names that agree in all but one number are a numbering. It is consecutive if at least half of
    its steps are from one number to the next and none is there twice (``1.png``, ``01.png``). In
    one that is not (times of day, every tenth frame) nothing can be missing.

    Args:
        names: file names in any order.

    Returns:
        The first hole, None if there is none; False if a numbering is not consecutive.
    """
    consecutive = True
    for numbering in _numberings(names):
        steps = [b - a for (a, _, _), (b, _, _) in pairwise(numbering)]
        if 2 * steps.count(1) < len(steps) or 0 in steps:
            consecutive = False
            continue
        for (low, _, _), (high, pattern, follower) in pairwise(numbering):
            if high > low + 1:
                return Hole(pattern.name(low + 1), follower), consecutive
    return None, consecutive


def first_number(names: Sequence[str]) -> int | None:
    """Where ``names`` begin to count, if they are one numbering without holes."""
    found = list(_numberings(names))
    if len(found) != 1 or len(found[0]) != len(names):
        return None
    numbers = [number for number, _, _ in found[0]]
    return numbers[0] if numbers == list(range(numbers[0], numbers[0] + len(numbers))) else None


def _numberings(names: Iterable[str]) -> Iterator[list[tuple[int, Pattern, str]]]:
    """Lists of (number, pattern, name), each in the order of its numbers."""
    for rows in _alike(names):
        fields = range(1, len(rows[0]), 2)
        varying = [i for i in fields if len({int(row[i]) for row in rows}) > 1]
        if not varying:
            continue
        counter = varying[-1]
        groups: defaultdict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
        for row in rows:
            around = "".join(row[:counter]), "".join(row[counter + 1 :])
            groups[around].append((int(row[counter]), row[counter]))
        for (before, after), found in groups.items():
            pattern = Pattern(before, min(len(digits) for _, digits in found), after)
            yield sorted((number, pattern, before + d + after) for number, d in found)


def _alike(names: Iterable[str]) -> Iterable[list[list[str]]]:
    """Names cut into text, digits, text, …; those of the same text together."""
    groups: defaultdict[tuple[str, ...], list[list[str]]] = defaultdict(list)
    for name in names:
        parts = _NUMBER.split(name)
        groups[tuple(parts[::2])].append(parts)
    return groups.values()

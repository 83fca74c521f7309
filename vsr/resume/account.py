"""What all runs of an output have found and done, for the report and the record of the last.

Note [Where accounts are kept]
    A record speaks of the whole output, whichever runs have made it. What was found of a frame is
    kept in the index of its segment: a segment that is done again is judged again, and of frames
    that no finished segment holds nothing is to be told. What the source had to say is whole when
    it has been read to its end, for reading goes on in its middle only where nothing was wrong
    before (:attr:`vsr.sources.VideoSource.timing`); it is kept in the manifest, beside what the
    encoders and the engine have said.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any, get_type_hints

from vsr.health import Health, Incident
from vsr.resume.plain import items, lines, number, table
from vsr.resume.segments import Index
from vsr.sources import SourceReport

__all__ = ["Account", "pack_report", "unpack_report"]


@dataclass(slots=True)
class Account:
    """What was found of the frames of finished segments."""

    reused: int = 0
    """Frames that repeat the one before, and were not computed."""
    health: Health = field(default_factory=Health)

    def add(self, index: Index, time_base: Fraction) -> None:
        """Count the frames of the next segment.

        Args:
            index: what the segment holds.
            time_base: of the source, in seconds.
        """
        self.reused += len(index.repeats)
        self.health.checked += len(index.pts) - len(index.repeats)
        for place, fault, repaired in index.incidents:
            pts = index.pts[place]
            incident = Incident(
                frame=index.first + place, pts=pts, time=pts * time_base, fault=fault,
                repaired=repaired,
            )  # fmt: skip
            self.health.note(incident)


def pack_report(report: SourceReport) -> dict[str, Any]:
    """``report`` as plain data; fractions become words."""
    return {one.name: _pack(getattr(report, one.name)) for one in fields(report)}


def _pack(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, tuple):
        return [str(part) for part in value]
    return str(value) if isinstance(value, Fraction) else value


def unpack_report(values: Any) -> SourceReport:  # noqa: ANN401
    """What :func:`pack_report` made plain; what it does not speak of is as at the start.

    Raises:
        ValueError, TypeError, KeyError, ArithmeticError: it is something else.
    """
    types = get_type_hints(SourceReport)
    return SourceReport(**{
        name: _UNPACKED[types[name]](value) for name, value in table(values).items()
    })  # fmt: skip


def _counts(value: Any) -> Counter[str]:  # noqa: ANN401
    return Counter({name: number(count) for name, count in table(value).items()})


def _numbers(value: Any) -> list[int]:  # noqa: ANN401
    return [number(one) for one in items(value)]


def _fraction(value: Any) -> Fraction:  # noqa: ANN401
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no fraction in words")  # noqa: TRY004 - as all else here
    return Fraction(value)


def _truth(value: Any) -> bool:  # noqa: ANN401
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")  # noqa: TRY004 - as all else here
    return value


def _pair(value: Any) -> tuple[Fraction, Fraction]:  # noqa: ANN401
    before, after = items(value)
    return _fraction(before), _fraction(after)


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


_UNPACKED: dict[Any, Callable[[Any], Any]] = {
    int: number,
    bool: _truth,
    Counter[str]: _counts,
    list[int]: _numbers,
    list[str]: lines,
    Fraction: _fraction,
    Fraction | None: _or_none(_fraction),
    tuple[Fraction, Fraction] | None: _or_none(_pair),
}
"""What reads a value of each type that a report has."""

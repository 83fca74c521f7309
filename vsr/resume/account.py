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
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any

from vsr.health import Health, Incident
from vsr.resume.plain import items, number, table
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
    """What :func:`pack_report` made plain.

    Raises:
        ValueError, TypeError, KeyError, ArithmeticError: it is something else.
    """
    report = SourceReport()
    for one in fields(report):
        setattr(report, one.name, _unpack(values[one.name], like=getattr(report, one.name)))
    return report


def _unpack(value: Any, *, like: Any) -> Any:  # noqa: ANN401
    """``value``, of the type of ``like``: a truth, a count, counts by name, a fraction or None."""
    if isinstance(like, int):
        return _truth(value) if isinstance(like, bool) else number(value)
    if isinstance(like, Counter):
        return Counter({name: number(count) for name, count in table(value).items()})
    if isinstance(like, list):
        return [number(one) for one in items(value)]
    if value is None and like is None:
        return None
    return Fraction(value) if isinstance(value, str) else _pair(value)


def _truth(value: Any) -> bool:  # noqa: ANN401
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")  # noqa: TRY004 - as all else here
    return value


def _pair(value: Any) -> tuple[Fraction, Fraction]:  # noqa: ANN401
    before, after = items(value)  # the only pair is one of aspect ratios
    return Fraction(before), Fraction(after)

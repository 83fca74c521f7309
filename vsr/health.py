"""What is done about pictures that cannot be right, and what a run has found.

Half precision overflows, memory decays, drivers fail: the picture is then black, garbled or no
numbers at all, somewhere in a run of days. Every frame is looked at for that, on its device;
:mod:`vsr.judging` says what is wrong.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from vsr.errors import OutOfMemoryError
from vsr.frame import Frame
from vsr.judging import Fault, Limits, Measures, choose_limits, judge

__all__ = ["Health", "Incident", "Rendered", "Watch"]

logger = logging.getLogger(__name__)

_LISTED = 10_000
"""Incidents kept, so that memory stays bounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A frame that could not be right."""

    frame: int
    """Its number among those delivered, from 0."""
    pts: int
    """When it is shown, in the frame's own units."""
    time: Fraction
    """The same in seconds."""
    fault: Fault
    repaired: bool
    """Whether float32 made it right; it is kept as it is where not."""
    tried: bool = True
    """Whether there was memory to try float32."""

    def __str__(self) -> str:
        """One line for the user."""
        return self.describe(f"frame {self.frame} ({float(self.time):.3f} s)")

    def describe(self, name: str) -> str:
        """The same of a frame that is known by another ``name``."""
        what = {
            "not finite": "holds NaN or infinity", "black": "is black and its source is not",
            "different": "is wildly different from its source",
        }[self.fault]  # fmt: skip
        done = "done again in float32" if self.repaired else "in float32 too: kept, look at it"
        if not self.tried:
            done = "memory does not suffice to do it again in float32: kept, look at it"
        return f"{name} {what}: {done}"


@dataclass(slots=True)
class Health:
    """What was found so far."""

    checked: int = 0
    """Frames looked at."""
    repaired: int = 0
    """Frames that were wrong, and right in float32."""
    kept: int = 0
    """Frames that were wrong in float32 too, or could not be done again."""
    incidents: list[Incident] = field(default_factory=list)
    """The first of both, in order."""

    def note(self, incident: Incident) -> None:
        """Count an incident."""
        self.repaired += incident.repaired
        self.kept += not incident.repaired
        if len(self.incidents) < _LISTED:
            self.incidents.append(incident)


class Rendered(NamedTuple):
    """What was made of a frame."""

    planes: tuple[Tensor, ...]
    measures: Tensor
    """(pictures, MEASURES), of the picture that the planes were made from, and of its alpha."""

    @classmethod
    def of(cls, tensors: tuple[Tensor, ...]) -> "Rendered":
        """What :attr:`tensors` was."""
        return cls(tensors[:-1], tensors[-1])

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of it side by side, as it lies in one piece of memory."""
        return (*self.planes, self.measures)


class Watch:
    """Judges frames as they are delivered, and has those that cannot be right done again.

    Args:
        again: renders a frame in float32.
        measure_chart: what is measured of the picture that the network makes in float32 of
            :func:`vsr.judging.draw_chart`'s.

    Both raise OutOfMemoryError where memory does not suffice. One bad frame is no reason to end a
    run: it is then kept, or held to the strict limits.
    """

    def __init__(
        self, again: Callable[[Frame], Rendered], measure_chart: Callable[[], Measures]
    ) -> None:
        self._again, self._measure_chart = again, measure_chart
        self.health = Health()
        self.tell: Callable[[Incident], None] = _log
        """Called for each incident."""
        self.number = 0
        """Of the next frame."""
        self.latest: Incident | None = None
        """What was wrong with the latest frame."""

    def check(self, frame: Frame, rendered: Rendered) -> tuple[Tensor, ...]:
        """The planes to deliver of what was made of ``frame``."""
        number = self.number
        self.number += 1
        self.latest = None
        self.health.checked += 1
        fault = self._find_fault(rendered)
        if fault is None:
            return rendered.planes
        second = self._try_again(frame)
        best, repaired = self._choose(rendered, second, fault)
        self.latest = incident = Incident(
            frame=number, pts=frame.pts, time=frame.pts * frame.time_base, fault=fault,
            repaired=repaired, tried=second is not None,
        )  # fmt: skip
        self.health.note(incident)
        self.tell(incident)
        return best.planes

    def pass_on(self, planes: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The planes of a frame that repeats one which was looked at."""
        self.number += 1
        self.latest = None
        return planes

    def _try_again(self, frame: Frame) -> Rendered | None:
        """What float32 makes of ``frame``; None where memory does not suffice."""
        try:
            return self._again(frame)
        except OutOfMemoryError:  # it takes more than the first
            return None

    def _choose(
        self, first: Rendered, second: Rendered | None, fault: Fault
    ) -> tuple[Rendered, bool]:
        """The better one of two tries, and whether it is right."""
        if second is None:
            return first, False
        if self._find_fault(second) is None:
            return second, True
        return (second if fault == "not finite" else first), False

    def _find_fault(self, rendered: Rendered) -> Fault | None:
        for row in rendered.measures.tolist():
            measures = Measures(*row)
            fault = judge(measures, Limits())
            if fault in ("black", "different"):
                with suppress(OutOfMemoryError):  # the strict limits hold
                    fault = judge(measures, self._limits)
            if fault is not None:
                return fault
        return None

    @cached_property
    def _limits(self) -> Limits | None:
        """Of this network; asked for when the strict ones were exceeded."""
        limits = choose_limits(self._measure_chart())
        if limits is None:
            logger.warning("the network keeps no colours: frames are checked for NaN alone")
        return limits


def _log(incident: Incident) -> None:
    logger.warning("%s", incident)

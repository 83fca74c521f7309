"""How far a run is, and which stage limits it."""

import time
from dataclasses import dataclass, field
from fractions import Fraction

__all__ = ["Boundary", "Progress", "Speedometer", "StageTimes", "stage_times"]


@dataclass(slots=True)
class Boundary:
    """Clock of one thread boundary, in seconds; written by its two threads, one field each."""

    name: str
    producing: float = 0.0
    """The upstream thread made items."""
    blocked_put: float = 0.0
    """The upstream thread waited for room."""
    blocked_get: float = 0.0
    """The downstream thread waited for items."""
    items: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """Where one stage's thread spent its time, in seconds."""

    name: str
    busy: float
    waited_for_input: float
    waited_for_output: float
    device: float | None = None
    """What a GPU worked for the stage, whose thread only tells it what to do."""

    @property
    def load(self) -> float:
        """The longer of both: the stage that has most limits the speed."""
        return max(self.busy, self.device or 0.0)


def stage_times(
    boundaries: list[Boundary], elapsed: float, device: float | None = None
) -> list[StageTimes]:
    """Times of the stages around ``boundaries``; the last stage follows the last boundary.

    Args:
        boundaries: in the order of the stages.
        elapsed: since the first of them was asked for something.
        device: what a GPU has worked for the stage in front of the last boundary.
    """
    stages, input_wait = [], 0.0
    for boundary in boundaries:
        busy = max(0.0, boundary.producing - input_wait)
        stages.append(
            StageTimes(
                name=boundary.name, busy=busy, waited_for_input=input_wait,
                waited_for_output=boundary.blocked_put,
                device=device if boundary is boundaries[-1] else None,
            )
        )  # fmt: skip
        input_wait = boundary.blocked_get
    last = max(0.0, elapsed - input_wait)
    stages.append(
        StageTimes(name="encode", busy=last, waited_for_input=input_wait, waited_for_output=0.0)
    )
    return stages


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """State of a run after a frame was written."""

    frames: int
    total: int | None
    """Expected number of frames, if it is known."""
    position: Fraction
    """Time of the frame in the output, seconds."""
    fps: float
    """Frames a second, over the last seconds."""
    eta: float | None
    """Seconds that remain, if the total is known."""
    bottleneck: str
    """Name of the stage that limits the speed."""


@dataclass(slots=True)
class Speedometer:
    """Frames a second over a sliding window of some seconds, and before that since its making."""

    done: int = 0
    """Frames that were there before."""
    window: float = 10.0
    _marks: list[tuple[float, int]] = field(init=False)

    def __post_init__(self) -> None:
        self._marks = [(time.monotonic(), self.done)]

    def mark(self, frames: int) -> float:
        """Note that ``frames`` are done; returns the current speed."""
        now = time.monotonic()
        self._marks.append((now, frames))
        while len(self._marks) > 2 and self._marks[1][0] < now - self.window:
            self._marks.pop(0)
        first_time, first_frames = self._marks[0]
        return (frames - first_frames) / (now - first_time) if now > first_time else 0.0

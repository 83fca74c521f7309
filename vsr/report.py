"""What a run tells when it is over."""

from array import array
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from pathlib import Path

from vsr.frame import Frame
from vsr.health import Health
from vsr.progress import StageTimes
from vsr.sources import SourceReport

__all__ = ["FrameTimes", "Report"]


@dataclass(slots=True)
class FrameTimes:
    """When each frame is shown and for how long: 16 bytes a frame."""

    time_base: Fraction = Fraction(1)
    """Seconds of a unit; that of the frames."""
    pts: array[int] = field(default_factory=lambda: array("q"))
    durations: array[int] = field(default_factory=lambda: array("q"))

    def mark(self, frame: Frame) -> None:
        """Add ``frame``; all frames of a run count in one time base."""
        self.time_base = frame.time_base
        self.pts.append(frame.pts)
        self.durations.append(frame.duration)

    @property
    def end(self) -> Fraction | None:
        """Where the last frame ends, in seconds."""
        if not self.pts:
            return None
        return (self.pts[-1] + self.durations[-1]) * self.time_base


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run did."""

    started: datetime | None = None
    """When the first frame was asked for."""
    finished: datetime | None = None
    """When the output was complete."""
    frames: int = 0
    """Frames written, with those that earlier runs have finished."""
    frames_before: int = 0
    """Those that earlier runs have finished."""
    reused: int = 0
    """Frames written by this run that repeat the one before, and were not computed."""
    reused_before: int = 0
    """Those that earlier runs have written; known when the output is complete."""
    times: FrameTimes = field(default_factory=FrameTimes)
    """Of the frames written, as the source delivered them."""
    output: Path | None = None
    """The finished file; of an interrupted run, the part that is playable; None if none is."""
    sittings: int = 1
    """How many runs have worked on the output."""
    kept: Path | None = None
    """Where finished segments are, from which another run can go on; None if there are none."""
    kept_frames: int = 0
    """Frames in them."""
    interrupted: bool = False
    reader_gone: bool = False
    """The run has ended because nobody read standard output any more."""
    seconds: float = 0.0
    """Wall-clock time from the first frame to the finished file."""
    health: Health = field(default_factory=Health)
    """What was found of the frames written; of a complete output, those of earlier runs too."""
    source: SourceReport = field(default_factory=SourceReport)
    """What went wrong while the source was read."""
    engine: list[str] = field(default_factory=list)
    """What the engine had to say, a line each: that memory ran out."""
    notes: list[str] = field(default_factory=list)
    """Every automatic decision: device, precision, guesses, streams that were dropped."""
    losses: list[str] = field(default_factory=list)
    """Those of the notes that say what the output cannot hold, known when it was opened."""
    warnings: list[str] = field(default_factory=list)
    """What went wrong and was survived: damaged packets, repaired timestamps."""
    stages: list[StageTimes] = field(default_factory=list)
    """Where the time went."""

    def count(self, frame: Frame) -> None:
        """Count a frame that was written."""
        self.frames += 1
        self.reused += frame.repeats
        self.times.mark(frame)

"""What those that write segments have to know of a run."""

from collections.abc import Callable
from dataclasses import dataclass

from vsr.encoding import Encoding
from vsr.frame import VideoInfo
from vsr.health import Incident
from vsr.resume.coding import Coder
from vsr.resume.join import Joiner
from vsr.resume.segments import Index, Writer
from vsr.sinks.clock import EncoderClock
from vsr.sources import SourceReport

__all__ = ["SegmentJob", "SegmentTools"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentTools:
    """What segments are made with."""

    joiner: Joiner
    new_coder: Callable[[EncoderClock, Callable[[str], None]], Coder]
    """Opens an encoder for a segment, of the times of frames and what takes lines for the log."""
    new_writer: Callable[[Index, Callable[[str], None]], Writer]
    """Begins a segment, of its number and first frame, and what takes lines for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentJob:
    """What a sink of segments has to know of the run."""

    encoding: Encoding
    tools: SegmentTools
    info: VideoInfo
    """Facts about the *output*."""
    framemd5: bool
    """Whether each frame is hashed."""
    overwrite: bool
    """Whether an existing output may be replaced."""
    expected: int | None
    """How many frames will come, if that is known."""
    glance: Callable[[], None]
    """Raises SourceError if it can be seen that the input was changed since the work began."""
    check_input: Callable[[], None]
    """Raises SourceError if the input is not what it was when the work began."""
    incident: Callable[[], Incident | None]
    """What was wrong with the frame that was delivered last."""
    engine: list[str]
    """What the engine has to say; grows while it works."""
    source: SourceReport
    """What there is to say of the source; complete when it has been read to its end."""

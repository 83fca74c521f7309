"""Beginning with a later frame than the first, where that gives the same frames."""

from collections.abc import Callable

from vsr.frame import Frame
from vsr.sources.framing import FrameMaker
from vsr.sources.reader import Reader
from vsr.sources.report import SourceReport
from vsr.sources.stage import FilteredPicture, PictureStage

__all__ = ["Skipper"]

_PEEKED_BYTES = 64 << 20


class Skipper:
    """Moves a source to where a run was broken off.

    Args:
        reader: what is moved.
        stage: takes its pictures.
        maker: makes frames of them.
        report: begins to count at the frame that reading begins with.
    """

    def __init__(
        self, reader: Reader, stage: PictureStage, maker: FrameMaker, report: SourceReport
    ) -> None:
        self._reader, self._stage, self._maker, self._report = reader, stage, maker, report

    @property
    def timing(self) -> list[int] | None:
        """What :meth:`skip` needs to begin with the latest frame; None if that is not exact."""
        if self._stage.is_filtered or self._report.lines():
            return None
        return self._reader.timing

    def skip(self, number: int, pts: int, timing: list[int], fits: Callable[[Frame], bool]) -> bool:
        """Begin with a later frame; see :meth:`vsr.sources.video.VideoSource.skip`."""
        if self._stage.is_filtered:
            return False
        reader = self._reader
        moved = reader.skip(number, self._stage.clock.back(pts)) and self._coming_is(fits)
        if moved:
            reader.resume_timing(timing)
            self._report.frames = self._report.read = number
        else:
            reader.rewind()
        self._stage.begin_again()
        return moved

    def _coming_is(self, fits: Callable[[Frame], bool]) -> bool:
        coming = self._reader.peek(2, _PEEKED_BYTES)
        if not coming:
            return False
        timed, clock = coming[0], self._stage.clock
        end = coming[1].pts if len(coming) > 1 else timed.pts + self._reader.last_duration()
        pts = clock.time(timed.pts)
        picture = FilteredPicture(timed.frame, pts, clock.time_base, [timed])
        return fits(self._maker.make(picture, clock.time(end) - pts))

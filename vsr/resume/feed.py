"""The frames of a source that are still to be done, each compared or counted.

Note [Where reading begins again]
    A source that says that it can go to a frame (:meth:`vsr.sources.VideoSource.skip`) is asked for
    the last one before the first that is missing, and that one is compared with what it was: its
    time and its samples. Where that cannot be done, or comes out different, the source is read from
    its start, and every frame that is finished is compared by its time, the last of each segment by
    its samples. So no frame is ever taken for another, whatever the container's index says.
"""

import logging
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from vsr.errors import ChangedSourceError
from vsr.frame import Frame
from vsr.resume.gaps import fill_gaps, from_the_start
from vsr.resume.manifest import End
from vsr.resume.picture_files import FinishedPicture
from vsr.sinks.framemd5 import digest
from vsr.sources import VideoSource

__all__ = ["Anchor", "Done", "Feed", "Handed"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Handed:
    """A frame that was handed out to be done."""

    number: int
    """Counted from 0 from the start of the film."""
    pts: int
    wanted: bool = True
    """Whether it is missing; False if it only goes with others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What is known of a finished segment's frames."""

    pts: array[int]
    durations: array[int]
    anchor: str
    """Hash of the last frame that the source gave for it; empty if that was not kept."""
    timing: list[int] | None
    """What the source needs to begin with that frame; None where it cannot."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where reading can begin again."""

    md5: str
    """Hash of the last frame of a segment, as the source gave it."""
    timing: list[int] | None
    """What the source needs to begin with it (:attr:`vsr.sources.VideoSource.timing`)."""


class Feed:
    """Hands out what is missing; to be read once, on any thread.

    Args:
        source: where frames come from.
        done: finished segments by number.
        segment_frames: how many frames a segment has.
        end: where the film ends, if that is known already.
        kept: finished pictures of segments that are not finished.
        together: how many frames go through the network with this one.

    Attributes:
        handed: the frames handed out, taken off the left by who has written them.
        anchors: of segments whose last frame was handed out, by number.
        end: where the film ends, once that is known.
    """

    def __init__(
        self, source: VideoSource, done: dict[int, Done], segment_frames: int, end: End | None, *,
        kept: Mapping[int, Mapping[int, FinishedPicture]] | None = None,
        together: Callable[[Frame], int] = lambda frame: 1,
    ) -> None:  # fmt: skip
        self.handed: deque[Handed] = deque()
        self.anchors: dict[int, Anchor] = {}
        self.end = end
        self._source, self._done, self._count = source, done, segment_frames
        self._kept = {segment: dict(pictures) for segment, pictures in (kept or {}).items()}
        self._together = together

    def frames(self, mark: Callable[[Iterable[Frame]], Iterator[Frame]]) -> Iterator[Frame]:
        """The frames that are missing, in order.

        Args:
            mark: what is done to the frames of each segment before they are handed out; it begins
                anew with each, so that a segment does not depend on the one before.
        """
        for segment, part in groupby(self._unfinished(), key=lambda one: one[0] // self._count):
            marked, kept = mark(frame for _, frame in part), self._kept.get(segment, {})
            missing = fill_gaps(marked, kept, self._together) if kept else from_the_start(marked)
            for place, frame in missing:
                number = segment * self._count + place
                self.handed.append(Handed(number, frame.pts, place not in kept))
                yield frame

    def _unfinished(self) -> Iterator[tuple[int, Frame]]:
        """All frames of segments that are not finished, numbered."""
        number = self._begin()
        if self._is_all(number):
            return
        for frame in self._source:
            segment, place = divmod(number, self._count)
            if segment in self._done:
                self._compare(self._done[segment], number, place, frame)
            else:
                if place == self._count - 1:
                    self.anchors[segment] = Anchor(digest(frame)[0], self._source.timing)
                self._compare_kept(number, frame)
                yield number, frame
            number += 1
            if self._is_all(number):
                return
        if self.end is not None and self.end.frames != number:
            raise self._changed(f"it had {self.end.frames} frames, and has {number}")
        self.end = End(frames=number, stopped=self._source.stopped)

    def _is_all(self, number: int) -> bool:
        """Whether everything from frame ``number`` on is finished."""
        if self.end is None:
            return False
        segments = range(number // self._count, -(-self.end.frames // self._count))
        return all(segment in self._done for segment in segments)

    def _begin(self) -> int:
        """Go to the first frame that is needed, or the one before; returns its number."""
        first = next(number for number in range(len(self._done) + 1) if number not in self._done)
        if first == 0:
            return 0
        before, number = self._done[first - 1], first * self._count - 1
        if (timing := before.timing) is None:
            return 0
        moved = self._source.skip(
            number, before.pts[-1], timing, lambda frame: self._fits(before, frame)
        )
        logger.debug("reading begins with frame %d", number if moved else 0)
        return number if moved else 0

    def _fits(self, done: Done, frame: Frame) -> bool:
        same_time = (frame.pts, frame.duration) == (done.pts[-1], done.durations[-1])
        return same_time and digest(frame)[0] == done.anchor

    def _compare_kept(self, number: int, frame: Frame) -> None:
        segment, place = divmod(number, self._count)
        picture = self._kept.get(segment, {}).get(place)
        if picture is not None and (picture.pts, picture.duration) != (frame.pts, frame.duration):
            raise self._changed(f"frame {number} was shown at {picture.pts}, now at {frame.pts}")

    def _compare(self, done: Done, number: int, place: int, frame: Frame) -> None:
        then = done.pts[place], done.durations[place]
        if then != (frame.pts, frame.duration):
            raise self._changed(f"frame {number} was shown at {then[0]}, now at {frame.pts}")
        if place == self._count - 1 and done.anchor and digest(frame)[0] != done.anchor:
            raise self._changed(f"frame {number} is another picture")

    def _changed(self, what: str) -> ChangedSourceError:
        return ChangedSourceError(
            f"{self._source.name}: is not what it was when the work began: {what}: "
            "--restart begins again"
        )

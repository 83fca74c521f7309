"""What is left to do of a segment of which some pictures are finished.

Note [A gap is filled as it was made]
    Whether a frame repeats another depends on the frames before it in its segment, and on a GPU
    small pictures go through the network in groups (:mod:`vsr.engine.batching`). So both are found
    out with all frames of the segment, finished ones as well, and a group in which anything is
    missing is handed out whole. On a CPU a group is one frame. A frame that repeats one of a
    finished group is handed out with the samples of that one.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import replace

from vsr.engine.batching import in_groups
from vsr.frame import Frame

__all__ = ["fill_gaps", "from_the_start"]


def from_the_start(frames: Iterable[Frame]) -> Iterator[tuple[int, Frame]]:
    """All ``frames`` of a segment, numbered from 0, none grouped with those before."""
    for place, frame in enumerate(frames):
        yield place, frame if place else replace(frame, begins=True)


def fill_gaps(
    frames: Iterable[Frame], kept: Container[int], group_size: Callable[[Frame], int]
) -> Iterator[tuple[int, Frame]]:
    """Those of ``frames`` that must go through the network for what is missing to be made.

    See note [A gap is filled as it was made].

    Args:
        frames: all of a segment; repeats are marked.
        kept: the numbers of those that are finished, counted from 0.
        group_size: frames of a group that begins with this one.
    """
    place, filler = 0, _Filler(kept)
    for group in in_groups(frames, group_size):
        places = range(place, place + len(group))
        place += len(group)
        if all(number in kept for number in places):
            filler.pass_over(group)
        else:
            yield from filler.hand_out(places, group)


class _Filler:
    """Hands out groups in which something is missing.

    Args:
        kept: the numbers of frames that are finished.
    """

    def __init__(self, kept: Container[int]) -> None:
        self._kept = kept
        self._repeated: Frame | None = None
        """The latest frame that repeats none, which those that come may repeat."""
        self._is_handed_out = False
        """Whether that one went through the network, so that they get its result."""

    def pass_over(self, group: Iterable[Frame]) -> None:
        """Take note of a finished group."""
        for frame in group:
            if not frame.repeats:
                self._repeated, self._is_handed_out = frame, False

    def hand_out(
        self, places: Iterable[int], group: Iterable[Frame]
    ) -> Iterator[tuple[int, Frame]]:
        """What must go through the network of a group that is not finished."""
        begins = True
        for number, frame in zip(places, group, strict=True):
            if not frame.repeats:
                self._repeated, self._is_handed_out = frame, True
                yield number, replace(frame, begins=begins)
                begins = False
            elif self._is_handed_out:
                yield number, replace(frame, begins=False)
            elif self._repeated is not None and number not in self._kept:
                planes = self._repeated.planes
                yield number, replace(frame, planes=planes, repeats=False, begins=True)
                self._is_handed_out = True

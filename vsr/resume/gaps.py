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
    place, latest, handed = 0, None, False
    for group in in_groups(frames, group_size):
        places = range(place, place + len(group))
        place += len(group)
        missing, begins = any(number not in kept for number in places), True
        for number, frame in zip(places, group, strict=True):
            if not frame.repeats:
                latest, handed = frame, missing
            elif missing and not handed and number not in kept and latest is not None:
                yield number, replace(frame, planes=latest.planes, repeats=False, begins=True)
                handed = begins = True
                continue
            if missing and handed:
                yield number, replace(frame, begins=begins and not frame.repeats)
                begins = begins and frame.repeats

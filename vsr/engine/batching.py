"""Frames in groups that go through the network together."""

from collections.abc import Callable, Iterable, Iterator

from vsr.frame import Frame

__all__ = ["in_groups"]

_HELD = 2
"""How many frames, repeats included, a group may hold back for each frame beyond its first."""


def in_groups(frames: Iterable[Frame], group_size: Callable[[Frame], int]) -> Iterator[list[Frame]]:
    """``frames`` in order, in groups of one geometry and colour; the last of each may be short.

    A frame that begins something (:attr:`vsr.frame.Frame.begins`) begins a group, too.

    Frames that repeat the one before (:attr:`vsr.frame.Frame.repeats`) cost nothing and do not
    count. An error in ``frames`` is raised after the group that it interrupts.

    Args:
        frames: taken no further ahead than a group needs.
        group_size: frames of a group that begins with this one.
    """
    items, group = iter(frames), list[Frame]()
    while True:
        try:
            frame = next(items)
        except BaseException as error:
            if group:
                yield group
            if isinstance(error, StopIteration):
                return
            raise
        if group and (frame.begins or not _alike(group[0], frame)):
            yield group
            group = []
        group.append(frame)
        wanted = group_size(group[0])
        if sum(not one.repeats for one in group) >= wanted or len(group) > _HELD * (wanted - 1):
            yield group
            group = []


def _alike(one: Frame, other: Frame) -> bool:
    return _kind(one) == _kind(other)


def _kind(frame: Frame) -> tuple[object, ...]:
    shapes = tuple(plane.shape for plane in frame.planes)
    return frame.format, frame.colour, frame.width, frame.height, shapes

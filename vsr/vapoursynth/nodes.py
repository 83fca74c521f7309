"""Clips that are made as they are asked for.

Note [No frame request while a stream is held]
    VapourSynth calls back on its own threads, which also make the frames we ask for. A callback
    here gets its source frames from VapourSynth, takes a stream out of the pool, renders, and puts
    it back; it never asks for a frame, so none of them can wait for another. ``std.ModifyFrame``
    calls back one at a time, hence one such filter per frame, made by ``std.FrameEval``.
    ``std.PropToClip`` is not used: it renders frame 0 while the script is still being read.
"""

from collections.abc import Callable

import vapoursynth as vs  # type: ignore[import-untyped]

from vsr.checking import whole
from vsr.vapoursynth.frames import VideoFrame, VideoNode
from vsr.vapoursynth.messages import tell
from vsr.vapoursynth.rendering import FilterRenderer
from vsr.vapoursynth.settings import FilterJob

__all__ = ["enlarged"]

_PART = "_vsr_part{}"
"""Property of a batch's first frame that holds one of the others."""


def enlarged(clip: VideoNode, job: FilterJob, batch_size: int) -> VideoNode:
    """``clip`` with ``job`` done to each of its frames, ``batch_size`` at a time.

    Raises:
        ConfigError: that is no size of a batch.
        DeviceError: the device cannot run the network.
    """
    size = min(whole("batch_size", batch_size, least=1), clip.num_frames)
    render = FilterRenderer(job)
    tell(job.describe(clip.width, clip.height))
    width, height = job.size
    blank = clip.std.BlankClip(width=width, height=height, format=job.target.id, keep=True)
    if size == 1:
        return _one_by_one(clip, blank, render)
    return _in_batches(clip, blank, render, size)


def _one_by_one(clip: VideoNode, blank: VideoNode, render: FilterRenderer) -> VideoNode:
    def make(n: int, f: VideoFrame) -> VideoFrame:
        return render(n, [f])[0]

    return blank.std.FrameEval(lambda n: blank.std.ModifyFrame(clip, make), clip_src=clip)


def _in_batches(clip: VideoNode, blank: VideoNode, render: FilterRenderer, size: int) -> VideoNode:
    """Frames ``size`` at a time: the first of a batch carries the others as properties."""
    frames = clip.num_frames
    missing = -frames % size
    padded = clip.std.DuplicateFrames([frames - 1] * missing) if missing else clip
    parts = [
        padded.std.SelectEvery(cycle=size, offsets=[index], modify_duration=False)
        for index in range(size)
    ]
    short = blank[: parts[0].num_frames]

    def make(n: int, f: list[VideoFrame] | VideoFrame) -> VideoFrame:
        sources = (f if isinstance(f, list) else [f])[: frames - n * size]
        result, *others = render(n * size, sources)
        for index, other in enumerate(others, 1):
            result.props[_PART.format(index)] = other
        return result

    batches = short.std.FrameEval(lambda n: short.std.ModifyFrame(parts, make), clip_src=parts)
    names = [_PART.format(index) for index in range(1, size)]
    first = batches.std.RemoveFrameProps(names)
    others = [short.std.ModifyFrame(batches, _picker(name)) for name in names]
    return vs.core.std.Interleave([first, *others], modify_duration=False)[:frames]


def _picker(name: str) -> Callable[[int, VideoFrame], VideoFrame]:
    def pick(n: int, f: VideoFrame) -> VideoFrame:
        return f.props.get(name, f)  # the last batch may lack it, and is cut there

    return pick

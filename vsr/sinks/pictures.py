"""Frames as FFmpeg's pictures, for an encoder.

Note [Who frees a picture]: memory that FFmpeg shares with NumPy is freed under Python's lock. An
encoder that has a thread for each picture frees it there, and is closed under that lock, waiting
for its threads: they would wait for each other for ever. Such encoders get copies.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

import torch.utils.dlpack
from av.codec.codec import Capabilities, Codec
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import Interpolation
from torch import Tensor

from vsr.encoding import Encoding
from vsr.ffmpeg import write_tags
from vsr.frame import Frame
from vsr.sinks.clock import EncoderClock

__all__ = ["PictureMaker", "wrap", "wrap_with_captions"]

_FAST = Interpolation.POINT


class PictureMaker:
    """Makes of each frame what an encoder takes: colour tags, time, closed captions.

    Args:
        encoding: colour tags and codec.
        clock: gives the frames their times.
        captions: whether the encoder writes closed captions.
        warn: takes the line that says so if it does not, and there are some.
    """

    def __init__(
        self, encoding: Encoding, clock: EncoderClock, *, captions: bool,
        warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._encoding, self._clock = encoding, clock
        self._captions, self._warn = captions, warn
        self._captions_lost = False
        self._shares = not threads_pictures(encoding.codec)

    def make(self, frame: Frame) -> VideoFrame:
        """``frame`` as FFmpeg's, sharing its memory where that is possible.

        Raises:
            ValueError: it comes after a later one.
        """
        picture = self._with_captions(frame)
        write_tags(picture, self._encoding.colour)
        picture.pts, picture.duration = self._clock.mark(frame.pts, frame.duration, frame.time_base)
        picture.time_base = self._clock.base
        if self._clock.begins_anew:  # else pictures on both sides of the gap may need each other
            picture.pict_type = PictureType.I
        return picture

    def _with_captions(self, frame: Frame) -> VideoFrame:
        if frame.captions is None:
            return wrap(frame, shared=self._shares)
        if self._captions:
            return wrap_with_captions(frame, frame.captions)
        if not self._captions_lost:
            self._captions_lost = True
            self._warn(f"closed captions are lost: {self._encoding.codec} writes none")
        return wrap(frame, shared=self._shares)


@lru_cache
def threads_pictures(codec: str) -> bool:
    """Whether FFmpeg's encoder ``codec`` may have a thread for each picture."""
    return bool(Codec(codec, "w").capabilities & Capabilities.frame_threads)


def wrap(frame: Frame, *, shared: bool = True) -> VideoFrame:
    """``frame`` as FFmpeg's; without time and tags.

    Args:
        frame: on the CPU.
        shared: use its memory where that is possible; see Note [Who frees a picture].

    Raises:
        ValueError: a plane is smaller than the frame says.
    """
    form, planes = frame.format, _planes(frame)
    whole = frame.width % (1 << form.chroma_w) == 0 and frame.height % (1 << form.chroma_h) == 0
    if shared and whole:
        with suppress(NotImplementedError):  # memory that FFmpeg does not know as the CPU's
            # NumPy's arrays: PyTorch calls pinned memory CUDA's, which PyAV then refuses.
            return VideoFrame.from_dlpack(tuple(p.numpy() for p in planes), format=form.name)
    picture = VideoFrame(frame.width, frame.height, form.name)  # from_dlpack refuses odd chroma
    _fill(picture, planes)
    return picture


def wrap_with_captions(frame: Frame, carrier: VideoFrame) -> VideoFrame:
    """``frame`` as FFmpeg's, with all side data of the decoder's frame ``carrier``.

    PyAV attaches no side data, but passes it on when a picture is scaled: so ``carrier`` is scaled,
    in the cheapest way, and its samples are replaced.
    """
    form = frame.format
    if (carrier.width, carrier.height) == (frame.width, frame.height):
        # Without anything to do PyAV returns the frame itself, which the decoder refers to.
        carrier = carrier.reformat(width=16, height=16)
    picture = carrier.reformat(frame.width, frame.height, form.name, interpolation=_FAST)
    picture.pict_type = 0  # else the source's order of I, P and B pictures would be forced
    _fill(picture, _planes(frame))
    return picture


def _planes(frame: Frame) -> list[Tensor]:
    """The planes without padding, each row in one piece."""
    form, planes = frame.format, list(frame.planes)
    for index, component in enumerate(form.components):
        rows, columns = form.component_shape(index, frame.width, frame.height)
        plane = frame.planes[component.plane][:rows, :columns]
        if tuple(plane.shape) != (rows, columns):
            raise ValueError(f"plane {component.plane} is {tuple(plane.shape)}, too small")
        planes[component.plane] = plane if plane.stride(1) == 1 else plane.contiguous()
    return planes


def _fill(picture: VideoFrame, planes: list[Tensor]) -> None:
    for ours, theirs in zip(planes, picture.planes, strict=True):
        torch.utils.dlpack.from_dlpack(theirs).copy_(ours)

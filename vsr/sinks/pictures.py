"""Frames as FFmpeg's pictures, for an encoder."""

from contextlib import suppress

import torch.utils.dlpack
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from torch import Tensor

from vsr.frame import Frame

__all__ = ["wrap", "wrap_with_captions"]

_FAST = Interpolation.POINT


def wrap(frame: Frame) -> VideoFrame:
    """``frame`` as FFmpeg's, sharing its memory where that is possible; without time and tags.

    Raises:
        ValueError: a plane is smaller than the frame says.
    """
    form, planes = frame.format, _planes(frame)
    if frame.width % (1 << form.chroma_w) == 0 and frame.height % (1 << form.chroma_h) == 0:
        with suppress(NotImplementedError):  # memory that FFmpeg does not know as the CPU's
            return VideoFrame.from_dlpack(tuple(planes), format=form.name)
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
        rows, columns = form.component_size(index, frame.width, frame.height)
        plane = frame.planes[component.plane][:rows, :columns]
        if tuple(plane.shape) != (rows, columns):
            raise ValueError(f"plane {component.plane} is {tuple(plane.shape)}, too small")
        planes[component.plane] = plane if plane.stride(1) == 1 else plane.contiguous()
    return planes


def _fill(picture: VideoFrame, planes: list[Tensor]) -> None:
    for ours, theirs in zip(planes, picture.planes, strict=True):
        torch.utils.dlpack.from_dlpack(theirs).copy_(ours)

"""VapourSynth's formats, planes and properties in our terms, and back."""

import ctypes
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import vapoursynth as vs  # type: ignore[import-untyped]
from torch import Tensor

from vsr.engine import RenderTarget
from vsr.errors import UnsupportedFormatError
from vsr.frame import Colour, Component, PixelFormat, Range
from vsr.sizes import resized_sar
from vsr.sources.props import ignored, read_props, sample_aspect_of
from vsr.tagging import VAPOURSYNTH, complete_colour

__all__ = [
    "VideoFormat",
    "VideoFrame",
    "VideoNode",
    "complete",
    "first_lumas",
    "pixel_format",
    "planes_of",
    "write_props",
]

VideoNode = Any
VideoFrame = Any
VideoFormat = Any

_FAMILIES = {int(vs.YUV): "yuv", int(vs.RGB): "rgb", int(vs.GRAY): "gray"}
_OF_ANOTHER_SIZE = {"_Alpha"}
"""Properties that hold a picture of the source's size, which would not fit any more."""


def pixel_format(form: VideoFormat) -> PixelFormat:
    """VapourSynth's format in our terms; RGB is stored in that order.

    Raises:
        UnsupportedFormatError: whole numbers of more than 16 bits.
    """
    floating = form.sample_type == vs.FLOAT
    if form.bits_per_sample > 16 and not floating:
        raise UnsupportedFormatError(
            f"{form.name} has more than 16 bits; convert it to 16 or to floating point first"
        )
    return PixelFormat(
        name=form.name, family=_FAMILIES[int(form.color_family)],  # type: ignore[arg-type]
        depth=form.bits_per_sample, floating=floating,
        components=tuple(map(Component, range(form.num_planes))),
        chroma_w=form.subsampling_w or 0, chroma_h=form.subsampling_h or 0,
    )  # fmt: skip


def planes_of(
    frame: VideoFrame, form: PixelFormat, pointer: Callable[[int], ctypes.c_void_p]
) -> tuple[Tensor, ...]:
    """The planes of a frame as views of its memory, which they do not keep alive."""
    planes = []
    for index in range(frame.format.num_planes):
        rows, columns = form.component_shape(index, frame.width, frame.height)
        stride = frame.get_stride(index)
        address = pointer(index).value
        assert address is not None
        memory = (ctypes.c_char * (stride * rows)).from_address(address)
        samples = torch.frombuffer(memory, dtype=form.dtype)
        planes.append(samples.as_strided((rows, columns), (stride // form.dtype.itemsize, 1)))
    return tuple(planes)


def first_lumas(clip: VideoNode, form: PixelFormat, count: int) -> list[Tensor]:
    """The first frames' luma (of RGB, red), each asked for here and now.

    Returns:
        Up to ``count`` pictures, (H, W) float32, the largest code of whole numbers, or 1.0, as 255.
    """
    largest = 1.0 if form.floating else float((1 << form.depth) - 1)
    pictures = []
    for number in range(min(count, clip.num_frames)):
        with clip.get_frame(number) as frame:
            luma = planes_of(frame, form, frame.get_read_ptr)[0]
            pictures.append(luma.float() * (255 / largest))
    return pictures


def complete(given: Colour, form: PixelFormat, width: int, height: int) -> tuple[Colour, list[str]]:
    """The colour of a frame, and a line for each guess."""
    no_codes = form.floating and form.family != "yuv"
    if no_codes:  # their range says what whole numbers they came from, as zimg takes it
        form = replace(form, floating=False)
    colour, notes = complete_colour(
        given, width=width, height=height, format=form, codec=VAPOURSYNTH
    )
    return colour, [] if no_codes else notes


def write_props(
    source: VideoFrame, result: VideoFrame, form: PixelFormat, target: RenderTarget
) -> None:
    """The properties of ``source``, corrected by what has changed.

    What counted as not set is not handed on: another filter may take it for something.
    """
    left_out = ignored(source.props, subsampled=bool(form.chroma_w or form.chroma_h))
    changed = dict.fromkeys(left_out) | _colour_props(form, target) | _shape_props(source, target)
    for name, value in read_props(source.props).items():
        if name not in _OF_ANOTHER_SIZE and changed.get(name, 0) is not None:
            result.props[name] = value
    for name, number in changed.items():
        if number is not None:
            result.props[name] = number


def _colour_props(source: PixelFormat, target: RenderTarget) -> dict[str, int | None]:
    """Tags of the colour that was used; None removes one, what is not named stays."""
    colour, form = target.colour, target.format
    tags: dict[str, int | None] = {"_Range": int(colour.range == Range.FULL)}
    if source.family == form.family != "yuv":
        return tags
    tags["_Matrix"] = int(colour.matrix)
    tags["_ChromaLocation"] = int(colour.siting) - 1 if colour.siting else None
    if colour.primaries not in (0, 2):
        tags["_Primaries"] = colour.primaries
    if colour.transfer not in (0, 2):
        tags["_Transfer"] = colour.transfer
    return tags


def _shape_props(source: VideoFrame, target: RenderTarget) -> dict[str, int | None]:
    """The aspect ratio of samples that keeps the picture's shape at another size."""
    given = sample_aspect_of(source.props)
    sar = resized_sar(given, (source.width, source.height), (target.width, target.height))
    if sar is None or sar == given:
        return {}
    return {"_SARNum": sar.numerator, "_SARDen": sar.denominator}

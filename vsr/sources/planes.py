"""Decoded pictures as tensors: which formats are taken as they are, what others become."""

import av
import numpy as np
import torch
from av.video.format import VideoFormat, names
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from torch import Tensor

from vsr.errors import SourceError, UnsupportedFormatError
from vsr.frame import Matrix, PixelFormat, pixel_format
from vsr.sources.hardware import copy_planes, is_on_gpu, layout_name

__all__ = [
    "convert",
    "frame_bytes",
    "luma_of",
    "native_format",
    "planes_of",
    "same_layout",
    "subsampling_name",
]

_STORAGE: dict[torch.dtype, np.dtype[np.generic]] = {
    torch.uint8: np.dtype("u1"), torch.uint16: np.dtype("<u2"), torch.float16: np.dtype("<f2"),
    torch.float32: np.dtype("<f4"),
}  # fmt: skip
_DEPTHS = (8, 9, 10, 12, 14, 16)
_SUBSAMPLED = [pixel_format(f"yuv{name}p") for name in ("444", "422", "420", "440", "411", "410")]
_COARSEST = 4
"""The most columns or rows of luma for one of chroma."""


def native_format(frame: VideoFrame) -> PixelFormat:
    """The format in which ``frame`` is handed on: its own, or the nearest lossless planar one.

    Raises:
        UnsupportedFormatError: there is none (hardware surfaces).
    """
    name = layout_name(frame)
    if (found := _known(name)) or (found := _known(name.removesuffix("be") + "le")):
        return found
    if name == "pal8":
        return pixel_format("gbrap" if _palette_is_transparent(frame) else "gbrp")
    return _nearest(frame.format)


def planes_of(frame: VideoFrame, format: PixelFormat) -> tuple[Tensor, ...]:
    """The planes of ``frame`` as (rows, samples) tensors over the decoder's own memory.

    The tensors keep that memory alive; of a frame on a GPU they are copies there. The buffer
    protocol is used rather than DLPack, which refuses packed 4:2:2 and rounds odd chroma sizes of
    nv12 down.
    """
    if is_on_gpu(frame):
        return copy_planes(frame)
    dtype = _STORAGE[format.dtype]
    return tuple(
        _plane(frame, index, dtype, _samples_per_row(format, index, frame.width, frame.height))
        for index in range(1 + max(c.plane for c in format.components))
    )


def frame_bytes(frame: VideoFrame) -> int:
    """Bytes of memory that the planes of ``frame`` take."""
    return sum(plane.buffer_size for plane in frame.planes)


def luma_of(frame: VideoFrame) -> Tensor | None:
    """Luma of ``frame`` (of RGB, red) as (H, W) float32, its largest code 255.

    None if the frame is of a format that is not handed on as it is.
    """
    if (format := _known(frame.format.name)) is None:
        return None
    largest = 1.0 if format.floating else float(((1 << format.depth) - 1) << format.shift)
    luma = format.views(planes_of(frame, format), frame.width, frame.height)[0]
    return luma.float() * (255 / largest)


def convert(
    frame: VideoFrame, format: PixelFormat, width: int, height: int, *, matrix: int
) -> VideoFrame:
    """``frame`` in another pixel format or size.

    Args:
        frame: any decoded frame.
        format: the format wanted.
        width: columns wanted.
        height: rows wanted.
        matrix: H.273 matrix to write if RGB becomes YUV.

    Raises:
        SourceError: FFmpeg has no such conversion.
    """
    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    becomes_yuv = frame.format.is_rgb and format.family == "yuv"
    try:
        return frame.reformat(
            width, height, format.name, interpolation=int(flags),
            dst_colorspace=matrix if becomes_yuv and matrix != Matrix.RGB else None,
        )  # fmt: skip
    except (av.FFmpegError, ValueError) as error:
        raise SourceError(
            f"a frame of {frame.width}x{frame.height} in pixel format {frame.format.name} cannot"
            f" be converted to {width}x{height} {format.name}"
        ) from error


def subsampling_name(chroma_w: int, chroma_h: int) -> str | None:
    """What stands for a subsampling in FFmpeg's names of formats, e.g. ``420``.

    Args:
        chroma_w: columns of luma for one of chroma, as a power of 2.
        chroma_h: the same of rows.

    Returns:
        None if FFmpeg has no format with it.
    """
    for format in _SUBSAMPLED:
        if (format.chroma_w, format.chroma_h) == (chroma_w, chroma_h):
            return format.name[len("yuv") : -len("p")]
    return None


def same_layout(one: str, other: str) -> bool:
    """Whether two pixel formats differ at most in the range that FFmpeg's old "j" names imply."""
    return one.replace("yuvj", "yuv") == other.replace("yuvj", "yuv")


def _plane(frame: VideoFrame, index: int, dtype: np.dtype[np.generic], samples: int) -> Tensor:
    plane = frame.planes[index]
    rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)
    if plane.line_size < 0:  # a bottom-up picture; torch has no negative strides
        rows = rows[::-1].copy()
    return torch.from_numpy(rows)[:, :samples]


def _samples_per_row(format: PixelFormat, plane: int, width: int, height: int) -> int:
    return max(
        component.step * format.component_shape(index, width, height)[1]
        for index, component in enumerate(format.components)
        if component.plane == plane
    )


def _known(name: str) -> PixelFormat | None:
    try:
        return pixel_format(name)
    except UnsupportedFormatError:
        return None


def _palette_is_transparent(frame: VideoFrame) -> bool:
    indices = np.unique(planes_of(frame, pixel_format("gray"))[0].numpy())
    # Entries are native-endian words with alpha on top; entries that no pixel uses do not count.
    alpha = np.frombuffer(frame.planes[1], "<u4")[indices] >> 24
    return bool((alpha < 255).any())


def _nearest(format: VideoFormat) -> PixelFormat:
    """The planar format that holds everything ``format`` does, in the fewest bits."""
    components = format.components
    if not components:
        raise UnsupportedFormatError(f"pixel format {format.name} lives on a device")
    wide = any(mark in format.name for mark in ("f16", "f32", "xyz", "bayer", "msb"))
    bits = 16 if wide else max(c.bits for c in components)
    alpha = any(c.is_alpha for c in components)
    for depth in _DEPTHS:
        name = _planar_name(format, alpha=alpha) + (f"{depth}le" if depth > 8 else "")
        name = {"ya": "ya8"}.get(name, name)
        if depth >= min(bits, 16) and name in names and (found := _known(name)):
            return found
    raise UnsupportedFormatError(f"pixel format {format.name} is not supported")


def _planar_name(format: VideoFormat, *, alpha: bool) -> str:
    colours = [c for c in format.components if not c.is_alpha]
    if len(colours) == 1:
        return "ya" if alpha else "gray"
    if format.is_rgb or format.name.startswith(("xyz", "bayer")):
        return "gbrap" if alpha else "gbrp"
    across = _COARSEST // format.chroma_width(_COARSEST)
    down = _COARSEST // format.chroma_height(_COARSEST)
    sampling = subsampling_name(across.bit_length() - 1, down.bit_length() - 1)
    return f"yuv{'a' if alpha else ''}{sampling}p"

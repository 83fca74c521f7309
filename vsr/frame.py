"""What travels between stages: pixel formats, colour, frames, and facts about a stream.

A :class:`Frame` says how it is to be read; no stage asks the source about the stream.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from vsr.errors import UnsupportedFormatError
from vsr.hdr import HdrMetadata
from vsr.immersive import Immersive
from vsr.tags import FieldOrder, Matrix, Range, Siting

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

__all__ = [
    "Colour",
    "Component",
    "FieldOrder",
    "Frame",
    "Matrix",
    "PixelFormat",
    "Range",
    "Siting",
    "VideoInfo",
    "pixel_format",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Colour:
    """How code values become colour (H.273 code points; 2 or 0 mean "not specified")."""

    matrix: int = Matrix.UNSPECIFIED
    range: Range = Range.UNSPECIFIED
    primaries: int = 2
    transfer: int = 2
    siting: Siting = Siting.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Component:
    """Where one component's samples lie: ``planes[plane][:, offset::step]``, in samples."""

    plane: int
    offset: int = 0
    step: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelFormat:
    """One of FFmpeg's pixel formats, as far as arithmetic needs to know it."""

    name: str
    """FFmpeg's name, e.g. ``yuv420p10le``."""
    family: Literal["yuv", "rgb", "gray"]
    depth: int
    """Significant bits of a sample, 8 to 16; of floating point 16 or 32."""
    components: tuple[Component, ...]
    """Y or YUV or RGB, in that order; alpha last if there is any."""
    chroma_w: int = 0
    """log2 of the horizontal chroma subsampling."""
    chroma_h: int = 0
    """log2 of the vertical chroma subsampling."""
    alpha: bool = False
    shift: int = 0
    """Unused low bits of a sample (6 for p010)."""
    floating: bool = False
    """Samples are floating-point numbers, black at 0 and white at 1, and may lie beyond both;
    chroma, which VapourSynth's formats have and FFmpeg's do not, lies between -1/2 and 1/2."""

    @property
    def dtype(self) -> torch.dtype:
        """Storage type of a sample."""
        if self.floating:
            return torch.float16 if self.depth == 16 else torch.float32
        return torch.uint8 if self.depth == 8 else torch.uint16

    @property
    def planar(self) -> bool:
        """Whether every component has a plane of its own."""
        return all(c.step == 1 for c in self.components)

    def as_planar(self) -> "PixelFormat":
        """The planar format that holds the same samples; gray with alpha becomes YUV 4:4:4."""
        if self.planar:
            return self
        suffix = "" if self.depth == 8 else f"{'f' * self.floating}{self.depth}le"
        alpha = "a" if self.alpha else ""
        if self.family == "rgb":
            return pixel_format(f"gbr{alpha}p{suffix}")
        chroma = next(k for k, v in _SUBSAMPLING.items() if v == (self.chroma_w, self.chroma_h))
        return pixel_format(f"yuv{alpha}{chroma}p{suffix}")

    def component_shape(self, index: int, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of component ``index`` in a picture of ``width`` x ``height``."""
        if self.family == "yuv" and index in (1, 2):
            return -(-height >> self.chroma_h), -(-width >> self.chroma_w)
        return height, width

    def views(self, planes: tuple[Tensor, ...], width: int, height: int) -> tuple[Tensor, ...]:
        """The components of ``planes`` as (rows, columns) views; nothing is copied."""
        found = []
        for index, component in enumerate(self.components):
            rows, columns = self.component_shape(index, width, height)
            plane = planes[component.plane][:rows]
            found.append(plane[:, component.offset :: component.step][:, :columns])
        return tuple(found)

    def planes(self, components: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Components in FFmpeg's order of planes (RGB is stored G, B, R); planar formats only."""
        if not self.planar:
            raise ValueError(f"{self.name} is packed: only planar formats are written")
        places = sorted(zip(self.components, components, strict=True), key=lambda p: p[0].plane)
        return tuple(component for _, component in places)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One picture with everything needed to interpret it; equal to itself alone.

    ``planes`` are laid out as FFmpeg does: (rows, samples) of uint8, uint16, float16 or float32,
    rows possibly padded in memory. They may alias the decoder's buffers: treat them as
    read-only.
    """

    planes: tuple[Tensor, ...]
    format: PixelFormat
    width: int
    height: int
    colour: Colour
    pts: int
    """Presentation time in ``time_base`` units, 0 at the start of the container, or of the part of
    it that a source was asked for."""
    time_base: Fraction
    duration: int
    """In ``time_base`` units."""
    corrupt: bool = False
    """The decoder concealed damage in this frame."""
    repeats: bool = False
    """The result for the frame before is this one's too, up to time, damage and captions."""
    begins: bool = False
    """It does not go through the network together with frames before it."""
    captions: "VideoFrame | None" = None
    """The decoder's own frame, if it carries closed captions (A53): PyAV can hand such data from
    frame to frame, but not attach it."""
    icc: bytes | None = None
    """The ICC profile of a picture from a file of its own; it does not change the numbers."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width), as of a tensor."""
        return self.height, self.width

    @property
    def components(self) -> tuple[Tensor, ...]:
        """The components as (rows, columns) views."""
        return self.format.views(self.planes, self.width, self.height)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """Facts about a video stream, known before its first frame is processed."""

    width: int
    """Coded width in pixels, before rotation and aspect ratio."""
    height: int
    format: PixelFormat
    colour: Colour
    """Complete: what the stream left open has been guessed (and logged)."""
    time_base: Fraction
    rate: Fraction
    """Nominal frames per second; frames keep their own timestamps."""
    rate_is_guess: bool = False
    """Whether nothing says :attr:`rate`, neither the input nor who runs this."""
    frames: int | None = None
    """Expected number of frames, or None if the container does not say."""
    duration: Fraction | None = None
    """Seconds."""
    sar: Fraction | None = None
    """Sample (pixel) aspect ratio, None if unknown."""
    display_matrix: bytes | None = None
    """36 bytes of FFmpeg's display matrix: rotation and mirroring."""
    field_order: FieldOrder = FieldOrder.PROGRESSIVE
    """Of the frames that are delivered: what is deinterlaced on the way is progressive."""
    icc: bytes | None = None
    """ICC profile of the first picture, if pictures come from files of their own."""
    hdr: HdrMetadata | None = None
    """Mastering display and content light level, if the container or the stream has them."""
    immersive: Immersive | None = None
    """Two views in a picture, or a sphere, if the container or the stream says so."""
    codec: str = ""
    """FFmpeg's name of what coded the stream; empty if nothing says."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width), as of a tensor."""
        return self.height, self.width


_PLANAR_YUV = re.compile(r"yuv(?P<a>a?)j?(?P<c>420|422|444|440|411|410)p(?P<d>9|1[0246])?(?:le)?$")
_PLANAR_RGB = re.compile(r"gbr(?P<a>a?)p(?P<d>9|1[0246])?(?:le)?$")
_GRAY = re.compile(r"gray(?P<d>9|1[0246])?(?:le)?$")
_FLOATING = re.compile(r"(?P<n>gbr(?P<a>a?)p|gray)f(?P<d>16|32)le$")
_SEMI_PLANAR = re.compile(r"(?P<n>nv12|nv21|nv16|nv24|nv42|p[024]1[026]le)$")
_SUBSAMPLING = {
    "420": (1, 1), "422": (1, 0), "444": (0, 0), "440": (0, 1), "411": (2, 0), "410": (2, 2),
}  # fmt: skip
_PACKED_RGB = {
    "rgb24": "rgb", "bgr24": "bgr", "rgba": "rgba", "bgra": "bgra", "argb": "argb", "abgr": "abgr",
    "rgb0": "rgbx", "bgr0": "bgrx", "0rgb": "xrgb", "0bgr": "xbgr",
    "rgb48le": "rgb", "bgr48le": "bgr", "rgba64le": "rgba", "bgra64le": "bgra",
    "rgbf16le": "rgb", "rgbaf16le": "rgba", "rgbf32le": "rgb", "rgbaf32le": "rgba",
}  # fmt: skip
_PACKED_422 = {"yuyv422": (0, 1, 3), "uyvy422": (1, 0, 2), "yvyu422": (0, 3, 1)}


@lru_cache(maxsize=256)
def pixel_format(name: str) -> PixelFormat:
    """Describe FFmpeg's pixel format ``name``.

    Raises:
        UnsupportedFormatError: samples are neither 8 to 16 bit little-endian integers on their own
            nor little-endian floating-point numbers (palettes, bit-packed, XYZ, hardware surfaces).
    """
    for parse in (_planar_yuv, _planar_rgb, _gray, _floating, _semi_planar, _packed):
        if (found := parse(name)) is not None:
            return found
    raise UnsupportedFormatError(f"pixel format {name} is not supported")


def _depth(match: re.Match[str]) -> int:
    return int(match["d"] or 8)


def _separate(count: int) -> tuple[Component, ...]:
    return tuple(Component(plane) for plane in range(count))


def _planar_yuv(name: str) -> PixelFormat | None:
    if not (match := _PLANAR_YUV.match(name)):
        return None
    w, h = _SUBSAMPLING[match["c"]]
    alpha = bool(match["a"])
    return PixelFormat(
        name=name, family="yuv", depth=_depth(match), components=_separate(3 + alpha),
        chroma_w=w, chroma_h=h, alpha=alpha,
    )  # fmt: skip


def _planar_rgb(name: str) -> PixelFormat | None:
    if not (match := _PLANAR_RGB.match(name)):
        return None
    alpha = bool(match["a"])
    green_blue_red = (Component(2), Component(0), Component(1), Component(3))
    return PixelFormat(
        name=name, family="rgb", depth=_depth(match), components=green_blue_red[: 3 + alpha],
        alpha=alpha,
    )  # fmt: skip


def _gray(name: str) -> PixelFormat | None:
    if match := _GRAY.match(name):
        return PixelFormat(name=name, family="gray", depth=_depth(match), components=_separate(1))
    if name in ("ya8", "ya16le"):
        interleaved = (Component(0, 0, 2), Component(0, 1, 2))
        depth = 8 if name == "ya8" else 16
        return PixelFormat(
            name=name, family="gray", depth=depth, components=interleaved, alpha=True
        )
    return None


def _floating(name: str) -> PixelFormat | None:
    if not (match := _FLOATING.match(name)):
        return None
    like = pixel_format(match["n"])
    return replace(like, name=name, depth=int(match["d"]), floating=True)


def _semi_planar(name: str) -> PixelFormat | None:
    if not _SEMI_PLANAR.match(name):
        return None
    swapped = name in ("nv21", "nv42")
    kind = {"nv12": "0", "nv21": "0", "nv16": "2", "nv24": "4", "nv42": "4"}.get(name, name[1])
    w, h = {"0": (1, 1), "2": (1, 0), "4": (0, 0)}[kind]
    depth = 8 if name.startswith("nv") else int(name[2:4])
    chroma = (Component(1, 1, 2), Component(1, 0, 2))
    return PixelFormat(
        name=name, family="yuv", depth=depth,
        components=(Component(0), *(chroma if swapped else reversed(chroma))),
        chroma_w=w, chroma_h=h, shift=16 - depth if depth > 8 else 0,
    )  # fmt: skip


def _packed(name: str) -> PixelFormat | None:
    if order := _PACKED_RGB.get(name):
        wanted = "rgba" if "a" in order else "rgb"
        components = tuple(Component(0, order.index(c), len(order)) for c in wanted)
        floating = "f" in name
        depth = (32 if "32" in name else 16) if name.endswith("le") else 8
        return PixelFormat(
            name=name, family="rgb", depth=depth, components=components, alpha="a" in order,
            floating=floating,
        )  # fmt: skip
    if places := _PACKED_422.get(name):
        y, u, v = places
        components = (Component(0, y, 2), Component(0, u, 4), Component(0, v, 4))
        return PixelFormat(name=name, family="yuv", depth=8, components=components, chroma_w=1)
    return None

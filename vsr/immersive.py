"""Pictures that are more than a flat view: two views for two eyes, and spheres (360°, VR180).

Read from FFmpeg's side data. Only what every container here that holds any of it can hold: frames
with both views in one picture, and the projections of Google's Spherical Video V2. Neither torch
nor PyAV is needed here.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from vsr.hdr import SAMPLE_ENTRIES

__all__ = [
    "Immersive",
    "Packing",
    "Projection",
    "Sphere",
    "can_say",
    "parse_sphere",
    "parse_stereo",
]

_CONTAINERS = ("mp4", "matroska", "webm")  # FFmpeg's MOV takes another box, without the packing
_STEREO = struct.Struct("<2I")  # of AVStereo3D: type, flags; what follows is of cameras
_SPHERE = struct.Struct("<I3i5I")
_FULL_TURN = 360 << 16


class Packing(IntEnum):
    """How a picture holds what either eye sees, in FFmpeg's numbers (``AVStereo3DType``)."""

    MONO = 0
    """Both see all of it."""
    SIDE_BY_SIDE = 1
    """Left half for the left eye."""
    TOP_BOTTOM = 2
    """Upper half for the left eye."""


class Projection(IntEnum):
    """How a sphere was laid out in a plane, in FFmpeg's numbers (``AVSphericalProjection``)."""

    EQUIRECTANGULAR = 0
    CUBEMAP = 1
    EQUIRECTANGULAR_TILE = 2
    """A part of the sphere alone, as in VR180."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sphere:
    """A spherical picture. Nothing here is in pixels, so scaling changes nothing."""

    projection: Projection
    pose: tuple[int, int, int]
    """Yaw, pitch and roll, in degrees by 2^16."""
    bounds: tuple[int, int, int, int]
    """Left, top, right, bottom: what a tile lacks on each side of the whole, by 2^32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Immersive:
    """What a stream says of its picture beyond a flat view; None where it says nothing."""

    packing: Packing | None = None
    sphere: Sphere | None = None

    @property
    def parts(self) -> list[str]:
        """What is there that a reader must know of, in words."""
        parts = ["stereoscopic 3D"] if self.packing else []
        return [*parts, "a spherical (360°) picture"] if self.sphere is not None else parts


def parse_stereo(data: bytes) -> Packing:
    """Read FFmpeg's ``AVStereo3D``.

    Args:
        data: at least 8 bytes: the type, flags (1: the views are swapped).

    Raises:
        ValueError: no container is told of it, or it is cut off.
    """
    if len(data) < _STEREO.size:
        raise ValueError(f"it is cut off after {len(data)} bytes")
    kind, flags = _STEREO.unpack_from(data)
    if flags:
        raise ValueError("its views are swapped")
    if kind not in set(Packing):
        raise ValueError("its views lie neither side by side nor on top of each other")
    return Packing(kind)


def parse_sphere(data: bytes) -> Sphere:
    """Read FFmpeg's ``AVSphericalMapping``.

    Args:
        data: at least 36 bytes: projection; yaw, pitch, roll; left, top, right and bottom bound;
            padding.

    Raises:
        ValueError: no container is told of it, or it is cut off.
    """
    if len(data) < _SPHERE.size:
        raise ValueError(f"it is cut off after {len(data)} bytes")
    projection, yaw, pitch, roll, left, top, right, bottom, padding = _SPHERE.unpack_from(data)
    if projection not in set(Projection):
        raise ValueError("its projection is not known here")
    if max(map(abs, (yaw, pitch, roll))) > _FULL_TURN:
        raise ValueError("its pose is no angle")
    if padding:
        raise ValueError("its faces are padded, by pixels of the size it had")
    return Sphere(
        projection=Projection(projection), pose=(yaw, pitch, roll),
        bounds=(left, top, right, bottom),
    )  # fmt: skip


def can_say(muxer: str, codec: str) -> bool:
    """Whether FFmpeg's ``muxer`` stores an :class:`Immersive` beside ``codec`` (canonical name)."""
    return muxer in _CONTAINERS and codec in SAMPLE_ENTRIES

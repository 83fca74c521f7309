"""Streams that carry HDR metadata, and descriptions of 3D and 360°, into the container.

FFmpeg's muxers write mastering display and the like from a stream's side data, which PyAV cannot
set, but does copy from a stream that it reads. So a header of a QuickTime file with one track, no
samples and the boxes ``mdcv``, ``clli`` and ``amve`` (ISO/IEC 14496-12), ``st3d`` and ``sv3d``
(Spherical Video V2) is made in memory and read by FFmpeg; its stream is the template.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import av
import av.logging
from av.video.stream import VideoStream

from vsr.hdr import SAMPLE_ENTRIES, AmbientViewing, ContentLight, HdrMetadata, MasteringDisplay
from vsr.immersive import Immersive, Packing, Projection, Sphere

__all__ = ["template"]

_TICKS = 1000  # a second; nothing is ever timed by it
_72_DPI = 72 << 16
_ST3D = {Packing.MONO: 0, Packing.TOP_BOTTOM: 1, Packing.SIDE_BY_SIDE: 2}


@contextmanager
def template(codec: str, hdr: HdrMetadata, immersive: Immersive) -> Iterator[VideoStream]:
    """A stream of ``codec`` (canonical name) with these as its side data and nothing else.

    Luminances are rounded to 0.0001 cd/m² and chromaticities to 0.00002, the units of ST 2086.
    """
    with (
        av.logging.Capture(),  # FFmpeg complains that the stream holds nothing
        av.open(
            io.BytesIO(_header(SAMPLE_ENTRIES[codec], hdr, immersive)), format="mov"
        ) as container,
    ):
        yield container.streams.video[0]


def _header(kind: bytes, hdr: HdrMetadata, immersive: Immersive) -> bytes:
    entry = _box(
        kind, _picture(), _mastering(hdr.mastering), _light(hdr.light), _ambient(hdr.ambient),
        _stereo(immersive.packing), _sphere(immersive.sphere),
    )  # fmt: skip
    descriptions = _full_box(b"stsd", struct.pack(">I", 1), entry)
    media = _box(
        b"mdia",
        _full_box(b"mdhd", struct.pack(">4I2H", 0, 0, _TICKS, 0, 0, 0)),
        _full_box(b"hdlr", bytes(4), b"vide", bytes(13)),
        _box(b"minf", _box(b"stbl", descriptions, *_no_samples())),
    )
    return _box(b"ftyp", b"qt  ", bytes(4)) + _box(b"moov", _box(b"trak", media))


def _picture() -> bytes:
    """The fields of a visual sample entry; the real size is set on the output's stream."""
    return struct.pack(">6xH16x2H2I4xH32xHh", 1, 16, 16, _72_DPI, _72_DPI, 1, 24, -1)


def _no_samples() -> list[bytes]:
    lengths = {b"stts": 4, b"stsc": 4, b"stsz": 8, b"stco": 4}
    return [_full_box(kind, bytes(length)) for kind, length in lengths.items()]


def _mastering(display: MasteringDisplay | None) -> bytes:
    if display is None:
        return b""
    return _box(b"mdcv", struct.pack(">8H2I", *display.in_units()))


def _light(light: ContentLight | None) -> bytes:
    if light is None:
        return b""
    return _box(b"clli", struct.pack(">2H", light.max_cll, light.max_fall))


def _ambient(ambient: AmbientViewing | None) -> bytes:
    if ambient is None:
        return b""
    return _box(b"amve", struct.pack(">I2H", *ambient.in_units()))


def _stereo(packing: Packing | None) -> bytes:
    return b"" if packing is None else _full_box(b"st3d", struct.pack(">B", _ST3D[packing]))


def _sphere(sphere: Sphere | None) -> bytes:
    if sphere is None:
        return b""
    if sphere.projection == Projection.CUBEMAP:
        plane = _full_box(b"cbmp", bytes(8))  # the one layout there is, no padding
    else:
        left, top, right, bottom = sphere.bounds
        plane = _full_box(b"equi", struct.pack(">4I", top, bottom, left, right))
    pose = _full_box(b"prhd", struct.pack(">3i", *sphere.pose))
    return _box(b"sv3d", _full_box(b"svhd", bytes(1)), _box(b"proj", pose, plane))


def _full_box(kind: bytes, *parts: bytes) -> bytes:
    """A box with version 0 and no flags."""
    return _box(kind, bytes(4), *parts)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body

"""What side data of a stream and of its first frame say: HDR, 3D and 360°, what stays behind."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vsr.hdr import (
    HdrMetadata,
    parse_ambient_viewing,
    parse_content_light,
    parse_mastering_display,
)
from vsr.immersive import Immersive, parse_sphere, parse_stereo

__all__ = ["hdr_metadata", "immersive", "of_frame"]

# FFmpeg's names: of containers' side data in small letters, of frames' in capitals.
_DROPPED = {
    "dynamic_hdr10_plus": "HDR10+ dynamic metadata",
    "DYNAMIC_HDR_PLUS": "HDR10+ dynamic metadata",
    "dynamic_hdr_smpte_2094_app5": "SMPTE ST 2094-50 dynamic metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid dynamic metadata",
    "icc_profile": "the ICC profile",
    "ICC_PROFILE": "the ICC profile",
    "lcevc": "the LCEVC enhancement layer",
    "LCEVC": "the LCEVC enhancement layer",
}
_OF_CONTAINERS = {SideDataType.STEREO3D: "stereo_3d"}
_DOLBY_VISION = {"dovi_conf", "DOVI_RPU_BUFFER", "DOVI_METADATA"}
_BASE_LAYERS = {1: "HDR10", 2: "SDR", 4: "HLG", 6: "HDR10"}
"""``bl_signal_compatibility_id`` of Dolby Vision's configuration record; 0 means none."""


def hdr_metadata(stream: VideoStream, frame: VideoFrame) -> tuple[HdrMetadata | None, list[str]]:
    """Static HDR metadata of a stream: the container's, else those of the first frame.

    Args:
        stream: the stream.
        frame: its first frame.

    Returns:
        The metadata, None if there is none that is valid, and notes for the log: a line for
        everything that is ignored or will be dropped.
    """
    notes: list[str] = []
    mastering = _first_valid(
        "mastering display metadata", parse_mastering_display,
        _found(stream, frame, SideDataType.MASTERING_DISPLAY_METADATA), notes,
    )  # fmt: skip
    light = _first_valid(
        "content light level", parse_content_light,
        _found(stream, frame, SideDataType.CONTENT_LIGHT_LEVEL), notes,
    )  # fmt: skip
    ambient = _first_valid(
        "ambient viewing environment", parse_ambient_viewing,
        _found(stream, frame, SideDataType.AMBIENT_VIEWING_ENVIRONMENT), notes,
    )  # fmt: skip
    known = HdrMetadata(mastering=mastering, light=light, ambient=ambient)
    return None if known == HdrMetadata() else known, [*notes, *_dropped(stream, frame)]


def immersive(stream: VideoStream, frame: VideoFrame) -> tuple[Immersive | None, list[str]]:
    """That a picture holds two views, or is a sphere: by the container, else the first frame.

    Args:
        stream: the stream.
        frame: its first frame.

    Returns:
        What is known, None if nothing is, and notes for the log: a line for what nothing here can
        write. Of Matroska a tag says it of two views, and goes where there is room for it.
    """
    notes: list[str] = []
    tagged = "stereo_mode" in stream.metadata
    packing = _first_valid(
        "the description of stereoscopic 3D", parse_stereo,
        islice(_found(stream, frame, SideDataType.STEREO3D), 1), [] if tagged else notes,
    )  # fmt: skip
    sphere = _first_valid(
        "the description of a spherical (360°) picture", parse_sphere,
        islice(_found(stream, frame, SideDataType.SPHERICAL), 1), notes,
    )  # fmt: skip
    known = Immersive(packing=packing, sphere=sphere)
    return None if known == Immersive() else known, notes


def _found(
    stream: VideoStream, frame: VideoFrame, kind: SideDataType
) -> Iterator[tuple[str, bytes]]:
    """Side data of one kind, and where each was found."""
    coded: Mapping[Any, bytes] = stream.codec_context.coded_side_data
    if (data := coded.get(_OF_CONTAINERS.get(kind, kind.name.lower()))) is not None:
        yield "container", bytes(data)
    if (data := of_frame(frame, kind)) is not None:
        yield "stream", data
    elif (data := stream.codec_context.decoded_side_data.get(kind)) is not None:
        yield "stream", bytes(data)


def of_frame(frame: VideoFrame, kind: SideDataType) -> bytes | None:
    """Side data of ``frame`` of one kind; None if it has none."""
    try:
        return bytes(frame.side_data[kind])
    except KeyError:
        return None


def _first_valid[T](
    what: str, parse: Callable[[bytes], T], found: Iterator[tuple[str, bytes]], notes: list[str]
) -> T | None:
    for place, data in found:
        try:
            return parse(data)
        except ValueError as error:
            notes.append(f"{what} of the {place} is ignored: {error}")
    return None


def _dropped(stream: VideoStream, frame: VideoFrame) -> list[str]:
    names = [*stream.codec_context.coded_side_data, *(kind.name for kind in frame.side_data)]
    labels = dict.fromkeys(_DROPPED[name] for name in names if name in _DROPPED)
    notes = [f"{label} is dropped" for label in labels]
    if not _DOLBY_VISION.isdisjoint(names):
        notes.append(_dolby_vision(stream.codec_context.coded_side_data.get("dovi_conf")))
    return notes


def _dolby_vision(record: bytes | None) -> str:
    """What becomes of Dolby Vision, by FFmpeg's ``AVDOVIDecoderConfigurationRecord`` (9 bytes)."""
    if record is None or len(record) < 8:
        return "Dolby Vision metadata is dropped, the base layer is kept"
    profile, base = bytes(record)[2], bytes(record)[7]
    if base in _BASE_LAYERS:
        kept = f"the base layer ({_BASE_LAYERS[base]}) is kept"
        return f"Dolby Vision metadata (profile {profile}.{base}) is dropped, {kept}"
    return (
        f"Dolby Vision metadata (profile {profile}) is dropped, and this base layer is not made to "
        "be seen without it: colours will be wrong"
    )

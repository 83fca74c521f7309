"""What goes into a run and what becomes of it, as plain facts for the dry run and the record."""

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from av.audio.stream import AudioStream
from av.stream import Stream
from av.video.stream import VideoStream
from safetensors import SafetensorError, safe_open

from vsr.config import PIPE
from vsr.encoding.routes import Handling, plan_route
from vsr.encoding.streams import StreamSource, codec_of, is_cover_art
from vsr.ffmpeg import fraction
from vsr.files import file_sha256
from vsr.frame import Colour, VideoInfo
from vsr.index import find_model, locate
from vsr.planning import Plan
from vsr.sources.listing import find_images
from vsr.tags import COLOUR_OPTIONS, word_for

__all__ = [
    "Content",
    "Origin",
    "StreamEntry",
    "Tag",
    "Weights",
    "colour_tags",
    "content_of",
    "find_weights",
    "input_colour",
    "list_streams",
]

Origin = Literal["given", "declared", "guessed", "unknown"]
"""Said by the user, by the input, by rule, or by nobody because nothing needs it."""
Fate = Handling | Literal["upscale"]

_UNSPECIFIED = {"matrix": 2, "range": 0, "primaries": 2, "transfer": 2, "siting": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """One property of colour, in FFmpeg's word, and who said so."""

    value: str
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEntry:
    """A stream of the input, and what becomes of it."""

    index: int
    kind: str
    """``video``, ``audio``, ``subtitle``, ``attachment``, ``data`` or ``cover art``."""
    codec: str
    """FFmpeg's name; empty if it knows none."""
    language: str | None
    details: str
    """Size, rate, format, duration: what there is to say of its kind."""
    fate: Fate
    reason: str = ""
    """Why it is dropped, in a sentence; empty if its content travels otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The file that a network was loaded from."""

    path: Path
    sha256: str
    licence: str | None
    """As its index or its file states it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Size and hash of a file or of pictures; all None where nothing can be read again."""

    size: int | None = None
    """Bytes, of all pictures together."""
    sha256: str | None = None
    """Of several pictures, that of the list of their hashes, as ``sha256sum`` writes it."""
    pictures: int | None = None
    """How many files they are; None for a single file."""


def list_streams(plan: Plan) -> list[StreamEntry]:
    """Every stream of the input and of what goes beside it, in order."""
    source, others = plan.source, plan.source.others
    if others is None:
        return [_picture_entry(source.info, 0)]
    streams = others.container.streams
    entries = [] if others.stream is not None else [_picture_entry(source.info, len(streams))]
    for stream in streams:
        if others is not source and _is_replaced(others, stream):
            entries.append(_picture_entry(source.info, stream.index))
        else:
            entries.append(_route_of(plan, others, stream))
    return entries


def _picture_entry(info: VideoInfo, index: int) -> StreamEntry:
    """The picture, where it is no stream of a container."""
    return StreamEntry(
        index=index, kind="video", codec=info.codec, language=None,
        details=f"{info.width}x{info.height} {info.format.name}", fate="upscale",
    )  # fmt: skip


def _route_of(plan: Plan, source: StreamSource, stream: Stream) -> StreamEntry:
    if _is_replaced(source, stream):
        return _entry(stream, "upscale")
    if plan.config.output is None:
        return _entry(stream, "drop", "everything is discarded")
    route = plan_route(source, stream, plan.encoding)
    return _entry(stream, route.how, route.note)


def _is_replaced(source: StreamSource, stream: Stream) -> bool:
    return source.stream is not None and source.stream.index == stream.index


def _entry(stream: Stream, fate: Fate, reason: str = "") -> StreamEntry:
    return StreamEntry(
        index=stream.index, kind="cover art" if is_cover_art(stream) else stream.type,
        codec=codec_of(stream), language=stream.language, details=", ".join(_details(stream)),
        fate=fate, reason=reason,
    )  # fmt: skip


def _details(stream: Stream) -> list[str]:
    details = []
    if isinstance(stream, VideoStream) and codec_of(stream):
        context = stream.codec_context
        details.append(f"{context.width}x{context.height} {context.pix_fmt}")
        if stream.guessed_rate and not is_cover_art(stream):
            details.append(f"{float(stream.guessed_rate):.6g} frames/s")
    elif isinstance(stream, AudioStream) and codec_of(stream):
        details += [f"{stream.codec_context.sample_rate} Hz", stream.codec_context.layout.name]
    if "filename" in stream.metadata:
        details.append(stream.metadata["filename"])
    lasting = stream.type != "attachment" and not is_cover_art(stream)
    if lasting and stream.duration and stream.time_base:
        details.append(f"{float(stream.duration * fraction(stream.time_base)):.3f} s")
    return details


def colour_tags(colour: Colour) -> dict[str, str]:
    """``colour`` in FFmpeg's words; ``unknown`` where it does not apply."""
    found = {}
    for name, (_, words) in COLOUR_OPTIONS.items():
        value = getattr(colour, name)
        found[name] = "unknown" if value == _UNSPECIFIED[name] else word_for(words, value)
    return found


def input_colour(plan: Plan) -> dict[str, Tag]:
    """The input's colour as it is read, tag by tag, and who said so."""
    stated, declared, used = plan.config.source, plan.source.tags, plan.source.info.colour
    filtered, found = bool(plan.source.filters), {}
    for name, value in colour_tags(used).items():
        origin: Origin = "guessed"
        tag = getattr(declared, name)
        believed = filtered or tag == getattr(used, name)  # not the range of RGB in files
        if getattr(stated, name) is not None:
            origin = "given"
        elif believed and tag not in (_UNSPECIFIED[name], None):
            origin = "declared"
        elif value == "unknown":
            origin = "unknown"
        found[name] = Tag(value=value, origin=origin)
    return found


def find_weights(plan: Plan) -> Weights | None:
    """The file that the network was loaded from; None if it is a filter, which has none."""
    config = plan.config
    if config.weights is not None:
        return Weights(
            path=config.weights, sha256=file_sha256(config.weights),
            licence=_stated_licence(config.weights),
        )  # fmt: skip
    scale: int | Fraction | None = plan.network.scale
    entry = find_model(config.model, scale)
    if entry.is_classical:
        return None
    path = locate(entry)
    licence = entry.licence or _stated_licence(path)
    return Weights(path=path, sha256=file_sha256(path), licence=licence)


def _stated_licence(path: Path) -> str | None:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        return None
    return metadata.get("license") or metadata.get("licence")


def content_of(path: Path) -> Content:
    """Size and hash of what ``path`` names: a file, pictures, or a pipe that is gone.

    Raises:
        OSError: a file cannot be read.
    """
    if path == PIPE:
        return Content()
    if path.is_file():
        return Content(size=path.stat().st_size, sha256=file_sha256(path))
    found = find_images(path)
    if found is None:
        return Content()
    listing = "".join(f"{file_sha256(picture)}  {picture.name}\n" for picture in found.paths)
    return Content(
        size=sum(picture.stat().st_size for picture in found.paths), pictures=len(found.paths),
        sha256=hashlib.sha256(listing.encode()).hexdigest(),
    )  # fmt: skip

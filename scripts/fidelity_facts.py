"""What ffprobe and ffmpeg say about a media file; nothing here uses vsr's own reader, or PyAV.

:func:`read` gathers it with a handful of calls, as plain values that :mod:`fidelity_promises`
compares: one :class:`Facts` for the source, one for the result.
"""

import json
import subprocess
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

__all__ = ["Facts", "Stream", "Unreadable", "decodes_cleanly", "picture_hashes", "read", "versions"]

Record = dict[str, Any]

_TEXT = {"subrip", "text", "ass", "ssa", "mov_text", "webvtt"}
_PACKET = "packet=stream_index,pts_time,dts_time,duration_time,size"
_FRAME = (
    "frame=best_effort_timestamp_time,pkt_duration_time,interlaced_frame,top_field_first,"
    "color_range,color_space,color_primaries,color_transfer,chroma_location:"
    "frame_side_data"
)
_IN_PIXELS = {
    "gbrp": ("rgb24", "bgr24", "0rgb", "0bgr", "rgb0", "bgr0"),
    "gbrap": ("rgba", "bgra", "argb", "abgr"),
}
"""Planar formats, and those that hold the same samples pixel by pixel."""
_HASHED_AS = {"gbrp": "rgb24", "gbrap": "rgba"}
"""What FFmpeg turns all of these into exactly; into planes, 5.1 rounds alpha."""


class Unreadable(Exception):
    """ffprobe or ffmpeg gave no answer; the text is theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One stream as the container describes it, and its packets."""

    index: int
    kind: str
    """FFmpeg's media type, or ``cover`` for an attached picture."""
    codec: str
    """Empty if ffprobe knows none."""
    facts: Record
    """ffprobe's section of it."""
    packets: tuple[Record, ...] = ()
    digest: str = ""
    """MD5 of all its bytes, without what only one container wraps around them."""
    text: str = ""
    """Of text subtitles: the lines that SubRip would show, without their times."""

    @property
    def tags(self) -> dict[str, str]:
        """Its metadata, keys in lower case: containers differ in that."""
        return {key.lower(): value for key, value in self.facts.get("tags", {}).items()}

    @property
    def dispositions(self) -> frozenset[str]:
        """Those that are set."""
        return frozenset(key for key, value in self.facts["disposition"].items() if value)

    @property
    def times(self) -> list[Fraction]:
        """When its packets are shown, in seconds; sorted, without those that do not say."""
        shown = (packet.get("pts_time", packet.get("dts_time")) for packet in self.packets)
        return sorted(Fraction(time) for time in shown if time is not None)

    @property
    def end(self) -> Fraction:
        """When its last packet is over, in seconds."""
        lengths = (Fraction(packet.get("duration_time", 0)) for packet in self.packets)
        starts = (packet.get("pts_time", packet.get("dts_time")) for packet in self.packets)
        ends = [Fraction(s) + d for s, d in zip(starts, lengths, strict=True) if s is not None]
        return max(ends, default=Fraction(0))


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One media file."""

    path: Path
    format: Record
    streams: tuple[Stream, ...]
    chapters: tuple[Record, ...]
    frames: tuple[Record, ...] = field(repr=False)
    """The frames of the picture, in the order in which they are shown."""
    captions: str
    """Closed captions as ffmpeg extracts them: a hash for each frame that has some."""

    @cached_property
    def video(self) -> Stream:
        """The picture: the first video that is no cover."""
        return next(stream for stream in self.streams if stream.kind == "video")

    @property
    def planar_format(self) -> str:
        """FFmpeg's name of the picture's pixel format, RGB of 8 bits as if it lay in planes."""
        name = str(self.video.facts.get("pix_fmt", ""))
        return next((planar for planar, names in _IN_PIXELS.items() if name in names), name)

    @property
    def start(self) -> Fraction | None:
        """Where the container says that it starts, in seconds."""
        start = self.format.get("start_time")
        return None if start is None else Fraction(start)

    @property
    def tags(self) -> dict[str, str]:
        """Metadata of the whole file, keys in lower case."""
        return {key.lower(): value for key, value in self.format.get("tags", {}).items()}

    @cached_property
    def times(self) -> list[Fraction]:
        """When frames are shown, in seconds; those without a time are left out."""
        shown = (frame.get("best_effort_timestamp_time") for frame in self.frames)
        return [Fraction(time) for time in shown if time is not None]

    def of(self, *kinds: str) -> list[Stream]:
        """The streams of these kinds, the picture excepted."""
        return [s for s in self.streams if s.kind in kinds and s.index != self.video.index]

    def side_data(self, kind: str) -> Record | None:
        """Side data whose type begins with ``kind``: the container's, else of the first frame."""
        places = [self.video.facts, *self.frames]
        for place in places:
            for one in place.get("side_data_list", ()):
                if str(one.get("side_data_type", "")).startswith(kind):
                    return dict(one)
        return None

    def colour(self, tag: str) -> str | None:
        """A colour tag of the picture, None if nothing declares it."""
        first = self.frames[0] if self.frames else {}
        for place in (self.video.facts, first):
            value = place.get(tag)
            if value not in (None, "unknown", "unspecified", "reserved"):
                return str(value)
        return None


def read(path: Path) -> Facts:
    """Everything about ``path``.

    Raises:
        Unreadable: it is no media file, or none of its video decodes.
    """
    described = _probe(
        path, "-show_format", "-show_streams", "-show_chapters", "-show_data_hash", "md5",
        "-show_entries", _PACKET,
    )  # fmt: skip
    streams = tuple(_stream(path, facts, described) for facts in described["streams"])
    facts = Facts(
        path=path, format=described["format"], streams=streams,
        chapters=tuple(described["chapters"]), frames=(), captions="",
    )  # fmt: skip
    if all(stream.kind != "video" for stream in streams):
        raise Unreadable(f"{path.name}: no video stream")
    frames = tuple(_frames(path, facts.video.index))
    captions = _captions(path) if any(_has_captions(frame) for frame in frames) else ""
    return Facts(
        path=path, format=facts.format, streams=streams, chapters=facts.chapters,
        frames=frames, captions=captions,
    )  # fmt: skip


def picture_hashes(facts: Facts) -> list[str]:
    """MD5 of every decoded frame, as stored: not rotated; RGB of 8 bits in one order of samples."""
    exact = ("-flags", "bitexact", "-idct", "simple")  # processors have inverse DCTs of their own
    output = _run(
        "ffmpeg", "-v", "quiet", "-noautorotate", *exact, "-copyts", "-i", str(facts.path), "-map",
        f"0:{facts.video.index}", "-fps_mode", "passthrough",
        *(("-pix_fmt", alike) if (alike := _HASHED_AS.get(facts.planar_format)) else ()),
        "-f", "framemd5", "-",
    )  # fmt: skip
    return [line.rpartition(",")[2].strip() for line in output.splitlines() if line[:1] != "#"]


def decodes_cleanly(facts: Facts) -> bool:
    """Whether ffmpeg has nothing to say against the picture."""
    command = ["ffmpeg", "-v", "error", "-i", str(facts.path)]
    command += ["-map", f"0:{facts.video.index}", "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode == 0 and not done.stderr


def versions() -> str:
    """ffprobe's first line, without the copyright."""
    return _run("ffprobe", "-version").partition(" Copyright")[0]


def _run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    if check and done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise Unreadable(f"{command[0]}: {reason}")
    return done.stdout


def _probe(path: Path, *arguments: str) -> Record:
    found = _run("ffprobe", "-v", "error", "-of", "json", *arguments, str(path))
    return dict(json.loads(found))


def _frames(path: Path, index: int) -> list[Record]:
    shown = _probe(path, "-select_streams", str(index), "-show_entries", _FRAME)
    return list(shown.get("frames", ()))


def _stream(path: Path, facts: Record, described: Record) -> Stream:
    index, codec = int(facts["index"]), str(facts.get("codec_name", "unknown"))
    kind = "cover" if facts["disposition"]["attached_pic"] else str(facts["codec_type"])
    packets = described.get("packets", ())
    known = codec != "unknown"
    copied = known and kind in ("audio", "subtitle", "cover")
    gap = 2 if codec == "mov_text" else -1  # mp4 fills the time between subtitles with empty ones
    return Stream(
        index=index, kind=kind, codec=codec if known else "", facts=facts,
        packets=tuple(
            packet for packet in packets
            if packet["stream_index"] == index and int(packet["size"]) > gap
        ),
        digest=_digest(path, index, codec) if copied else "",
        text=_shown_text(path, index) if kind == "subtitle" and codec in _TEXT else "",
    )  # fmt: skip


def _digest(path: Path, index: int, codec: str) -> str:
    """ffmpeg's hash of a whole stream: how containers cut it into packets does not matter."""
    unwrapped = ("-bsf", "aac_adtstoasc") if codec == "aac" else ()  # MPEG-TS frames every packet
    output = _run(
        "ffmpeg", "-v", "error", "-i", str(path), "-map", f"0:{index}", "-c", "copy", *unwrapped,
        "-f", "streamhash", "-hash", "md5", "-", check=False,
    )  # fmt: skip
    return output.strip().rpartition("=")[2]


def _shown_text(path: Path, index: int) -> str:
    output = _run(
        "ffmpeg", "-v", "error", "-i", str(path), "-map", f"0:{index}", "-f", "srt", "-",
        check=False,
    )  # fmt: skip
    return "\n".join(line for line in output.splitlines() if line and " --> " not in line)


def _has_captions(frame: Record) -> bool:
    return any("Closed Captions" in str(one) for one in frame.get("side_data_list", ()))


def _captions(path: Path) -> str:
    """The payloads of all captions, hashed one by one, in the order in which they are shown."""
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'").replace(":", "\\:")
    output = _run(
        "ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"movie='{escaped}'[out0+subcc]", "-map",
        "0:s", "-c", "copy", "-f", "framemd5", "-", check=False,
    )  # fmt: skip
    rows = (line.rpartition(",")[2].strip() for line in output.splitlines() if line[:1] != "#")
    return " ".join(rows)

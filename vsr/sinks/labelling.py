"""Gives an output the metadata, dispositions and timecode of its source."""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.codec.context import CodecContext
from av.container import OutputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from vsr.encoding.muxers import flags_in
from vsr.encoding.streams import StreamSource, codec_of, is_cover_art
from vsr.encoding.ts_programs import programs_of
from vsr.ffmpeg import fraction, known_fraction
from vsr.immersive import Immersive
from vsr.notes import Notes
from vsr.sinks.labels import (
    holds_reel_name,
    holds_timecode,
    is_undescribed,
    kept_metadata,
    lost_chapter_tags,
    lost_dispositions,
    lost_tags,
    metadata_flags,
    stream_metadata,
    way_to_keep,
)
from vsr.sinks.timecode import drops_numbers, first_timecode

if TYPE_CHECKING:
    from av.container.core import Chapter  # exists in PyAV's stubs only

__all__ = ["Labelling"]

_ANY_KEY = "use_metadata_tags"
_KNOWN_PACKINGS = ("mono", "left_right", "top_bottom")  # of those that vsr.immersive reads


class Labelling:
    """Labels a file and its streams as the source's are, and keeps in mind what has no place.

    Args:
        source: where the labels come from.
        muxer: FFmpeg's name of the output's container.
        notes: gets a line for everything that cannot be kept.
        immersive: what the output's picture is beyond a flat view, if anything.
    """

    def __init__(
        self, source: StreamSource, muxer: str, notes: Notes, immersive: Immersive | None = None
    ) -> None:
        self._source = source
        self._packing = None if immersive is None else immersive.packing
        self._muxer = muxer
        self._of_file = _file_metadata(source)
        self._notes = notes
        self._any_key = False
        self._lost_tags: list[str] = []
        self._way_to_keep = ""
        self._lost_dispositions: list[str] = []

    def container_options(self, given: Mapping[str, str]) -> dict[str, str]:
        """``given`` options of the container, and those that the source's metadata asks for."""
        flags = metadata_flags(self._of_file, self._muxer)
        joined = given.get("movflags", "") + flags
        self._any_key = flags_in(joined).get(_ANY_KEY, False) and self._muxer in ("mp4", "mov")
        return {**given, "movflags": joined} if flags else dict(given)

    def label_file(self, container: OutputContainer) -> None:
        """Give ``container`` the source's metadata."""
        metadata = kept_metadata({**self._service(), **self._of_file}, self._muxer)
        container.metadata.update(metadata)
        lost = lost_tags(metadata, self._muxer, any_key=self._any_key)
        self._lost_tags += [f"{key} (file)" for key in lost]
        self._way_to_keep = way_to_keep(lost, self._muxer)

    def _service(self) -> dict[str, str]:
        """What the program of the picture is called, if the source is a transport stream."""
        programs = programs_of(self._source.container)
        if len(programs) > 1:
            named = ", ".join(program.describe() for program in programs)
            self._notes.warn(f"the {len(programs)} programs of the input become one: {named}")
            picture = self._source.stream
            programs = [p for p in programs if picture is not None and picture.index in p.streams]
        return programs[0].tags if programs else {}

    def label(self, stream: Stream, output: Stream) -> None:
        """Give ``output`` the metadata and dispositions of ``stream``."""
        source = self._source.container
        metadata = stream_metadata(stream.metadata, self._muxer)
        replaced = self._source.stream
        if replaced is not None and stream.index == replaced.index:
            metadata = {
                key: value for key, value in metadata.items()
                if key.lower() != "alpha_mode"  # of VP8 and VP9, which the muxer sets itself
                and not (key == "stereo_mode" and self._is_told_otherwise(replaced))
            }  # fmt: skip
        output.metadata.update(metadata)
        output.disposition = stream.disposition
        if stream.type == "attachment" or is_cover_art(stream):
            return
        place = f"({stream.type} stream {stream.index})"
        lost = lost_tags(
            metadata, self._muxer, of_file=self._of_file,
            undescribed=is_undescribed(stream.type, codec_of(stream)),
        )  # fmt: skip
        self._lost_tags += [f"{key} {place}" for key in lost]
        alone = sum(other.type == stream.type for other in source.streams) == 1
        names = lost_dispositions(
            stream.disposition, self._muxer, alone=alone, kind=stream.type, header=_header(stream)
        )
        self._lost_dispositions += [f"{name} {place}" for name in names]

    def _is_told_otherwise(self, picture: VideoStream) -> bool:
        """Whether Matroska's tag of two views is of no use: side data say it, or nothing is to."""
        known = picture.metadata["stereo_mode"] in _KNOWN_PACKINGS
        told = known and "stereo_3d" in picture.codec_context.coded_side_data
        return told and not (self._packing is not None and self._muxer in ("matroska", "webm"))

    def label_chapters(self, chapters: "list[Chapter]") -> None:
        """Keep in mind which tags of ``chapters``, those of the output, have no place."""
        numbers: dict[str, list[int]] = {}
        for number, chapter in enumerate(chapters, 1):
            for key in lost_chapter_tags(chapter["metadata"], self._muxer, self._of_file):
                numbers.setdefault(key, []).append(number)
        for key, found in numbers.items():
            where = f"chapter {found[0]}" if len(found) == 1 else f"{len(found)} chapters"
            self._lost_tags.append(f"{key} ({where})")

    def label_picture(
        self, source: VideoStream | None, video: VideoStream, container: OutputContainer
    ) -> None:
        """Give ``video`` the labels of the picture, and it and ``container`` the timecode.

        ``source`` is the stream that it takes the place of; None if there is none.
        """
        if source is not None:
            self.label(source, video)
            self._take_over_timecode_track(video)
        if (own := self._source.timecode) is not None:
            container.metadata.pop("timecode", None)
            video.metadata["timecode"] = own.text
            if lost_tags({"timecode": own.text}, self._muxer, of_file={}, undescribed=True):
                self._lost_tags.append("timecode (of the input)")
            self._settle_timecode(video, container, own.rate, own.ahead)
        elif source is not None:
            counted = known_fraction(source.guessed_rate) or fraction(video.codec_context.framerate)
            self._settle_timecode(video, container, counted, self._skipped(source))

    def report(self) -> None:
        """Note the tags and dispositions that the container has no place for."""
        for what, lost, hint in (
            ("tags", self._lost_tags, self._way_to_keep),
            ("dispositions", self._lost_dispositions, ""),
        ):
            if lost:
                named = ", ".join(lost)
                self._notes.warn(
                    f"{what} are dropped, {self._muxer} has no place for them: {named}{hint}"
                )

    def _take_over_timecode_track(self, video: VideoStream) -> None:
        """Let the picture say what a track of MOV or MP4 does, of which FFmpeg makes one again."""
        for stream in self._source.container.streams.data:
            if "timecode" in stream.metadata:
                video.metadata.setdefault("timecode", stream.metadata["timecode"])
                if reel := stream.metadata.get("reel_name"):
                    video.metadata.setdefault("reel_name", reel)
                    if not holds_reel_name(self._muxer):
                        self._lost_tags.append(f"reel_name (data stream {stream.index})")

    def _settle_timecode(
        self, video: VideoStream, container: OutputContainer, source_rate: Fraction, ahead: Fraction
    ) -> None:
        """Make what is the timecode of the source's first frame that of the output's.

        Args:
            video: the picture's stream.
            container: the file, which may have it instead.
            source_rate: frames a second that it counts.
            ahead: seconds from that frame to the first of the output.
        """
        rate = fraction(video.codec_context.framerate)
        if not holds_timecode(self._muxer, rate):
            gone = [labelled.metadata.pop("timecode", None) for labelled in (container, video)]
            reel = " with its reel's name" if video.metadata.pop("reel_name", None) else ""
            if any(gone):
                self._notes.warn(
                    f"timecode is dropped{reel}: there is none at {float(rate):g} frames/s"
                )
        frames = max(0, math.ceil(ahead * rate - Fraction(1, 100)))  # times may be rounded
        for labelled in (container, video):
            if timecode := labelled.metadata.get("timecode"):
                labelled.metadata["timecode"] = self._later(timecode, source_rate, rate, frames)

    def _later(self, timecode: str, source_rate: Fraction, rate: Fraction, frames: int) -> str:
        """What ``timecode`` is ``frames`` later, and at the rate of the output."""
        first = first_timecode(timecode, source_rate, rate, frames)
        if first is None:
            if frames or round(source_rate) != round(rate):
                self._notes.warn(f"timecode {timecode} stays that of the input's first frame")
            return timecode
        if drops_numbers(timecode) and not drops_numbers(first):
            self._notes.warn(
                f"timecode {timecode} goes on as {first}, which drops no numbers: there is no"
                f" timecode that does at {float(rate):.6g} frames/s"
            )
        return first

    def _skipped(self, source: VideoStream) -> Fraction:
        """Seconds of the picture that lie ahead of the start of the output."""
        begin = Fraction(self._source.container.start_time or 0, av.time_base)
        if source.start_time is not None and source.time_base:  # sound may begin earlier
            begin = source.start_time * fraction(source.time_base)
        return self._source.start_time - begin


def _file_metadata(source: StreamSource) -> dict[str, str]:
    """The file's metadata; of a list of files, FFmpeg gives when it was made by the stream only."""
    metadata, picture = dict(source.container.metadata), source.stream
    if picture is not None and (made := picture.metadata.get("creation_time")) is not None:
        metadata.setdefault("creation_time", made)
    return metadata


def _header(stream: Stream) -> bytes:
    """What its codec says of a stream ahead of the packets; empty if that is nothing."""
    context: CodecContext | None = stream.codec_context  # None of teletext, whatever the stubs say
    return (context.extradata if context is not None else None) or b""

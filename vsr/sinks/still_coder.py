"""Frames as pictures, each a whole file in memory, and what those lose."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from av.packet import Packet

from vsr import icc
from vsr.encoding import Encoding
from vsr.encoding.stills import coded_format, open_still_encoder
from vsr.encoding.streams import StreamSource, left_behind
from vsr.ffmpeg import write_tags
from vsr.frame import Frame, Matrix, VideoInfo
from vsr.notes import Notes
from vsr.orientation import Orientation
from vsr.sinks import dpx
from vsr.sinks.packing import pack

__all__ = ["StillCoder", "still_losses"]

logger = logging.getLogger(__name__)


class StillCoder:
    """Encodes frames as pictures; each packet is a whole file.

    Args:
        encoding: from :func:`vsr.encoding.stills.choose_still_encoding`.
        info: facts about the *output*.
        warn: told what pictures lose that the first one has not.
    """

    def __init__(self, encoding: Encoding, info: VideoInfo, warn: Callable[[str], None]) -> None:
        self._encoding, self._info, self._warn = encoding, info, warn
        self._turn, self._coded = _turn(info), coded_format(encoding)
        self._encoder = open_still_encoder(encoding, self._as_seen(), threads=0)
        self._profiles = dict[int, bytes]()

    def encode(self, frame: Frame, number: int) -> "list[Packet[Any]]":
        """The pictures that are ready after ``frame``; their pts are the numbers of frames."""
        picture = pack(self._turn.apply(frame), self._coded)
        write_tags(picture, replace(self._encoding.colour, matrix=Matrix.RGB))
        picture.pts, picture.time_base = number, 1 / self._info.rate
        if frame.icc is not None and self._holds(frame.icc):
            self._profiles[number] = frame.icc
        return list(map(self._described, self._encoder.encode(picture)))

    def _holds(self, profile: bytes) -> bool:
        """Whether a picture can have ``profile``; why not is said, unless it was of the first."""
        codec, form, first = self._encoding.codec, self._encoding.format, self._info.icc
        reason = icc.why_not(profile, codec, form)
        if reason and (first is None or icc.why_not(first, codec, form) != reason):
            self._warn(f"the ICC profile of some pictures is dropped: {reason}")
        return reason is None

    def flush(self) -> "list[Packet[Any]]":
        """The pictures that are left."""
        return list(map(self._described, self._encoder.encode(None)))

    def _described(self, packet: "Packet[Any]") -> "Packet[Any]":
        """A picture with what FFmpeg does not write: the ICC profile of its frame, DPX's rate."""
        assert packet.pts is not None
        profile, codec = self._profiles.pop(packet.pts, None), self._encoding.codec
        if codec == "dpx" and not self._info.rate_is_guess:
            found = Packet(dpx.with_rate(bytes(packet), self._info.rate))
        elif profile is not None:
            found = Packet(icc.embed(profile, codec, bytes(packet)))
        else:
            return packet
        found.pts, found.time_base = packet.pts, packet.time_base
        return found

    def _as_seen(self) -> VideoInfo:
        """The facts of a picture that has been turned."""
        info = self._info
        width, height = self._turn.size(info.width, info.height)
        sar = 1 / info.sar if info.sar is not None and self._turn.transposed else info.sar
        return replace(info, width=width, height=height, sar=sar, display_matrix=None)


def still_losses(encoding: Encoding, info: VideoInfo, source: StreamSource | None) -> Notes:
    """One line, which is logged, for everything that pictures cannot hold.

    Args:
        encoding: from :func:`vsr.encoding.stills.choose_still_encoding`.
        info: facts about the *output*.
        source: whose other streams stay behind; None for none.
    """
    matrix, codec = info.display_matrix, encoding.codec
    notes = Notes(logger=logger)
    if not _turn(info).upright:
        notes.append(f"pictures are turned upright: {codec} has no rotation")
        logger.info("%s", notes[-1])
    elif matrix is not None and Orientation.parse(matrix) is None:
        notes.warn(f"rotation is lost: {codec} pictures cannot hold it")
    for note in left_behind(source, f"{codec} pictures") if source is not None else ():
        notes.warn(note)
    return notes


def _turn(info: VideoInfo) -> Orientation:
    matrix = info.display_matrix
    return (matrix and Orientation.parse(matrix)) or Orientation()

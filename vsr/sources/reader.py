"""What every reader offers: the facts of an input, and its pictures in order."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vsr.frame import Colour, FieldOrder, Siting
from vsr.hdr import HdrMetadata
from vsr.immersive import Immersive
from vsr.sources.companion import MadeSound
from vsr.sources.lookahead import TimedFrame
from vsr.sources.relay import PacketRelay
from vsr.sources.report import SourceReport

__all__ = ["InputFacts", "Reader"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFacts:
    """What is known of an input once it is open, and stays."""

    kind: str
    """What it is, in a word or by FFmpeg's name of the format."""
    codec: str
    """FFmpeg's name of the codec."""
    rate: Fraction
    """Nominal frames per second."""
    rate_is_guess: bool = False
    """Whether nothing says :attr:`rate`, neither the input nor who runs this."""
    has_times: bool = True
    """Whether the input says when its pictures are shown; they follow :attr:`rate` where not."""
    time_base: Fraction
    """Seconds per unit of the timestamps."""
    start_time: Fraction
    """Seconds that are subtracted from every timestamp."""
    origin: Fraction
    """The same by the clock of the pictures; another where these are merely counted."""
    skipped: Fraction
    """Seconds from the start of the input to where the part begins that is read."""
    lead: Fraction = Fraction(0)
    """Seconds from the start of the input to its first picture, wanted or not."""
    count: int | None = None
    """Frames of the whole input, if it says."""
    length: Fraction | None = None
    """Seconds of the whole input, if it says."""
    tags: Colour
    """Colour as the container tags it."""
    left_means: Siting = Siting.LEFT
    """Where chroma lies in frames that the decoder tags as left, perhaps for want of a tag."""
    sar: Fraction | None = None
    """Sample aspect ratio, None if unknown."""
    icc: bytes | None = None
    """ICC profile of the first picture, of pictures in files of their own."""
    cropping: tuple[int, int, int, int] = (0, 0, 0, 0)
    """What is to be cut: top, bottom, left, right, in pixels."""
    claims_alpha: bool = False
    """Whether the container says that there is alpha, which a decoder may not see."""
    states_fields: bool = False
    """Whether a field order comes from who made the frames, rather than from who coded them."""
    flags_fields: bool = True
    """Whether flags of frames speak of fields; those of PNG speak of the order of its lines."""
    is_still: bool = False
    """Whether its pictures are photographs or the like, rather than frames of a film."""
    has_side_data: bool = False
    """Whether frames' side data can be looked at."""
    may_leap: bool = False
    """Whether its clock may leap where recordings were joined."""
    is_awaited: bool = False
    """Whether it is a pipe, whose frames may be made only while it is read."""
    has_other_streams: bool = False
    """Whether there is more to it than the pictures."""
    sound: MadeSound | None = None
    """What goes beside the pictures of a script that makes it."""
    single: bool = False
    """Whether it is one picture by its own name."""
    first_number: int | None = None
    """Of the first picture's file, of pictures that are numbered one by one."""
    stems: tuple[str, ...] = ()
    """The names of the pictures' files, without extensions; none if two have the same."""


class Reader(Protocol):
    """Decoded pictures in order, each with a sound timestamp, inside the trim."""

    name: str
    """The input in a message."""
    notes: list[str]
    """A line for each decision."""
    relay: PacketRelay
    """Packets of the input's other streams."""

    @property
    def facts(self) -> InputFacts:
        """What is known of the input."""

    # Of media files.

    @property
    def container(self) -> InputContainer | None:
        """The open input; None if FFmpeg has opened none."""

    @property
    def stream(self) -> VideoStream | None:
        """The video stream that is decoded; None if there is no container."""

    @property
    def bit_rate(self) -> int | None:
        """Bits a second of the video as far as the file says."""

    # What has happened so far.

    @property
    def decode_errors(self) -> int:
        """Packets that the decoder refused."""

    @property
    def joins(self) -> int:
        """How often the clock has started again, and was counted on."""

    @property
    def given_up(self) -> bool:
        """Whether standard input, or a frame of a script, was not waited for any longer."""

    @property
    def broken(self) -> str | None:
        """How the input ends in the middle of a frame, once it has been read to its end."""

    # Frames.

    def next(self) -> TimedFrame | None:
        """The next frame; None at the end of the input or of the trim."""

    def peek(self, count: int, size: int) -> list[TimedFrame]:
        """Up to ``count`` of the coming frames, together about ``size`` bytes; they stay."""

    @property
    def timing(self) -> list[int] | None:
        """What the duration of the last frame depends on; None while frames wait."""

    def resume_timing(self, state: list[int]) -> None:
        """Take over, after :meth:`skip`, what :attr:`timing` was when the same frame had come."""

    def skip(self, number: int, pts: int) -> bool:
        """Make a later frame the coming one, exactly.

        Args:
            number: counted from 0 from where reading begins.
            pts: its time, in units of ``time_base`` and not shifted.

        Returns:
            Whether that could be done; if not, :meth:`rewind` must follow.
        """

    def rewind(self) -> None:
        """Begin again with the frame that came first."""

    # What a frame says, completed by the input.

    def colour(self, frame: VideoFrame) -> Colour:
        """Colour tags of ``frame``."""

    def display_matrix(self, frame: VideoFrame) -> bytes | None:
        """FFmpeg's display matrix, 36 bytes."""

    def field_order(self, frame: VideoFrame) -> FieldOrder:
        """The stream's field order."""

    def hdr(self, frame: VideoFrame) -> tuple[HdrMetadata | None, list[str]]:
        """Mastering display and content light, and a line for what is dropped."""

    def immersive(self, frame: VideoFrame) -> tuple[Immersive | None, list[str]]:
        """Whether a picture holds two views or is a sphere, and a line for what is dropped."""

    # The end.

    def last_duration(self) -> int:
        """Duration of the last frame, in units of ``time_base``."""

    def finish(self, report: SourceReport, stopped_at: Fraction | None) -> None:
        """After the last frame, which ended at ``stopped_at`` if more would follow."""

    def close(self) -> None:
        """Close the input; harmless if done before."""

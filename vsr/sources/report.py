"""What went wrong while a source was read, in numbers and in sentences."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction

from vsr.errors import SourceError
from vsr.frame import Colour

__all__ = ["SourceReport", "start_beyond_end"]

_LISTED = 10_000
"""Numbers kept of each kind, so that memory stays bounded."""
_SHOWN = 12
"""Runs of numbers in a sentence."""


@dataclass(slots=True)
class SourceReport:
    """Counters of a source, filled while it is iterated."""

    frames: int = 0
    """Frames delivered."""
    read: int = 0
    """Decoded frames that they were made from: as many, unless filters changed the number."""
    corrupt_frames: int = 0
    """Decoded frames in which the decoder concealed damage."""
    damaged: list[int] = field(default_factory=list)
    """Numbers of the first of them, counted from 0 where reading began."""
    repaired: list[int] = field(default_factory=list)
    """Numbers of the first frames with a repaired timestamp, counted the same way."""
    decode_errors: int = 0
    """Packets that the decoder refused."""
    lost_ahead: int = 0
    """Packets ahead of the first key frame that led to no picture."""
    repaired_pts: int = 0
    """Frames whose timestamp was missing or not after the one before."""
    reformatted_frames: int = 0
    """Frames of another size or pixel format than the first, converted to it."""
    conversion_losses: Counter[str] = field(default_factory=Counter)
    """How many of them lost what, in a word."""
    retagged_frames: int = 0
    """Frames delivered whose matrix, range or siting is not that of the first."""
    recoloured_frames: int = 0
    """Frames delivered whose primaries or transfer are not, which are not converted."""
    reshaped: tuple[Fraction, Fraction] | None = None
    """The sample aspect ratios before and after a change in mid-stream; the last change counts."""
    not_finite: int = 0
    """Pictures of floating point that hold infinity or no number at all."""
    jumps: int = 0
    """How often the clock of a transport or program stream leaps ahead."""
    longest_jump: Fraction = Fraction(0)
    """Seconds of the longest of these leaps."""
    unfound_duration: Fraction = Fraction(0)
    """Seconds of picture in the middle that AVI's index lists, and that are not in the file."""
    unfound_sound: Fraction = Fraction(0)
    """The same of sound; of several streams, the most."""
    lost_segments: list[str] = field(default_factory=list)
    """A sentence for each segment of a playlist of which something is missing."""
    expected_duration: Fraction | None = None
    """Length of the file in seconds by its own header, None if it does not say."""
    missing_duration: Fraction = Fraction(0)
    """Seconds that the header promises and the file does not hold."""
    missing_sound: Fraction = Fraction(0)
    """Seconds at the end of sound that MP4 lists and does not hold, if they are more than of the
    picture; of several streams, the most."""
    has_end: bool = False
    """Whether the end of the file is there, so that what is missing lies in its middle."""
    is_cut: bool = False
    """Whether a transport stream ends in the middle of a packet."""
    ends_early: bool = False
    """Whether another file does, so that something that nobody knows the length of is missing."""
    unreadable_from: Fraction | None = None
    """Where an error ended reading, in seconds from the start of the input."""

    def note(self, *, repaired: bool, damaged: bool) -> None:
        """Count one decoded frame."""
        for flag, numbers in ((repaired, self.repaired), (damaged, self.damaged)):
            if flag and len(numbers) < _LISTED:
                numbers.append(self.read)
        self.repaired_pts += repaired
        self.corrupt_frames += damaged
        self.read += 1

    def note_colour(self, own: Colour, first: Colour) -> None:
        """Compare the colour of a frame that is delivered with that of the ``first``."""
        relabelled = replace(own, primaries=first.primaries, transfer=first.transfer)
        self.retagged_frames += relabelled != first
        self.recoloured_frames += own != relabelled

    def lines(self) -> list[str]:
        """One sentence for each kind of trouble; empty when all is well."""
        found = []
        if self.decode_errors:
            found.append(
                f"{_count(self.decode_errors, 'packet')} could not be decoded and left out"
            )
        if self.corrupt_frames:
            found.append(
                f"{_count(self.corrupt_frames, 'frame')} of {self.read} damaged in the source"
                f" ({_runs(self.damaged)}): the damage was concealed as far as possible"
            )
        if self.repaired_pts:
            found.append(
                f"{_count(self.repaired_pts, 'frame')} of {self.read} had a missing or backward"
                " timestamp, which was repaired"
            )
        if self.jumps:
            found.append(
                f"the clock leaps ahead {_count(self.jumps, 'time')}, by up to"
                f" {float(self.longest_jump):.0f} s, in which the picture stands still; if these"
                " are joins and not pauses, ffmpeg -i IN -map 0 -c copy OUT.ts closes them first"
            )
        found += self._changes()
        if self.not_finite:
            found.append(
                f"{_count(self.not_finite, 'picture')} of {self.read} with samples that are no"
                " numbers or infinite: taken as 0 or the largest number"
            )
        found += self._missing()
        return found

    def _missing(self) -> list[str]:
        """What the file should hold and does not."""
        found = self.lost_segments[:_SHOWN]
        if more := len(self.lost_segments) - len(found):
            found.append(f"of {_count(more, 'further segment')}, something is lost as well")
        for what, lost in (("picture", self.unfound_duration), ("sound", self.unfound_sound)):
            if lost:
                found.append(
                    f"{float(lost):.2f} s of {what} that the index lists are not in the file: it is"
                    " damaged there; what follows keeps its time"
                )
        found += self._missing_end()
        if self.is_cut:
            found.append(
                "the input ends in the middle of a packet: the last frame may be damaged or missing"
            )
        return found

    def _missing_end(self) -> list[str]:
        """What it should hold up to its end, or up to where its header says that it ends."""
        found = []
        if self.missing_duration and self.expected_duration is not None:
            missing = f"{float(self.missing_duration):.2f} s of"
            missing += f" {float(self.expected_duration):.2f} s are missing"
            found.append(
                f"{missing}, in the middle: what follows comes too early"
                if self.has_end
                else f"the last {missing}: {self._why_missing()}"
            )
        elif self.unreadable_from is not None:
            found.append(f"what follows {float(self.unreadable_from):.2f} s cannot be read")
        elif self.ends_early:
            found.append("it breaks off in the middle of a packet: the file ends early")
        if self.missing_sound:
            found.append(
                f"the last {float(self.missing_sound):.2f} s of sound are missing: the file ends"
                " early"
            )
        return found

    def _why_missing(self) -> str:
        return "the file ends early" if self.unreadable_from is None else "they cannot be read"

    def _lost_by_conversion(self) -> str:
        lost = [f"{what} of {count}" for what, count in self.conversion_losses.items()]
        return f"; lost: {', '.join(lost)}" if lost else ""

    def _changes(self) -> list[str]:
        """What did not stay as it was in the first frame."""
        found = []
        if self.reformatted_frames:
            found.append(
                f"{_count(self.reformatted_frames, 'frame')} of {self.read} changed size or pixel"
                " format in mid-stream: converted to that of the first frame"
                + self._lost_by_conversion()
            )
        if self.retagged_frames:
            found.append(
                f"{_count(self.retagged_frames, 'frame')} of {self.frames} with other colour tags"
                " than the first: converted to its matrix and range"
            )
        if self.recoloured_frames:
            found.append(
                f"{_count(self.recoloured_frames, 'frame')} of {self.frames} with other primaries"
                " or another transfer than the first: not converted, and shown by those of the"
                " first; -ss and -to take a part"
            )
        if self.reshaped is not None:
            before, after = (f"{sar.numerator}:{sar.denominator}" for sar in self.reshaped)
            found.append(
                f"the sample aspect ratio changes in mid-stream, from {before} to {after}: the"
                " output has that of the beginning throughout; -ss and -to take a part"
            )
        return found


def start_beyond_end(name: str, start: Fraction) -> SourceError:
    """The error for a start that lies beyond the input's end.

    Args:
        name: the input in a message.
        start: where the part should begin, in seconds from the start of the input.
    """
    return SourceError(f"{name}: the start, {float(start):g} s, lies beyond its end")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _runs(numbers: Iterable[int]) -> str:
    """``number 3, 7-9, 12`` of rising numbers."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    shown = ", ".join("-".join(map(str, run)) for run in runs[:_SHOWN])
    return f"number {shown}" + (", …" if len(runs) > _SHOWN else "")

"""What went wrong while a source was read, in numbers and in sentences."""

from dataclasses import dataclass
from fractions import Fraction

__all__ = ["SourceReport"]


@dataclass(slots=True)
class SourceReport:
    """Counters of a source, filled while it is iterated."""

    frames: int = 0
    """Frames delivered."""
    corrupt_frames: int = 0
    """Frames among them in which the decoder concealed damage."""
    decode_errors: int = 0
    """Packets that the decoder refused."""
    repaired_pts: int = 0
    """Frames whose timestamp was missing or not after the one before."""
    reformatted_frames: int = 0
    """Frames of another size or pixel format than the first, converted to it."""
    expected_duration: Fraction | None = None
    """Length of the file in seconds by its own header, None if it does not say."""
    seen_duration: Fraction | None = None
    """Where its last packet ended, in seconds; None while the end has not been reached."""
    missing_duration: Fraction = Fraction(0)
    """Seconds that the header promises and the file does not hold."""

    def lines(self) -> list[str]:
        """One sentence for each kind of trouble; empty when all is well."""
        found = []
        if self.decode_errors:
            found.append(
                f"{_count(self.decode_errors, 'packet')} could not be decoded and left out"
            )
        if self.corrupt_frames:
            found.append(
                f"{_count(self.corrupt_frames, 'frame')} of {self.frames} damaged in the source:"
                " the damage was concealed as far as possible"
            )
        if self.repaired_pts:
            found.append(
                f"{_count(self.repaired_pts, 'frame')} of {self.frames} had a missing or backward"
                " timestamp, which was repaired"
            )
        if self.reformatted_frames:
            found.append(
                f"{_count(self.reformatted_frames, 'frame')} of {self.frames} changed size or pixel"
                " format in mid-stream: converted to that of the first frame"
            )
        if self.missing_duration and self.expected_duration is not None:
            found.append(
                f"the last {float(self.missing_duration):.2f} s of"
                f" {float(self.expected_duration):.2f} s are missing: the file ends early"
            )
        return found


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

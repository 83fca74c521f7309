"""YUV4MPEG2: raw pictures behind one line of text, which most video tools read.

FFmpeg's own writer, driven through PyAV, cannot say the aspect ratio. There are no timestamps: the
frame rate in the header is all that a reader knows.
"""

import logging
from fractions import Fraction
from pathlib import Path

from vsr.encoding import Encoding
from vsr.encoding.muxers import Y4M, Y4M_CHROMA, Y4M_SITINGS, Y4M_SUBSAMPLING
from vsr.encoding.streams import StreamSource, left_behind
from vsr.frame import FieldOrder, Frame, Range, VideoInfo
from vsr.notes import Notes
from vsr.rationals import bounded
from vsr.sinks.destination import Destination
from vsr.sinks.sink import SinkContext, check_frame

__all__ = ["Y4MSink", "y4m_header"]

logger = logging.getLogger(__name__)

_INTERLACING = {
    FieldOrder.UNKNOWN: "?", FieldOrder.PROGRESSIVE: "p", FieldOrder.TT: "t", FieldOrder.TB: "t",
    FieldOrder.BB: "b", FieldOrder.BT: "b",
}  # fmt: skip
_RANGES = {Range.LIMITED: " XCOLORRANGE=LIMITED", Range.FULL: " XCOLORRANGE=FULL"}


class Y4MSink(SinkContext):
    """Writes frames as YUV4MPEG2, to a file or a pipe.

    Args:
        destination: where the bytes go.
        encoding: from :func:`vsr.encoding.choose_encoding`.
        info: facts about the *output*: size, rate, aspect ratio, field order.
        source: whose other streams stay behind, with a note for each; None for none.

    Raises:
        SinkError: the header cannot be written.
        ReaderGone: nobody reads the pipe.
    """

    def __init__(
        self,
        destination: Destination,
        encoding: Encoding,
        info: VideoInfo,
        *,
        source: StreamSource | None = None,
    ) -> None:
        self.frames = 0
        """Frames written so far."""
        self.notes = Notes(logger=logger)
        """One line for everything that was lost."""
        self._destination = destination
        self._format = encoding.format
        self._info = info
        self._start: Fraction | None = None
        self._uneven = False
        if info.display_matrix is not None:
            self.notes.warn(f"rotation is lost: {Y4M} cannot hold it")
        for note in left_behind(source, Y4M) if source is not None else ():
            self.notes.warn(note)
        try:
            with destination.errors():
                self._output = destination.open()
                self._output.write(y4m_header(encoding, info).encode("ascii"))
        except BaseException:
            self.abort()
            raise

    def write(self, frame: Frame) -> None:
        """Write one frame.

        Raises:
            SinkError: e.g. the disk is full.
            ReaderGone: nobody reads the pipe.
            ValueError: the frame is not what was announced.
        """
        if self._closed:
            raise ValueError("the sink has been closed")
        check_frame(frame, self._format, self._info)
        with self._destination.errors(listen=False):
            self._output.write(b"FRAME\n")
            for component in frame.components:  # copied only where rows are padded
                self._output.write(memoryview(component.contiguous().numpy()).cast("B"))
        self._watch_time(frame)
        self.frames += 1

    def _finish(self) -> Path | None:
        """Complete the file and give it its name.

        Raises:
            SinkError: writing failed; nothing is left.
            ReaderGone: nobody reads the pipe.
        """
        return self._destination.publish()

    def _keep_partial(self) -> Path | None:
        """Complete the file with what there is, under another name: ``out.partial.y4m``."""
        return self._destination.publish_partial()

    def _abort(self) -> None:
        self._destination.discard()

    def _watch_time(self, frame: Frame) -> None:
        """Say so, once, if frames do not come at the rate that the header promises."""
        time = frame.pts * frame.time_base
        if self._start is None:
            self._start = time
        if self._uneven:
            return
        expected = self._start + self.frames / self._info.rate
        if abs(time - expected) * self._info.rate > Fraction(1, 2):  # less is rounding
            self._uneven = True
            self.notes.warn(
                f"frames are not evenly spaced (the first that is not: {self.frames}), but Y4M has "
                f"no timestamps: its reader sees {float(self._info.rate):g} frames a second"
            )


def y4m_header(encoding: Encoding, info: VideoInfo) -> str:
    """The line of text in front of the frames, as FFmpeg reads and writes it.

    Args:
        encoding: pixel format, range and chroma siting.
        info: size, rate, aspect ratio and field order of the output.
    """
    name = encoding.format.name
    chroma = Y4M_CHROMA[name]
    if name == "yuv420p":
        chroma = Y4M_SITINGS.get(encoding.colour.siting, chroma)
    rate, sar = bounded(info.rate), info.sar and bounded(info.sar)
    subsampling = Y4M_SUBSAMPLING.get(chroma, f" XYSCSS={chroma.upper()}")
    fields = [
        "YUV4MPEG2", f"W{info.width}", f"H{info.height}", f"F{rate.numerator}:{rate.denominator}",
        f"I{_INTERLACING[info.field_order]}",
        f"A{sar.numerator}:{sar.denominator}" if sar else "A0:0",
        f"C{chroma}{subsampling}{_RANGES.get(encoding.colour.range, '')}",
    ]  # fmt: skip
    return " ".join(fields) + "\n"

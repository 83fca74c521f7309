"""Encodes frames with FFmpeg and puts them into a container beside the other streams."""

from collections.abc import Sequence
from pathlib import Path

from vsr.encoding import Encoding
from vsr.encoding.streams import StreamSource
from vsr.frame import Frame, VideoInfo
from vsr.sinks.container import MediaOutput
from vsr.sinks.destination import open_destination
from vsr.sinks.pictures import PictureMaker
from vsr.sinks.sink import SinkContext, check_frame
from vsr.stdout import Stdout

__all__ = ["MediaSink"]


class MediaSink(SinkContext):
    """A media file that appears under its name only when it is complete, or a stream in a pipe.

    Until then it is a hidden file in the same folder. Every pts and duration is kept; VFR needs no
    special mode. MP4 and MOV store when a frame is *decoded*, and its duration follows from the
    next; with B-frames those are not the durations of display, so the last packet is given what
    makes the total exact (the pts, stored as offsets, always are).

    Args:
        path: the output; :data:`~vsr.config.PIPE` is standard output.
        encoding: from :func:`vsr.encoding.choose_encoding`.
        info: facts about the *output*: size, rate, time base, aspect ratio, display matrix,
            duration.
        source: where the other streams come from; None writes the picture alone.
        overwrite: whether an existing file may be replaced.
        stdout: the stream that :data:`~vsr.config.PIPE` stands for.
        companions: see :func:`vsr.sinks.open_sink`.

    Raises:
        SinkError: the file cannot be created, or FFmpeg refuses the combination of streams.
        ReaderGone: nobody reads the pipe.
    """

    def __init__(  # noqa: PLR0913 - all but the first three by keyword
        self,
        path: Path,
        encoding: Encoding,
        info: VideoInfo,
        *,
        source: StreamSource | None,
        overwrite: bool,
        stdout: Stdout | None = None,
        companions: Sequence[Path] = (),
    ) -> None:
        self.frames = 0
        """Frames written so far."""
        self._encoding = encoding
        self._info = info
        self._destination = open_destination(
            path, overwrite=overwrite, stdout=stdout, companions=companions
        )
        self._output = MediaOutput(self._destination, encoding, info, source=source)
        self._pictures = PictureMaker(
            encoding, self._output.clock, captions=self._output.encoder.writes_captions,
            warn=self._output.notes.warn,
        )  # fmt: skip

    @property
    def notes(self) -> list[str]:
        """One line for everything that was lost or repaired; complete after :meth:`finish`."""
        return self._output.notes

    def write(self, frame: Frame) -> None:
        """Encode one frame, and mux what the encoder and the other streams have ready.

        The frame's planes may be used, uncopied, long after the call: do not write to them again.

        Raises:
            SinkError: encoding or writing failed, e.g. the disk is full.
            ReaderGone: nobody reads the pipe.
            ValueError: the frame is not what was announced, or comes after a later one.
        """
        if self.is_closed:
            raise ValueError("the sink has been closed")
        check_frame(frame, self._encoding.format, self._info)
        picture = self._pictures.make(frame)
        with self._destination.errors(listen=False):
            self._output.mux(self._output.encoder.encode(picture))
            self._output.mux_others()
        self.frames += 1

    def _finish(self) -> Path | None:
        """Complete the file and give it its name. A pipe has none.

        Raises:
            SinkError: writing failed; nothing is left.
            ReaderGone: nobody reads the pipe.
        """
        self._mux_rest()
        return self._destination.publish()

    def _keep_partial(self) -> Path | None:
        """Complete the file with what there is, under another name: ``out.partial.mp4``.

        Raises:
            SinkError: writing failed; nothing is left.
            ReaderGone: nobody reads the pipe.
        """
        self._mux_rest()
        return self._destination.publish_partial()

    def _abort(self) -> None:
        self._output.abort()

    def _mux_rest(self) -> None:
        """Mux what the encoder still holds, and complete the file."""
        try:
            with self._destination.errors():
                last = self._output.encoder.encode(None)
            self._output.complete(last)
        except BaseException:
            self._output.abort()
            raise

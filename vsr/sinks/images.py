"""Pictures in files of their own: PNG, TIFF, DPX, OpenEXR."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.packet import Packet

from vsr.beside import without_companions
from vsr.encoding import Encoding
from vsr.encoding.stills import IMAGES, find_stills, numbered
from vsr.encoding.streams import StreamSource
from vsr.errors import SinkError
from vsr.ffmpeg import explain
from vsr.frame import Frame, VideoInfo
from vsr.sinks.sink import SinkContext, check_frame
from vsr.sinks.staging import Staging
from vsr.sinks.still_coder import StillCoder, still_losses

__all__ = ["ImageSink"]


class ImageSink(SinkContext):
    """Pictures that appear under their names only when all of them are complete.

    Until then they are in a hidden folder: inside the folder they are for, or beside it if that is
    made at the end. Numbers begin at 1. FFmpeg's encoders work on several frames at a time.

    Args:
        path: the output: a picture, a pattern or a folder.
        encoding: from :func:`vsr.encoding.stills.choose_still_encoding`.
        info: facts about the *output*: size, rate, aspect ratio, display matrix.
        source: whose other streams stay behind, with a note for each; None for none.
        overwrite: whether existing files may be replaced.
        companions: see :func:`vsr.sinks.open_sink`.

    Raises:
        SinkError: pictures of that name exist, or the folder cannot be written to.
    """

    def __init__(
        self,
        path: Path,
        encoding: Encoding,
        info: VideoInfo,
        *,
        source: StreamSource | None,
        overwrite: bool,
        companions: Sequence[Path] = (),
    ) -> None:
        self.frames = 0
        """Frames written so far."""
        stills = find_stills(path, IMAGES, encoding.codec, encoding.first_number, encoding.stems)
        assert stills is not None
        self._path, self._stills, self._encoding, self._info = path, stills, encoding, info
        self._companions, self._overwrite, self._stored = companions, overwrite, 0
        self._pace = _Pace(info.rate)
        self._staging = Staging(path, stills, overwrite=overwrite)
        try:
            with self._errors():
                self._coder = StillCoder(encoding, info, self._warn)
        except BaseException:
            self.abort()
            raise
        self.notes = still_losses(encoding, info, source)
        """One line for everything that was lost; complete after :meth:`finish`."""

    def _warn(self, note: str) -> None:
        self.notes.warn(note)

    def write(self, frame: Frame) -> None:
        """Encode one frame, and write what the encoder has ready.

        Raises:
            SinkError: encoding or writing failed, e.g. the disk is full, or a second frame comes
                for a single picture.
            ValueError: the frame is not what was announced.
        """
        if self._closed:
            raise ValueError("the sink has been closed")
        self._check(frame)
        with self._errors(listen=False):
            self._store(self._coder.encode(frame, self.frames))
        self.frames += 1
        if self._pace.changes_with(frame):
            self.notes.warn(
                "timestamps are lost: frames do not come evenly, and pictures hold no time"
            )

    def _finish(self) -> Path:
        """Complete the pictures and give them their names.

        Raises:
            SinkError: writing failed; nothing is left, unless the message says where.
        """
        self._store_rest()
        replaced = self._companions if self._overwrite else ()
        with self._errors(), without_companions(self._path, replaced):
            note = self._staging.publish(self.frames)
        if note is not None:
            self.notes.warn(note)
        return self._path

    def _keep_partial(self) -> Path:
        """Complete what there is, in a folder of another name: ``out.partial``.

        Raises:
            SinkError: writing failed; nothing is left.
        """
        self._store_rest()
        with self._errors():
            return self._staging.keep_partial()

    def _abort(self) -> None:
        self._staging.discard()

    def _errors(self, *, listen: bool = True) -> AbstractContextManager[None]:
        return explain(f"{self._path}: cannot be written", SinkError, listen=listen)

    def _check(self, frame: Frame) -> None:
        check_frame(frame, self._encoding.format, self._info)
        if self._stills.pattern is None and self.frames:
            raise SinkError(
                f"{self._path}: is one picture, and more frames come: call the output "
                f"{numbered(self._path)}, or add --frames 1"
            )

    def _store(self, packets: "list[Packet[Any]]") -> None:
        """Write each packet, which is a whole file."""
        for packet in packets:
            self._stored += 1
            with (self._staging.folder / self._stills.file(self._stored)).open("xb") as file:
                file.write(packet)

    def _store_rest(self) -> None:
        """Write what the encoder still holds."""
        try:
            with self._errors():
                self._store(self._coder.flush())
        except BaseException:
            self._staging.discard()
            raise
        if not self._stored:
            self._staging.discard()
            raise SinkError(f"{self._path}: there was no frame to write")


class _Pace:
    """Notices the first frame that does not come one frame's time after the last."""

    def __init__(self, rate: Fraction) -> None:
        self._step = 1 / rate
        self._last: int | None = None
        self._said = False

    def changes_with(self, frame: Frame) -> bool:
        """Whether ``frame`` is the first out of step, by more than the time base rounds."""
        last, self._last = self._last, frame.pts
        if last is None or self._said:
            return False
        off = abs((frame.pts - last) * frame.time_base - self._step)
        self._said = off > frame.time_base
        return self._said

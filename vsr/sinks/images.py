"""Pictures in files of their own: PNG, TIFF, DPX, OpenEXR."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.packet import Packet

from vsr import icc
from vsr.encoding import Encoding
from vsr.encoding.beside import unfinished_name, without_companions
from vsr.encoding.stills import (
    IMAGES,
    Stills,
    coded_format,
    find_stills,
    numbered,
    open_still_encoder,
)
from vsr.encoding.streams import StreamSource, left_behind
from vsr.errors import SinkError
from vsr.ffmpeg import explain, write_tags
from vsr.files import followed, take_after
from vsr.frame import Frame, Matrix, VideoInfo
from vsr.notes import Notes
from vsr.orientation import Orientation
from vsr.sinks.destination import check_replaceable, partial_name
from vsr.sinks.packing import pack
from vsr.sinks.sink import SinkContext, check_frame

__all__ = ["ImageSink", "Staging", "StillCoder", "still_losses"]

logger = logging.getLogger(__name__)

_REPLACED = "replaced"
"""The folder for the pictures that were there before, until all have been replaced."""


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
        """A picture with the ICC profile of its frame, where it may have that."""
        assert packet.pts is not None
        if (profile := self._profiles.pop(packet.pts, None)) is None:
            return packet
        found = Packet(icc.embed(profile, self._encoding.codec, bytes(packet)))
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


def _keep(path: Path, before: Path) -> None:
    """Give what is at ``path`` the name ``before`` as well, until ``path`` is replaced.

    On file systems without links it has only that name, and for a moment nothing is at ``path``.
    """
    try:
        os.link(path, before)
    except OSError:
        os.rename(path, before)


def _give_back(kept: Path, path: Path) -> None:
    """Undo a renaming from ``path`` to ``kept``, or a link that :func:`_keep` made."""
    with suppress(OSError):
        os.replace(kept, path)
        kept.unlink(missing_ok=True)  # two names of one file stay when one is renamed to the other


def _remove_empty(folder: Path) -> None:
    """Delete ``folder``, unless it holds what could not be given back."""
    with suppress(OSError):
        folder.rmdir()


class Staging:
    """A hidden folder for pictures that are being made, and their way to where they belong.

    Args:
        output: the output as it was named.
        stills: what its pictures are called.
        overwrite: whether existing files may be replaced.
        folder: where they are made instead; it stays until all have their names, and may be there
            already, with pictures of an earlier run.

    Raises:
        SinkError: pictures of that name exist, or the folder cannot be written to.
    """

    def __init__(
        self, output: Path, stills: Stills, *, overwrite: bool, folder: Path | None = None
    ) -> None:
        self._output, self._stills, self._overwrite = output, stills, overwrite
        self._target = followed(stills.folder)
        self._whole = not self._target.exists()
        """The folder itself is new, and made by renaming."""
        self._refuse()
        self._beside = self._target.parent if self._whole else self._target
        self.folder = folder or unfinished_name(output, self._beside)
        self._lasting = folder is not None
        try:
            self.folder.mkdir(exist_ok=self._lasting)
        except OSError as error:
            raise SinkError(f"{stills.folder}: cannot be written to: {error.strerror}") from error

    def publish(self, count: int) -> str | None:
        """Give ``count`` pictures their names.

        Returns:
            A line for the log if pictures of an earlier run remain, behind the new ones.

        Raises:
            SinkError: pictures have appeared meanwhile, or a file could not be renamed, and what
                was there before is there again; these are kept under another name, which the
                message says, or where they were made if that lasts.
            OSError: a file could not be renamed; those already renamed stay, and it can be gone on
                with.
        """
        if self._present() and not self._overwrite:
            if self._lasting:
                raise SinkError(f"{self._target}: has appeared meanwhile; -y replaces pictures")
            kept = self.keep_partial()
            raise SinkError(f"{self._target}: has appeared meanwhile; the result is in {kept}")
        if self._whole and not self._target.exists():
            with self._kept_otherwise():
                self.folder.rename(self._target)
            return None
        if self._lasting:
            for path in sorted(self.folder.iterdir()):
                take_after(path, self._target / path.name)
                os.replace(path, self._target / path.name)
        else:
            with self._kept_otherwise():
                self._replace_all()
        self.discard()
        left = [name for name in self._present() if (self._stills.number(name) or 0) > count]
        return f"{len(left)} pictures of an earlier run remain, from {left[0]} on" if left else None

    def _replace_all(self) -> None:
        """Give all pictures their names, or none: what those have replaced is there again then."""
        names, replaced = sorted(os.listdir(self.folder)), self.folder / _REPLACED
        replaced.mkdir()
        with ExitStack() as undo:
            undo.callback(_remove_empty, replaced)
            for name in names:
                made, path, before = self.folder / name, self._target / name, replaced / name
                take_after(made, path)
                if os.path.lexists(path):
                    _keep(path, before)
                    undo.callback(_give_back, before, path)
                os.replace(made, path)
                undo.callback(_give_back, path, made)
            undo.pop_all()

    @contextmanager
    def _kept_otherwise(self) -> Iterator[None]:
        """If the block cannot rename the pictures, they get a name that says that they are not all.

        Raises:
            SinkError: they could not be renamed, with what they are called now; if that cannot be
                either, they have been deleted.
            OSError: the same, and they stay where they are, since that lasts.
        """
        try:
            yield
        except OSError as error:
            if self._lasting:
                raise
            reason = f"{self._output}: cannot be written: {error.strerror}"
            try:
                kept = self.keep_partial()
            except OSError:
                self.discard()
                raise SinkError(reason) from error
            raise SinkError(f"{reason}; the result is in {kept}") from error

    def keep_partial(self) -> Path:
        """Move the pictures into a folder whose name says that they are not all."""
        place = partial_name(self._beside / self._name())
        self.folder.rename(place)
        return place

    def discard(self) -> None:
        """Delete the hidden folder with all that is in it."""
        with suppress(OSError):
            shutil.rmtree(self.folder)

    def _name(self) -> str:
        pattern = self._stills.pattern
        name = pattern.before if pattern is not None else Path(self._stills.name).stem
        return name.strip(" ._-") or self._target.name

    def _refuse(self) -> None:
        folder = self._stills.folder
        if self._target.is_symlink():  # one that was followed and is one still
            raise SinkError(f"{folder}: is a link that leads nowhere")
        if self._whole and not self._target.parent.is_dir():
            raise SinkError(f"{folder}: there is no directory {folder.parent}")
        if self._whole and self._stills.pattern is None:
            raise SinkError(f"{folder / self._stills.name}: there is no directory {folder}")
        if not self._whole and not self._target.is_dir():
            raise SinkError(f"{folder}: is not a directory")
        if not self._overwrite and (present := self._present()):
            raise SinkError(f"{folder / present[0]}: already exists; -y replaces it")
        for name in self._present():
            if (self._target / name).is_dir():
                raise SinkError(f"{folder / name}: is a directory")
            check_replaceable(self._target / name, folder / name)

    def _present(self) -> list[str]:
        """Files that are there under names of these pictures, by number."""
        if not self._target.is_dir():
            return []
        numbers = {name: self._stills.number(name) for name in os.listdir(self._target)}
        found = sorted((number, name) for name, number in numbers.items() if number is not None)
        return [name for _, name in found]

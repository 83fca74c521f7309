"""Opening a file with FFmpeg: one sentence for whatever is wrong with it, and the right stream."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import av.logging
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from vsr.errors import SourceError

__all__ = ["choose_stream", "open_container"]

# FFmpeg's messages arrive as Python log records while a file is being opened; without a handler
# Python prints records of this level on stderr by itself.
logging.getLogger("libav").addHandler(logging.NullHandler())


_PLAIN_REASONS: dict[type[OSError], str] = {
    FileNotFoundError: "no such file",
    IsADirectoryError: "is a directory, not a media file",
    PermissionError: "permission denied",
}


class _Loudness:
    """FFmpeg's log level, which is one for the process, raised while anybody needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: int | None = None

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Let FFmpeg say what is wrong, so that PyAV's exceptions carry the cause.

        Not left on for decoding: each message then takes the interpreter lock from a decoder's
        thread, and damaged files produce thousands.
        """
        with self._lock:
            if self._users == 0:
                self._before = av.logging.get_level()
                av.logging.set_level(max(av.logging.ERROR, self._before or 0))
            self._users += 1
        try:
            with av.logging.Capture():
                yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    av.logging.set_level(self._before)


_loudness = _Loudness()


def open_container(path: Path) -> InputContainer:
    """Open ``path`` for reading.

    Raises:
        SourceError: it is missing, unreadable, or no media file.
    """
    try:
        with _loudness.errors():
            # With the protocol spelled out, a colon in the name starts no protocol.
            container = av.open(f"file:{path}", "r")
    except av.FFmpegError as error:
        raise SourceError(f"{path}: {_reason(path, error)}") from error
    if container.format.name == "tty":  # FFmpeg plays any text file as ANSI art
        container.close()
        raise SourceError(f"{path}: a text file, not a media file")
    return container


def choose_stream(container: InputContainer, path: Path) -> tuple[VideoStream, list[str]]:
    """The video stream to process, and a line if there was a choice.

    Raises:
        SourceError: there is no video stream, or no decoder for it.
    """
    found = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not found:
        covers = ", only cover art" if container.streams.video else ""
        raise SourceError(f"{path}: holds no video stream{covers}")
    decodable = [stream for stream in found if _has_decoder(stream)]
    if not decodable:
        raise SourceError(f"{path}: its video is in a format that FFmpeg has no decoder for")
    best = container.streams.best("video")
    chosen = next((s for s in decodable if best is not None and s.index == best.index), None)
    if chosen is None:
        chosen = max(decodable, key=lambda s: s.width * s.height)
    if len(found) == 1:
        return chosen, []
    size = f"{chosen.width}x{chosen.height}"
    return chosen, [f"{len(found)} video streams: number {chosen.index} ({size}) is processed"]


def _has_decoder(stream: VideoStream) -> bool:
    # The stubs promise a context; a stream of unknown codec has none.
    context: object = stream.codec_context
    return context is not None


def _reason(path: Path, error: av.FFmpegError) -> str:
    plain = (reason for kind, reason in _PLAIN_REASONS.items() if isinstance(error, kind))
    if (reason := next(plain, None)) is not None:
        return reason
    if path.is_file() and path.stat().st_size == 0:
        return "is empty"
    if isinstance(error, av.error.InvalidDataError):
        return f"not a media file that FFmpeg can read{_cause(error)}"
    return f"cannot be opened: {error.strerror}{_cause(error)}"


def _cause(error: av.FFmpegError) -> str:
    return f" ({error.log[2].strip()})" if error.log else ""

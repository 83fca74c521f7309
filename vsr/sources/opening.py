"""Opening an input with FFmpeg: one sentence for what is wrong with it, and the right stream."""

import select
import sys
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import cast

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.format import names as formats
from av.video.stream import VideoStream

from vsr.config import PIPE, InputConfig
from vsr.errors import ConfigError, SourceError
from vsr.ffmpeg import listening, near_matches
from vsr.sources.breaks import PieceCounter

__all__ = ["Stdin", "choose_stream", "name_of_input", "open_container", "open_stdin"]

_HEADS = 64  # bytes that the heads of a block take
_PIPE_BUFFER = 1 << 18  # bytes a read, so that frames do not come in a hundred pieces
_MOMENT = 0.1  # seconds
_DEEPER = {"probesize": str(64 << 20), "analyzeduration": str(600_000_000)}  # bytes, microseconds
"""How far a file is searched for sound of which FFmpeg, after its usual 5 MB, knows nothing."""
_PLAIN_REASONS: dict[type[OSError], str] = {
    FileNotFoundError: "no such file",
    IsADirectoryError: "is a directory, not a media file",
    PermissionError: "permission denied",
}


class Stdin:
    """Standard input as FFmpeg reads it, its bytes and pieces counted.

    Whoever writes it may fall silent, and what waits for that within FFmpeg heeds no signal: so it
    is waited for here, and given up when that is wanted.

    Args:
        stream: to read from.
        should_stop: asked while there is nothing to read.
    """

    def __init__(self, stream: BufferedReader, should_stop: Callable[[], bool]) -> None:
        self.total = 0
        """Bytes read so far."""
        self.given_up = False
        """Whether it was not waited for any longer."""
        self._should_stop = should_stop
        self._pieces = PieceCounter()
        self._ended = False
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        while not self._is_ready():
            if self._should_stop():
                self.given_up = True
                return b""
        data = self._stream.read1(size)
        self.total += len(data)
        self._pieces.feed(data)
        self._ended = not data
        return data

    def _is_ready(self) -> bool:
        """Whether there is something to read, or an end, after a moment at the latest.

        What stands in for standard input in memory, without a descriptor, always has.
        """
        try:
            return bool(select.select([self._stream], [], [], _MOMENT)[0])
        except (OSError, ValueError):
            return True

    def missing(self, furthest: int | None) -> int:
        """Bytes that a piece of a Matroska, MP4 or NUT stream lacks at its end, at least.

        Args:
            furthest: where FFmpeg found the last packet, None if packets lie deep within pieces. If
                it is far inside the piece that seems to be cut, its length is damaged.
        """
        damaged = furthest is not None and furthest > self._pieces.begin + _HEADS
        return self._pieces.missing if self._ended and not damaged else 0


def name_of_input(path: Path) -> str:
    """``path`` in a message."""
    return "standard input" if path == PIPE else str(path)


def open_container(
    path: Path, config: InputConfig, stdin: Stdin | None = None, hwaccel: HWAccel | None = None
) -> InputContainer:
    """Open ``path`` for reading.

    Where sound begins late, as in many recordings, more of a file is searched for it than FFmpeg's
    5 MB: what is not known cannot be copied.

    Args:
        path: a file.
        config: whether it is raw video, and of which shape.
        stdin: what to read instead, if ``path`` is the pipe.
        hwaccel: offered to decoders.

    Raises:
        SourceError: it is missing, unreadable, or no media file.
        ConfigError: there is no such pixel format of raw video.
    """
    # With the protocol spelled out, a colon in the name starts no protocol.
    where = f"file:{path}" if stdin is None else stdin
    format, options = _raw_options(config)
    try:
        container = _open(where, format, options, hwaccel)
        if stdin is None and path.is_file() and _sound_is_unknown(container):
            container.close()
            container = _open(where, format, {**options, **_DEEPER}, hwaccel)
    except av.FFmpegError as error:
        raise SourceError(f"{name_of_input(path)}: {_reason(path, error, stdin)}") from error
    if container.format.name == "tty":  # FFmpeg plays any text file as ANSI art
        container.close()
        raise SourceError(f"{name_of_input(path)}: a text file, not a media file")
    return container


def _open(
    where: str | Stdin, format: str | None, options: dict[str, str], hwaccel: HWAccel | None
) -> InputContainer:
    with listening():
        return av.open(
            where, "r", format=format, options=options, buffer_size=_PIPE_BUFFER, hwaccel=hwaccel
        )


def _sound_is_unknown(container: InputContainer) -> bool:
    return any(
        _has_decoder(stream) and not stream.sample_rate for stream in container.streams.audio
    )


def open_stdin(should_stop: Callable[[], bool]) -> Stdin:
    """Standard input.

    Args:
        should_stop: asked while it is waited for: whether to end as if it did.

    Raises:
        SourceError: it is a terminal, or closed.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise SourceError("standard input: is closed")
    if sys.stdin.isatty():
        raise SourceError("standard input: is a terminal, not a pipe")
    return Stdin(cast(BufferedReader, sys.stdin.buffer), should_stop)


def _raw_options(config: InputConfig) -> tuple[str | None, dict[str, str]]:
    if config.raw_format is None or config.raw_size is None:
        return None, {}
    if config.raw_format not in formats:
        raise ConfigError(
            f"-pixel_format: there is no {config.raw_format}"
            f"{near_matches(config.raw_format, formats)}"
        )
    width, height = config.raw_size
    options = {"video_size": f"{width}x{height}", "pixel_format": config.raw_format}
    if config.rate is not None:
        options["framerate"] = str(config.rate)
    return "rawvideo", options


def choose_stream(
    container: InputContainer, name: str, wanted: int | None = None
) -> tuple[VideoStream, list[str]]:
    """The video stream to process, and a line if there was a choice.

    Args:
        container: the open input.
        name: of the input, in a message.
        wanted: its number among the streams of video that are no covers; None takes FFmpeg's best.

    Raises:
        SourceError: there is no such video stream, or no decoder for it, or it is a tile.
    """
    found = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not found:
        covers = ", only cover art" if container.streams.video else ""
        raise SourceError(f"{name}: holds no video stream{covers}")
    tiles = sum(bool(s.disposition & Disposition.dependent) for s in found)
    if wanted is None and tiles and container.format.name.startswith("mov"):
        raise SourceError(
            f"{name}: one picture in {tiles} tiles, as HEIF and AVIF have it, which are not put"
            " together here: convert it first (heif-convert; ffmpeg from 7.1 on)"
        )
    if wanted is not None and wanted >= len(found):
        count = "one video stream" if len(found) == 1 else f"{len(found)} video streams"
        raise SourceError(f"{name}: holds {count}, and --video-stream counts from 0")
    candidates = found if wanted is None else [found[wanted]]
    decodable = [stream for stream in candidates if _has_decoder(stream)]
    if not decodable:
        raise SourceError(f"{name}: its video is in a format that FFmpeg has no decoder for")
    best = container.streams.best("video")
    chosen = next((s for s in decodable if best is not None and s.index == best.index), None)
    if chosen is None:
        chosen = max(decodable, key=lambda s: s.width * s.height)
    if len(found) == 1 or wanted is not None:
        return chosen, []
    sizes = ", ".join(f"{index}: {_size(stream)}" for index, stream in enumerate(found))
    note = (
        f"{len(found)} video streams ({sizes}): number {found.index(chosen)} is upscaled; "
        "--video-stream chooses another"
    )
    return chosen, [note]


def _size(stream: VideoStream) -> str:
    return f"{stream.width}x{stream.height}" if _has_decoder(stream) else "unknown codec"


def _has_decoder(stream: Stream) -> bool:
    # The stubs promise a context; a stream of unknown codec has none.
    context: object = stream.codec_context
    return context is not None


def _reason(path: Path, error: av.FFmpegError, stdin: Stdin | None) -> str:
    if stdin is not None and stdin.total == 0:
        return "is empty"
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

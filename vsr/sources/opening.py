"""Opening an input with FFmpeg, and one sentence for what is wrong with it."""

import re
import shlex
from collections import Counter
from contextlib import suppress
from functools import cache
from os import fspath
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.format import ContainerFormat, formats_available
from av.video.format import names as formats

from vsr.config import PIPE, InputConfig
from vsr.errors import ConfigError, SourceError
from vsr.ffmpeg import near_matches
from vsr.sources.playlists import SegmentWatch
from vsr.sources.stdin import Stdin
from vsr.sources.stream_choice import has_decoder

__all__ = ["name_of_input", "open_container", "unopened_part", "why_no_pictures"]

_PIPE_BUFFER = 1 << 18  # bytes a read, so that frames do not come in a hundred pieces
_DEEPER = {"probesize": str(64 << 20), "analyzeduration": str(600_000_000)}  # bytes, microseconds
"""How far a file is searched for sound of which FFmpeg, after its usual 5 MB, knows nothing."""
_DVD_PART = re.compile(r"(VTS_[0-9]{2})_[1-9]\.VOB", re.IGNORECASE)
"""One gibibyte, at most, of a title; part 0 is its menu."""
_PART = re.compile(r"(Impossible to open|Unsafe file name) '(.*)'")
"""What FFmpeg says of a file that a list names."""
_LISTED = re.compile(rb"\s*(?:#[^\n]*\s+)*file\s+\S")
"""The beginning of such a list, without the line that says what it is."""
_NOT_LISTED = "Format not on whitelist"
_HEAD = 4096  # bytes
_NAMING_OTHERS = {
    "hls", "dash", "concat", "imf", "sdp", "rtsp", "rtp", "vobsub", "mlv", "vapoursynth",
    "avisynth", "image2", "lavfi",
}  # fmt: skip
"""FFmpeg's formats whose files say which others are read, or are programs."""
_FOR_A_PIPE = {"protocol_whitelist": "crypto,data"}
"""What a pipe may open beside itself, as by FFmpeg's own: no file and no network."""
_PLAIN_REASONS: dict[type[OSError], str] = {
    FileNotFoundError: "no such file",
    IsADirectoryError: "is a directory, not a media file",
    PermissionError: "permission denied",
}


def name_of_input(path: Path) -> str:
    """``path`` in a message."""
    return "standard input" if path == PIPE else str(path)


def why_no_pictures(folder: Path) -> str:
    """What is wrong with an input that is a ``folder`` without pictures; of a DVD, what to do."""
    discs = folder / "VIDEO_TS"
    if (title := _longest_title(discs if discs.is_dir() else folder)) is None:
        return "is a directory without pictures"
    return (
        f"is a DVD: join the parts of a title, cat {title} > title.vob, and give that (or, in a "
        "pipe, -)"
    )


def _longest_title(folder: Path) -> str | None:
    """A glob for the parts of a DVD's longest title in ``folder``; None if there is none."""
    sizes: Counter[str] = Counter()
    for path in folder.glob("*"):
        if (part := _DVD_PART.fullmatch(path.name)) and path.is_file():
            sizes[f"{part[1]}_[1-9]{path.suffix}"] += path.stat().st_size
    return f"{shlex.quote(str(folder))}/{sizes.most_common(1)[0][0]}" if sizes else None


def open_container(
    path: Path,
    config: InputConfig,
    stdin: Stdin | None = None,
    hwaccel: HWAccel | None = None,
    segments: SegmentWatch | None = None,
) -> InputContainer:
    """Open ``path`` for reading.

    Where sound begins late, as in many recordings, more of a file is searched for it than FFmpeg's
    5 MB: what is not known cannot be copied.

    Args:
        path: a file.
        config: whether it is raw video, and of which shape.
        stdin: what to read instead, if ``path`` is the pipe.
        hwaccel: offered to decoders.
        segments: hears what FFmpeg says meanwhile, for a caller that tells it on.

    Raises:
        SourceError: it is missing, unreadable, or no media file.
        ConfigError: there is no such pixel format of raw video.
    """
    # With the protocol spelled out, a colon in the name starts no protocol.
    where = f"file:{fspath(path)}" if stdin is None else stdin
    format, options = _raw_options(config)
    if segments is None:
        segments = SegmentWatch(path)
    if stdin is not None:
        options |= _FOR_A_PIPE
    else:
        options |= segments.options
    if config.self_contained:
        options |= {"format_whitelist": _self_contained_formats()}
    try:
        container = _open(where, format, options, hwaccel, segments)
        if stdin is None and path.is_file() and _sound_is_unknown(container):
            container.close()
            container = _open(where, format, {**options, **_DEEPER}, hwaccel, segments)
    except av.FFmpegError as error:
        raise SourceError(f"{name_of_input(path)}: {_reason(path, error, stdin)}") from error
    if container.format.name == "tty":  # FFmpeg plays any text file as ANSI art
        container.close()
        raise SourceError(f"{name_of_input(path)}: a text file, not a media file")
    return container


def _open(
    where: str | Stdin,
    format: str | None,
    options: dict[str, str],
    hwaccel: HWAccel | None,
    segments: SegmentWatch,
) -> InputContainer:
    with segments.listening():
        return av.open(
            where, "r", format=format, options=options, buffer_size=_PIPE_BUFFER, hwaccel=hwaccel
        )


@cache
def _self_contained_formats() -> str:
    """What FFmpeg reads from one file."""
    found = []
    for name in sorted(formats_available - _NAMING_OTHERS):
        with suppress(ValueError):
            found.append(ContainerFormat(name, "r").name)
    return ",".join(found)


def _sound_is_unknown(container: InputContainer) -> bool:
    audio = container.streams.audio
    return any(has_decoder(stream) and not stream.sample_rate for stream in audio)


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


def _reason(path: Path, error: av.FFmpegError, stdin: Stdin | None) -> str:
    if stdin is not None and stdin.total == 0:
        return "is empty"
    if (reason := unopened_part(error) or _not_alone(error) or _plain_reason(error)) is not None:
        return reason
    if path.is_file() and path.stat().st_size == 0:
        return "is empty"
    if not isinstance(error, av.error.InvalidDataError):
        return f"cannot be opened: {error.strerror}{_cause(error)}"
    is_list = stdin is None and _is_headless_list(path)
    hint = ": a list of files begins with the line ffconcat version 1.0" if is_list else ""
    return f"not a media file that FFmpeg can read{_cause(error)}{hint}"


def unopened_part(error: av.FFmpegError) -> str | None:
    """Which file of a list cannot be opened, and why; None if the error is another.

    FFmpeg's error itself says so of the list.
    """
    if error.log is None or (found := _PART.search(error.log[2])) is None:
        return None
    said, name = found[1], found[2].removeprefix("file:")
    if said.startswith("Unsafe"):
        return (
            f"its part {name} is refused by FFmpeg: a list names files relative to itself, of "
            "letters, digits and . _ - alone"
        )
    return f"its part {name} cannot be opened ({_plain_reason(error) or error.strerror})"


def _not_alone(error: av.FFmpegError) -> str | None:
    if error.log is None or not error.log[2].startswith(_NOT_LISTED):
        return None
    return "refused, as --self-contained asks: it is a list of other files"


def _plain_reason(error: av.FFmpegError) -> str | None:
    plain = (reason for kind, reason in _PLAIN_REASONS.items() if isinstance(error, kind))
    return next(plain, None)


def _is_headless_list(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _LISTED.match(file.read(_HEAD)) is not None
    except OSError:
        return False


def _cause(error: av.FFmpegError) -> str:
    return f" ({error.log[2].strip()})" if error.log else ""

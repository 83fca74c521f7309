"""The border to FFmpeg: its messages, its errors in one line, its encoders, tags and rationals."""

import difflib
import errno
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import lru_cache

import av
import av.logging
from av.codec import Codec, codecs_available
from av.rational import AVRational
from av.video.frame import VideoFrame

from vsr.errors import ConfigError, VsrError
from vsr.frame import Colour
from vsr.stdout import ReaderGone

__all__ = [
    "Message",
    "explain",
    "explain_aloud",
    "find_encoder",
    "fraction",
    "known_fraction",
    "listening",
    "near_matches",
    "standard_of",
    "write_tags",
]

Message = tuple[int, str, str]
"""Level, speaker and text of what FFmpeg says."""

# Error numbers that say it all; for the others FFmpeg's log is the better reason.
_TELLING = {errno.ENOSPC, errno.EACCES, errno.ENOENT, errno.EFBIG, errno.EROFS, errno.EDQUOT}

_QUIET = -8
"""FFmpeg's log level below all levels: nothing is said."""

# What FFmpeg adds last, when the cause has been said.
_HOLLOW = (
    "Failed to configure", "Error applying", "Error setting option",
    "ff_frame_thread_encoder_init failed",
)  # fmt: skip

# FFmpeg's messages arrive as Python log records while anybody listens; without a handler Python
# prints records of this level on stderr by itself.
logging.getLogger("libav").addHandler(logging.NullHandler())
# Else PyAV drops a message that is like the one before, though another file's decoder says it.
av.logging.set_skip_repeated(False)


class _Loudness:
    """FFmpeg's log level, which is one for the process, raised while any thread needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: list[int] = []
        self._before = _QUIET

    @contextmanager
    def raised(self, level: int) -> Iterator[None]:
        """In this block the log level is ``level`` at least."""
        with self._lock:
            if not self._wanted:
                found = av.logging.get_level()
                self._before = _QUIET if found is None else found
            self._wanted.append(level)
            self._apply()
        try:
            yield
        finally:
            with self._lock:
                self._wanted.remove(level)
                self._apply()

    def _apply(self) -> None:
        loudest = max([*self._wanted, self._before])
        av.logging.set_level(loudest)
        if loudest == _QUIET:
            _silence()


def _silence() -> None:
    """Take FFmpeg's messages away from PyAV, whose level is a number, and print none of them.

    PyAV's own silence is the level None, but a message of another thread, on its way at that
    moment, is compared with the level. And by a level alone PyAV takes the interpreter lock for
    every error: a thread that closes a decoder holds that lock until the decoder's threads are
    done, which may be waiting for it to say theirs.
    """
    av.logging.set_libav_level(_QUIET)
    av.logging.restore_default_callback()


_loudness = _Loudness()


@contextmanager
def listening(level: int = av.logging.ERROR) -> Iterator[list[Message]]:
    """What FFmpeg says on this thread in the block, down to ``level``; PyAV silences it otherwise.

    PyAV's exceptions, too, carry the cause only while somebody listens. Not for decoding: each
    message takes the interpreter lock from a decoder's thread, and damaged files make thousands.
    """
    with _loudness.raised(level), av.logging.Capture() as messages:
        yield messages


@contextmanager
def explain(prefix: str, error_type: type[VsrError], *, listen: bool = True) -> Iterator[None]:
    """Translate what PyAV raises in the block into ``error_type("prefix: reason")``.

    Args:
        prefix: what was being done.
        error_type: what to raise.
        listen: use FFmpeg's own message as the reason; see :func:`listening`. Not for use once per
            frame.
    """
    messages = listening() if listen else av.logging.Capture()
    with messages as said, _translated(prefix, error_type, said):
        yield


@contextmanager
def explain_aloud(prefix: str, error_type: type[VsrError]) -> Iterator[list[Message]]:
    """:func:`explain`, for a block that is to hear FFmpeg's warnings as well."""
    with listening(av.logging.WARNING) as said, _translated(prefix, error_type, said):
        yield said


@contextmanager
def _translated(prefix: str, error_type: type[VsrError], messages: list[Message]) -> Iterator[None]:
    try:
        yield
    except (VsrError, ReaderGone):
        raise
    except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
        raise error_type(f"{prefix}: {_reason(error, messages)}") from error


def _reason(error: Exception, messages: list[Message]) -> str:
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and error.strerror and number in _TELLING:
        return error.strerror
    if said := [text.strip() for level, _, text in messages if level <= av.logging.ERROR]:
        return next((text for text in reversed(said) if not text.startswith(_HOLLOW)), said[-1])
    return getattr(error, "strerror", None) or str(error).partition("\n")[0]


def standard_of(encoder: str) -> str:
    """What FFmpeg's ``encoder`` writes, by FFmpeg's name: ``"h264"`` of ``"libx264"``."""
    return Codec(encoder, "w").canonical_name


def find_encoder(name: str) -> Codec:
    """FFmpeg's video encoder ``name``.

    Raises:
        ConfigError: there is none of that name; with those that come close.
    """
    try:
        encoder = Codec(name, "w")
    except ValueError:
        raise ConfigError(f"unknown encoder {name}{near_matches(name, _encoders())}") from None
    if encoder.type != "video":
        raise ConfigError(f"{name} encodes {encoder.type}, not video")
    return encoder


@lru_cache
def _encoders() -> tuple[str, ...]:
    names = []
    for name in sorted(codecs_available):
        with suppress(ValueError):
            if Codec(name, "w").type == "video":
                names.append(name)
    return tuple(names)


def near_matches(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about the unknown ``word``: what may have been meant, or nothing."""
    matches = difflib.get_close_matches(word, known, n=3)
    return f": did you mean {' or '.join(matches)}?" if matches else ""


def fraction(value: AVRational) -> Fraction:
    """A rational of FFmpeg's, where it is known to be a number."""
    return Fraction(value.numerator, value.denominator)


def known_fraction(value: AVRational | None) -> Fraction | None:
    """A rational of FFmpeg's; None where it means "unknown" (0/1, 0/0, 1/0)."""
    if value is None or not value.num or not value.den:
        return None
    return Fraction(value.num, value.den)


def write_tags(picture: VideoFrame, colour: Colour) -> None:
    """Say on ``picture`` that it is to be read as ``colour``."""
    picture.colorspace, picture.color_range = colour.matrix, colour.range
    picture.color_primaries, picture.color_trc = colour.primaries, colour.transfer
    picture.chroma_location = colour.siting

"""The border to FFmpeg: its errors in one line, its encoders by name."""

import difflib
import errno
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

import av
import av.logging
from av.codec import Codec, codecs_available

from vsr.errors import ConfigError, VsrError
from vsr.stdout import ReaderGone

__all__ = ["explain", "find_encoder", "near_matches"]

# Error numbers that say it all; for the others FFmpeg's log is the better reason.
_TELLING = {errno.ENOSPC, errno.EACCES, errno.ENOENT, errno.EFBIG, errno.EROFS, errno.EDQUOT}


# What FFmpeg adds last, when the cause has been said.
_HOLLOW = ("Failed to configure", "Error applying", "Error setting option")

# FFmpeg's messages arrive as Python log records while anybody listens; without a handler Python
# prints records of this level on stderr by itself.
logging.getLogger("libav").addHandler(logging.NullHandler())


@contextmanager
def explain(prefix: str, error_type: type[VsrError], *, listen: bool = True) -> Iterator[None]:
    """Translate what PyAV raises in the block into ``error_type("prefix: reason")``.

    Args:
        prefix: What was being done.
        error_type: What to raise.
        listen: Use FFmpeg's own message as the reason, which PyAV silences by default. Not for
            use once per frame: every message then takes the interpreter lock.
    """
    level = av.logging.get_level()
    if listen and level is None:
        av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as messages:
            try:
                yield
            except (VsrError, ReaderGone):
                raise
            except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
                raise error_type(f"{prefix}: {_reason(error, messages)}") from error
    finally:
        if listen and level is None:
            av.logging.set_level(None)


def _reason(error: Exception, messages: list[tuple[int, str, str]]) -> str:
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and error.strerror and number in _TELLING:
        return error.strerror
    if messages:
        said = [text.strip() for _, _, text in messages]
        return next((text for text in reversed(said) if not text.startswith(_HOLLOW)), said[-1])
    return getattr(error, "strerror", None) or str(error).partition("\n")[0]


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

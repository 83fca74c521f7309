"""Memory that holds zeros, for an encoder that reads some before it has written to it.

Note [x264 reads what it has not written]
    The packets that libx264 in PyAV 19 makes of the same pictures depend on what its memory held
    before, so they differ from run to run: seen with the default preset and sizes from 160x120 to
    960x540, with one thread as with several. Frames come out as good either way, but a run that was
    stopped would not make the same file as one that was not. With memory of known content it does;
    so while x264 is opened or called, glibc's malloc fills what it hands out with zeros. Pictures
    within x264 are made as they are needed, so it does not suffice to do so when it is opened.
    The setting is the process's: what other threads take meanwhile is filled as well. Where malloc
    is not glibc's, nothing is done.
"""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

__all__ = ["defined_memory"]

_PERTURB = -6  # M_PERTURB of malloc.h
_ZEROS = 0xFF  # the complement of what memory is filled with
_READERS = ("libx264", "libx264rgb")
_lock = threading.Lock()
_inside = 0


@contextmanager
def defined_memory(codec: str) -> Iterator[None]:
    """While the block runs, new memory holds zeros, if FFmpeg's encoder ``codec`` needs that.

    See note [x264 reads what it has not written].
    """
    if codec not in _READERS or _glibc() is None:
        yield
        return
    _enter(1)
    try:
        yield
    finally:
        _enter(-1)


def _enter(step: int) -> None:
    """Count the blocks that run, of all threads, and fill memory while there are any."""
    global _inside
    with _lock:
        before, _inside = _inside, _inside + step
        if not before or not _inside:
            _glibc().mallopt(_PERTURB, _ZEROS if _inside else _usual())


def _usual() -> int:
    """What the environment has set, for who looks for faults of this kind."""
    text = os.environ.get("MALLOC_PERTURB_", "")
    return int(text) if text.isdecimal() else 0


@cache
def _glibc() -> Any:  # noqa: ANN401
    """The C library, if it is glibc; else None."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - raises where there is none
        library.mallopt  # noqa: B018
    except (OSError, AttributeError, TypeError):
        return None
    return library

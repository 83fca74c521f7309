"""Work within other libraries that was given up and goes on: nothing can end it but the process.

Python waits for it when it ends itself. So whoever ends the process asks :func:`is_any_left`, and
then ends it by :func:`end_process`.
"""

import logging
import os
import sys
from contextlib import suppress
from typing import NoReturn

__all__ = ["end_process", "is_any_left", "leave_behind"]

_left: list[object] = []


def leave_behind(owner: object) -> None:
    """Keep what the work needs for as long as the process lives.

    Args:
        owner: refers to all of that; to free any of it would wait for the work.
    """
    _left.append(owner)


def is_any_left() -> bool:
    """Whether anything goes on."""
    return bool(_left)


def end_process(code: int) -> NoReturn:
    """End the process with exit code ``code`` whatever goes on in it.

    What was printed is flushed; nothing else that Python does at its end is done.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # none, or closed, or nobody reads it
            stream.flush()
    os._exit(code)

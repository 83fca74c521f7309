"""What the filter says: errors of one line, and notes, both through VapourSynth."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import vapoursynth as vs  # type: ignore[import-untyped]

from vsr.errors import VsrError

__all__ = ["tell", "told", "warn"]

_BRIDGE = "PythonVSScriptLoggingBridge"
"""What VapourSynth hangs on the root logger where vspipe, or a program like it, reads scripts."""


def _spare_vspipe_the_details() -> None:
    """Keep what only helps to find faults from vspipe, which shows whatever any logger says.

    In any other program, levels are that program's business.
    """
    bridged = any(type(handler).__name__ == _BRIDGE for handler in logging.getLogger().handlers)
    ours = logging.getLogger("vsr")
    if bridged and ours.level == logging.NOTSET:
        ours.setLevel(logging.INFO)


_spare_vspipe_the_details()


@contextmanager
def told(where: str = "") -> Iterator[None]:
    """Whatever goes wrong in the block becomes a VapourSynth error with one line of our own."""
    try:
        yield
    except vs.Error:
        raise
    except VsrError as error:
        raise vs.Error(f"vsr: {where}{error}") from None
    except Exception as error:
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise vs.Error(f"vsr: {where}{type(error).__name__}: {reason}") from error


def tell(note: str) -> None:
    """Say something through VapourSynth, which knows where messages go."""
    vs.core.log_message(vs.MESSAGE_TYPE_INFORMATION, f"vsr: {note}")


def warn(text: str) -> None:
    """The same of what went wrong and was survived."""
    vs.core.log_message(vs.MESSAGE_TYPE_WARNING, f"vsr: {text}")

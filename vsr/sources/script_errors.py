"""What went wrong in VapourSynth or in a script, in one line."""

import vapoursynth as vs  # type: ignore[import-untyped]

__all__ = ["telling_line"]

_TRACEBACK = "Traceback (most recent call last):"


def telling_line(error: BaseException) -> str:
    """What an error says, in one line.

    The text of a ``vapoursynth.Error`` is a whole traceback if it comes from Python code that was
    called for a frame; what tells is the line below that: the exception's type, and how its
    message begins.
    """
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if isinstance(error, vs.Error):
        return _below_traceback(text) or (lines[-1] if lines else "fails without saying why")
    if isinstance(error, SystemExit):
        return f"the script exits ({error.code})"
    name = type(error).__name__
    return f"{name}: {' '.join(lines)}" if lines else name


def _below_traceback(text: str) -> str | None:
    """The first line after the last traceback in ``text``, whose own lines are all indented."""
    _, header, after = text.rpartition(_TRACEBACK)
    lines = after.splitlines()[1:] if header else []
    return next((line for line in lines if line.strip() and not line[0].isspace()), None)

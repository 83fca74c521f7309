"""What went wrong in VapourSynth or in a script, in one line."""

import vapoursynth as vs  # type: ignore[import-untyped]

__all__ = ["telling_line"]


def telling_line(error: BaseException) -> str:
    """What an error says, in one line.

    The text of a ``vapoursynth.Error`` is a whole traceback if it comes from Python code that was
    called for a frame; the last line tells.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, vs.Error):
        return lines[-1] if lines else "fails without saying why"
    if isinstance(error, SystemExit):
        return f"the script exits ({error.code})"
    name = type(error).__name__
    return f"{name}: {' '.join(lines)}" if lines else name

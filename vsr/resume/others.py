"""The other streams of a run's input, read again when its segments are joined."""

from collections.abc import Callable
from fractions import Fraction

from vsr.planning import Plan
from vsr.sources import Companion

__all__ = ["OtherStreams", "other_streams"]

OtherStreams = Callable[[], Companion | None]
"""Opens the file that other streams are copied from, trimmed; None if there is none."""


def other_streams(plan: Plan) -> OtherStreams:
    """How the other streams of ``plan`` are read, beside pictures that come from elsewhere.

    They come from where the run's own source would take them, counted from the same time.
    """
    config, others = plan.config, plan.source.others

    def open_again() -> Companion | None:
        if others is None:
            return None
        if isinstance(others, Companion):
            return others.again()
        again = Companion(
            config.input, config.source.video_stream, self_contained=config.source.self_contained
        )
        start = config.start or Fraction(0)
        again.begin = others.start_time - start  # the source knows better where the input begins
        again.trim(start, config.end, cut_short=others.cut_short)
        return again

    return open_again

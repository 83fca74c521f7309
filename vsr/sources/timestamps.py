"""Timestamps made usable: order, spacing, the last duration, the nominal rate.

Files carry timestamps that run backwards or are missing, and durations and frame rates that are
plainly wrong (Matroska without a default duration claims 1000 fps; transport streams give no
durations at all). The distance between timestamps is the only number that can be relied on, so
everything here is derived from it. Times are integers in the stream's time base.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median_low

__all__ = ["FALLBACK_RATE", "DecodingClock", "Timeline", "nominal_rate"]

FALLBACK_RATE = Fraction(25)
"""Frames a second of what says nothing of its rate, FFmpeg's own default."""

_KNOWN_RATES = tuple(
    Fraction(rate)
    for rate in (
        1, 2, 5, 8, 10, 12, Fraction(25, 2), Fraction(15000, 1001), 15, 16, 18, 20,
        Fraction(24000, 1001), 24, 25, Fraction(30000, 1001), 30, 48, 50, Fraction(60000, 1001),
        60, 72, 90, 100, Fraction(120000, 1001), 120, 144, 200, 240,
    )
)  # fmt: skip

_SAME_RATE = Fraction(1, 10_000)
"""Parts by which a rate that was rounded may differ from the one that it stands for."""
_GRID_LEAST = 12
"""Spacings from which frames show that they stand on a grid."""
_ROUNDED_TWICE = Fraction(21, 10_000)
"""Seconds: what was rounded to milliseconds strays by up to one, and by two if it was so twice."""
_HIGHEST_CLAIM = 480
"""A rate above this, with no timestamps to support it, is a clock and not a frame rate."""
_WINDOW = 127
"""Spacings that the running median looks back on."""
_LEAP = 2
"""Spacings from the last frame, from which the next frame decides whether a time is right."""
_FAR = 10
"""Spacings by which a clock is so far behind that it has been set anew."""
_PULLDOWN = 4
"""Frames of film that are shown for ten fields: two of them for three each, two for two."""
_PULLDOWN_LEAST = 2 * _PULLDOWN
"""Spacings from which a cadence is told from chance."""


class Timeline:
    """Gives every frame a timestamp after the one before, and the last one a duration.

    A timestamp is replaced if it is missing, not after the last one, or a leap (more than ``_LEAP``
    spacings ahead, and not before the next frame's). It becomes the decoding timestamp, if that
    lies between the neighbours; else one spacing after the last, or half the gap to the next frame
    if that is less. So one bad timestamp moves no other frame.

    Without a usable next frame, what is missing comes after the declared duration of the last one,
    where such were right so far, else after the median spacing. A clock that fell back by more than
    ``_FAR`` spacings was reset: its own distances are kept. One that fell back by less is caught up
    with in half spacings.

    Args:
        step: spacing to assume before any has been seen.
    """

    def __init__(self, step: int) -> None:
        self.repaired = 0
        self._step = max(1, step)
        self._last: int | None = None
        self._last_declared = 0
        self._source: int | None = None
        """The latest timestamp that was given, sound or not."""
        self._spacings: deque[int] = deque(maxlen=_WINDOW)
        self._compared = 0
        self._agreed = 0

    @property
    def begun(self) -> bool:
        """Whether a frame has been placed."""
        return self._last is not None

    @property
    def last(self) -> int:
        """The timestamp of the latest frame; 0 before the first."""
        return self._last or 0

    @property
    def step(self) -> int:
        """Median spacing of the last frames, at least 1."""
        return median_low(self._spacings) if self._spacings else self._step

    @property
    def state(self) -> list[int]:
        """What :meth:`last_duration` depends on, to be given to :meth:`restore`."""
        return [self._compared, self._agreed, *self._spacings]

    def restore(self, state: Sequence[int]) -> None:
        """Take over the state of another timeline that has placed the same frame last."""
        self._compared, self._agreed = state[:2]
        self._spacings = deque(state[2:], maxlen=_WINDOW)

    def place(
        self, pts: int | None, dts: int | None, declared: int = 0, following: int | None = None
    ) -> tuple[int, bool]:
        """The timestamp of the next frame.

        Args:
            pts: presentation timestamp of the decoder.
            dts: decoding timestamp of the packet that the frame came from.
            declared: duration that the decoder gives, 0 if none.
            following: presentation timestamp of the frame after it, if it is known.

        Returns:
            The timestamp, and whether it had to be repaired.
        """
        last = self._last
        sound = pts is not None and (last is None or last < pts) and not self._leaps(pts, following)
        placed = pts if pts is not None and sound else self._repair(pts, dts, following)
        if last is not None and sound:
            self._observe(placed - last)
        self._last, self._last_declared = placed, declared
        self._source = self._source if pts is None else pts
        self.repaired += not sound
        return placed, not sound

    def last_duration(self) -> int:
        """Duration of the last frame: its own if such were right so far, else the median."""
        declared = self._last_declared
        return declared if declared > 0 and self._trusts_durations else self.step

    @property
    def _trusts_durations(self) -> bool:
        """Whether what frames say of their duration was right so far."""
        return self._agreed * 10 >= self._compared * 9

    def _leaps(self, pts: int, following: int | None) -> bool:
        """Whether ``pts`` is beyond the next frame's, which fits the last better."""
        if self._last is None or following is None:
            return False
        return self._last < following <= pts and pts - self._last > _LEAP * self.step

    def _repair(self, pts: int | None, dts: int | None, following: int | None) -> int:
        last = self._last
        if last is None:
            return dts if dts is not None else 0
        room = following - last if following is not None else 0
        if dts is not None and last < dts and (room < 1 or dts - last < room):
            return dts
        return last + (min(self.step, room // 2) if room > 1 else self._pace(pts, last))

    def _pace(self, pts: int | None, last: int) -> int:
        """The spacing to ``last`` of a frame of whose follower nothing is known."""
        if pts is None and self._last_declared > 0 and self._trusts_durations:
            return self._last_declared
        if pts is None or self._source is None or pts <= self._source:
            return self.step
        if last - pts > _FAR * self.step:
            return pts - self._source
        return max(1, self.step // 2)

    def _observe(self, spacing: int) -> None:
        self._spacings.append(spacing)
        self._compared += 1
        shorter, longer = sorted((self._last_declared, spacing))
        # A tick is rounding, but not where it is half of it all, as fields are of frames.
        self._agreed += longer - shorter <= 1 and longer < 2 * shorter


class DecodingClock:
    """When frames are shown, of files that say only when packets are decoded.

    Frames leave a decoder in the order in which they are shown, one for each packet that goes in.
    So frames are as far apart as the packets that push them out; only all come late, by what the
    decoder holds back. The first frame shows how long that is: it is shown when it is decoded. What
    is left in the decoder at the end follows at the usual spacing.
    """

    def __init__(self) -> None:
        self._delay: int | None = None
        self._last: int | None = None

    def begin_again(self) -> None:
        """Decoding starts elsewhere in the same file; the delay stays."""
        self._last = None

    def time(self, pushed: int | None, since: int | None, step: int) -> int | None:
        """When the next frame is shown; None if nothing tells.

        Args:
            pushed: decoding timestamp of the packet that brought the frame out; None at the end.
            since: that of the packet that the frame is coded in, if it is known.
            step: the usual spacing.
        """
        if pushed is None:
            self._last = since if self._last is None else self._last + step
        else:
            if self._delay is None:
                self._delay = 0 if since is None else pushed - since
            self._last = pushed - self._delay
        return self._last


def nominal_rate(times: Iterable[int], time_base: Fraction, claims: Sequence[Fraction]) -> Fraction:
    """Frames per second, from the spacing of timestamps.

    A rate that the container claims is used if the frames stand where it says. Otherwise the
    median spacing decides; of film that is shown for two and three fields in turn, the mean of
    both. Then a claim is used that agrees with it, else the nearest rate in common use.

    Args:
        times: timestamps of some successive frames, in any order.
        time_base: seconds per unit of ``times``.
        claims: rates that the container gives, the most trusted first; none need be right.
    """
    spots = sorted(set(times))
    if (standing := _rate_of_grid(spots, time_base, claims)) is not None:
        return standing
    spacings = [b - a for a, b in pairwise(spots)]
    if (spacing := _pulldown_spacing(spacings) or _typical_spacing(spacings)) is None:
        plausible = (claim for claim in claims if 0 < claim <= _HIGHEST_CLAIM)
        return _to_known(next(plausible, FALLBACK_RATE), _SAME_RATE)
    units, count = spacing
    # A mean over n spacings is off by at most one rounding unit in n.
    tolerance = max(Fraction(2, 1000), 1 / (units * count))
    measured = 1 / (units * time_base)
    agreeing = [c for c in claims if c > 0 and abs(c / measured - 1) <= tolerance]
    if agreeing:
        best = min(agreeing, key=lambda claim: abs(claim / measured - 1))
        return _to_known(best, _SAME_RATE)
    return _to_known(measured.limit_denominator(1001), max(tolerance, Fraction(5, 1000)))


def _rate_of_grid(
    spots: Sequence[int], time_base: Fraction, claims: Sequence[Fraction]
) -> Fraction | None:
    """Which of ``claims`` has frames where ``spots`` are, first exactly, then of common rates.

    Times of which each was rounded to milliseconds, once or twice, keep to a grid that their
    spacings, of 41, 42 and 44 ms, say little of.
    """
    standing = []
    for claim in claims:
        known = _to_known(claim, _SAME_RATE)
        if (off := _strays(spots, time_base, known)) is not None:
            standing.append((off > 0, known not in _KNOWN_RATES, off, known))
    return min(standing)[-1] if standing else None


def _strays(spots: Sequence[int], time_base: Fraction, rate: Fraction) -> Fraction | None:
    """Seconds by which ``spots`` stray about a grid of ``rate``; None if that is none of theirs."""
    if len(spots) <= _GRID_LEAST or not 0 < rate <= _HIGHEST_CLAIM:
        return None
    places = [(spot - spots[0]) * time_base * rate for spot in spots]  # in frames
    numbers = [round(place) for place in places]
    steps = [b - a for a, b in pairwise(numbers)]
    if min(steps) < 1 or 2 * steps.count(1) < len(steps):  # another, or half or twice the rate
        return None
    strays = [place - number for place, number in zip(places, numbers, strict=True)]
    off = max(strays) - min(strays)
    return off / rate if off / rate <= _ROUNDED_TWICE and 4 * off <= 1 else None


def _pulldown_spacing(spacings: list[int]) -> tuple[Fraction, int] | None:
    """Mean of the spacings of film with soft telecine, and their number; None of all else.

    Half of the spacings are half as long again as the others, and nearly wherever one looks, two
    of each stand among four. Where spacings of these two lengths come by chance, as a phone's may,
    that is so of three in eight.
    """
    if len(spacings) < _PULLDOWN_LEAST:
        return None
    ranked, half = sorted(spacings), len(spacings) // 2
    short, long = median_low(ranked[:half]), median_low(ranked[-half:])
    cadence, rounding = (short, short, long, long), max(1, short // 20)
    if abs(2 * long - 3 * short) > short // 10 or long - short <= 2 * rounding:
        return None
    windows = [spacings[at : at + _PULLDOWN] for at in range(len(spacings) - _PULLDOWN + 1)]
    fitting = [
        window
        for window in windows
        if all(abs(s - c) <= rounding for s, c in zip(sorted(window), cadence, strict=True))
    ]
    if 4 * len(fitting) < 3 * len(windows):
        return None
    count = _PULLDOWN * len(fitting)
    return Fraction(sum(map(sum, fitting)), count), count


def _typical_spacing(spacings: list[int]) -> tuple[Fraction, int] | None:
    """Mean of the spacings that equal the median within rounding, and their number.

    Where a frame is one tick, two ticks are no rounding but a frame that is missing.
    """
    if not spacings:
        return None
    median = median_low(spacings)
    rounding = max(1, median // 100)
    regular = [s for s in spacings if abs(s - median) <= rounding and s < 2 * median]
    return Fraction(sum(regular), len(regular)), len(regular)


def _to_known(rate: Fraction, tolerance: Fraction) -> Fraction:
    nearest = min(_KNOWN_RATES, key=lambda known: abs(known / rate - 1))
    return nearest if abs(nearest / rate - 1) <= tolerance else rate

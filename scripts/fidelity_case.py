"""A source, what a run made of it, and how a promise about it was kept."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from fidelity_facts import Facts, Stream

__all__ = [
    "MILLISECOND",
    "NONE",
    "OK",
    "Case",
    "Finding",
    "Verdict",
    "dropped",
    "excused",
    "kept_streams",
    "lost",
    "tick",
    "worst",
]

MILLISECOND = Fraction(1, 1000)


class Verdict(StrEnum):
    """How a promise was kept."""

    NONE = "-"
    """There was nothing to keep."""
    OK = "ok"
    GUESSED = "guessed"
    """The source did not say; a guess was taken, named and written."""
    SAID = "said"
    """Not kept as it was, and the run said so."""
    LOST = "**lost**"
    """Broken: gone or changed without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A source, what a run made of it, and what the run said."""

    before: Facts
    after: Facts
    said: tuple[str, ...]
    """The run's lines on stderr."""
    flags: tuple[str, ...] = ()
    """Options that change what is expected: ``--deinterlace``, ``--ivtc``, ``--progressive``."""
    lossless: bool = False
    """The encoder keeps every code value."""

    def heard(self, *words: str) -> str | None:
        """The first line that holds all ``words``."""
        lines = (line for line in self.said if all(w.lower() in line.lower() for w in words))
        return next(lines, None)

    def heard_any(self, choices: Iterable[str]) -> str | None:
        """The first line that holds one of ``choices``."""
        return next(filter(None, map(self.heard, choices)), None)

    @property
    def shift(self) -> Fraction:
        """What is to be subtracted from the source's times, in seconds."""
        return self.before.start or Fraction(0)

    @property
    def offset(self) -> Fraction:
        """Where the result counts from: 0, but what MPEG-TS and NUT make of it.

        MPEG-TS starts late, and NUT knows nothing before 0 (where sound may warm up): both move
        all streams together, so what started first has to start first.
        """
        if self.after.format["format_name"] not in ("mpegts", "nut") or self.after.start is None:
            return Fraction(0)
        kept = [self.before.video, *(b for b, _ in kept_streams(self, "audio", "subtitle"))]
        first = min(stream.times[0] for stream in kept if stream.times)
        return self.after.start - (first - self.shift)


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on one promise, and the reason in words."""

    verdict: Verdict
    detail: str = ""


NONE, OK = Finding(Verdict.NONE), Finding(Verdict.OK)


def lost(detail: str) -> Finding:
    return Finding(Verdict.LOST, detail)


def excused(case: Case, words: Iterable[str], detail: str) -> Finding:
    """Said, if a line holds one of ``words``; else lost, as ``detail`` tells."""
    line = case.heard_any(words)
    return Finding(Verdict.SAID, line) if line else lost(detail)


def worst(findings: Iterable[Finding]) -> Finding:
    order = list(Verdict)
    found = list(findings)
    worst = max((f.verdict for f in found), key=order.index, default=Verdict.NONE)
    details = dict.fromkeys(f.detail for f in found if f.verdict == worst and f.detail)
    return Finding(worst, "; ".join(details))


# Which streams of the source have a copy.


def dropped(case: Case, stream: Stream, word: str) -> str | None:
    return case.heard(f"{word} stream {stream.index} ", "dropped")


def kept_streams(case: Case, *kinds: str) -> list[tuple[Stream, Stream]]:
    """Every stream of these kinds that was not said to be dropped, with its copy."""
    pairs: list[tuple[Stream, Stream]] = []
    for kind in kinds:
        word = "cover art" if kind == "cover" else kind
        kept = [one for one in case.before.of(kind) if not dropped(case, one, word)]
        pairs += zip(kept, case.after.of(kind), strict=False)
    return pairs


def tick(stream: Stream) -> Fraction:
    return Fraction(stream.facts["time_base"])

"""libavfilter between the decoder and the network: a chain of filters on decoded pictures."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import av.logging
from av.filter import Filter, Graph
from av.filter import filters_available as known_filters
from av.video.frame import VideoFrame

from vsr.errors import ConfigError, SourceError
from vsr.ffmpeg import explain, listening, near_matches

__all__ = ["FilterChain", "Geometry", "Step", "parse_chain"]

Step = tuple[str, str]
"""A filter and its arguments, as libavfilter writes them."""

_DYNAMIC_INPUTS, _DYNAMIC_OUTPUTS = 1, 2
"""``AVFILTER_FLAG_DYNAMIC_…``: what goes in or comes out depends on the arguments."""
_MAX_THREADS = 4
_PROBES = ("showinfo", "setsar")
_EDGE = re.compile(r"w:(\d+) h:(\d+) sar:(\d+)/(\d+)")
_CLOCK = re.compile(r"config in time_base: (\d+)/(\d+), frame_rate: (\d+)/(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Shape and clock of pictures on one side of a chain."""

    width: int
    height: int
    sar: Fraction | None
    """Sample aspect ratio, None if unknown."""
    time_base: Fraction
    rate: Fraction | None
    """Nominal frames per second; None if the chain does not say."""


def parse_chain(text: str) -> list[Step]:
    """Split ``crop=704:576,nlmeans=s=2`` into filters and their arguments.

    Quotes and backslashes work as in FFmpeg's filter graphs (ffmpeg-filters, "Notes on
    filtergraph escaping").

    Raises:
        ConfigError: a graph with labels or several chains, an empty or an unknown filter, or one
            that does not make one video of one.
    """
    steps = []
    for part in _split(text):
        name, _, arguments = part.strip().partition("=")
        name = name.partition("@")[0].strip()
        if name not in known_filters:
            raise ConfigError(
                f"--vf: there is no filter {name!r}{near_matches(name, known_filters)}"
            )
        _check_pads(name)
        steps.append((name, arguments))
    return steps


def _check_pads(name: str) -> None:
    found = Filter(name)
    ends = ((found.inputs, _DYNAMIC_INPUTS), (found.outputs, _DYNAMIC_OUTPUTS))
    for pads, dynamic in ends:
        if not found.flags & dynamic and [pad.type for pad in pads] != ["video"]:
            raise ConfigError(
                f"--vf: {name} does not fit in a chain: it does not make one video of one"
            )


def _split(text: str) -> list[str]:
    """Cut at commas that are neither quoted nor escaped; take quotes and escapes away."""
    parts, quoted, escaped = [""], False, False
    for character in text:
        if escaped or (quoted and character != "'"):
            parts[-1] += character
            escaped = False
        elif character == "'":
            quoted = not quoted
        elif character == "\\":
            escaped = True
        elif character == ",":
            parts.append("")
        elif character in "[];":
            raise ConfigError(f"--vf takes one chain of filters, without {character!r}: {text}")
        else:
            parts[-1] += character
    if quoted or escaped:
        raise ConfigError(f"--vf: a quote or an escape is left open: {text}")
    return parts


class FilterChain:
    """A chain of video filters with one input and one output.

    Args:
        steps: the filters.
        first: a frame as they will come; its format, colour and size hold for all.
        given: shape and clock of the frames that go in.

    Attributes:
        result: shape and clock of the frames that come out.

    Raises:
        ConfigError: libavfilter refuses the chain.
    """

    def __init__(self, steps: Sequence[Step], first: VideoFrame, given: Geometry) -> None:
        self._steps, self._given = steps, given
        self._text = ",".join(f"{name}={text}" if text else name for name, text in steps)
        with explain(f"filter {self._text} is refused", ConfigError):
            self._graph = self._build(first)
        self.result = self._measure(first)

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Frames that ``frame`` brings out; None brings out what is left.

        Raises:
            SourceError: a filter failed.
        """
        with explain(f"filter {self._text} failed", SourceError, listen=False):
            self._graph.vpush(frame)
        while True:
            with explain(f"filter {self._text} failed", SourceError, listen=False):
                picture = self._pull()
            if picture is None:
                return
            yield picture

    def _pull(self) -> VideoFrame | None:
        try:
            return self._graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return None

    def _build(self, first: VideoFrame, *tail: Step) -> Graph:
        graph = Graph()
        graph.threads = min(_MAX_THREADS, os.cpu_count() or 1)
        given = self._given
        source = graph.add(
            "buffer", video_size=f"{first.width}x{first.height}", pix_fmt=first.format.name,
            time_base=str(given.time_base), pixel_aspect=str(given.sar or "0/1"),
            frame_rate=str(given.rate or "0/1"), colorspace=str(int(first.colorspace)),
            range=str(int(first.color_range)),
        )  # fmt: skip
        nodes = [graph.add(name, text or None) for name, text in (*self._steps, *tail)]
        graph.link_nodes(source, *nodes, graph.add("buffersink")).configure()
        return graph

    def _measure(self, first: VideoFrame) -> Geometry:
        """What comes out, which PyAV has no attribute for: two filters at the end log it."""
        with listening(av.logging.VERBOSE) as messages:
            self._build(first, *((name, "") for name in _PROBES))
        # The last ones: the chain itself may hold either filter, numbered in the log.
        lines = [text for _, name, text in reversed(messages) if name.startswith(_PROBES)]
        edge = next(match for line in lines if (match := _EDGE.search(line)))
        clock = next(match for line in lines if (match := _CLOCK.search(line)))
        width, height, sar, sar_unit, base, base_unit, rate, rate_unit = map(
            int, (*edge.groups(), *clock.groups())
        )
        return Geometry(
            width=width, height=height, sar=_ratio(sar, sar_unit),
            time_base=Fraction(base, base_unit), rate=_ratio(rate, rate_unit),
        )  # fmt: skip


def _ratio(numerator: int, denominator: int) -> Fraction | None:
    return Fraction(numerator, denominator) if numerator and denominator else None

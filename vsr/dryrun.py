"""What a run would do, said without doing it: ``--dry-run``.

The plan is made as for a run, so that it fails where the run would. Then a short piece is run into
a temporary file, which gives the speed and what the output cannot hold.
"""

import math
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from vsr.beside import framemd5_path, record_path
from vsr.config import PIPE, UpscaleConfig
from vsr.encoding.streams import output_chapters
from vsr.errors import TruncatedError
from vsr.flags import command_line
from vsr.frame import VideoInfo
from vsr.hdr import HdrMetadata
from vsr.inventory import StreamEntry, colour_tags, input_colour, list_streams
from vsr.pipeline import run
from vsr.planning import Plan, make_plan, spelt_out
from vsr.progress import Progress
from vsr.report import FrameTimes, Report
from vsr.resume import as_before, finished_frames
from vsr.sources import VideoSource

__all__ = ["dry_run"]

_FEWEST_FRAMES = 24
_SECONDS = (3.0, 10.0)
"""How long the sample lasts: at least, if the film is long enough; at most, if it is slow."""

_FATES = {
    "upscale": "upscaled", "copy": "copied", "convert": "wrapped anew", "encode": "encoded anew",
    "attach": "attached", "drop": "dropped",
}  # fmt: skip


def dry_run(config: UpscaleConfig, *, should_stop: Callable[[], bool] = lambda: False) -> list[str]:
    """Plan a run, time a piece of it, and describe it.

    Args:
        config: what would be done.
        should_stop: asked after every frame of the sample; when it says yes, the sample ends.

    Returns:
        Lines for people.

    Raises:
        VsrError: as the run would.
    """
    with ExitStack() as stack:
        plan = make_plan(as_before(config), stack, should_stop)
        before = finished_frames(plan)
        sample, speed = _take_sample(plan, should_stop)
        sections = {
            "Input": _input(plan, sample),
            "Work": _work(plan),
            "Output": _output(plan),
            "Lost or changed": _lost(plan, sample),
            "Time": _time(plan, sample, speed, before),
        }
        return [line for title, lines in sections.items() for line in _section(title, lines)]


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    yield title
    for line in lines:
        yield f"  {line}"


# The sample.


class _Stopwatch:
    """Times a sample, its first frame excluded: that one warms everything up."""

    def __init__(self) -> None:
        self._frames = 0
        self._began = self._first = time.perf_counter()

    def mark(self, progress: Progress) -> None:
        """A frame is done."""
        self._frames = progress.frames
        if progress.frames == 1:
            self._first = time.perf_counter()

    def enough(self) -> bool:
        """Whether the sample says enough, or has taken long enough."""
        seconds = time.perf_counter() - self._began
        shortest, longest = _SECONDS
        settled = self._frames >= _FEWEST_FRAMES and seconds >= shortest
        return settled or (self._frames > 1 and seconds >= longest)

    def speed(self) -> float:
        """Frames a second until now, the last frames' way through the encoder included."""
        now = time.perf_counter()
        if self._frames > 1:
            return (self._frames - 1) / (now - self._first)
        return self._frames / (now - self._began)


def _take_sample(plan: Plan, should_stop: Callable[[], bool]) -> tuple[Report, float]:
    """Run the start of ``plan`` into a file that is deleted; returns its speed in frames/s."""
    watch = _Stopwatch()
    with tempfile.TemporaryDirectory(prefix="vsr-") as folder:
        try:
            report = run(
                replace(plan, config=_elsewhere(plan.config, Path(folder))),
                on_progress=watch.mark,
                should_stop=lambda: watch.enough() or should_stop(),
            )
        except TruncatedError as error:  # it says where the sample is, which is deleted
            raise error.__cause__ or error from None
        return report, watch.speed()


def _elsewhere(config: UpscaleConfig, folder: Path) -> UpscaleConfig:
    if config.output is None:
        return config
    name = "sample" if config.output == PIPE else config.output.name
    return replace(config, output=folder / name, record=False, overwrite=True)


# What is said.


def _input(plan: Plan, sample: Report) -> Iterator[str]:
    source, info = plan.source, plan.source.info
    yield _file(plan)
    for entry in list_streams(plan):
        yield f"stream {entry.index}: {_stream(entry)}"
    if source.others is not None and (chapters := source.others.container.chapters()):
        wanted = len(output_chapters(source.others, plan.info.duration))
        part = f", {wanted} of them in the part that is wanted" if wanted < len(chapters) else ""
        yield f"chapters: {len(chapters)}{part}"
    yield "colour: " + ", ".join(
        f"{name} {tag.value}" + (f" ({tag.origin})" if tag.origin != "unknown" else "")
        for name, tag in input_colour(plan).items()
    )
    yield f"picture: {_picture(info)}"
    if source.fields is not None:
        yield f"fields: {source.fields.kind} ({source.fields.describe()})"
    yield f"timing: {_timing(source, sample.times)}"
    if info.hdr is not None:
        yield f"HDR: {_hdr(info.hdr)}"
    for note in source.notes:
        yield f"note: {note}"


def _file(plan: Plan) -> str:
    path, info, source = plan.config.input, plan.source.info, plan.source
    kind = source.kind
    parts = ["standard input" if path == PIPE else str(path), kind]
    if path.is_file():
        parts.append(f"{path.stat().st_size:,} bytes")
    if info.duration is not None:
        parts.append(_clock(float(info.duration)))
    return ", ".join(parts)


def _stream(entry: StreamEntry) -> str:
    language = f"({entry.language})" if entry.language else ""
    what = " ".join(filter(None, (entry.kind, entry.codec, language)))
    implied = entry.fate == "drop" and not entry.reason
    fate = "carried as metadata" if implied else _FATES[entry.fate]
    return ", ".join(filter(None, (what, entry.details, fate)))


def _picture(info: VideoInfo) -> str:
    sar = f"pixels {_ratio(info.sar)}" if info.sar else "pixel aspect ratio unknown"
    order = info.field_order
    fields = f", field order {order.name.lower()}" if order.interlaced else ""
    rotated = ", rotated or mirrored for display" if info.display_matrix else ""
    return f"{info.width}x{info.height} {info.format.name}, {sar}{fields}{rotated}"


def _timing(source: VideoSource, times: FrameTimes) -> str:
    info, count = source.info, len(times.pts)
    rate = f"{float(info.rate):.6g} frames/s"
    if not source.has_times:
        return f"{rate}, counted: the input has no times, or none that are used"
    if count < 2:
        return f"{rate} by its header"
    step = 1 / (info.rate * times.time_base)
    first = times.pts[0]
    even = all(abs(pts - first - index * step) <= 1 for index, pts in enumerate(times.pts))
    kind = "constant" if even else "variable"
    return f"{kind} frame rate in the first {count} frames, nominally {rate}; every time is kept"


def _hdr(hdr: HdrMetadata) -> str:
    parts = []
    if hdr.mastering is not None:
        low, high = hdr.mastering.min_luminance, hdr.mastering.max_luminance
        parts.append(f"mastering display {float(low):g} to {float(high):g} cd/m²")
    if hdr.light is not None:
        parts.append(f"MaxCLL {hdr.light.max_cll}, MaxFALL {hdr.light.max_fall} cd/m²")
    return ", ".join(parts)


def _work(plan: Plan) -> Iterator[str]:
    yield f"filters: {plan.source.filters or 'none'}"
    for note in plan.notes:
        if note not in plan.encoding.notes:
            yield note
    tile = plan.engine.tile  # chosen at the first frame of the sample, if nobody asked for one
    yield f"tiles: {f'{tile} pixels' if tile else 'none, whole frames'}"
    yield f"dither: {plan.config.dither}"


def _output(plan: Plan) -> Iterator[str]:
    encoding, info, config = plan.encoding, plan.info, plan.config
    if config.output is None:
        yield "nothing is written"
        return
    yield "standard output" if config.output == PIPE else str(config.output)
    yield from encoding.notes
    yield f"picture: {_picture(info)}"
    yield "colour: " + ", ".join(f"{k} {v}" for k, v in colour_tags(encoding.colour).items())
    for wanted, path in ((config.framemd5, framemd5_path), (config.record, record_path)):
        if wanted:
            yield f"beside it: {path(config.output)}"
    yield f"the same in flags: {shlex.join(['vsr-upscale', *command_line(spelt_out(plan))])}"


def _lost(plan: Plan, sample: Report) -> Iterator[str]:
    reasons = [entry.reason for entry in list_streams(plan) if entry.reason]
    lines = list(dict.fromkeys([*reasons, *sample.losses]))
    yield from lines or ["nothing but what the lines above name"]


def _time(plan: Plan, sample: Report, speed: float, before: int) -> Iterator[str]:
    frames = plan.source.info.frames if sample.interrupted else sample.frames
    yield f"measured: {speed:.3g} frames/s, in {sample.frames} frames from the start"
    if frames is None:
        yield "unknown length: the input does not say how many frames come"
    else:
        done = f", {before} of them finished before" if before else ""
        seconds = math.ceil(max(frames - before, 0) / speed)
        yield f"expected: {frames} frames{done}, about {_clock(seconds)}"


def _clock(seconds: float) -> str:
    """``2 h 03 min``, ``4 min 05 s``, ``2.5 s``."""
    if seconds < 60:
        return f"{seconds:.4g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def _ratio(value: Fraction) -> str:
    return f"{value.numerator}:{value.denominator}"

"""Threads and queues; the only place that has any.

Three threads work on a run: one decodes, one enqueues work for the device, and the caller's
encodes. They meet at two bounded queues, each made by one call of :func:`prefetch`.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from vsr.config import UpscaleConfig
from vsr.device import choose_device, choose_dtype, describe
from vsr.encoding import Encoding, choose_encoding
from vsr.engine import IN_FLIGHT, Engine, Target
from vsr.errors import ConfigError, SinkError, SourceError
from vsr.frame import VideoInfo
from vsr.index import find_model, list_models
from vsr.networks import Network
from vsr.progress import Boundary, Progress, Speedometer, StageTimes, stage_times
from vsr.sinks import NullSink, PyAVSink
from vsr.sources import PyAVSource, open_source
from vsr.weights import load_network

__all__ = ["Report", "prefetch", "upscale"]

_ANY_SCALE = 2  # of a network that renders at any, when none is asked for

logger = logging.getLogger(__name__)

_DECODED_AHEAD = 4

OnProgress = Callable[[Progress], None]


@dataclass(slots=True)
class _End:
    error: BaseException | None = None


def prefetch[T](
    upstream: Iterable[T], *, depth: int, boundary: Boundary
) -> Generator[T, None, None]:
    """Run ``upstream`` on its own thread, at most ``depth`` items ahead of the reader.

    An error upstream is raised here, after the items that preceded it, with a note that names the
    stage. Closing the generator early stops the thread and closes ``upstream``; it waits for the
    item that the thread is making. Hold it in ``contextlib.closing``.

    Args:
        upstream: what to iterate; closed on its thread if it has ``close``.
        depth: how many finished items may wait.
        boundary: clock of this thread boundary, its name is the stage's.
    """
    ready: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def work() -> None:
        end = _End()
        try:
            _pump(upstream, ready, stop, boundary)
        except BaseException as error:  # noqa: BLE001 - it is raised again at the reader
            error.add_note(f"in stage {boundary.name!r}")
            end.error = error
        if not stop.is_set():
            ready.put(end)

    thread = threading.Thread(target=work, name=f"vsr-{boundary.name}", daemon=True)
    thread.start()
    try:
        while not isinstance(item := _timed_get(ready, boundary), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        while thread.is_alive():  # make room for a put() that is blocked, then wait for the thread
            _discard(ready)
            thread.join(0.01)


def _pump[T](
    upstream: Iterable[T], ready: "queue.Queue[T | _End]", stop: threading.Event, clock: Boundary
) -> None:
    """Move items from ``upstream`` to ``ready`` until either end is done."""
    items = iter(upstream)
    try:
        while not stop.is_set():
            started = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                made = time.perf_counter()
                clock.producing += made - started
            ready.put(item)
            clock.blocked_put += time.perf_counter() - made
            clock.items += 1
    finally:
        if hasattr(items, "close"):
            items.close()


def _timed_get[T](ready: "queue.Queue[T]", boundary: Boundary) -> T:
    started = time.perf_counter()
    item = ready.get()
    boundary.blocked_get += time.perf_counter() - started
    return item


def _discard[T](ready: "queue.Queue[T]") -> None:
    try:
        while True:
            ready.get_nowait()
    except queue.Empty:
        return


# One run.


@dataclass(slots=True, kw_only=True)
class Report:
    """The record of a run."""

    frames: int = 0
    """Frames written."""
    output: Path | None = None
    """The finished file; of an interrupted run, the part that is playable; None if discarded."""
    interrupted: bool = False
    seconds: float = 0.0
    """Wall-clock time from the first frame to the finished file."""
    notes: list[str] = field(default_factory=list)
    """Every automatic decision: device, precision, guesses, streams that were dropped."""
    warnings: list[str] = field(default_factory=list)
    """What went wrong and was survived: damaged packets, repaired timestamps."""
    stages: list[StageTimes] = field(default_factory=list)
    """Where the time went."""


def upscale(
    config: UpscaleConfig,
    *,
    on_progress: OnProgress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Report:
    """Upscale one file.

    Args:
        config: what to do.
        on_progress: called on this thread after every frame.
        should_stop: asked after every frame; when it says yes, the run ends early and leaves what
            is done as a playable file beside the output's name.

    Returns:
        The record of the run.

    Raises:
        VsrError: a reason the user can act on, in one line; nothing is left under the output's
            name, and what was there before is unharmed.
    """
    _check_paths(config)
    network = _choose_network(config)
    report = Report()
    with ExitStack() as stack:
        source = stack.enter_context(
            open_source(
                config.input, start=config.start, end=config.end, frames=config.frames,
                threads=config.decode_threads,
            )
        )  # fmt: skip
        if network is None:
            network = _network_for_size(config, source.info)
        encoding, info = _plan_output(config, source.info, network)
        engine = _make_engine(config, network, encoding, info)
        sink = _open_sink(config, encoding, info, source)
        stack.push(sink)
        described = _describe_run(network, engine, source.info, info, config)
        for note in (*encoding.notes, described):
            logger.info(note)
        report.warnings = _warn(_doubts(source.info))
        _run(source, engine, sink, report, on_progress, should_stop)
        report.notes = [*source.notes, *encoding.notes, described, *sink.notes]
        report.warnings += _warn(source.report.lines())
    return report


def _run(
    source: PyAVSource,
    engine: Engine,
    sink: PyAVSink | NullSink,
    report: Report,
    on_progress: OnProgress | None,
    should_stop: Callable[[], bool],
) -> None:
    started = time.perf_counter()
    speed = Speedometer()
    decoding, upscaling = boundaries = [Boundary("decode"), Boundary("upscale")]
    with (
        closing(prefetch(source, depth=_DECODED_AHEAD, boundary=decoding)) as decoded,
        closing(prefetch(engine.submit(decoded), depth=IN_FLIGHT, boundary=upscaling)) as upscaled,
    ):
        for pending in upscaled:
            frame = engine.collect(pending)
            sink.write(frame)
            report.frames += 1
            if on_progress is not None:
                stages = stage_times(boundaries, time.perf_counter() - started)
                seconds = frame.pts * frame.time_base
                on_progress(_progress(report.frames, source.info.frames, seconds, speed, stages))
            if should_stop():
                report.interrupted = True
                break
    report.output = sink.keep_partial() if report.interrupted else sink.finish()
    report.seconds = time.perf_counter() - started
    report.stages = stage_times(boundaries, report.seconds)


def _progress(
    frames: int, total: int | None, position: Fraction, speed: Speedometer,
    stages: list[StageTimes],
) -> Progress:  # fmt: skip
    fps = speed.mark(frames)
    remaining = None if total is None or not fps else max(0, total - frames) / fps
    slowest = max(stages, key=lambda stage: stage.busy)
    return Progress(
        frames=frames, total=total, position=position, fps=fps, eta=remaining,
        bottleneck=slowest.name,
    )  # fmt: skip


# Decisions before the first frame.


def _check_paths(config: UpscaleConfig) -> None:
    if not config.input.exists():
        raise SourceError(f"{config.input}: no such file")
    if config.input.is_dir():
        raise SourceError(f"{config.input}: is a directory")
    output = config.output
    if output is None:
        return
    if output.is_dir():
        raise SinkError(f"{output}: is a directory")
    if output.exists() and os.path.samefile(config.input, output):
        raise ConfigError(f"{output}: input and output are the same file")
    if output.exists() and not config.overwrite:
        raise SinkError(f"{output}: already exists; -y replaces it")


def _choose_network(config: UpscaleConfig) -> Network | None:
    """The network, or None if the picture's size has to be known first."""
    if config.weights is None and config.size is not None and config.scale is None:
        find_model(config.model, None)
        return None
    return load_network(
        config.model, scale=config.scale, weights=config.weights, variant=config.variant
    )


def _network_for_size(config: UpscaleConfig, info: VideoInfo) -> Network:
    """The smallest scale of the model that reaches the wanted size, else its largest."""
    assert config.size is not None
    wanted = max(config.size[0] / info.width, config.size[1] / info.height)
    scales = sorted(m.scale for m in list_models() if config.model in (m.name, m.family))
    scale = next((s for s in scales if s >= wanted), scales[-1])
    return load_network(config.model, scale=scale or None)


def _plan_output(
    config: UpscaleConfig, info: VideoInfo, network: Network
) -> tuple[Encoding, VideoInfo]:
    width, height = config.size or _natural_size(config, info, network)
    if config.output is None:
        encoding = _discarding(info)
    else:
        encoding = choose_encoding(config.output, info, width, height, config.encoder)
    planned = replace(
        info, width=width, height=height, format=encoding.format, colour=encoding.colour,
        sar=_output_sar(info, width, height),
    )  # fmt: skip
    return encoding, planned


def _natural_size(
    config: UpscaleConfig, info: VideoInfo, network: Network
) -> tuple[int, int]:  # fmt: skip
    """The size that the scale leads to; of a fraction, even numbers, which 4:2:0 needs."""
    scale = network.scale or config.scale or _ANY_SCALE
    width, height = (
        side * scale if isinstance(scale, int) else 2 * round(side * scale / 2)
        for side in (info.width, info.height)
    )
    return width, height


def _discarding(info: VideoInfo) -> Encoding:
    """What a discarded picture is converted to: the source's own kind, and nothing is encoded."""
    form = info.format.as_planar()
    return Encoding(muxer="null", codec="none", format=form, colour=info.colour, options={})


def _warn(lines: list[str]) -> list[str]:
    for line in lines:
        logger.warning(line)
    return lines


def _doubts(info: VideoInfo) -> list[str]:
    """What makes this source a bad one to upscale as it is."""
    if not info.interlaced:
        return []
    return ["the input is interlaced: its combing is enlarged as if it were detail; deinterlace it"]


def _output_sar(info: VideoInfo, width: int, height: int) -> Fraction | None:
    """The aspect ratio of samples that keeps the picture's shape at another size."""
    stretch = Fraction(width * info.height, height * info.width)
    if abs(width - height * info.width / info.height) < 1:  # nothing but rounding to whole pixels
        return info.sar
    return (info.sar or Fraction(1)) / stretch


def _make_engine(
    config: UpscaleConfig, network: Network, encoding: Encoding, info: VideoInfo
) -> Engine:
    device = choose_device(config.device)
    target = Target(
        width=info.width, height=info.height, format=encoding.format, colour=encoding.colour,
        dither=config.dither,
    )  # fmt: skip
    dtype = choose_dtype(device, config.precision)
    return Engine(network, target, device=device, dtype=dtype, tile=config.tile)


def _open_sink(
    config: UpscaleConfig, encoding: Encoding, info: VideoInfo, source: PyAVSource
) -> PyAVSink | NullSink:
    if config.output is None:
        return NullSink()
    return PyAVSink(config.output, encoding, info, source=source, overwrite=config.overwrite)


def _describe_run(
    network: Network, engine: Engine, info: VideoInfo, planned: VideoInfo, config: UpscaleConfig
) -> str:
    precision = str(engine.dtype).removeprefix("torch.")
    device = describe(choose_device(config.device))
    tiles = f", tiles of {engine.tile}" if engine.tile else ""
    scale = f" x{network.scale}" if network.scale else ""
    return (
        f"{network.name}{scale} on {device} in {precision}{tiles}: "
        f"{info.width}x{info.height} {info.format.name} to "
        f"{planned.width}x{planned.height} {planned.format.name}"
    )

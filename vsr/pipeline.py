"""A run, and its stages.

Three threads work on a run: one decodes, one enqueues work for the device, and the caller's
encodes. They meet at two bounded queues, each made by one call of :func:`vsr.prefetch.prefetch`. On
a CPU the second hands the work on to lanes, a thread each (:mod:`vsr.engine.lanes`).
"""

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from vsr.completion import Stage, enter
from vsr.config import PIPE, UpscaleConfig
from vsr.device import plain_torch
from vsr.engine import IN_FLIGHT, Engine, PendingFrame
from vsr.errors import TruncatedError
from vsr.frame import Frame
from vsr.outputs import companions, files_read
from vsr.places import anchored
from vsr.planning import Plan, make_plan
from vsr.prefetch import prefetch
from vsr.progress import Boundary, Progress, Speedometer, StageTimes, stage_times
from vsr.record import write_record
from vsr.report import Report
from vsr.resume import (
    Work,
    as_before,
    can_be_read_again,
    changes,
    files_of,
    find_finished,
    fingerprint,
    is_resumable,
    locked,
    open_work,
    remove_unfinished,
    tidy,
)
from vsr.reuse import mark_repeats
from vsr.sinks import FrameMd5Sink, NullSink, Sink, open_sink
from vsr.stdout import ReaderGone, Stdout, reserve_stdout

__all__ = ["Report", "run", "upscale"]

logger = logging.getLogger(__name__)

_DECODED_AHEAD = 4

OnProgress = Callable[[Progress], None]


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
        should_stop: asked after every frame, and on another thread while standard input or a frame
            of a script is waited for; when it says yes, the run ends early. What is done is left
            beside the output's name: finished segments (``Report.kept``), from which the same
            configuration with ``resume`` goes on, or of a film that is no longer than a segment, or
            is written in one go, a playable file (``Report.output``).

    Returns:
        What the run did: frames, files, times, and every note and warning.

    Raises:
        VsrError: a reason the user can act on, in one line; nothing is left under the output's
            name, and what was there before is unharmed.
    """
    with plain_torch(), ExitStack() as stack:
        # Before anything else is loaded: what that prints must not get into the stream.
        stdout = stack.enter_context(reserve_stdout()) if config.output == PIPE else None
        config = _anchored(config)
        tidy(config)
        config = as_before(config)
        plan = make_plan(config, stack, should_stop)
        for note in plan.notes:
            logger.info(note)
        _keep_others_off(plan, stack)
        if (report := find_finished(plan)) is not None:
            return report
        work = stack.enter_context(open_work(plan)) if is_resumable(plan) else None
        return run(
            plan if work is None else work.plan, on_progress=on_progress, should_stop=should_stop,
            stdout=stdout, work=work,
        )  # fmt: skip


def _anchored(config: UpscaleConfig) -> UpscaleConfig:
    """``config`` with paths that lead where they lead now; see :mod:`vsr.places`."""
    return replace(
        config, input=anchored(config.input),
        output=None if config.output is None else anchored(config.output),
        audio_from=None if config.audio_from is None else anchored(config.audio_from),
        weights=None if config.weights is None else anchored(config.weights),
    )  # fmt: skip


def _keep_others_off(plan: Plan, stack: ExitStack) -> None:
    output = plan.config.output
    if output is not None and output != PIPE:
        alone = stack.enter_context(locked(output))
        if alone:
            remove_unfinished(output, spared=files_read(plan.config))


def run(
    plan: Plan,
    *,
    on_progress: OnProgress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    stdout: Stdout | None = None,
    work: Work | None = None,
) -> Report:
    """Do what is planned; the arguments, result and errors are those of :func:`upscale`.

    ``stdout`` is the stream for an output that is :data:`~vsr.config.PIPE`, ``work`` the segments
    that are written, or None for an output that is written in one go.
    """
    engine = plan.engine
    report = Report(health=engine.watch.health, source=plan.source.report, engine=engine.warnings)
    sink_notes: list[str] = []
    before = _fingerprints(plan)
    try:
        with _open_sink(plan, stdout) if work is None else work.sink as sink:
            sink_notes = sink.notes
            report.losses = list(sink.notes)
            report.frames = report.frames_before = 0 if work is None else work.done
            _move_frames(plan, sink, report, on_progress, should_stop, work)
    except ReaderGone:
        report.reader_gone = True
        report.interrupted = should_stop()
    except TruncatedError:  # what came before the break is kept, and recorded
        if work is not None:
            work.tell(report)
        _conclude(plan, report, sink_notes, before)
        raise
    _conclude(plan, report, sink_notes, before)
    return report


def _fingerprints(plan: Plan) -> dict[str, str]:
    """By what input and sound are known again, where they are files that can be read again."""
    found = {}
    for name, path in files_of(plan.config).items():
        if can_be_read_again(path):
            with suppress(OSError):
                found[name] = fingerprint(path)
    return found


def _conclude(plan: Plan, report: Report, sink_notes: list[str], before: dict[str, str]) -> None:
    """Gather what there is to say, and write it beside the output if that is wanted."""
    source = plan.source
    report.notes = [*source.notes, *plan.notes, *sink_notes]
    report.warnings = _warn(report.source.lines())
    report.warnings += _warn(list(_changed_files(plan, before)))
    report.warnings += report.engine + [str(incident) for incident in report.health.incidents]
    if plan.config.record and report.output is not None:
        write_record(plan, report)


def _changed_files(plan: Plan, before: dict[str, str]) -> Iterator[str]:
    """A line for each file that is not what it was ``before``."""
    after = _fingerprints(plan)
    for name, path in files_of(plan.config).items():
        if name not in before or name not in after:
            continue
        if changes({name: before[name]}, {name: after[name]}):
            what = "frames" if name == "input" else "sounds"
            yield f"{path}: was changed while it was read: {what} may be of either version"


def _move_frames(
    plan: Plan,
    sink: Sink,
    report: Report,
    on_progress: OnProgress | None,
    should_stop: Callable[[], bool],
    work: Work | None,
) -> None:
    """Wire up the stages and drive them until the source ends or somebody stops it.

    The output is complete when this returns; ``report`` is filled on the way.
    """
    source, engine = plan.source, plan.engine
    started, speed = time.perf_counter(), Speedometer(done=report.frames)
    decoding, upscaling = boundaries = [Boundary("decode"), Boundary("upscale")]
    mark = partial(mark_repeats, threshold=plan.config.reuse_threshold)
    frames = mark(source) if work is None else work.feed.frames(mark)
    together = engine.batch(source.info.shape)
    ahead, in_flight = max(_DECODED_AHEAD, 2 * together), IN_FLIGHT * together
    with _timed(report, boundaries, engine):
        with (
            closing(prefetch(frames, depth=ahead, boundary=decoding)) as decoded,
            closing(prefetch(engine.submit(decoded), depth=in_flight, boundary=upscaling)) as done,
            # Closed by hand, too: Python swallows a KeyboardInterrupt that comes while a generator
            # is merely collected.
            closing(_until_cut(done, sink, report)) as results,
        ):
            for pending in results:
                number = None if work is None else work.coming
                frame = _collect(engine, pending, upscaling, number)
                written = sink.frames
                sink.write(frame)
                if sink.frames > written:  # of a group, some may have been finished before
                    report.count(frame)
                if on_progress is not None:
                    stages = stage_times(boundaries, time.perf_counter() - started, engine.busy)
                    on_progress(_progress(report.frames, source.info.frames, frame, speed, stages))
                if should_stop():
                    report.interrupted = True
                    break
        report.interrupted = report.interrupted or source.given_up
        if report.interrupted:
            report.output = sink.keep_partial()
        else:
            enter(Stage.COMPLETING)
            report.output = sink.finish()
    if work is not None:
        work.tell(report)


@contextmanager
def _timed(report: Report, boundaries: list[Boundary], engine: Engine) -> Iterator[None]:
    """Write into ``report`` how long the block takes, however it ends."""
    started = time.perf_counter()
    report.started = datetime.now(UTC)
    try:
        yield
    finally:
        report.finished = datetime.now(UTC)
        report.seconds = time.perf_counter() - started
        report.stages = stage_times(boundaries, report.seconds, engine.busy)


def _collect(
    engine: Engine, pending: PendingFrame, boundary: Boundary, number: int | None
) -> Frame:
    """The next result; the time until a GPU has it is time that this thread waits for input."""
    started = time.perf_counter()
    try:
        return engine.collect(pending, number=number)
    finally:
        boundary.blocked_get += time.perf_counter() - started


def _until_cut[T](items: Iterable[T], sink: Sink, report: Report) -> Generator[T]:
    """``items``; if the input breaks off, what came before it is kept, and the error says where."""
    try:
        yield from items
    except TruncatedError as error:
        report.interrupted = True
        report.output = kept = sink.keep_broken() if report.frames else None
        where = f" (what came before it, {report.frames} frames, is in {kept})" if kept else ""
        raise TruncatedError(f"{error}{where}") from error


def _progress(
    frames: int, total: int | None, latest: Frame, speed: Speedometer, stages: list[StageTimes]
) -> Progress:
    fps = speed.mark(frames)
    remaining = None if total is None or not fps else max(0, total - frames) / fps
    slowest = max(stages, key=lambda stage: stage.load)
    return Progress(
        frames=frames, total=total, position=latest.pts * latest.time_base, fps=fps,
        eta=remaining, bottleneck=slowest.name,
    )  # fmt: skip


def _warn(lines: list[str]) -> list[str]:
    for line in lines:
        logger.warning(line)
    return lines


def _open_sink(plan: Plan, stdout: Stdout | None) -> Sink:
    config = plan.config
    if config.output is None:
        return NullSink()
    sink = open_sink(
        config.output, plan.encoding, plan.info, source=plan.source.others,
        overwrite=config.overwrite, stdout=stdout, companions=companions(config),
    )  # fmt: skip
    if not config.framemd5:
        return sink
    return FrameMd5Sink(sink, plan.info, config.output, overwrite=config.overwrite)

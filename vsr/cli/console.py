"""What the command says on stderr while it works: log lines, a bar or JSON, statistics."""

import json
import logging
import logging.handlers
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vsr.cli.command import printable

if TYPE_CHECKING:
    from vsr.progress import Progress
    from vsr.report import Report

__all__ = [
    "Bar",
    "StartupLog",
    "logging_to_stderr",
    "print_json",
    "print_json_done",
    "print_stats",
]


class _Formatter(logging.Formatter):
    """``warning: text`` for what needs attention, plain text for the rest."""

    def format(self, record: logging.LogRecord) -> str:
        text = printable(super().format(record))
        return f"{record.levelname.lower()}: {text}" if record.levelno >= logging.WARNING else text


class _Stderr(logging.Handler):
    """Lines on stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


class StartupLog(logging.handlers.MemoryHandler):
    """Holds messages back until the run has started: a run that never does has one to give."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__(10_000, flushLevel=logging.CRITICAL + 1, target=target, flushOnClose=False)
        self.started = False

    def shouldFlush(self, record: logging.LogRecord) -> bool:
        """Whether to hold nothing back."""
        return self.started

    def start(self) -> None:
        """Show what was held back, and everything from now on at once."""
        self.started = True
        self.flush()


@contextmanager
def logging_to_stderr(level: str) -> Iterator[StartupLog]:
    """Send vsr's log to stderr, held back until :meth:`StartupLog.start`."""
    stderr = _Stderr()
    stderr.setFormatter(_Formatter("%(message)s"))
    held = StartupLog(stderr)
    logger = logging.getLogger("vsr")
    before, propagate = logger.level, logger.propagate
    logger.setLevel(level.upper())
    logger.addHandler(held)
    logger.propagate = False
    try:
        yield held
    finally:
        logger.removeHandler(held)
        logger.propagate = propagate
        logger.setLevel(before)


class Bar:
    """tqdm bar: frames, frames a second, time left, and the stage that limits."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bar = tqdm(unit=" frames", dynamic_ncols=True, smoothing=0.1)

    def __call__(self, progress: "Progress") -> None:
        """Show the state of the run."""
        if self._bar.total is None and progress.total:
            self._bar.total = max(progress.total, progress.frames)
        self._bar.set_postfix_str(f"limited by {progress.bottleneck}", refresh=False)
        self._bar.update(progress.frames - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it is and end its line."""
        self._bar.close()


def print_json(progress: "Progress") -> None:
    """One line of JSON on stderr."""
    values = {
        "frames": progress.frames, "total": progress.total,
        "seconds": round(float(progress.position), 3), "fps": round(progress.fps, 3),
        "eta": None if progress.eta is None else round(progress.eta, 1),
        "bottleneck": progress.bottleneck,
    }  # fmt: skip
    print(json.dumps(values), file=sys.stderr, flush=True)


def print_json_done(frames: int, elapsed: float, output: str | None) -> None:
    """The last line of JSON on stderr: the output is complete and has its name.

    Args:
        frames: in the output, with those of earlier runs.
        elapsed: seconds from the first frame to the finished file.
        output: its name, ``-`` for a pipe; None if nothing was to be written.
    """
    values = {"done": True, "frames": frames, "elapsed": round(elapsed, 3), "output": output}
    print(json.dumps(values), file=sys.stderr, flush=True)


def print_stats(report: "Report") -> None:
    """Speed, and where each stage's time went, on stderr."""
    now = report.frames - report.frames_before
    fps = now / report.seconds if report.seconds else 0.0
    earlier = f", {report.frames_before} by earlier runs" if report.frames_before else ""
    print(f"{now} frames in {report.seconds:.1f} s, {fps:.2f} fps{earlier}", file=sys.stderr)
    if report.reused:
        share = 100 * report.reused / now
        print(
            f"{report.reused} of them ({share:.1f} %) repeat the one before: not computed again",
            file=sys.stderr,
        )
    print("stage       busy   waits in  waits out", file=sys.stderr)
    slowest = max(report.stages, key=lambda stage: stage.load, default=None)
    for stage in report.stages:
        mark = "  <- limits" if stage is slowest else ""
        print(
            f"{stage.name:8} {stage.busy:6.1f} s {stage.waited_for_input:8.1f} s "
            f"{stage.waited_for_output:8.1f} s{mark}",
            file=sys.stderr,
        )
        if stage.device is not None:
            share = 100 * stage.device / report.seconds if report.seconds else 0.0
            print(f"{'':8} {stage.device:6.1f} s on the GPU, {share:.0f} %", file=sys.stderr)

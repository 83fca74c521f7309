"""vsr-upscale: the command line.

Parse, build an :class:`~vsr.config.UpscaleConfig`, run it. torch is imported after parsing, so
that ``--help`` is instant. stdout carries nothing but the stream, if that is where it goes, or
answers to ``--version`` and ``--list-models``; everything else goes to stderr.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from vsr.cli.command import DONE, INTERRUPTED, open_standard_streams, printable, run_command
from vsr.cli.configuration import PICTURES, make_config
from vsr.cli.console import Bar, logging_to_stderr, print_json, print_json_done, print_stats
from vsr.cli.interrupts import Interrupts, ending_at_once, lasting_stderr
from vsr.cli.listing import is_here, models_table
from vsr.cli.options import build_parser
from vsr.cli.versions import versions
from vsr.completion import Stage, enter
from vsr.config import PIPE, UpscaleConfig
from vsr.errors import ConfigError
from vsr.shipped import shipped_folder
from vsr.unfinished import end_process, is_any_left

if TYPE_CHECKING:
    from vsr.pipeline import OnProgress
    from vsr.progress import Progress
    from vsr.report import Report

__all__ = ["main"]

logger = logging.getLogger(__name__)


def _print_versions() -> None:
    for line in versions():
        print(line)


def _print_plugin_path(host: str) -> None:
    print(shipped_folder("plugins") / host)


def _print_models() -> None:
    from vsr.index import list_models

    here = [model for model in list_models() if is_here(model)]
    print(models_table(here))
    print(f"{len(list_models()) - len(here)} more can be fetched: vsr-models list")


# Running.


def _run(config: UpscaleConfig, options: argparse.Namespace) -> int:
    """Upscale; log lines, a bar or JSON appear from the first frame that is done."""
    from vsr.device import keep_freed_memory  # see note [Amid an import]
    from vsr.pipeline import upscale

    kind = options.progress or ("bar" if sys.stderr.isatty() else "none")
    with logging_to_stderr(options.log_level) as log, Interrupts().installed() as interrupts:
        keep_freed_memory()
        _tell_of_folder(config)
        bar: Bar | None = None

        def on_progress(progress: "Progress") -> None:
            nonlocal bar
            interrupts.begun = True
            if not log.started:
                log.start()
                bar = Bar() if kind == "bar" else None
            if bar is not None:
                bar(progress)
            elif kind == "json":
                print_json(progress)

        handler: OnProgress = on_progress
        try:
            report = upscale(config, on_progress=handler, should_stop=interrupts.stopping.is_set)
        except Exception:  # of an input that is not waited for, of what is left half done
            if interrupts.stopping.is_set() and not interrupts.begun:
                raise KeyboardInterrupt from None
            raise
        finally:
            if bar is not None:
                bar.close()
        log.start()
        return _conclude(report, options, config.output, told=interrupts.stopping.is_set())


def _dry_run(config: UpscaleConfig) -> int:
    """Say what would be done; what the plan and the sample log is a part of the answer."""
    from vsr.device import keep_freed_memory  # see note [Amid an import]
    from vsr.dryrun import dry_run

    with logging_to_stderr("info"), Interrupts().installed() as interrupts:
        keep_freed_memory()
        _tell_of_folder(config)
        try:
            lines = dry_run(config, should_stop=interrupts.stopping.is_set)
        finally:  # a sample that was cut short, or an error of that, is no answer
            if interrupts.stopping.is_set():
                raise KeyboardInterrupt
        for line in lines:
            print(printable(line))
    return DONE


def _tell_of_folder(config: UpscaleConfig) -> None:
    """Say what becomes of a film whose output is a folder, if no slash shows that one is meant."""
    source, output = config.input, config.output
    if output in (None, PIPE) or config.muxer is not None or not output.is_dir():
        return
    if source.is_dir() or source.suffix.lower() in PICTURES:
        return
    film = output / f"{'out' if source == PIPE else source.stem}.mp4"
    logger.info("%s is a folder: it gets one picture a frame; %s would be a film", output, film)


def _conclude(
    report: "Report", options: argparse.Namespace, output: Path | None, *, told: bool
) -> int:
    """Tell of a run that has ended, maybe not of itself: ``told`` if it was told to stop."""
    enter(Stage.NAMING)  # of a run without an output, too: this is not worth an abort
    if options.stats:
        print_stats(report)
    frames = "1 frame" if report.frames == 1 else f"{report.frames} frames"
    if report.interrupted:
        are = "it is" if report.frames == 1 else "they are"
        kept = f"; {are} in {report.output}" if report.output else ""
        if report.kept is not None:
            kept = f"; {report.kept_frames} are finished: the same command with --resume goes on"
        print(printable(f"interrupted after {frames}{kept}"), file=sys.stderr)
        return INTERRUPTED
    if told and not report.reader_gone:
        print("all frames were done: the output is complete", file=sys.stderr)
    if report.reader_gone:
        print(f"the reader of standard output has gone after {frames}", file=sys.stderr)
    elif options.progress == "json":
        name = None if output is None else str(report.output or output)
        print_json_done(report.frames, report.seconds, name)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; None takes the process's.

    Returns:
        0 done, 1 failed, 2 usage, 3 the output exists, 130 interrupted.
    """
    nowhere = 1 in open_standard_streams()
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 greets on stderr unless told before it loads
    parser = build_parser()
    options = parser.parse_intermixed_args(argv)  # files may stand before, between, after options
    ours = argv is None
    with lasting_stderr(), ending_at_once(INTERRUPTED) if ours else nullcontext():
        code = run_command("vsr-upscale", lambda: _do(options, nowhere), debug=options.debug)
    if ours and is_any_left():
        end_process(code)
    return code


def _do(options: argparse.Namespace, nowhere: bool) -> int:
    """What the options ask for; ``nowhere`` if standard output is closed."""
    if options.version:
        _print_versions()
    elif options.list_models:
        _print_models()
    elif options.plugin_path:
        _print_plugin_path(options.plugin_path)
    else:
        config = make_config(options)
        if nowhere and config.output == PIPE:
            raise ConfigError("standard output is closed: there is nowhere to write to")
        return _dry_run(config) if options.dry_run else _run(config, options)
    return DONE

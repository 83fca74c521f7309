"""vsr-upscale: the command line.

Parse, build an :class:`~vsr.config.UpscaleConfig`, run it. torch is imported after parsing, so
that ``--help`` is instant. stdout carries nothing but answers to ``--version`` and
``--list-models``; everything else goes to stderr.
"""

import argparse
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from vsr import __version__
from vsr.cache import local_file
from vsr.config import DITHERS, PRECISIONS, EncoderConfig, UpscaleConfig
from vsr.console import Bar, logging_to_stderr, print_json, print_stats
from vsr.errors import ConfigError, VsrError

if TYPE_CHECKING:
    from vsr.pipeline import OnProgress, Report
    from vsr.progress import Progress

__all__ = ["main"]

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_LEVELS = ("debug", "info", "warning", "error")
_EXAMPLES = """\
examples:
  vsr-upscale in.mp4 out.mp4                          twice the size
  vsr-upscale in.mkv out.mkv --model span --scale 4 --crf 14 --preset slow
  vsr-upscale dvd.mkv hd.mkv --size 1440x1080 -c:v libx265
  vsr-upscale in.mp4 out.mp4 -ss 1:30 --frames 100    try it on a piece first
  vsr-upscale in.mp4 -f null - --stats                how fast is this machine?
"""


class _Parser(argparse.ArgumentParser):
    """argparse, with one line for an error rather than the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: error: {message} (see --help)\n")


def _build_parser() -> _Parser:
    parser = _Parser(
        prog="vsr-upscale", description="Upscale a video with a super-resolution network.",
        epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    _add_files(parser)
    _add_upscaling(parser.add_argument_group("upscaling"))
    _add_range(parser.add_argument_group("part of the input"))
    _add_encoding(parser.add_argument_group("encoding"))
    _add_reporting(parser.add_argument_group("reporting"))
    return parser


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="input and output")
    parser.add_argument("-i", "--input", metavar="FILE", help="input, instead of the first FILE")
    parser.add_argument("-o", "--output", metavar="FILE", help="output, instead of the last FILE")
    parser.add_argument(
        "-f", dest="muxer", choices=("null",), help="null: discard the result (output is -)"
    )
    replace = parser.add_mutually_exclusive_group()
    replace.add_argument("-y", dest="overwrite", action="store_true", help="replace the output")
    replace.add_argument(
        "-n", dest="overwrite", action="store_false", help="never replace the output (default)"
    )


def _add_upscaling(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model", metavar="NAME", default=_default("model"),
        help="a name from --list-models (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--scale", type=_scale, metavar="N",
        help="enlargement (default: the model's); a fraction where the model takes any",
    )  # fmt: skip
    group.add_argument(
        "--weights", metavar="FILE", help="a checkpoint of your own, or what vsr-models has pulled"
    )
    group.add_argument(
        "--variant", metavar="NAME", help="what the checkpoint is, if it does not tell: e.g. sst+"
    )
    group.add_argument(
        "--size", type=_size, metavar="WxH",
        help="exact final size, by a last Lanczos resize unless the model takes any",
    )  # fmt: skip
    group.add_argument(
        "--device", default=_default("device"), help="auto, cpu, cuda or cuda:N (default: auto)"
    )
    group.add_argument(
        "--precision", choices=PRECISIONS, default=_default("precision"),
        help="auto: fp16 on CUDA, bf16 on a CPU that has it, else fp32",
    )  # fmt: skip
    group.add_argument(
        "--tile", type=int, metavar="N", help="split frames into tiles of N pixels, to save memory"
    )
    group.add_argument(
        "--dither", choices=DITHERS, default=_default("dither"),
        help="how to round to the output's depth (default: none)",
    )  # fmt: skip


def _add_range(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-ss", dest="start", type=_time, metavar="TIME", help="start there")
    group.add_argument(
        "-to", dest="end", type=_time, metavar="TIME", help="stop there; [HH:]MM:SS or seconds"
    )
    group.add_argument("--frames", type=int, metavar="N", help="stop after N frames")


def _add_encoding(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-c:v", "--codec", dest="codec", metavar="NAME", help="encoder, e.g. libx265, ffv1"
    )
    group.add_argument("--crf", type=float, metavar="X", help="quality; lower is better")
    group.add_argument("--preset", metavar="NAME", help="encoder speed, e.g. slow")
    group.add_argument("--pix-fmt", "-pix_fmt", metavar="NAME", help="e.g. yuv420p10le")
    group.add_argument(
        "-e", dest="options", action="append", type=_option, default=[], metavar="KEY=VALUE",
        help="any other encoder option; may be repeated",
    )  # fmt: skip


def _add_reporting(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--progress", choices=("bar", "json", "none"),
        help="on stderr (default: bar on a terminal, else none)",
    )  # fmt: skip
    group.add_argument("--stats", action="store_true", help="say at the end where time went")
    group.add_argument("--log-level", choices=_LEVELS, default="info")
    group.add_argument("--debug", action="store_true", help="show a traceback when it fails")
    group.add_argument("--list-models", action="store_true", help="list the models and exit")
    group.add_argument("--version", action="store_true", help="print all versions and exit")


def _default(name: str) -> str:
    """The default of a field of UpscaleConfig; defaults are written there only."""
    field = next(f for f in fields(UpscaleConfig) if f.name == name)
    assert field.default is not MISSING
    return str(field.default)


def _time(text: str) -> Fraction:
    """``90``, ``1:30``, ``0:01:30.5`` as seconds."""
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write seconds or [HH:]MM:SS")
    seconds = Fraction(0)
    for part in text.split(":"):
        seconds = seconds * 60 + Fraction(part)
    return seconds


def _scale(text: str) -> Fraction | int:
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no enlargement; write e.g. 2 or 2.7")
    scale = Fraction(text)
    return int(scale) if scale.denominator == 1 else scale


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)[x:](\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write e.g. 1920x1080")
    return int(match[1]), int(match[2])


def _option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is no option; write KEY=VALUE")
    return key, value


def _make_config(options: argparse.Namespace) -> UpscaleConfig:
    source, target = _files(options)
    discard = options.muxer == "null"
    if target == "-" and not discard:
        raise ConfigError("writing to a pipe is not supported; name an output file")
    if source == "-":
        raise ConfigError("reading from a pipe is not supported; name an input file")
    return UpscaleConfig(
        input=Path(source), output=None if discard else Path(target), model=options.model,
        weights=local_file(options.weights) if options.weights else None, variant=options.variant,
        scale=options.scale, size=options.size, device=options.device,
        precision=options.precision, tile=options.tile, dither=options.dither,
        start=options.start, end=options.end, frames=options.frames, overwrite=options.overwrite,
        encoder=EncoderConfig(
            codec=options.codec, crf=options.crf, preset=options.preset, pix_fmt=options.pix_fmt,
            options=dict(options.options),
        ),
    )  # fmt: skip


def _files(options: argparse.Namespace) -> tuple[str, str]:
    """Input and output, each given by its option or by position."""
    positional = list(options.files)
    source = options.input or (positional.pop(0) if positional else None)
    target = options.output or (positional.pop(0) if positional else None)
    if positional:
        raise ConfigError(f"too many files: {' '.join(positional)}")
    if source is None:
        raise ConfigError("no input file")
    if target is None and options.muxer != "null":
        raise ConfigError("no output file")
    return source, target or "-"


def _print_versions() -> None:
    import av
    import torch

    print(f"vsr {__version__}")
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    print(f"torch {torch.__version__} ({cuda})")
    for index in range(torch.cuda.device_count()):
        print(f"cuda:{index} {torch.cuda.get_device_name(index)}")
    print(f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}")
    try:
        import vapoursynth  # type: ignore[import-untyped]
    except ImportError as error:
        print(f"VapourSynth cannot be loaded ({error})")
    else:
        print(f"VapourSynth R{vapoursynth.__version__[0]}")


def _print_models() -> None:
    from vsr.index import list_models

    print(f"{'name':17} {'--model':16} {'scale':>5}  {'Set5':>8}  summary")
    for model in list_models():
        psnr = f"{model.psnr:.2f} dB" if model.psnr is not None else "-"
        scale, there = model.scale or "any", "" if not model.source else " (vsr-models pull)"
        print(f"{model.name:17} {model.family:16} {scale:>5}  {psnr:>8}  {model.summary}{there}")


# Running.


class _Interrupts:
    """First Ctrl-C (or SIGTERM): end cleanly after this frame. Second: abort."""

    def __init__(self) -> None:
        self.stopping = threading.Event()

    def _handle(self, number: int, frame: object) -> None:
        if self.stopping.is_set():
            raise KeyboardInterrupt
        self.stopping.set()
        print("\nstopping after this frame; press Ctrl-C again to abort", file=sys.stderr)

    @contextmanager
    def installed(self) -> Iterator["_Interrupts"]:
        """Handle signals in this block, if it runs on the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        previous = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _run(config: UpscaleConfig, options: argparse.Namespace) -> int:
    kind = options.progress or ("bar" if sys.stderr.isatty() else "none")
    with logging_to_stderr(options.log_level) as log, _Interrupts().installed() as interrupts:
        from vsr.device import keep_freed_memory
        from vsr.pipeline import upscale

        keep_freed_memory()
        bar: Bar | None = None

        def on_progress(progress: "Progress") -> None:
            nonlocal bar
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
        finally:
            if bar is not None:
                bar.close()
        log.start()
        return _conclude(report, options)


def _conclude(report: "Report", options: argparse.Namespace) -> int:
    if options.stats:
        print_stats(report)
    if report.interrupted:
        kept = f"; they are in {report.output}" if report.output else ""
        print(f"interrupted after {report.frames} frames{kept}", file=sys.stderr)
        return INTERRUPTED
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; None takes the process's.

    Returns:
        0 done, 1 failed, 2 usage, 130 interrupted.
    """
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 greets on stderr unless told before it loads
    parser = _build_parser()
    options = parser.parse_intermixed_args(argv)  # files may stand before, between, after options
    try:
        if options.version:
            _print_versions()
        elif options.list_models:
            _print_models()
        else:
            return _run(_make_config(options), options)
    except KeyboardInterrupt:
        print("aborted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last line of defence against tracebacks
        if not isinstance(error, VsrError) and not options.debug:
            message = f"internal error: {_one_line(error)} (--debug shows where)"
        else:
            message = _one_line(error)
        if options.debug:
            traceback.print_exc()
        print(f"vsr-upscale: error: {message}", file=sys.stderr)
        return USAGE if isinstance(error, ConfigError) else FAILED
    return DONE


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())

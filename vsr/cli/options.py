"""vsr-upscale's options: how they are written.

Nothing here imports torch, so that ``--help`` is instant.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields
from difflib import get_close_matches
from typing import Any, NoReturn

from vsr.cli.command import Parser
from vsr.cli.hints import answer_to
from vsr.cli.values import (
    parse_option,
    parse_rate,
    parse_ratio,
    parse_scale,
    parse_size,
    parse_time,
)
from vsr.config import (
    DECODERS,
    DEINTERLACERS,
    DITHERS,
    HWACCELS,
    PRECISIONS,
    RUNTIMES,
    SOUNDS,
    UpscaleConfig,
)
from vsr.tags import COLOUR_OPTIONS, FIELD_ORDERS, RANGES

__all__ = ["PLUGINS", "build_parser", "default_of"]

PLUGINS = ("ffmpeg", "mpv", "vapoursynth")
"""Programs that there are ready scripts or recipes for."""

_LEVELS = ("debug", "info", "warning", "error")
_EXAMPLES = """\
examples:
  vsr-upscale in.mp4 out.mp4                          twice the size
  vsr-upscale in.mkv out.mkv --model span --scale 4 --crf 14 --preset slow
  vsr-upscale dvd.mkv hd.mkv --size 1440x1080 -c:v libx265
  vsr-upscale in.mp4 out.mp4 -ss 2 --frames 100       try it on a piece first
  vsr-upscale in.mp4 -f null - --stats                how fast is this machine?
"""


_MEDIA = re.compile(r"^-.*\.\w{2,5}$")
"""Looks like a file that an option is taken for."""
_NEAR = 0.75
"""Of letters that two names of options have in common, so that one may stand for the other."""


class _Once(argparse.Action):
    """A file that there is one of; argparse would take the last."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,  # noqa: ANN401
        option_string: str | None = None,
    ) -> None:
        """Remember it."""
        if (before := getattr(namespace, self.dest)) is not None:
            hint = ": sound and the rest of another come by --audio-from" * (self.dest == "input")
            parser.error(
                f"there is one {self.dest}, and two are given, {before} and {values}{hint}"
            )
        setattr(namespace, self.dest, values)


class _UpscaleParser(Parser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and leave."""
        file, expected, _ = message.partition(": expected one argument")
        _, unknown, words = message.partition("unrecognized arguments: ")
        is_file = expected and file in ("argument -i/--input", "argument -o/--output")
        if is_file or (unknown and any(_MEDIA.search(word) for word in words.split())):
            message += "; a name that begins with a dash is written ./-NAME"
        elif unknown:
            message += self._meant(words.split()[0])
        super().error(message)

    def _meant(self, word: str) -> str:
        """What the long option ``word`` may have been meant for; vsr.ffmpeg would import torch."""
        known = [name for name in self._option_string_actions if name.startswith("--")]
        near = get_close_matches(word.partition("=")[0], known, n=1, cutoff=_NEAR)
        return f": did you mean {near[0]}?" if near and word.startswith("--") else ""

    def parse_intermixed_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Files may stand anywhere; after ``--``, which argparse loses here, all are files."""
        given = list(sys.argv[1:] if args is None else args)
        end = given.index("--") if "--" in given else len(given)
        if (answer := answer_to(given[:end])) is not None:
            self.error(answer)
        options = super().parse_intermixed_args(given[:end], namespace)
        options.files += given[end + 1 :]
        return options


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``vsr-upscale``; use ``parse_intermixed_args``, files may stand anywhere."""
    parser = _UpscaleParser(
        prog="vsr-upscale", description="Upscale a video with a super-resolution network.",
        epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    _add_files(parser)
    upscaling = parser.add_argument_group("upscaling")
    _add_model(upscaling)
    _add_rendering(upscaling)
    _add_pictures(parser.add_argument_group("ahead of the network"))
    _add_input(parser.add_argument_group("what the input does not say of itself, or says wrongly"))
    _add_reading(parser.add_argument_group("which streams, and scripts"))
    _add_range(parser.add_argument_group("part of the input"))
    _add_encoding(parser.add_argument_group("encoding"))
    _add_reporting(parser.add_argument_group("reporting"))
    return parser


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="input and output")
    parser.add_argument(
        "-i", "--input", metavar="FILE", action=_Once,
        help="input, instead of the first FILE (sound of another file: --audio-from)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="FILE", action=_Once, help="output, instead of the last FILE"
    )
    parser.add_argument(
        "-f", dest="formats", action="append", metavar="FORMAT", default=[],
        help="the output's: yuv4mpegpipe, nut, matroska, mpegts, mp4, … (- is stdout); null: "
        "discard the result; rawvideo: the input's",
    )  # fmt: skip
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument(
        "--resume", action="store_true",
        help="go on where an earlier run of the same command has stopped, for whatever reason",
    )  # fmt: skip
    earlier.add_argument(
        "--restart",
        action="store_true",
        help="throw away what such a run has left, and begin again",
    )
    replace = parser.add_mutually_exclusive_group()
    replace.add_argument("-y", dest="overwrite", action="store_true", help="replace the output")
    replace.add_argument(
        "-n", dest="overwrite", action="store_false", help="never replace the output (default)"
    )


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model", metavar="NAME",
        help="a name from --list-models, or auto, which looks at the source (default: "
        f"{default_of('model')})",
    )  # fmt: skip
    group.add_argument(
        "--scale", type=parse_scale, metavar="N",
        help="enlargement (default: the model's); a fraction where the model takes any",
    )  # fmt: skip
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="a checkpoint of your own, or what vsr-models has pulled, instead of --model",
    )
    group.add_argument(
        "--variant", metavar="NAME", help="what the checkpoint is, if it does not tell: e.g. sst+"
    )
    group.add_argument(
        "--size", type=parse_size, metavar="WxH",
        help="exact final size as it is seen, by a last Lanczos resize unless the model takes any",
    )  # fmt: skip


def _add_rendering(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--device", default=default_of("device"),
        help="auto, cpu, cuda or cuda:N (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--precision", choices=PRECISIONS, default=default_of("precision"),
        help="auto: fp16 on CUDA; on a CPU bf16 if it has that, but fp32 in kernels of our own",
    )  # fmt: skip
    group.add_argument(
        "--runtime", choices=RUNTIMES, default=default_of("runtime"),
        help="what runs the network: torch, compile (torch.compile), triton (CUDA), openvino or "
        "winograd (CPU) (default: what is fastest on the device)",
    )  # fmt: skip
    group.add_argument(
        "--tile", type=int, metavar="N", help="split frames into tiles of N pixels, to save memory"
    )
    group.add_argument(
        "--dither", choices=DITHERS, default=default_of("dither"),
        help="how to round to the output's depth (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--hwaccel", choices=HWACCELS, default=default_of("hwaccel"),
        help="cuda: decode on the GPU that upscales; auto: if there is one (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--reuse-threshold", type=float, metavar="T", default=default_of("reuse_threshold"),
        help="give frames that hardly differ one result (default: %(default)s, only those that are "
        "equal)",
    )  # fmt: skip


def _add_pictures(group: argparse._ArgumentGroup) -> None:
    fields = group.add_mutually_exclusive_group()
    fields.add_argument(
        "--deinterlace", choices=DEINTERLACERS, help="make whole frames of interlaced ones"
    )
    fields.add_argument("--ivtc", action="store_true", help="undo telecine: film at 24000/1001")
    fields.add_argument(
        "--progressive", action="store_true", help="take frames as they are, combed or not"
    )
    group.add_argument(
        "--field-rate", action="store_true", help="with --deinterlace: a frame for every field"
    )
    group.add_argument(
        "--flagged-only", action="store_true",
        help="with --deinterlace: leave frames alone that are not flagged interlaced",
    )  # fmt: skip
    group.add_argument("--vf", dest="filters", metavar="GRAPH", help="a chain of FFmpeg's filters")
    group.add_argument(
        "--square", action="store_true", help="resample anamorphic pictures to square pixels"
    )
    group.add_argument(
        "--no-crop", dest="crop", action="store_false", help="ignore the container's cropping"
    )


def _add_input(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-video_size", "--video-size", type=parse_size, metavar="WxH",
        help="size of raw video (-f rawvideo)",
    )  # fmt: skip
    group.add_argument(
        "-pixel_format", "--pixel-format", metavar="NAME",
        help="pixel format of raw video (-f rawvideo), e.g. yuv422p10le",
    )  # fmt: skip
    group.add_argument(
        "-r", dest="rate", type=parse_rate, metavar="RATE",
        help="frames a second, e.g. 24000/1001: of raw video or pictures, or instead of timestamps",
    )  # fmt: skip
    for option, words in (*COLOUR_OPTIONS.values(), ("-field_order", FIELD_ORDERS)):
        known = [word for word in words if word != "unknown"]
        group.add_argument(option, choices=known, metavar="WORD", help=", ".join(known))
    group.add_argument("-sar", type=parse_ratio, metavar="W:H", help="sample (pixel) aspect ratio")


def _add_reading(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-a", dest="arguments", action="append", type=parse_option, default=[], metavar="KEY=VALUE",
        help="a variable for a VapourSynth script; may be repeated. A .vpy input is a program: "
        "it is executed",
    )  # fmt: skip
    group.add_argument(
        "--output-index", type=int, metavar="N", default=0, help="which output of the script"
    )
    group.add_argument(
        "--video-stream", type=int, metavar="N",
        help="which of several video streams is upscaled, from 0, as ffmpeg's V:N",
    )  # fmt: skip
    group.add_argument(
        "--self-contained", action="store_true",
        help="refuse an input that is a script, or a list of other files: for those of strangers",
    )  # fmt: skip
    group.add_argument(
        "--audio-from", metavar="FILE",
        help="copy sound, subtitles, chapters, attachments and metadata from FILE",
    )  # fmt: skip
    group.add_argument(
        "--source", dest="decoder", choices=DECODERS, default=default_of("decoder"),
        help="bestsource: decode files by VapourSynth's BestSource, exact to the frame",
    )  # fmt: skip


def _add_range(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-ss",
        dest="start",
        type=parse_time,
        metavar="TIME",
        help="start at this position of the input",
    )
    until = group.add_mutually_exclusive_group()
    until.add_argument(
        "-to", dest="end", type=parse_time, metavar="TIME",
        help="stop at this position of the input; [HH:]MM:SS, seconds, or e.g. 500ms",
    )  # fmt: skip
    until.add_argument(
        "-t", dest="length", type=parse_time, metavar="TIME", help="stop after so long"
    )
    group.add_argument("--frames", type=int, metavar="N", help="stop after N frames of output")


def _add_encoding(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--target", metavar="NAME",
        help="a set of the options below: archive, edit, web, hevc or av1",
    )  # fmt: skip
    group.add_argument(
        "-c:v", "--codec", dest="codec", metavar="NAME", help="encoder, e.g. libx265, ffv1"
    )
    group.add_argument("--crf", type=float, metavar="X", help="quality; lower is better")
    group.add_argument("--preset", metavar="NAME", help="encoder speed, e.g. slow")
    group.add_argument("--pix-fmt", "-pix_fmt", metavar="NAME", help="e.g. yuv420p10le")
    group.add_argument(
        "--range", dest="output_range", choices=list(RANGES), metavar="WORD",
        help="tv or pc: of the output's code values (default: the source's)",
    )  # fmt: skip
    group.add_argument(
        "--sound", choices=SOUNDS,
        help="copy: all that the container holds (default); web: encode what browsers do not play, "
        "as AAC (in WebM as Opus)",
    )  # fmt: skip
    group.add_argument(
        "-e", dest="options", action="append", type=parse_option, default=[], metavar="KEY=VALUE",
        help="any other encoder option; may be repeated",
    )  # fmt: skip
    group.add_argument(
        "--segment-seconds", type=float, metavar="N",
        default=default_of("segment_seconds"),
        help="longer films are written in segments of N seconds, for --resume; 0: in one go "
        "(default: %(default)s)",
    )  # fmt: skip
    group.add_argument("-movflags", metavar="FLAGS", help="of mp4 and mov, e.g. +faststart")
    group.add_argument(
        "-bitexact", action="store_true",
        help="the same bytes each time: no random numbers, dates or versions in the container",
    )  # fmt: skip
    group.add_argument(
        "-start_number", "--start-number", type=int, metavar="N",
        help="of the first picture (default: as the input's pictures, else 1)",
    )  # fmt: skip
    group.add_argument(
        "--framemd5", action=argparse.BooleanOptionalAction, default=None,
        help="write the hash of every frame beside the output (on for --target archive)",
    )  # fmt: skip


def _add_reporting(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--progress", choices=("bar", "json", "none"),
        help="on stderr (default: bar on a terminal, else none)",
    )  # fmt: skip
    group.add_argument(
        "--record", action=argparse.BooleanOptionalAction, default=None,
        help="write a JSON record of the run beside the output (on for --target archive)",
    )  # fmt: skip
    group.add_argument(
        "--dry-run", action="store_true", help="say what would be done and how long it would take"
    )
    group.add_argument("--stats", action="store_true", help="say at the end where time went")
    group.add_argument("--log-level", choices=_LEVELS, default="info")
    group.add_argument("--debug", action="store_true", help="show a traceback when it fails")
    group.add_argument("--list-models", action="store_true", help="list the models and exit")
    group.add_argument(
        "--plugin-path", choices=PLUGINS, metavar="HOST",
        help=f"print where the ready scripts for HOST are ({', '.join(PLUGINS)}) and exit",
    )  # fmt: skip
    group.add_argument("--version", action="store_true", help="print all versions and exit")


def default_of(name: str) -> str:
    """The default of a field of UpscaleConfig; defaults are written there only."""
    field = next(f for f in fields(UpscaleConfig) if f.name == name)
    assert field.default is not MISSING
    return str(field.default)

"""vsr-upscale's options: how they are written, and the configuration they make.

Nothing here imports torch, so that ``--help`` is instant.
"""

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import MISSING, fields
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

from vsr.cache import local_file
from vsr.config import (
    DECODERS,
    DEINTERLACERS,
    DITHERS,
    HWACCELS,
    PIPE,
    PRECISIONS,
    RUNTIMES,
    EncoderConfig,
    FieldsConfig,
    InputConfig,
    ScriptConfig,
    UpscaleConfig,
)
from vsr.errors import ConfigError
from vsr.tags import (
    FIELD_ORDERS,
    MATRICES,
    PRIMARIES,
    RANGES,
    SITINGS,
    TRANSFERS,
    FieldOrder,
    Range,
    Siting,
)

__all__ = ["PLUGINS", "USAGE", "build_parser", "make_config"]

USAGE = 2
"""Exit code for options that contradict each other or do not exist."""

PLUGINS = ("ffmpeg", "mpv", "vapoursynth")
"""Programs that there are ready scripts or recipes for."""

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


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``vsr-upscale``; use ``parse_intermixed_args``, files may stand anywhere."""
    parser = _Parser(
        prog="vsr-upscale", description="Upscale a video with a super-resolution network.",
        epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    _add_files(parser)
    _add_upscaling(parser.add_argument_group("upscaling"))
    _add_pictures(parser.add_argument_group("ahead of the network"))
    _add_input(parser.add_argument_group("what the input does not say, or says wrongly"))
    _add_reading(parser.add_argument_group("scripts, and what goes beside the picture"))
    _add_range(parser.add_argument_group("part of the input"))
    _add_encoding(parser.add_argument_group("encoding"))
    _add_reporting(parser.add_argument_group("reporting"))
    return parser


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="input and output")
    parser.add_argument("-i", "--input", metavar="FILE", help="input, instead of the first FILE")
    parser.add_argument("-o", "--output", metavar="FILE", help="output, instead of the last FILE")
    parser.add_argument(
        "-f", dest="formats", action="append", metavar="FORMAT", default=[],
        help="the output's: yuv4mpegpipe, nut, matroska, mpegts, mp4, … (- is stdout); null: "
        "discard the result; rawvideo: the input's",
    )  # fmt: skip
    parser.add_argument(
        "--resume", action="store_true",
        help="go on where an earlier run of the same command has stopped, for whatever reason",
    )  # fmt: skip
    replace = parser.add_mutually_exclusive_group()
    replace.add_argument("-y", dest="overwrite", action="store_true", help="replace the output")
    replace.add_argument(
        "-n", dest="overwrite", action="store_false", help="never replace the output (default)"
    )


def _add_upscaling(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model", metavar="NAME", default=_default("model"),
        help="a name from --list-models, or auto, which looks at the source (default: %(default)s)",
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
        help="auto: fp16 on CUDA; on a CPU bf16 if it has that, but fp32 in kernels of our own",
    )  # fmt: skip
    group.add_argument(
        "--runtime", choices=RUNTIMES, default=_default("runtime"),
        help="what runs the network: torch, compile (torch.compile), triton (CUDA), openvino or "
        "winograd (CPU) (default: what is fastest on the device)",
    )  # fmt: skip
    group.add_argument(
        "--tile", type=int, metavar="N", help="split frames into tiles of N pixels, to save memory"
    )
    group.add_argument(
        "--dither", choices=DITHERS, default=_default("dither"),
        help="how to round to the output's depth (default: none)",
    )  # fmt: skip
    group.add_argument(
        "--hwaccel", choices=HWACCELS, default=_default("hwaccel"),
        help="cuda: decode on the GPU that upscales; auto: if there is one (default: none)",
    )  # fmt: skip
    group.add_argument(
        "--reuse-threshold", type=float, metavar="T", default=_default("reuse_threshold"),
        help="give frames that hardly differ one result (default: 0, only those that are equal)",
    )  # fmt: skip


def _add_pictures(group: argparse._ArgumentGroup) -> None:
    fields = group.add_mutually_exclusive_group()
    fields.add_argument(
        "--deinterlace", choices=DEINTERLACERS, help="make whole frames of interlaced ones"
    )
    fields.add_argument("--ivtc", action="store_true", help="undo telecine: film at 24000/1001")
    fields.add_argument(
        "--progressive",
        action="store_true",
        help="take frames as they are, combed or not",
    )
    group.add_argument(
        "--field-rate", action="store_true", help="with --deinterlace: a frame for every field"
    )
    group.add_argument("--vf", dest="filters", metavar="GRAPH", help="a chain of FFmpeg's filters")
    group.add_argument(
        "--square", action="store_true", help="resample anamorphic pictures to square pixels"
    )
    group.add_argument(
        "--no-crop", dest="crop", action="store_false", help="ignore the container's cropping"
    )


def _add_input(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-video_size", "--video-size", type=_size, metavar="WxH", help="of -f rawvideo"
    )
    group.add_argument(
        "-pixel_format", "--pixel-format", metavar="NAME", help="of -f rawvideo, e.g. yuv422p10le"
    )
    group.add_argument(
        "-r", dest="rate", type=_rate, metavar="RATE",
        help="frames a second, e.g. 24000/1001: of raw video or pictures, or instead of timestamps",
    )  # fmt: skip
    words = {
        "-colorspace": MATRICES, "-color_range": RANGES, "-color_primaries": PRIMARIES,
        "-color_trc": TRANSFERS, "-chroma_sample_location": SITINGS, "-field_order": FIELD_ORDERS,
    }  # fmt: skip
    for option, known in words.items():
        known = {word: number for word, number in known.items() if word != "unknown"}
        group.add_argument(option, choices=known, metavar="WORD", help=", ".join(known))
    group.add_argument("-sar", type=_ratio, metavar="W:H", help="sample (pixel) aspect ratio")


def _add_reading(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-a", dest="arguments", action="append", type=_option, default=[], metavar="KEY=VALUE",
        help="a variable for a VapourSynth script; may be repeated. A .vpy input is a program: "
        "it is executed",
    )  # fmt: skip
    group.add_argument(
        "--output-index", type=int, metavar="N", default=0, help="which output of the script"
    )
    group.add_argument(
        "--audio-from", metavar="FILE",
        help="copy sound, subtitles, chapters, attachments and metadata from FILE",
    )  # fmt: skip
    group.add_argument(
        "--source", dest="decoder", choices=DECODERS, default=_default("decoder"),
        help="bestsource: decode files by VapourSynth's BestSource, exact to the frame",
    )  # fmt: skip


def _add_range(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-ss", dest="start", type=_time, metavar="TIME", help="start there")
    group.add_argument(
        "-to", dest="end", type=_time, metavar="TIME", help="stop there; [HH:]MM:SS or seconds"
    )
    group.add_argument("--frames", type=int, metavar="N", help="stop after N frames")


def _add_encoding(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--target", metavar="NAME",
        help="a set of the options below, for archive, edit, web, hevc or av1",
    )  # fmt: skip
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
    group.add_argument(
        "--segment-seconds", type=float, metavar="N",
        default=_default("segment_seconds"),
        help="longer films are written in segments of N seconds, for --resume; 0: in one go "
        "(default: %(default)s)",
    )  # fmt: skip
    group.add_argument("-movflags", metavar="FLAGS", help="of mp4 and mov, e.g. +faststart")
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


def _rate(text: str) -> Fraction:
    if not re.fullmatch(r"\d+(\.\d+|/[1-9]\d*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no rate; write e.g. 25 or 24000/1001")
    return Fraction(text)


def _ratio(text: str) -> Fraction:
    if not re.fullmatch(r"\d+([:/][1-9]\d*|\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no aspect ratio; write e.g. 16:15")
    return Fraction(text.replace(":", "/"))


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


def make_config(options: argparse.Namespace) -> UpscaleConfig:
    """What the parsed ``options`` ask for.

    Raises:
        ConfigError: they contradict each other.
    """
    raw, muxer = _formats(options.formats)
    source, target = _files(options, discard=muxer == "null")
    return UpscaleConfig(
        input=Path(source), output=None if muxer == "null" else Path(target),
        muxer=_muxer(muxer, target), target=options.target, model=options.model,
        source=_make_input(options, raw=raw),
        script=ScriptConfig(arguments=dict(options.arguments), output=options.output_index),
        decoder=options.decoder,
        audio_from=Path(options.audio_from) if options.audio_from else None,
        fields=FieldsConfig(
            deinterlace=options.deinterlace, field_rate=options.field_rate, ivtc=options.ivtc,
            progressive=options.progressive,
        ),
        filters=options.filters, crop=options.crop, square=options.square,
        weights=local_file(options.weights) if options.weights else None, variant=options.variant,
        scale=options.scale, size=options.size, device=options.device,
        precision=options.precision, runtime=options.runtime, tile=options.tile,
        dither=options.dither, reuse_threshold=options.reuse_threshold, hwaccel=options.hwaccel,
        start=options.start, end=options.end, frames=options.frames, overwrite=options.overwrite,
        resume=options.resume, segment_seconds=float(options.segment_seconds),
        record=options.record, framemd5=options.framemd5,
        encoder=EncoderConfig(
            codec=options.codec, crf=options.crf, preset=options.preset, pix_fmt=options.pix_fmt,
            options=dict(options.options),
            muxer_options={"movflags": options.movflags} if options.movflags else {},
        ),
    )  # fmt: skip


def _formats(given: Sequence[str]) -> tuple[bool, str | None]:
    """Whether the input is raw video, and the output's format: ``-f`` says either, as FFmpeg's."""
    muxers = [name for name in given if name != "rawvideo"]
    if len(muxers) > 1:
        raise ConfigError(f"-f names two formats for the output: {' and '.join(muxers)}")
    return len(muxers) < len(given), muxers[0] if muxers else None


def _muxer(name: str | None, output: str) -> str | None:
    """``out/`` is a folder of pictures, there or not; a path does not keep the slash."""
    if name is None and output.endswith(("/", os.sep)):
        return "image2"
    return None if name == "null" else name


def _make_input(options: argparse.Namespace, *, raw: bool) -> InputConfig:
    size, format = options.video_size, options.pixel_format
    if raw and (size is None or format is None):
        raise ConfigError("-f rawvideo, the input's, needs -video_size and -pixel_format")
    if not raw and (size or format):
        raise ConfigError("-video_size and -pixel_format describe raw video: add -f rawvideo")
    range_, siting, order = (
        options.color_range, options.chroma_sample_location, options.field_order,
    )  # fmt: skip
    return InputConfig(
        raw_size=size, raw_format=format, rate=options.rate, sar=options.sar,
        matrix=MATRICES.get(options.colorspace), primaries=PRIMARIES.get(options.color_primaries),
        transfer=TRANSFERS.get(options.color_trc),
        range=Range(RANGES[range_]) if range_ else None,
        siting=Siting(SITINGS[siting]) if siting else None,
        field_order=FieldOrder(FIELD_ORDERS[order]) if order else None,
    )  # fmt: skip


def _files(options: argparse.Namespace, *, discard: bool) -> tuple[str, str]:
    """Input and output, each given by its option or by position."""
    positional = list(options.files)
    source = options.input or (positional.pop(0) if positional else None)
    target = options.output or (positional.pop(0) if positional else None)
    if positional:
        raise ConfigError(f"too many files: {' '.join(positional)}")
    if source is None:
        raise ConfigError("no input file")
    if target is None and not discard:
        raise ConfigError("no output file")
    return source, target or str(PIPE)

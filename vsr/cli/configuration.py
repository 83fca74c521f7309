"""What the options of vsr-upscale ask for, as a configuration."""

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from vsr.cache import local_file
from vsr.cli.options import default_of
from vsr.config import (
    BITEXACT,
    PIPE,
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

__all__ = ["PICTURES", "make_config"]


def make_config(options: argparse.Namespace) -> UpscaleConfig:
    """What the parsed ``options`` ask for.

    Raises:
        ConfigError: they contradict each other.
    """
    if options.model is not None and options.weights is not None:
        raise ConfigError("--model and --weights name two networks; give one of them")
    raw, muxer = _formats(options.formats)
    source, target = _files(options, discard=muxer == "null")
    return UpscaleConfig(
        input=Path(source), output=None if muxer == "null" else Path(target),
        muxer=_muxer(muxer, target), target=options.target,
        source=_make_input(options, raw=raw),
        script=ScriptConfig(arguments=dict(options.arguments), output=options.output_index),
        decoder=options.decoder,
        audio_from=Path(options.audio_from) if options.audio_from else None,
        fields=FieldsConfig(
            deinterlace=options.deinterlace, field_rate=options.field_rate,
            flagged_only=options.flagged_only, ivtc=options.ivtc, progressive=options.progressive,
        ),
        filters=options.filters, crop=options.crop, square=options.square,
        weights=local_file(options.weights) if options.weights else None, variant=options.variant,
        model=options.model or default_of("model"),
        scale=options.scale, size=options.size, device=options.device,
        precision=options.precision, runtime=options.runtime, tile=options.tile,
        dither=options.dither, reuse_threshold=options.reuse_threshold, hwaccel=options.hwaccel,
        start=options.start, end=_end(options), frames=options.frames, overwrite=options.overwrite,
        resume=options.resume, restart=options.restart,
        segment_seconds=float(options.segment_seconds),
        record=options.record, framemd5=options.framemd5,
        encoder=EncoderConfig(
            codec=options.codec, crf=options.crf, preset=options.preset, pix_fmt=options.pix_fmt,
            options=dict(options.options),
            range=Range(RANGES[options.output_range]) if options.output_range else None,
            sound=options.sound, muxer_options=_muxer_options(options),
            first_number=options.start_number,
        ),
    )  # fmt: skip


def _muxer_options(options: argparse.Namespace) -> dict[str, str]:
    given = {"movflags": options.movflags} if options.movflags else {}
    return {**given, "fflags": BITEXACT} if options.bitexact else given


def _end(options: argparse.Namespace) -> Fraction | None:
    """Where the wanted part ends, in the input's time: ``-t`` counts from ``-ss``."""
    if options.length is None:
        end: Fraction | None = options.end
        return end
    if options.length == 0:
        raise ConfigError("-t: a part of no length has no frames")
    return (options.start or Fraction(0)) + Fraction(options.length)


def _formats(given: Sequence[str]) -> tuple[bool, str | None]:
    """Whether the input is raw video, and the output's format: ``-f`` says either, as FFmpeg's."""
    muxers = [name for name in given if name != "rawvideo"]
    if found := [name for name in muxers if name in _ELSEWHERE]:
        raise ConfigError(f"-f {found[0]}: {_ELSEWHERE[found[0]]}")
    if len(muxers) > 1:
        raise ConfigError(f"-f names two formats for the output: {' and '.join(muxers)}")
    return len(muxers) < len(given), muxers[0] if muxers else None


_CUT_BY_FFMPEG = "is not written; ffmpeg makes it of the result, with -c copy"
_ELSEWHERE = {
    "hls": _CUT_BY_FFMPEG, "dash": _CUT_BY_FFMPEG, "segment": _CUT_BY_FFMPEG,
    "concat": "is to be left out: a list is read whose first line is ffconcat version 1.0",
    "lavfi": "is not read; ffmpeg makes such pictures, into a pipe",
    "image2pipe": "is not written; pictures are files, as frames/%06d.png",
}  # fmt: skip
"""Formats of FFmpeg's that are neither an output's here nor need to be said."""


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
        video_stream=options.video_stream, self_contained=options.self_contained,
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
        given = [name for name in (options.input, options.output) if name] + options.files
        raise ConfigError(_too_many(given))
    if source is None:
        raise ConfigError("no input file is given; --help shows examples")
    if target is None and not discard:
        raise ConfigError("no output file is given; -f null - discards the result")
    if "" in (source, target):
        raise ConfigError("the name of a file is empty: is a variable unset?")
    return _local(source, *_STDIN), _local(target or str(PIPE), *_STDOUT)


def _too_many(given: Sequence[str]) -> str:
    """What is wrong with more than two files; a shell makes hundreds of ``*.png``."""
    named = f"{given[0]}, {given[1]} and {len(given) - 2} more"
    message = f"too many files ({named}): there is one input and one output"
    first, second = Path(given[0]), Path(given[1])
    if first.suffix != second.suffix or first.suffix.lower() not in PICTURES:
        return message
    return f"{message}; pictures are one input as '{first.with_name('*')}{first.suffix}', in " + (
        f"quotes, or as their folder, {first.parent}/"
    )


PICTURES = (
    ".png", ".tif", ".tiff", ".dpx", ".exr", ".jpg", ".jpeg", ".jpe", ".jif", ".jfif", ".bmp",
    ".webp", ".jp2", ".j2k", ".j2c", ".jpc",
)  # fmt: skip
"""Of :mod:`vsr.sources.listing`, which takes torch to import."""


def _unjoined(parts: Sequence[str]) -> str:
    """What to do instead of FFmpeg's protocol for ``parts`` of one stream."""
    named = shlex.join(parts[:2]) + " …" * (len(parts) > 2)
    return (
        f"concat: is for ffmpeg; join the parts, cat {named} > joined{Path(parts[0]).suffix}, and "
        "give that (or, in a pipe, -)"
    )


_STDIN, _STDOUT = ("pipe:", "pipe:0"), ("pipe:", "pipe:1", "/dev/stdout")


def _local(name: str, *pipes: str) -> str:
    """A path or :data:`PIPE` of what FFmpeg would take for one."""
    if name in pipes:
        return str(PIPE)
    if name.startswith("file:") and not Path(name).exists():
        return name.removeprefix("file:")
    if re.fullmatch(r"pipe:\d+", name) and not Path(name).exists():
        raise ConfigError(f"{name}: of pipes, standard input and output are known, as - alone")
    if name.startswith("concat:") and not Path(name).exists():
        raise ConfigError(_unjoined(name.removeprefix("concat:").split("|")))
    if "://" in name and not Path(name).exists():
        raise ConfigError(
            f"{name}: only files and pipes are read and written; ffmpeg can stream it"
        )
    return name

"""A configuration written out as the command that makes it: the way back of the options."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from fractions import Fraction

from vsr.config import BITEXACT, EncoderConfig, FieldsConfig, InputConfig, UpscaleConfig
from vsr.tags import COLOUR_OPTIONS, FIELD_ORDERS, RANGES, word_for

__all__ = ["command_line"]

_DEFAULTS = {field.name: field.default for field in fields(UpscaleConfig)}
_UPSCALING = {
    "--weights": "weights", "--variant": "variant", "--scale": "scale", "--size": "size",
    "--device": "device", "--precision": "precision", "--runtime": "runtime", "--tile": "tile",
    "--dither": "dither", "--reuse-threshold": "reuse_threshold", "--hwaccel": "hwaccel",
    "-ss": "start", "-to": "end", "--frames": "frames", "--segment-seconds": "segment_seconds",
}  # fmt: skip
"""Fields of UpscaleConfig by their options."""


def command_line(config: UpscaleConfig) -> list[str]:
    """The arguments of ``vsr-upscale`` that mean ``config``.

    What is as it would be anyway is left out, and so is what has no option (``decode_threads``).
    """
    parts = ["-i", str(config.input)]
    parts += ["-f", "null"] if config.output is None else ["-o", str(config.output)]
    parts += _pairs({"-f": config.muxer, "--target": config.target})
    parts += _input(config.source)
    parts += _reading(config)
    parts += _pictures(config)
    parts += _upscaling(config)
    parts += _encoder(config.encoder)
    parts += _switch("--record", config.record)
    parts += _switch("--framemd5", config.framemd5)
    return parts


def _input(source: InputConfig) -> Iterator[str]:
    if source.raw_format is not None and source.raw_size is not None:
        yield from ("-f", "rawvideo", "-pixel_format", source.raw_format)
        yield from ("-video_size", _size(source.raw_size))
    stated = {**COLOUR_OPTIONS, "field_order": ("-field_order", FIELD_ORDERS)}
    for name, (option, words) in stated.items():
        if (value := getattr(source, name)) is not None:
            yield from (option, word_for(words, value))
    sar = source.sar
    yield from _pairs({"-r": source.rate, "-sar": sar and f"{sar.numerator}:{sar.denominator}"})
    yield from _pairs({"--video-stream": source.video_stream})
    if source.self_contained:
        yield "--self-contained"


def _reading(config: UpscaleConfig) -> Iterator[str]:
    for key, value in config.script.arguments.items():
        yield from ("-a", f"{key}={value}")
    if config.script.output:
        yield from ("--output-index", str(config.script.output))
    if config.decoder != "pyav":
        yield from ("--source", config.decoder)
    yield from _pairs({"--audio-from": config.audio_from})


def _pictures(config: UpscaleConfig) -> Iterator[str]:
    yield from _fields(config.fields)
    yield from _pairs({"--vf": config.filters})
    if config.square:
        yield "--square"
    if not config.crop:
        yield "--no-crop"


def _fields(fields: FieldsConfig) -> Iterator[str]:
    yield from _pairs({"--deinterlace": fields.deinterlace})
    if fields.field_rate:
        yield "--field-rate"
    if fields.flagged_only:
        yield "--flagged-only"
    if fields.ivtc:
        yield "--ivtc"
    if fields.progressive:
        yield "--progressive"


def _upscaling(config: UpscaleConfig) -> Iterator[str]:
    yield from _pairs({"--model": None if config.weights else config.model})
    for option, name in _UPSCALING.items():
        if (value := getattr(config, name)) != _DEFAULTS[name]:
            yield from (option, _word(value))
    if config.overwrite:
        yield "-y"
    if config.resume:
        yield "--resume"
    if config.restart:
        yield "--restart"


def _encoder(encoder: EncoderConfig) -> Iterator[str]:
    yield from _pairs(
        {
            "-c:v": encoder.codec, "--pix-fmt": encoder.pix_fmt, "--preset": encoder.preset,
            "--crf": None if encoder.crf is None else f"{encoder.crf:g}",
            "--range": None if encoder.range is None else word_for(RANGES, encoder.range),
            "--sound": encoder.sound,
            "-movflags": encoder.muxer_options.get("movflags"),
            "-start_number": encoder.first_number,
        }
    )  # fmt: skip
    if encoder.muxer_options.get("fflags") == BITEXACT:
        yield "-bitexact"
    for key, value in encoder.options.items():
        yield from ("-e", f"{key}={value}")


def _switch(option: str, value: bool | None) -> list[str]:
    if value is None:
        return []
    return [option if value else option.replace("--", "--no-", 1)]


def _pairs(values: Mapping[str, object]) -> list[str]:
    return [str(part) for pair in values.items() if pair[1] is not None for part in pair]


def _word(value: object) -> str:
    """A value as it is typed: sizes as 720x576, times and scales in decimals."""
    if isinstance(value, tuple):
        return _size(value)
    if isinstance(value, Fraction):
        return f"{float(value):.9f}".rstrip("0").rstrip(".")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _size(size: tuple[int, int]) -> str:
    return "{}x{}".format(*size)

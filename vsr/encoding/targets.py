"""Targets: named sets of plain options for an output's purpose.

A target is no mode: it fills in what the user has left open, and what it comes to can be written
out in flags (:func:`vsr.flags.command_line`, ``--dry-run``).
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from vsr.config import PIPE, EncoderConfig, UpscaleConfig
from vsr.encoding.muxers import extension_of, muxer_of
from vsr.errors import ConfigError
from vsr.ffmpeg import near_matches
from vsr.tags import Range

__all__ = ["TARGETS", "EncodingTarget", "resolve"]

_NAMES = {"matroska": "Matroska", "mp4": "MP4", "mov": "MOV", "webm": "WebM"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingTarget:
    """What an output for one purpose is made of."""

    summary: str
    """The codec, in people's words."""
    muxers: tuple[str, ...]
    """FFmpeg's names of the containers that hold it, the usual one first."""
    encoder: EncoderConfig
    mp4: dict[str, str] = field(default_factory=dict)
    """Options of the container, if it is MP4 or MOV."""
    square: bool = False
    beside: bool = False
    """Whether a record and the hash of every frame are written beside the output."""


TARGETS = {
    "archive": EncodingTarget(
        summary="FFV1", muxers=("matroska",), beside=True,
        # Intra only, a checksum for each slice: as archives ask for. That there are 16 slices is
        # left to vsr.encoding, since odd sizes do not allow it.
        encoder=EncoderConfig(
            codec="ffv1",
            options={"level": "3", "g": "1", "slicecrc": "1", "coder": "1", "context": "1"},
        ),
    ),
    "edit": EncodingTarget(
        summary="ProRes", muxers=("mov",),
        encoder=EncoderConfig(
            codec="prores_ks", pix_fmt="yuv422p10le", options={"profile": "hq", "vendor": "apl0"}
        ),
    ),
    "web": EncodingTarget(
        summary="H.264", muxers=("mp4",), square=True, mp4={"movflags": "+faststart"},
        encoder=EncoderConfig(
            codec="libx264", pix_fmt="yuv420p", crf=18, preset="medium", range=Range.LIMITED,
            sound="web",
        ),
    ),
    "hevc": EncodingTarget(
        summary="HEVC", muxers=("mp4", "mov", "matroska"),
        encoder=EncoderConfig(codec="libx265", pix_fmt="yuv420p10le", crf=18, preset="medium"),
    ),
    "av1": EncodingTarget(
        summary="AV1", muxers=("matroska", "mp4", "webm"),
        encoder=EncoderConfig(codec="libsvtav1", pix_fmt="yuv420p10le", crf=24, preset="6"),
    ),
}  # fmt: skip
"""All targets by name."""


def resolve(config: UpscaleConfig) -> UpscaleConfig:
    """Fill in what the target of ``config`` stands for; what the user gave overrules it.

    Another codec than the target's takes with it the options that only the target's own has. Doing
    it twice changes nothing.

    Raises:
        ConfigError: there is no such target, or the output's container does not hold it.
    """
    if config.target is None:
        return _with_companions(config, wanted=False)
    target = _find(config.target)
    muxer = config.muxer or muxer_of(config.output) if config.output else None
    if config.output is not None and muxer not in target.muxers:
        raise ConfigError(_wrong_container(config.target, target, config.output, config.muxer))
    encoder = _encoder(target, config.encoder, muxer)
    square = config.square or (target.square and config.size is None)
    return _with_companions(replace(config, encoder=encoder, square=square), wanted=target.beside)


def _find(name: str) -> EncodingTarget:
    if name not in TARGETS:
        hint = near_matches(name, TARGETS) or f"; there are {', '.join(TARGETS)}"
        raise ConfigError(f"unknown target {name}{hint}")
    return TARGETS[name]


def _encoder(target: EncodingTarget, given: EncoderConfig, muxer: str | None) -> EncoderConfig:
    """The target's settings under those that are given."""
    own = target.encoder
    muxer_options = {**(target.mp4 if muxer in ("mp4", "mov") else {}), **given.muxer_options}
    pix_fmt = given.pix_fmt or own.pix_fmt
    full = pix_fmt is not None and pix_fmt.startswith("yuvj")  # FFmpeg's old names for it
    chosen = replace(
        given, pix_fmt=pix_fmt, muxer_options=muxer_options, sound=given.sound or own.sound,
        range=given.range if given.range or full else own.range,
    )  # fmt: skip
    if given.codec not in (None, own.codec):
        return chosen
    options = dict(own.options)
    if given.pix_fmt:  # the encoder has a profile for it
        options.pop("profile", None)
    return replace(
        chosen, codec=own.codec, crf=own.crf if given.crf is None else given.crf,
        preset=given.preset or own.preset, options=options | given.options,
    )  # fmt: skip


def _wrong_container(name: str, target: EncodingTarget, output: Path, muxer: str | None) -> str:
    usual = target.muxers[0]
    wanted = " or ".join(_NAMES[known] for known in target.muxers)
    if muxer or output == PIPE:
        remedy = f"say -f {usual}" + (f" (not {muxer})" if muxer else "")
    else:
        remedy = f"name the output .{extension_of(usual)} (not {output})"
    return f"target {name} is {target.summary} in {wanted}: {remedy}"


def _with_companions(config: UpscaleConfig, *, wanted: bool) -> UpscaleConfig:
    """Decide which files are written beside the output.

    Raises:
        ConfigError: there is no name to put them beside.
    """
    wanted = wanted and config.output is not None
    record = wanted if config.record is None else config.record
    framemd5 = wanted if config.framemd5 is None else config.framemd5
    asked = [word for word, on in (("framemd5", framemd5), ("record", record)) if on]
    if asked and config.output in (None, PIPE):
        flags, opposite = (" and ".join(f"--{no}{word}" for word in asked) for no in ("", "no-"))
        verb = "write files" if len(asked) > 1 else "writes a file"
        raise ConfigError(
            f"{flags} {verb} beside an output with a name: name one, or say {opposite}"
        )
    return replace(config, record=record, framemd5=framemd5)

"""Options of encoders: what each gets unless the user says otherwise, and which there are."""

import math
from collections.abc import Mapping, Sequence

from av.codec import Codec

from vsr.config import EncoderConfig
from vsr.encoding.parameters import check_displays, rate_control
from vsr.errors import ConfigError
from vsr.ffmpeg import near_matches
from vsr.frame import PixelFormat, VideoInfo
from vsr.hdr import encoder_options
from vsr.tags import COLOUR_OPTIONS

__all__ = ["check_options", "choose_options"]

# Encoder options unless the user says otherwise. ffv1: version 3, intra only, 16 slices with a
# checksum each, as archives ask for. b=0 lets libvpx work by crf alone. x265 writes to stderr by
# itself. mpeg4 and its kin have no crf: a fixed quantiser of 2 is their best quality.
_BY_QUANTISER = (
    "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "msmpeg4", "msmpeg4v2", "wmv1", "wmv2", "flv",
    "h263", "h263p",
)  # fmt: skip
_FIXED_QUANTISER = {"flags": "+qscale", "qmin": "2", "qmax": "2"}
_DEFAULTS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "17", "preset": "medium"},
    "libx265": {"crf": "18", "preset": "medium", "x265-params": "log-level=none", "a53cc": "1"},
    "libvpx-vp9": {"crf": "24", "b": "0", "row-mt": "1", "deadline": "good", "cpu-used": "2"},
    "libsvtav1": {"crf": "24", "preset": "6"},
    "ffv1": {"level": "3", "g": "1", "slices": "16", "slicecrc": "1", "coder": "1", "context": "1"},
    "prores_ks": {"vendor": "apl0"},
    **dict.fromkeys(_BY_QUANTISER, _FIXED_QUANTISER),
}
_LAMBDA = 118
"""FFmpeg's units of quality in a step of the quantiser (FF_QP2LAMBDA)."""
_CRF = {
    "libx264": 51, "libx264rgb": 51, "libx265": 51, "libvpx": 63, "libvpx-vp9": 63,
    "libaom-av1": 63, "libsvtav1": 63,
}  # fmt: skip
_NO_CRF = -1
"""What FFmpeg's encoders take for no crf at all, so that a bit rate counts."""
_RATE_CONTROL = {"b", "qp", "qmin", "qmax", "cq", "global_quality", "crf", "lossless"}
_TAG = "the output is tagged with what is in it; {} says what the input is"
_SAID_OTHERWISE = {
    **{option[1:]: _TAG.format(option) for option, _ in COLOUR_OPTIONS.values()},
    "pix_fmt": "is --pix-fmt here", "pixel_format": "is --pix-fmt here",
}  # fmt: skip
"""Options refused for ``-e``, and what to use instead: FFmpeg would label the picture so without
converting it."""
_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
    "placebo",
)  # fmt: skip


def choose_options(
    muxer: str, codec: str, form: PixelFormat, info: VideoInfo, config: EncoderConfig
) -> dict[str, str]:
    """All options of the encoder ``codec``.

    Args:
        muxer: FFmpeg's name of the container.
        codec: FFmpeg's name of the encoder.
        form: what is encoded.
        info: facts about the *source*, whose HDR metadata some encoders are told by options.
        config: what the user asked for; it counts more than what is chosen here.

    Raises:
        ConfigError: the encoder has no such option, or what it says is no such thing.
    """
    if found := [key for key in config.options if key in _SAID_OTHERWISE]:
        raise ConfigError(f"-e {found[0]}: {_SAID_OTHERWISE[found[0]]}")
    options = {**_DEFAULTS.get(codec, {}), **_format_options(codec, form)}
    if muxer in ("avi", "nut") and Codec(codec, "w").reorder:
        options["bf"] = "0"  # AVI has no pts, NUT no negative dts: B-frames would shift the start
    by_parameters = bool(rate_control(config.options))
    if by_parameters or _RATE_CONTROL & config.options.keys():
        ours = _RATE_CONTROL | _FIXED_QUANTISER.keys()
        options = {key: value for key, value in options.items() if key not in ours}
        options |= _quantiser(codec, config.options)
    if config.crf is not None:
        _check_crf(codec, config.crf)
        options["crf"] = f"{config.crf:g}"
    if config.preset is not None:
        options["preset"] = config.preset
    given = _number(config.options.get("crf"))
    if given is not None and given != _NO_CRF:
        _check_crf(codec, given)
    _join(options, encoder_options(codec, info.hdr))
    _join(options, config.options)
    if by_parameters:
        options.pop("crf", None)
    check_options(codec, options)
    check_displays(config.options)
    return options


def _quantiser(codec: str, given: Mapping[str, str]) -> dict[str, str]:
    """What fixes the quantiser where ``global_quality`` is to do so.

    ffmpeg's command gives that quality to each frame, and PyAV has no way to; but its bounds hold.
    """
    quality = _number(given.get("global_quality"))
    if codec not in _BY_QUANTISER or quality is None:
        return {}
    step = str(max(1, round(quality / _LAMBDA)))
    return {"flags": "+qscale", "qmin": step, "qmax": step}


def _number(text: str | None) -> float | None:
    """What an option says; None if it is not given, or is no number, which FFmpeg refuses."""
    try:
        number = math.nan if text is None else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _check_crf(codec: str, crf: float) -> None:
    """x264 and x265 take any number, and silently do what they can; -1 is none for libvpx."""
    if codec in _CRF and not 0 <= crf <= _CRF[codec]:
        raise ConfigError(f"crf of {codec} is from 0 to {_CRF[codec]}, not {crf:g}")


def _join(options: dict[str, str], more: dict[str, str]) -> None:
    """Add ``more``; lists of an encoder's own parameters grow, the last word on one counts."""
    for key, value in more.items():
        joined = key.endswith("-params") and key in options
        options[key] = f"{options[key]}:{value}" if joined else value


def _format_options(codec: str, form: PixelFormat) -> dict[str, str]:
    if codec == "prores_ks":
        return {"profile": "hq" if form.chroma_w else "4444"}
    if codec == "dnxhd":
        deep = "dnxhr_hqx" if form.depth > 8 else "dnxhr_hq"
        return {"profile": deep if form.chroma_w else "dnxhr_444"}
    if codec == "libvpx-vp9" and form.alpha:
        return {"auto-alt-ref": "0"}  # libvpx cannot hide frames of a stream with alpha
    return {}


def check_options(codec: str, options: dict[str, str]) -> None:
    """Look up whether the encoder ``codec`` has ``options``.

    Raises:
        ConfigError: it has not; with names that come close.
    """
    supported = Codec(codec, "w").create("video").supported_options
    names = [option.name for option in (*supported.private, *supported.generic)]
    for key in options:
        if key not in names:
            raise ConfigError(f"{codec} has no option {key}{_instead(codec, key, names)}")
    preset = options.get("preset")
    # x264 and x265 print their own complaint to stderr: do not let it come to that.
    if codec in ("libx264", "libx264rgb", "libx265") and preset and preset not in _PRESETS:
        raise ConfigError(f"{codec} has no preset {preset}: use one of {', '.join(_PRESETS)}")


def _instead(codec: str, key: str, names: Sequence[str]) -> str:
    """What to do about an option ``key`` that the encoder ``codec`` has not."""
    if key != "crf":
        return near_matches(key, names)
    kind = Codec(codec, "w")
    return ": it is lossless" if kind.lossless and not kind.lossy else ": -e b=5M sets a bit rate"

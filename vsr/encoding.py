"""Which container, encoder, pixel format and options an output gets, and why.

The choice is made once, before the first frame, and tried on a throw-away container in memory, so
that a setting FFmpeg refuses is reported before hours are spent. Every automatic choice and every
loss is one line in :attr:`Encoding.notes`.
"""

import io
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import av.video.format
from av.codec import Codec
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.stream import VideoStream

from vsr.config import EncoderConfig
from vsr.errors import ConfigError, UnsupportedFormatError
from vsr.ffmpeg import explain, find_encoder, near_matches
from vsr.frame import Colour, Matrix, PixelFormat, Range, Siting, VideoInfo, pixel_format
from vsr.hdr import encoder_options, warnings_for

__all__ = ["Encoding", "add_video", "choose_encoding", "discarding", "encoder_time_base"]

# Only containers whose behaviour is known and tested; FFmpeg's guess by extension would also turn
# a slip of the finger into an image sequence or a raw elementary stream.
_MUXERS = {
    "mp4": "mp4", "m4v": "mp4", "mov": "mov", "qt": "mov", "mkv": "matroska", "webm": "webm",
    "avi": "avi", "nut": "nut", "ts": "mpegts", "m2ts": "mpegts", "mts": "mpegts",
}  # fmt: skip

# Encoder options unless the user says otherwise. ffv1: version 3, intra only, 16 slices with a
# checksum each, as archives ask for. b=0 lets libvpx work by crf alone. x265 writes to stderr by
# itself. mpeg4 and its kin have no crf: a fixed quantiser of 2 is their best quality.
_FIXED_QUANTISER = {"flags": "+qscale", "global_quality": "236"}
_DEFAULTS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "17", "preset": "medium"},
    "libx265": {"crf": "18", "preset": "medium", "x265-params": "log-level=none"},
    "libvpx-vp9": {"crf": "24", "b": "0", "row-mt": "1", "deadline": "good", "cpu-used": "2"},
    "libsvtav1": {"crf": "24", "preset": "6"},
    "ffv1": {"level": "3", "g": "1", "slices": "16", "slicecrc": "1", "coder": "1", "context": "1"},
    "prores_ks": {"vendor": "apl0"},
    "mpeg4": _FIXED_QUANTISER,
    "mpeg2video": _FIXED_QUANTISER,
    "mjpeg": _FIXED_QUANTISER,
}
_RATE_CONTROL = {"b", "qp", "qmin", "qmax", "cq", "global_quality", "crf", "lossless"}
_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
    "placebo",
)  # fmt: skip

# Bitstreams that have one range only.
_RANGES = {
    "mjpeg": Range.FULL, "prores": Range.LIMITED, "dnxhd": Range.LIMITED, "mpeg4": Range.LIMITED,
    "mpeg1video": Range.LIMITED, "mpeg2video": Range.LIMITED,
}  # fmt: skip
# Alpha that encoders code, but hardly anything plays.
_AVOIDED = {
    "libx265": ("yuva420p", "yuva420p10le"),
    "libvpx-vp9": ("yuva422p", "yuva444p", "gbrap"),
}
_STANDARD_CHROMA = {(1, 1), (1, 0), (0, 0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How a picture is coded and wrapped: all that the engine and the sink need to agree on."""

    muxer: str
    """FFmpeg's muxer name."""
    codec: str
    """FFmpeg's encoder name."""
    format: PixelFormat
    """What the engine delivers; always planar."""
    colour: Colour
    """What the engine converts to and the sink tags."""
    options: dict[str, str]
    """Options of the encoder, crf and preset included."""
    muxer_options: dict[str, str] = field(default_factory=dict)
    """Options of the container."""
    notes: tuple[str, ...] = ()
    """One line for every automatic choice and every loss."""


def choose_encoding(
    path: Path, info: VideoInfo, width: int, height: int, config: EncoderConfig
) -> Encoding:
    """Choose how a ``width`` x ``height`` picture of the source ``info`` is written to ``path``.

    Args:
        path: The output; its extension names the container.
        info: Facts about the *source*: size, format and colour.
        width: Width of the output in pixels.
        height: Height of the output in pixels.
        config: What the user asked for; everything else is chosen.

    Raises:
        ConfigError: an unknown extension, encoder, pixel format or option, or a combination of
            them (or a size) that the encoder or the container refuses.
    """
    muxer = _muxer(path)
    encoder = find_encoder(config.codec or _default_codec(muxer, info.format))
    codec, formats = encoder.name, _planar_formats(encoder)
    if config.pix_fmt:
        form = _requested_format(codec, formats, config.pix_fmt)
    else:
        form = _nearest_format(encoder, formats, info, (width, height))
    colour = _output_colour(encoder, info, form)
    if config.pix_fmt and config.pix_fmt.startswith("yuvj"):
        colour = replace(colour, range=Range.FULL)
    options = _options(muxer, codec, form, info, config)
    notes = _notes(muxer, codec, info, form, colour)
    notes.insert(0, _summary(muxer, codec, form, options))
    encoding = Encoding(
        muxer=muxer, codec=codec, format=form, colour=colour, options=options,
        muxer_options=config.muxer_options, notes=tuple(notes),
    )  # fmt: skip
    _check_muxer_options(muxer, config.muxer_options)
    _try_out(encoding, info, width, height)
    return encoding


def discarding(info: VideoInfo, width: int, height: int, config: EncoderConfig) -> Encoding:
    """What the engine delivers where nothing is written: the planar form of the source's format.

    Raises:
        ConfigError: ``config`` names a pixel format that the engine cannot deliver.
    """
    encoder, form = find_encoder("rawvideo"), info.format.as_planar()
    if config.pix_fmt:
        form = _requested_format("the engine", _planar_formats(encoder), config.pix_fmt)
    colour = _output_colour(encoder, info, form)
    return Encoding(muxer="null", codec="rawvideo", format=form, colour=colour, options={})


def encoder_time_base(encoding: Encoding, info: VideoInfo) -> Fraction:
    """The time base the encoder counts in, in seconds: the source's wherever that is possible."""
    codec = Codec(encoding.codec, "w").canonical_name
    constant_rate = encoding.muxer == "avi" or codec in ("mpeg1video", "mpeg2video")
    if constant_rate or (codec == "mpeg4" and info.time_base.denominator > 65535):
        return 1 / info.rate
    return info.time_base


def add_video(container: OutputContainer, encoding: Encoding, info: VideoInfo) -> VideoStream:
    """Add the encoded video to ``container``, whose header must not have been written.

    Args:
        container: Where to add the stream.
        encoding: Codec, pixel format, colour tags and options.
        info: Facts about the *output*: size, rate, time base, aspect ratio.
    """
    stream = container.add_stream(
        encoding.codec,
        rate=info.rate.limit_denominator(2**30),
        options=dict(encoding.options),
        time_base=encoder_time_base(encoding, info),
        width=info.width,
        height=info.height,
        pix_fmt=encoding.format.name,
    )
    assert isinstance(stream, VideoStream)  # _formats() refused everything else
    context = stream.codec_context
    # PyAV's default, slices only, makes x264 cut every picture into one slice per thread.
    context.thread_type = "AUTO"
    context.flags |= Flags.frame_duration
    context.color_range = encoding.colour.range
    context.colorspace = encoding.colour.matrix
    context.color_primaries = encoding.colour.primaries
    context.color_trc = encoding.colour.transfer
    context.chroma_sample_location = encoding.colour.siting
    if info.sar is not None:
        context.sample_aspect_ratio = info.sar
    if context.codec.canonical_name == "hevc" and encoding.muxer in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # Apple's players ignore FFmpeg's default, hev1
    return stream


# -- Container and codec ---------------------------------------------------------------------------


def _muxer(path: Path) -> str:
    extension = path.suffix.lower().removeprefix(".")
    if muxer := _MUXERS.get(extension):
        return muxer
    what = f"extension .{extension}" if extension else "file without extension"
    raise ConfigError(f"unknown output {what}: use one of {', '.join(_MUXERS)}")


def _default_codec(muxer: str, source: PixelFormat) -> str:
    if muxer == "webm":
        return "libvpx-vp9" if source.depth == 8 else "libsvtav1"  # PyAV's libvpx: 8 bits only
    if muxer in ("matroska", "nut", "avi") and (source.alpha or source.depth > 12):
        return "ffv1"
    if source.depth == 8:
        return "libx264"
    return "ffv1" if muxer == "avi" else "libx265"


# -- Pixel format ----------------------------------------------------------------------------------


def _planar_formats(encoder: Codec) -> list[PixelFormat]:
    """Those formats of ``encoder`` that the engine can write."""
    if encoder.video_formats is None:  # rawvideo and its like take everything
        names = sorted(av.video.format.names)
    else:
        names = [form.name for form in encoder.video_formats]
    found = []
    for name in names:
        with suppress(UnsupportedFormatError):
            form = pixel_format(name)
            # yuvj* duplicates yuv*: the range is a tag of its own.
            if form.planar and not name.startswith("yuvj"):
                found.append(form)
    if not found:
        raise ConfigError(f"{encoder.name} takes no planar pixel format ({', '.join(names)})")
    return found


def _requested_format(codec: str, formats: list[PixelFormat], wanted: str) -> PixelFormat:
    accepted = {form.name: form for form in formats}
    plain = wanted.replace("yuvj", "yuv")
    for name in (plain, f"{plain}le"):
        if name in accepted:
            return accepted[name]
    takes = ", ".join(accepted)
    raise ConfigError(f"{codec} does not take pixel format {wanted}: it takes {takes}")


def _nearest_format(
    encoder: Codec, formats: list[PixelFormat], info: VideoInfo, size: tuple[int, int]
) -> PixelFormat:
    """The format that loses least and, of those, the one that stores least."""
    source = info.format
    formats = _where(formats, lambda form: form.name not in _AVOIDED.get(encoder.name, ()))
    formats = _where(formats, lambda form: form.depth != 9 or source.depth == 9)  # a rarity
    formats = _where(formats, lambda form: form.alpha == source.alpha)
    families = [source.family, "yuv", "rgb"]
    if source.family == "rgb" and encoder.lossy:
        families = ["yuv", "rgb"]  # lossy RGB wastes bits, and few players show it
    family = next(f for f in [*families, "gray"] if any(form.family == f for form in formats))
    formats = [form for form in formats if form.family == family]
    depths = {form.depth for form in formats}
    depth = min((d for d in depths if d >= source.depth), default=max(depths))
    return _of_chroma([form for form in formats if form.depth == depth], info, size)


def _where(
    formats: list[PixelFormat], condition: Callable[[PixelFormat], bool]
) -> list[PixelFormat]:
    """Those that meet ``condition``, or all if none does."""
    return [form for form in formats if condition(form)] or formats


def _of_chroma(formats: list[PixelFormat], info: VideoInfo, size: tuple[int, int]) -> PixelFormat:
    """The source's subsampling, or the smallest standard one that holds its chroma samples."""
    source = info.format
    if source.family != "gray":
        for form in formats:
            if (form.chroma_w, form.chroma_h) == (source.chroma_w, source.chroma_h):
                return form
    formats = _where(formats, lambda form: (form.chroma_w, form.chroma_h) in _STANDARD_CHROMA)
    formats = sorted(formats, key=lambda form: -form.chroma_w - form.chroma_h)  # smallest first
    if source.family == "gray":
        return formats[0]
    rows, columns = source.component_size(1, info.width, info.height)
    for form in formats:
        form_rows, form_columns = form.component_size(1, *size)
        if form_rows >= rows and form_columns >= columns:
            return form
    return formats[-1]


def _output_colour(encoder: Codec, info: VideoInfo, form: PixelFormat) -> Colour:
    source, colour = info.format, info.colour
    if form.family == "rgb":
        return replace(colour, matrix=Matrix.RGB, range=Range.FULL, siting=Siting.UNSPECIFIED)
    if source.family == "rgb":
        colour = replace(colour, matrix=Matrix.BT709, range=Range.LIMITED)
    elif colour.matrix == Matrix.RGB:
        colour = replace(colour, matrix=Matrix.BT709)
    forced = _RANGES.get(encoder.canonical_name)
    subsampled = bool(form.chroma_w or form.chroma_h)
    same = (source.chroma_w, source.chroma_h) == (form.chroma_w, form.chroma_h)
    siting = colour.siting if same and source.family == form.family else Siting.LEFT
    return replace(
        colour,
        range=forced or colour.range,
        siting=siting if subsampled else Siting.UNSPECIFIED,
    )


# -- Options ---------------------------------------------------------------------------------------


def _options(
    muxer: str, codec: str, form: PixelFormat, info: VideoInfo, config: EncoderConfig
) -> dict[str, str]:
    options = {**_DEFAULTS.get(codec, {}), **_format_options(codec, form)}
    if muxer in ("avi", "nut") and Codec(codec, "w").reorder:
        options["bf"] = "0"  # AVI has no pts, NUT no negative dts: B-frames would shift the start
    if _RATE_CONTROL & config.options.keys():
        options = {key: value for key, value in options.items() if key not in _RATE_CONTROL}
    if config.crf is not None:
        options["crf"] = f"{config.crf:g}"
    if config.preset is not None:
        options["preset"] = config.preset
    _join(options, encoder_options(codec, info.hdr))
    _join(options, config.options)
    _check_options(codec, options)
    return options


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


def _check_options(codec: str, options: dict[str, str]) -> None:
    supported = Codec(codec, "w").create("video").supported_options
    names = [option.name for option in (*supported.private, *supported.generic)]
    for key in options:
        if key not in names:
            raise ConfigError(f"{codec} has no option {key}{near_matches(key, names)}")
    preset = options.get("preset")
    # x264 and x265 print their own complaint to stderr: do not let it come to that.
    if codec in ("libx264", "libx264rgb", "libx265") and preset and preset not in _PRESETS:
        raise ConfigError(f"{codec} has no preset {preset}: use one of {', '.join(_PRESETS)}")


def _check_muxer_options(muxer: str, options: dict[str, str]) -> None:
    if "movflags" in options and muxer not in ("mp4", "mov"):
        raise ConfigError(f"movflags are for mp4 and mov, and the output is {muxer}")


def _try_out(encoding: Encoding, info: VideoInfo, width: int, height: int) -> None:
    """Open the encoder and write a header into memory.

    Raises:
        ConfigError: the container or the encoder refuses; with FFmpeg's reason.
    """
    form = encoding.format
    if _refuses_odd(encoding.codec) and (
        width % (1 << form.chroma_w) or height % (1 << form.chroma_h)
    ):
        even = f"{width + width % 2}x{height + height % 2}"
        raise ConfigError(
            f"{encoding.codec} cannot code {width}x{height} as {form.name}, which needs an even "
            f"size: use --size {even} or --pix-fmt {_unsampled(form)}"
        )
    what = f"{encoding.codec} ({form.name}, {width}x{height}) in {encoding.muxer}"
    output = replace(info, width=width, height=height)
    container = av.open(
        io.BytesIO(), "w", format=encoding.muxer, options=dict(encoding.muxer_options)
    )
    try:
        with explain(f"cannot write {what}", ConfigError):
            add_video(container, encoding, output)
            container.start_encoding()
    finally:
        with suppress(av.FFmpegError, ValueError):  # no packets: some trailers complain
            container.close()


def _refuses_odd(codec: str) -> bool:
    return Codec(codec, "w").canonical_name in ("h264", "hevc")


def _unsampled(form: PixelFormat) -> str:
    return re.sub(r"4[0-4]{2}p", "444p", form.name)


# -- Notes -----------------------------------------------------------------------------------------


def _summary(muxer: str, codec: str, form: PixelFormat, options: dict[str, str]) -> str:
    details = [f"{key} {options[key]}" for key in ("crf", "preset", "profile") if key in options]
    return f"output: {codec} in {muxer}, {', '.join([form.name, *details])}"


def _notes(muxer: str, codec: str, info: VideoInfo, form: PixelFormat, colour: Colour) -> list[str]:
    source = info.format
    notes = []
    if source.alpha and not form.alpha:
        notes.append(f"alpha is dropped: {codec} with {form.name} cannot hold it")
    if form.depth < source.depth:
        notes.append(f"{source.depth} bits become {form.depth}: {codec} holds no more")
    if form.family != source.family:
        notes.append(f"{source.name} becomes {form.name}")
    elif source.family == "rgb" and form.depth > source.depth:
        notes.append(f"{source.name} is stored as {form.name}")
    elif (form.chroma_w, form.chroma_h) != (source.chroma_w, source.chroma_h):
        notes.append(f"chroma subsampling changes from {source.name} to {form.name}")
    if source.family != "rgb" and form.family != "rgb" and colour.range != info.colour.range:
        notes.append(f"range becomes {colour.range.name.lower()}")
    tagged = muxer not in ("avi", "nut") or codec in ("libx264", "libx265")
    if not tagged:
        notes.append(f"colour tags and aspect ratio are lost: {codec} in {muxer} has none")
    hdr = warnings_for(
        info.hdr, colour.transfer, codec=codec, muxer=muxer, depth=form.depth, tagged=tagged
    )
    return notes + hdr

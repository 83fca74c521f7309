"""Which container, encoder, pixel format and options an output gets, and why.

The choice is made once, before the first frame, and tried on a throw-away container in memory, so
that a setting FFmpeg refuses is reported before hours are spent. Every automatic choice and every
loss is one line in :attr:`Encoding.notes`.

Note [Narrow pictures and x265]
    Of pictures up to 48 pixels wide, x265 as PyAV 19 brings it writes outside its memory, which may
    end the process at any later time, and no message could be given then. Its cutree adds costs in
    AVX2 to rows of blocks of 16x16 pixels, and takes four at a time: rows of less than four are
    exceeded (seen with glibc's MALLOC_CHECK_; not without cutree, not without AVX2, whatever the
    height, depth or preset). So these are refused.
"""

import io
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import av.video.format
from av.codec import Codec
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vsr.config import PIPE, EncoderConfig
from vsr.errors import ConfigError
from vsr.ffmpeg import explain, find_encoder, near_matches
from vsr.formats import nearest_format, output_colour, planar_formats, requested_format, stored_as
from vsr.frame import Colour, FieldOrder, PixelFormat, Range, VideoInfo
from vsr.hdr import HDR_TRANSFERS, encoder_options, lost_metadata
from vsr.muxers import AVOIDED, Y4M, Y4M_SITINGS, choose_muxer, default_codec, muxer_options
from vsr.tags import MATRICES, PRIMARIES, RANGES, TRANSFERS, Siting, word_for

__all__ = [
    "Encoding",
    "add_video",
    "check_options",
    "choose_encoding",
    "configure",
    "discarding",
    "encoder_time_base",
]

# Encoder options unless the user says otherwise. ffv1: version 3, intra only, 16 slices with a
# checksum each, as archives ask for. b=0 lets libvpx work by crf alone. x265 writes to stderr by
# itself. mpeg4 and its kin have no crf: a fixed quantiser of 2 is their best quality.
_FIXED_QUANTISER = {"flags": "+qscale", "global_quality": "236"}
_DEFAULTS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "17", "preset": "medium"},
    "libx265": {"crf": "18", "preset": "medium", "x265-params": "log-level=none", "a53cc": "1"},
    "libvpx-vp9": {"crf": "24", "b": "0", "row-mt": "1", "deadline": "good", "cpu-used": "2"},
    "libsvtav1": {"crf": "24", "preset": "6"},
    "ffv1": {"level": "3", "g": "1", "slices": "16", "slicecrc": "1", "coder": "1", "context": "1"},
    "prores_ks": {"vendor": "apl0"},
    "mpeg4": _FIXED_QUANTISER,
    "mpeg2video": _FIXED_QUANTISER,
    "mjpeg": _FIXED_QUANTISER,
}
_X265_NARROW = 48  # pixels of width; see Note [Narrow pictures and x265]
_RATE_CONTROL = {"b", "qp", "qmin", "qmax", "cq", "global_quality", "crf", "lossless"}
_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
    "placebo",
)  # fmt: skip


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

    @property
    def fragmented(self) -> bool:
        """Whether this is MP4 or MOV in fragments, as a pipe needs it."""
        return "frag" in self.muxer_options.get("movflags", "")


def choose_encoding(
    path: Path,
    info: VideoInfo,
    width: int,
    height: int,
    config: EncoderConfig,
    *,
    muxer: str | None = None,
) -> Encoding:
    """Choose how a ``width`` x ``height`` picture of the source ``info`` is written to ``path``.

    Args:
        path: The output; its extension names the container. :data:`~vsr.config.PIPE` is standard
            output.
        info: Facts about the *source*: size, format and colour.
        width: Width of the output in pixels.
        height: Height of the output in pixels.
        config: What the user asked for; everything else is chosen.
        muxer: FFmpeg's name of the container, whatever the extension; a pipe has none.

    Raises:
        ConfigError: an unknown extension, container, encoder, pixel format or option, or a
            combination of them (or a size) that the encoder or the container refuses.
    """
    piped = path == PIPE
    muxer = choose_muxer(path, muxer)
    container_options = muxer_options(muxer, config.muxer_options, piped=piped)
    encoder = find_encoder(
        config.codec or default_codec(muxer, info.format, piped=piped, wanted=config.pix_fmt)
    )
    codec, formats = encoder.name, planar_formats(encoder, muxer)
    if config.pix_fmt:
        form = requested_format(codec, formats, config.pix_fmt)
    else:
        form = nearest_format(
            encoder, formats, info, (width, height), avoided=AVOIDED.get(muxer, ())
        )
    colour = output_colour(encoder, info, form)
    if config.pix_fmt and config.pix_fmt.startswith("yuvj"):
        colour = replace(colour, range=Range.FULL)
    options = _options(muxer, codec, form, info, config)
    notes = _notes(muxer, codec, info, form, colour)
    if codec == "ffv1" and "slices" not in config.options and _is_odd(form, width, height):
        del options["slices"]  # level 3 refuses nearly every number of them
        notes.append(f"ffv1 chooses the number of slices: {width}x{height} is odd for {form.name}")
    notes.insert(0, _summary(muxer, codec, form, options, piped=piped))
    encoding = Encoding(
        muxer=muxer, codec=codec, format=form, colour=colour, options=options,
        muxer_options=container_options, notes=tuple(notes),
    )  # fmt: skip
    _try_out(encoding, info, width, height)
    return encoding


def discarding(info: VideoInfo, width: int, height: int, config: EncoderConfig) -> Encoding:
    """What the engine delivers where nothing is written: the planar form of the source's format.

    Raises:
        ConfigError: ``config`` names a pixel format that the engine cannot deliver.
    """
    encoder, form = find_encoder("rawvideo"), info.format.as_planar()
    if config.pix_fmt:
        form = requested_format("the engine", planar_formats(encoder), config.pix_fmt)
    colour = output_colour(encoder, info, form)
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
        pix_fmt=stored_as(encoding.codec, encoding.format),
    )
    assert isinstance(stream, VideoStream)  # _formats() refused everything else
    configure(stream.codec_context, encoding, info)
    return stream


def configure(context: VideoCodecContext, encoding: Encoding, info: VideoInfo) -> None:
    """Tell an encoder that is not open yet how the picture is to be read.

    Args:
        context: An encoder that knows codec, size, pixel format, rate and time base.
        encoding: Colour tags, container.
        info: Facts about the *output*: aspect ratio, field order.
    """
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
    if info.field_order != FieldOrder.UNKNOWN:
        context.field_order = info.field_order
    if context.codec.canonical_name == "hevc" and encoding.muxer in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # Apple's players ignore FFmpeg's default, hev1


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
    check_options(codec, options)
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


def check_options(codec: str, options: dict[str, str]) -> None:
    """Look up whether the encoder ``codec`` has ``options``.

    Raises:
        ConfigError: it has not; with names that come close.
    """
    supported = Codec(codec, "w").create("video").supported_options
    names = [option.name for option in (*supported.private, *supported.generic)]
    for key in options:
        if key not in names:
            raise ConfigError(f"{codec} has no option {key}{near_matches(key, names)}")
    preset = options.get("preset")
    # x264 and x265 print their own complaint to stderr: do not let it come to that.
    if codec in ("libx264", "libx264rgb", "libx265") and preset and preset not in _PRESETS:
        raise ConfigError(f"{codec} has no preset {preset}: use one of {', '.join(_PRESETS)}")


def _try_out(encoding: Encoding, info: VideoInfo, width: int, height: int) -> None:
    """Open the encoder and write a header into memory.

    Raises:
        ConfigError: the container or the encoder refuses; with FFmpeg's reason.
    """
    form = encoding.format
    if _refuses_odd(encoding.codec) and _is_odd(form, width, height):
        even = f"{width + width % 2}x{height + height % 2}"
        raise ConfigError(
            f"{encoding.codec} cannot code {width}x{height} as {form.name}, which needs an even "
            f"size: use --size {even} or --pix-fmt {_unsampled(form)}"
        )
    if encoding.muxer == Y4M:
        if encoding.codec != "rawvideo":
            raise ConfigError(f"{Y4M} holds raw video only: leave out {encoding.codec}")
        return
    what = f"{encoding.codec} ({form.name}, {width}x{height}) in {encoding.muxer}"
    if encoding.codec.endswith("_nvenc"):
        what += ", which needs an NVIDIA GPU with an encoder (H100, H200 and A100 have none)"
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
    if encoding.codec == "libx265" and width <= _X265_NARROW:
        raise ConfigError(
            f"libx265 cannot code {width}x{height} safely: it writes outside its memory up to "
            f"{_X265_NARROW} pixels of width: use -c:v libx264 or ffv1, or a larger --size"
        )


def _is_odd(form: PixelFormat, width: int, height: int) -> bool:
    """Whether the last samples of chroma stand for less than whole blocks of luma."""
    return bool(width % (1 << form.chroma_w) or height % (1 << form.chroma_h))


def _refuses_odd(codec: str) -> bool:
    return Codec(codec, "w").canonical_name in ("h264", "hevc")


def _unsampled(form: PixelFormat) -> str:
    return re.sub(r"4[0-4]{2}p", "444p", form.name)


# -- Notes -----------------------------------------------------------------------------------------


def _summary(
    muxer: str, codec: str, form: PixelFormat, options: dict[str, str], *, piped: bool
) -> str:
    details = [f"{key} {options[key]}" for key in ("crf", "preset", "profile") if key in options]
    where = f"{muxer} to standard output" if piped else muxer
    note = f"output: {codec} in {where}, {', '.join([form.name, *details])}"
    lossless = piped and codec in ("rawvideo", "ffv1")
    return f"{note} (lossless: what reads it encodes)" if lossless else note


def _notes(muxer: str, codec: str, info: VideoInfo, form: PixelFormat, colour: Colour) -> list[str]:
    source = info.format
    notes = []
    if source.alpha and not form.alpha:
        notes.append(f"alpha is dropped: {codec} with {form.name} cannot hold it")
    if source.floating and not form.floating:
        notes.append(f"what lies below 0 or above 1 is cut: {form.name} holds whole numbers")
    elif form.depth < source.depth:
        notes.append(f"{source.depth} bits become {form.depth}: {form.name} holds no more")
    if form.family != source.family:
        notes.append(f"{source.name} becomes {form.name}")
    elif source.family == "rgb" and form.depth > source.depth:
        notes.append(f"{source.name} is stored as {form.name}")
    else:
        notes += _chroma_notes(codec, info, form, colour)
    if source.family != "rgb" and form.family != "rgb" and colour.range != info.colour.range:
        notes.append(f"range becomes {colour.range.name.lower()}")
    notes += _untold(muxer, codec, form, colour)
    return notes + _hdr_notes(muxer, codec, info, form, colour)


def _chroma_notes(codec: str, info: VideoInfo, form: PixelFormat, colour: Colour) -> list[str]:
    if (form.chroma_w, form.chroma_h) != (info.format.chroma_w, info.format.chroma_h):
        return [f"chroma subsampling changes from {info.format.name} to {form.name}"]
    moved = form.chroma_w and colour.siting != info.colour.siting
    return [f"chroma moves to siting left: {codec} names no other for {form.name}"] * bool(moved)


def _hdr_notes(
    muxer: str, codec: str, info: VideoInfo, form: PixelFormat, colour: Colour
) -> list[str]:
    where = f"{codec} in {muxer}"
    lost = lost_metadata(info.hdr, codec, Codec(codec, "w").canonical_name, muxer)
    notes = [f"{what} is lost: {where} holds none" for what in lost]
    if (name := HDR_TRANSFERS.get(colour.transfer)) is None:
        return notes
    if form.depth < 10:
        notes.append(f"HDR ({name}) in {form.depth} bits will show bands: it needs 10")
    if not _tagged(muxer, codec):
        notes.append(f"HDR ({name}) will be shown as SDR: {where} has no colour tags")
    return notes


def _tagged(muxer: str, codec: str) -> bool:
    """Whether container or bitstream hold colour tags."""
    return muxer not in ("avi", "nut", Y4M) or codec in ("libx264", "libx265")


def _untold(muxer: str, codec: str, form: PixelFormat, colour: Colour) -> list[str]:
    """What the container cannot tell its reader of the colour, one line each."""
    if muxer == Y4M:
        return _y4m_losses(form, colour)
    if _tagged(muxer, codec):
        return []
    return [f"colour tags are lost: {codec} in {muxer} has none; {_restated(colour)}"]


def _restated(colour: Colour, *, with_range: bool = True) -> str:
    """How the reader of a container without colour tags is told of them, in FFmpeg's words."""
    words = {
        "-color_range": word_for(RANGES, colour.range) if colour.range and with_range else "",
        "-colorspace": word_for(MATRICES, colour.matrix),
        "-color_primaries": word_for(PRIMARIES, colour.primaries),
        "-color_trc": word_for(TRANSFERS, colour.transfer),
    }
    known = " ".join(f"{key} {word}" for key, word in words.items() if word not in ("", "unknown"))
    return f"tell its reader {known}" if known else "none is known"


def _y4m_losses(form: PixelFormat, colour: Colour) -> list[str]:
    """What a header of Y4M cannot say, one line each."""
    told = _restated(colour, with_range=False)
    lost = [f"matrix, primaries and transfer are lost: {Y4M} has none; {told}"]
    if (form.chroma_w, form.chroma_h) == (1, 1):
        known = Y4M_SITINGS if form.depth == 8 else (Siting.LEFT,)  # what readers assume
        if colour.siting not in known:
            word = colour.siting.name.lower()
            lost.append(f"chroma siting {word} is lost: {Y4M} has none in {form.name}")
    return lost

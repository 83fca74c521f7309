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
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
from av.codec import Codec
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext

from vsr.config import PIPE, EncoderConfig
from vsr.encoding.carried import needs_colr
from vsr.encoding.encoding import Encoding, add_video
from vsr.encoding.formats import (
    nearest_format,
    output_colour,
    planar_formats,
    refused_formats,
    requested_format,
    stored_as,
)
from vsr.encoding.muxers import (
    AVOIDED,
    Y4M,
    choose_muxer,
    default_codec,
    is_blu_ray,
    muxer_options,
    with_colr,
)
from vsr.encoding.notes import losses, summary
from vsr.encoding.options import choose_options
from vsr.encoding.parameters import check_taken
from vsr.encoding.scheduling import usual_scheduling
from vsr.errors import ConfigError
from vsr.ffmpeg import explain_aloud, find_encoder, standard_of
from vsr.frame import Colour, PixelFormat, Range, VideoInfo

__all__ = ["choose_encoding", "discarding"]

_HOLDERS = ("mp4", "mov", "matroska", "avi", "nut")
"""Muxers that know which codecs they hold; others seem to take all."""
_MOST_SLICES = 256  # of FFV1, that older readers take
_CFHD_STEP = 16  # pixels of width
_X265_NARROW = 48  # pixels of width; see Note [Narrow pictures and x265]


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
        path: the output; its extension names the container. :data:`~vsr.config.PIPE` is standard
            output.
        info: facts about the *source*: size, format and colour.
        width: width of the output in pixels.
        height: height of the output in pixels.
        config: what the user asked for; everything else is chosen.
        muxer: FFmpeg's name of the container, whatever the extension; a pipe has none.

    Raises:
        ConfigError: an unknown extension, container, encoder, pixel format or option, or a
            combination of them (or a size) that the encoder or the container refuses.
    """
    piped = path == PIPE
    muxer = choose_muxer(path, muxer)
    encoder = find_encoder(
        config.codec or default_codec(muxer, info.format, piped=piped, wanted=config.pix_fmt)
    )
    form, colour = _choose_format(encoder, muxer, info, (width, height), config)
    container_options = muxer_options(muxer, config.muxer_options, piped=piped)
    if muxer == "mpegts" and is_blu_ray(path):
        container_options = {"mpegts_m2ts_mode": "1", **container_options}
    if needs_colr(encoder.canonical_name, muxer, form, colour):
        container_options = with_colr(container_options)
    encoding = Encoding(
        muxer=muxer, codec=encoder.name, format=form, colour=colour,
        options=choose_options(muxer, encoder.name, form, info, config),
        muxer_options=container_options, sound=config.sound or "copy", piped=piped,
    )  # fmt: skip
    notes = [summary(encoding), *losses(encoding, info), *_overruled(encoding, config)]
    encoding = replace(encoding, notes=tuple(notes))
    encoding = _sliced(encoding, width, height, config)
    _check_held(encoding)
    _try_out(encoding, info, width, height)
    return encoding


def _overruled(encoding: Encoding, config: EncoderConfig) -> list[str]:
    """A line if the range that is asked for cannot be had."""
    codec, only = encoding.codec, encoding.colour.range
    if _wanted_range(config) in (None, only):
        return []
    name = encoding.format.name
    return [f"range is {only.name.lower()} all the same: {codec} has no other for {name}"]


def _sliced(encoding: Encoding, width: int, height: int, config: EncoderConfig) -> Encoding:
    """``encoding``; of FFV1 with another number of slices where the usual one is refused.

    Each slice holds a sample of chroma at least, so that small pictures have room for a few only,
    and each has a largest size. Of odd sizes level 3 refuses nearly every number.
    """
    if encoding.codec != "ffv1" or "slices" in config.options:
        return encoding
    usual, size, name = int(encoding.options["slices"]), f"{width}x{height}", encoding.format.name
    plain = {key: value for key, value in encoding.options.items() if key != "slices"}
    numbers = (*range(usual, 0, -1), *range(usual + 1, _MOST_SLICES + 1))
    tried = [plain] if _is_odd(encoding.format, width, height) else []
    tried += [{**plain, "slices": str(number)} for number in numbers]
    options = next((one for one in tried if _opens(encoding, one, width, height)), tried[0])
    if options == encoding.options:
        return encoding
    number = options.get("slices")
    note = f"ffv1 codes {size} of {name} with slices={number}: {usual} do not fit"
    if number is None:
        note = f"ffv1 chooses the number of slices: {size} is odd for {name}"
    return replace(encoding, options=options, notes=(*encoding.notes, note))


def _opens(encoding: Encoding, options: dict[str, str], width: int, height: int) -> bool:
    """Whether the encoder takes pictures of that size with ``options``."""
    context = CodecContext.create(encoding.codec, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.time_base = width, height, Fraction(1)
    context.pix_fmt, context.options = stored_as(encoding.codec, encoding.format), dict(options)
    try:
        context.open()
    except (av.FFmpegError, OverflowError):
        return False
    return True


def _choose_format(
    encoder: Codec, muxer: str, info: VideoInfo, size: tuple[int, int], config: EncoderConfig
) -> tuple[PixelFormat, Colour]:
    """What the engine delivers: the format that is wanted, or the nearest, and its colour."""
    formats, wanted = planar_formats(encoder, muxer, info.format), config.pix_fmt
    if wanted:
        form = requested_format(encoder.name, formats, wanted)
    else:
        avoided = (*AVOIDED.get(muxer, ()), *refused_formats(encoder.name, config.options))
        form = nearest_format(encoder, formats, info, size, avoided=avoided)
    return form, output_colour(encoder, info, form, _wanted_range(config), muxer)


def _wanted_range(config: EncoderConfig) -> Range | None:
    full = config.pix_fmt is not None and config.pix_fmt.startswith("yuvj")
    return Range.FULL if full else config.range


def discarding(info: VideoInfo, config: EncoderConfig) -> Encoding:
    """What the engine delivers where nothing is written: the planar form of the source's format.

    Raises:
        ConfigError: ``config`` names a pixel format that the engine cannot deliver.
    """
    encoder, form = find_encoder("rawvideo"), info.format.as_planar()
    if config.pix_fmt:
        form = requested_format(encoder.name, planar_formats(encoder), config.pix_fmt)
    colour = output_colour(encoder, info, form, config.range)
    return Encoding(muxer="null", codec="rawvideo", format=form, colour=colour, options={})


def _check_held(encoding: Encoding) -> None:
    """Whether PyAV adds a stream of the codec to such a container.

    It has a list of FFmpeg's for that. In Matroska, ``ffmpeg`` itself writes more: a codec without
    a name there under the one that it has in AVI.

    Raises:
        ConfigError: it does not; with what holds the codec.
    """
    muxer, codec = encoding.muxer, encoding.codec
    if muxer == Y4M or _holds(muxer, codec):
        return
    holders = [name for name in _HOLDERS if _holds(name, codec)]
    verb = "holds" if len(holders) == 1 else "hold"
    hints = [f"{' and '.join(holders)} {verb} it"] if holders else []
    if muxer == "matroska" and Codec(codec, "w").lossless:
        hints.append("matroska takes ffv1, which is lossless, too")
    why = f": {', and '.join(hints)}" if hints else ""
    raise ConfigError(f"PyAV does not write {codec} in {muxer}{why}")


def _holds(muxer: str, codec: str) -> bool:
    container = av.open(io.BytesIO(), "w", format=muxer)
    try:
        container.add_stream(codec, rate=1)
    except ValueError:
        return False
    finally:
        container.close()
    return True


def _try_out(encoding: Encoding, info: VideoInfo, width: int, height: int) -> None:
    """Open the encoder and write a header into memory.

    Raises:
        ConfigError: the container or the encoder refuses; with FFmpeg's reason.
    """
    form = encoding.format
    if encoding.muxer == Y4M:
        if encoding.codec != "rawvideo":
            raise ConfigError(f"{Y4M} holds raw video only: leave out {encoding.codec}")
        if unused := [name for name in encoding.muxer_options if name != "fflags"]:
            raise ConfigError(f"{Y4M} has no option {unused[0]}")
        return
    _check_size(width, height)
    _check_steps(encoding, width, height)
    what = f"{encoding.codec} ({form.name}, {width}x{height}) in {encoding.muxer}"
    if encoding.codec.endswith("_nvenc"):
        what += ", which needs an NVIDIA GPU with an encoder (H100, H200 and A100 have none)"
    output = replace(info, width=width, height=height)
    container = av.open(
        io.BytesIO(), "w", format=encoding.muxer, options=dict(encoding.muxer_options)
    )
    try:
        with (
            explain_aloud(f"cannot write {what}", ConfigError) as said,
            _unused(encoding) as unused,
            check_taken(encoding.codec, encoding.options, said),
        ):
            add_video(container, encoding, output)
            with usual_scheduling(encoding.codec):
                container.start_encoding()
        if unused:
            raise ConfigError(f"{encoding.muxer} has no option {unused[0]}")
    finally:
        with suppress(av.FFmpegError, ValueError):  # no packets: some trailers complain
            container.close()
    if encoding.codec == "libx265" and width <= _X265_NARROW:
        raise ConfigError(
            f"libx265 cannot code {width}x{height} safely: it writes outside its memory up to "
            f"{_X265_NARROW} pixels of width: use -c:v libx264 or ffv1, or a larger --size"
        )


@contextmanager
def _unused(encoding: Encoding) -> Iterator[list[str]]:
    """Options of the container that it turns out in the block not to have.

    PyAV neither lists a container's options nor raises: it logs what was left over.
    """
    unused: list[str] = []
    here = threading.get_ident()

    def note(record: logging.LogRecord) -> bool:
        if record.thread != here:
            return True
        text = record.getMessage()
        unused.extend(name for name in encoding.muxer_options if f"{name!r}: " in text)
        return False

    logger = logging.getLogger("av.container.output")
    logger.addFilter(note)
    try:
        yield unused
    finally:
        logger.removeFilter(note)


def _check_size(width: int, height: int) -> None:
    """Whether FFmpeg takes a picture of this size at all: tried with what has no limit of its own.

    Raises:
        ConfigError: it does not.
    """
    context = CodecContext.create("rawvideo", "w")
    assert isinstance(context, VideoCodecContext)
    context.pix_fmt, context.time_base = "gray", Fraction(1)
    try:
        context.width, context.height = width, height
        context.open()
    except (av.FFmpegError, OverflowError):
        raise ConfigError(
            f"{width}x{height} is larger than any picture that FFmpeg takes: make it smaller"
        ) from None


def _check_steps(encoding: Encoding, width: int, height: int) -> None:
    """Whether the encoder takes a picture of this size, where only multiples are coded.

    Raises:
        ConfigError: it does not; with a size that it takes.
    """
    codec, form = encoding.codec, encoding.format
    if _refuses_odd(codec) and _is_odd(form, width, height):
        even = f"{width + width % 2}x{height + height % 2}"
        raise ConfigError(
            f"{codec} cannot code {width}x{height} as {form.name}, which needs an even "
            f"size: use --size {even} or --pix-fmt {_unsampled(form)}"
        )
    if codec == "cfhd" and width % _CFHD_STEP:
        raise ConfigError(
            f"cfhd cannot code {width}x{height}, whose width is no multiple of {_CFHD_STEP}: "
            f"use --size {width + -width % _CFHD_STEP}x{height}"
        )


def _is_odd(form: PixelFormat, width: int, height: int) -> bool:
    """Whether the last samples of chroma stand for less than whole blocks of luma."""
    return bool(width % (1 << form.chroma_w) or height % (1 << form.chroma_h))


def _refuses_odd(codec: str) -> bool:
    return standard_of(codec) in ("h264", "hevc")


def _unsampled(form: PixelFormat) -> str:
    return re.sub(r"4[0-4]{2}p", "444p", form.name)

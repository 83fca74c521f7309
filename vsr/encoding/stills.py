"""Pictures as output: which paths ask for them, and how they are encoded.

FFmpeg's encoders take packed or big-endian samples here; the engine delivers planes. Each of its
formats has one of the encoder's that holds the same samples (:func:`coded_format`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

from av.codec.context import CodecContext, Flags
from av.video.codeccontext import VideoCodecContext

from vsr import icc
from vsr.config import PIPE, EncoderConfig
from vsr.encoding.encoding import Encoding
from vsr.encoding.formats import unwritten_format
from vsr.encoding.notes import sample_losses
from vsr.encoding.options import check_options
from vsr.errors import ConfigError
from vsr.ffmpeg import explain
from vsr.files import followed
from vsr.frame import Colour, Matrix, PixelFormat, Range, Siting, VideoInfo, pixel_format
from vsr.numbering import Pattern
from vsr.rationals import bounded
from vsr.tags import PRIMARIES, TRANSFERS, word_for

__all__ = [
    "IMAGES",
    "Stills",
    "choose_still_encoding",
    "coded_format",
    "find_stills",
    "numbered",
    "open_still_encoder",
]

IMAGES = "image2"
"""FFmpeg's name of pictures as an output format."""

_CODECS = {"png": "png", "tif": "tiff", "tiff": "tiff", "dpx": "dpx", "exr": "exr"}
_EXTENSIONS = {"png": "png", "tiff": "tif", "dpx": "dpx", "exr": "exr"}
_NOT_WRITTEN = ("jpg", "jpeg", "bmp", "webp", "gif", "apng")
_ANIMATIONS = ("gif", "apng")
_NUMBERS = "%06d"

_PACKED = {"gray": "gray", "gbrp": "rgb24", "gbrap": "rgba"}
_BIG = {"gray16le": "gray16be", "gbrp16le": "rgb48be", "gbrap16le": "rgba64be"}
_LITTLE = {"gray16le": "gray16le", "gbrp16le": "rgb48le", "gbrap16le": "rgba64le"}
_CODED: dict[str, dict[str, str]] = {
    "png": {**_PACKED, **_BIG},
    "tiff": {**_PACKED, **_LITTLE},
    "dpx": {**_PACKED, "gbrp10le": "gbrp10be", "gbrp12le": "gbrp12be", **_BIG},
    "exr": {name: name for name in ("grayf32le", "gbrpf32le", "gbrapf32le")},
}
"""Per encoder: the engine's format and the encoder's that holds the same samples."""

# Lossless all of them. PNG: a third of the time of zlib's level 6 for a twentieth more bytes.
_DEFAULTS: dict[str, dict[str, str]] = {
    "png": {"compression_level": "3", "pred": "mixed"},
    "tiff": {"compression_algo": "deflate"},
    "dpx": {},
    "exr": {"compression": "zip1"},
}
_HOLD_TAGS = ("png",)
_HELD_TAGS = {"dpx": {"primaries": (1, 5, 6), "transfer": (1, 6, 8)}}
"""Of H.273's numbers those that a codec has words for, and FFmpeg writes."""
_LINEAR = 8
_UNSPECIFIED = (0, 2)


@dataclass(frozen=True, kw_only=True)
class Stills:
    """Where pictures go, and what they are called."""

    folder: Path
    pattern: Pattern | None
    """None: one picture, called ``name``."""
    name: str
    codec: str
    """FFmpeg's encoder."""
    first: int = 1
    """The number that the first picture's name carries."""
    stems: tuple[str, ...] = ()
    """What pictures are called instead that keep the names of those they were made of."""

    def file(self, number: int) -> str:
        """The name of picture ``number``, counted from 1."""
        if self.stems:
            return f"{self.stems[number - 1]}{Path(self.name).suffix}"
        return self.name if self.pattern is None else self.pattern.name(self.first - 1 + number)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {self.file(number): number for number in range(1, len(self.stems) + 1)}

    def number(self, name: str) -> int | None:
        """Which picture the file ``name`` would be, counted from 1; None if it is none of these."""
        if self.stems:
            return self._places.get(name)
        if self.pattern is None:
            return 1 if name == self.name else None
        carried = self.pattern.number(name)
        return None if carried is None or carried < self.first else carried - self.first + 1

    def overlap(self, paths: Iterable[Path]) -> bool:
        """Whether any of the existing files ``paths`` would be written over."""
        named = [path for path in paths if self.number(path.name) is not None]
        here = followed(self.folder)
        return here in {followed(folder) for folder in {path.parent for path in named}}


def find_stills(
    path: Path, muxer: str | None, codec: str | None = None, first: int | None = None,
    stems: tuple[str, ...] = (),
) -> Stills | None:  # fmt: skip
    """What the output ``path`` asks for; None if it is no picture.

    ``out.png`` is one picture, ``out/%06d.png`` one for each frame, and so is a folder: its
    pictures keep the names of those that they are made of, or are called ``000001.png`` and so on.

    Args:
        path: the output.
        muxer: FFmpeg's name of the format that was asked for (``-f``).
        codec: the encoder that was asked for; a folder's pictures are PNG without one.
        first: where numbers begin; None: at 1.
        stems: the names, without extensions, that pictures in a folder keep.

    Raises:
        ConfigError: pictures were asked for, of a kind that is not written.
    """
    if path == PIPE or muxer not in (None, IMAGES):
        return None
    first = 1 if first is None else first
    extension = path.suffix[1:].lower()
    plain = extension not in (*_CODECS, *_NOT_WRITTEN)
    if path.is_dir() or (muxer == IMAGES and plain):
        codec = codec or "png"
        name = f"{_NUMBERS}.{_EXTENSIONS.get(codec, codec)}"
        return Stills(
            folder=path, pattern=Pattern.parse(name), name=name, codec=codec, first=first,
            stems=stems,
        )  # fmt: skip
    if extension in _CODECS:
        return Stills(
            folder=path.parent, pattern=Pattern.parse(path.name), name=path.name,
            codec=_CODECS[extension], first=first,
        )  # fmt: skip
    if extension in _NOT_WRITTEN:
        raise ConfigError(f"{path}: {_why_not_written(path, of_pictures=bool(stems))}")
    return None


def _why_not_written(path: Path, *, of_pictures: bool) -> str:
    """What is written instead, by what ``path`` seems to mean: a WebP may be a picture."""
    pictures, extension = f"pictures are written as {', '.join(_CODECS)}", path.suffix[1:].lower()
    several = extension in _ANIMATIONS or (extension == "webp" and not of_pictures)
    if Pattern.parse(path.name) is not None or not several:
        return pictures
    video = (
        "animations are not written, but a video is (.mp4, .webm, .mkv), of which ffmpeg makes one:"
        f" ffmpeg -i out.mkv out.{extension}"
    )
    return video if extension in _ANIMATIONS else f"{video}; {pictures}"


def numbered(path: Path) -> str:
    """What pictures that are not one, ``path``, may be called."""
    return f"{path.stem.replace('%', '%%')}{_NUMBERS}{path.suffix}"


def choose_still_encoding(  # noqa: PLR0913
    path: Path, info: VideoInfo, width: int, height: int, config: EncoderConfig, *,
    number: int = 1, stems: tuple[str, ...] = (),
) -> Encoding:  # fmt: skip
    """Choose how ``width`` x ``height`` pictures of the source ``info`` are written to ``path``.

    Args:
        path: the output, one that :func:`find_stills` knows.
        info: facts about the *source*: size, format, colour, number of frames.
        width: width of the output in pixels.
        height: height of the output in pixels.
        config: what the user asked for; everything else is chosen.
        number: where numbers begin unless ``config`` says it.
        stems: the names that pictures in a folder keep unless ``config`` says where numbers begin.

    Raises:
        ConfigError: several frames for one picture, or a codec, pixel format or option that does
            not go with the extension.
    """
    stills = find_stills(path, IMAGES, config.codec)
    assert stills is not None
    codec = stills.codec
    if config.codec not in (None, codec) or codec not in _CODED:
        raise ConfigError(f"{path}: {config.codec} does not write such pictures, leave it out")
    if stills.pattern is None and (info.frames or 1) > 1:
        raise ConfigError(
            f"{path}: is one picture, and the input has {info.frames} frames: call the output "
            f"{numbered(path)}, or add --frames 1"
        )
    if config.range == Range.LIMITED:
        raise ConfigError(f"{path}: pictures have full range, leave out --range")
    first = number if config.first_number is None else config.first_number
    keeps = stills.folder == path and config.first_number is None
    form = _requested(codec, config.pix_fmt) if config.pix_fmt else _nearest(codec, info.format)
    encoding = Encoding(
        muxer=IMAGES, codec=codec, format=form, colour=_colour(info, form),
        options=_options(codec, info.format, config), muxer_options=_bitexact(config),
        first_number=None if stills.pattern is None else first, stems=stems if keeps else (),
    )  # fmt: skip
    encoding = replace(encoding, notes=tuple(_notes(encoding, info)))
    with explain(f"cannot write {codec} pictures of {width}x{height}", ConfigError):
        open_still_encoder(encoding, replace(info, width=width, height=height), threads=1)
    return encoding


def _bitexact(config: EncoderConfig) -> dict[str, str]:
    """Of the options of containers, which pictures have not, the one that encoders heed as well.

    Raises:
        ConfigError: there is another.
    """
    if other := [key for key in config.muxer_options if key != "fflags"]:
        raise ConfigError(f"pictures are in no container: leave out {other[0]}")
    return config.muxer_options


def coded_format(encoding: Encoding) -> str:
    """FFmpeg's name of the pixel format that the encoder takes."""
    return _CODED[encoding.codec][encoding.format.name]


def open_still_encoder(encoding: Encoding, info: VideoInfo, *, threads: int) -> VideoCodecContext:
    """An open encoder whose packets are whole files.

    Args:
        encoding: from :func:`choose_still_encoding`.
        info: facts about the *output*: size, rate, aspect ratio.
        threads: frames to work on at a time; 0 means one per processor.
    """
    context = CodecContext.create(encoding.codec, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = info.width, info.height
    context.pix_fmt = coded_format(encoding)
    context.time_base = 1 / info.rate
    if encoding.codec == "exr" and not info.rate_is_guess:
        context.framerate = bounded(info.rate)  # becomes the attribute framesPerSecond
    context.thread_type, context.thread_count = "FRAME", threads
    context.options = dict(encoding.options)
    if encoding.bitexact:
        context.flags |= Flags.bitexact
    colour = encoding.colour
    context.color_range, context.colorspace = colour.range, Matrix.RGB
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
    # Pixels of pictures are square unless said otherwise; FFmpeg would write 0:1 for "unknown".
    context.sample_aspect_ratio = info.sar or Fraction(1)
    context.open()
    return context


# Format and colour.


def _nearest(codec: str, source: PixelFormat) -> PixelFormat:
    """The format that loses least and, of those, the one that stores least."""
    family = "gray" if source.family == "gray" and not source.alpha else "rgb"
    formats = [
        form
        for form in map(pixel_format, _CODED[codec])
        if form.family == family and form.alpha == source.alpha
    ]
    depths = [form.depth for form in formats]
    depth = min((d for d in depths if d >= source.depth), default=max(depths))
    return next(form for form in formats if form.depth == depth)


def _requested(codec: str, wanted: str) -> PixelFormat:
    """The engine's format for ``wanted``: its name or the encoder's, in either byte order."""
    coded = _CODED[codec]
    plain = _plain(wanted)
    for name, other in coded.items():
        if plain in (_plain(name), _plain(other)):
            return pixel_format(name)
    raise unwritten_format(codec, wanted, coded.values())


def _plain(name: str) -> str:
    return name.removesuffix("le").removesuffix("be")


def _colour(info: VideoInfo, form: PixelFormat) -> Colour:
    """Pictures have no headroom; how gray is weighed of colours stays the source's matter."""
    colour = replace(info.colour, range=Range.FULL, siting=Siting.UNSPECIFIED)
    return replace(colour, matrix=Matrix.RGB) if form.family == "rgb" else colour


def _options(codec: str, source: PixelFormat, config: EncoderConfig) -> dict[str, str]:
    options = dict(_DEFAULTS[codec])
    if codec == "exr" and source.floating and source.depth == 16:
        options["format"] = "half"
    if config.crf is not None:
        options["crf"] = f"{config.crf:g}"
    if config.preset is not None:
        options["preset"] = config.preset
    options |= config.options
    check_options(codec, options)
    return options


# Notes.


def _notes(encoding: Encoding, info: VideoInfo) -> list[str]:
    source, form = info.format, encoding.format
    codec, stored = encoding.codec, coded_format(encoding)
    precision = " in half precision" if encoding.options.get("format") == "half" else ""
    first = None if encoding.stems else encoding.first_number
    numbers = "" if first in (None, 1) else f", numbered from {first}"
    notes = [f"output: {codec} pictures, {stored}{precision}{numbers}"]
    notes += sample_losses(source, form, stored, stored)
    if form.family != source.family:
        notes.append(f"{source.name} becomes {stored}")
    elif form.depth > source.depth and not form.floating:
        notes.append(f"{source.name} is stored as {stored}")
    if source.family == form.family and info.colour.range == Range.LIMITED:
        notes.append("range becomes full")
    return notes + _untold(codec, form, info)


def _untold(codec: str, form: PixelFormat, info: VideoInfo) -> list[str]:
    """What the reader of a picture is not told of its colour, one line each."""
    colour, notes, held = info.colour, [], _HELD_TAGS.get(codec, {})
    words = [
        f"{what} {word_for(known, number)}"
        for what, known, number in (
            ("primaries", PRIMARIES, colour.primaries), ("transfer", TRANSFERS, colour.transfer),
        )
        if number not in (*_UNSPECIFIED, *held.get(what, ()))
    ]  # fmt: skip
    if codec == "exr" and colour.transfer != _LINEAR:
        notes.append("samples are stored as they are: programs take those in exr for linear light")
    if codec not in _HOLD_TAGS and words and not (codec == "exr" and words == ["transfer linear"]):
        which = "do not know" if held else "have none"
        notes.append(f"colour tags are lost: {codec} pictures {which} ({', '.join(words)})")
    if info.icc is not None and (reason := icc.why_not(info.icc, codec, form)):
        notes.append(f"the ICC profile is dropped: {reason}")
    if info.hdr is not None:
        notes.append(f"HDR metadata is dropped: FFmpeg writes none into {codec} pictures")
    if info.immersive is not None:
        notes += [
            f"the description of {part} is dropped: FFmpeg writes none into {codec} pictures"
            for part in info.immersive.parts
        ]
    return notes

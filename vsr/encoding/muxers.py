"""The formats an output may have: by extension, by ``-f``, on a pipe; and what each holds.

Only formats whose behaviour is known and tested; FFmpeg's guess by extension would also turn a slip
of the finger into an image sequence or a raw elementary stream.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from vsr.config import PIPE
from vsr.errors import ConfigError
from vsr.ffmpeg import near_matches
from vsr.frame import PixelFormat
from vsr.tags import Siting

__all__ = [
    "AVOIDED",
    "HOLD_ROTATION",
    "PIPED",
    "Y4M",
    "Y4M_CHROMA",
    "Y4M_SITINGS",
    "Y4M_SUBSAMPLING",
    "choose_muxer",
    "default_codec",
    "extension_of",
    "flags_in",
    "is_blu_ray",
    "is_fragmented",
    "muxer_of",
    "muxer_options",
    "raw_formats",
    "with_colr",
]

Y4M = "yuv4mpegpipe"
"""FFmpeg's name of YUV4MPEG2."""

_EXTENSIONS = {  # of each format the usual one first
    "mp4": "mp4", "m4v": "mp4", "mov": "mov", "qt": "mov", "mkv": "matroska", "webm": "webm",
    "avi": "avi", "nut": "nut", "ts": "mpegts", "m2ts": "mpegts", "mts": "mpegts", "y4m": Y4M,
}  # fmt: skip
HOLD_ROTATION = ("mp4", "mov", "matroska", "webm")
"""Muxers that can say how the picture is to be turned."""
_MUXERS = tuple(dict.fromkeys(_EXTENSIONS.values()))
PIPED = (Y4M, "nut", "matroska", "mpegts", "mp4", "mov", "webm")
"""Muxers that need not go back in what they have written."""

# What a fragmented file needs so that a pipe can carry it. The moov after the first fragment, not
# before: only then does it know when the first frame is shown.
_FRAGMENTED = "frag_keyframe+delay_moov+default_base_moof"

# Where these have no name for raw samples FFmpeg writes one that readers take for another.
_RAW = {
    "matroska": ("gray", "yuv420p", "yuv422p", "yuv411p"),
    "avi": ("gray", "yuv420p", "yuv422p", "yuv411p", "yuv410p"),
}
_NOT_RAW_IN_NUT = (
    "yuv440p10le", "yuv440p12le", "gbrap14le", "grayf16le", "grayf32le", "gbrpf16le", "gbrpf32le",
    "gbrapf16le", "gbrapf32le",
)  # fmt: skip


def _y4m_chroma() -> dict[str, str]:
    known = {
        "gray": "mono", "yuv411p": "411", "yuv420p": "420jpeg", "yuv422p": "422",
        "yuv444p": "444", "yuva444p": "444alpha",
    }  # fmt: skip
    known |= {f"gray{depth}le": f"mono{depth}" for depth in (9, 10, 12, 16)}
    for sampling in ("420", "422", "444"):
        for depth in (9, 10, 12, 14, 16):
            known[f"yuv{sampling}p{depth}le"] = f"{sampling}p{depth}"
    return known


Y4M_CHROMA = _y4m_chroma()
"""Pixel formats that Y4M holds, and its word for each; that of yuv420p depends on the siting."""
Y4M_SITINGS = {
    Siting.LEFT: "420mpeg2", Siting.CENTRE: "420jpeg", Siting.TOP_LEFT: "420paldv",
}  # fmt: skip
"""Y4M's words for yuv420p."""

AVOIDED = {Y4M: ("yuva444p",)}
"""Pixel formats that a container holds, but hardly anything reads."""
Y4M_SUBSAMPLING = {
    "mono": "", **{f"mono{depth}": "" for depth in (9, 10, 12, 16)}, "444alpha": " XYSCSS=444",
}  # fmt: skip
"""What else Y4M says of the subsampling, where it does not repeat its word in capitals."""


def choose_muxer(path: Path, name: str | None) -> str:
    """FFmpeg's name of the format that is written to ``path``.

    Args:
        path: the output; :data:`~vsr.config.PIPE` is standard output.
        name: what was asked for (``-f``); None takes it from the extension.

    Raises:
        ConfigError: there is no such format, it cannot be piped, or nothing names one.
    """
    if name is not None and name not in _MUXERS:
        raise ConfigError(f"unknown output format {name}{_meant(name)}")
    if path == PIPE:
        if name is None:
            raise ConfigError(
                f"standard output needs a format: add -f with one of {', '.join(PIPED)}"
            )
        if name not in PIPED:
            raise ConfigError(f"{name} cannot be piped: use one of {', '.join(PIPED)}")
    return name or _by_extension(path)


def muxer_of(path: Path) -> str | None:
    """FFmpeg's name of the format that the extension of ``path`` stands for; None if of none."""
    return _EXTENSIONS.get(_extension(path))


def extension_of(muxer: str) -> str:
    """The usual extension of files that FFmpeg's ``muxer`` writes, without the dot."""
    return next(extension for extension, known in _EXTENSIONS.items() if known == muxer)


def _extension(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")


def _by_extension(path: Path) -> str:
    if muxer := muxer_of(path):
        return muxer
    extension = _extension(path)
    what = f"extension .{extension}" if extension else "file without extension"
    raise ConfigError(
        f"unknown output {what}: use one of {', '.join(_EXTENSIONS)}, those of pictures (png, tif, "
        "exr, …), or say the format with -f"
    )


def _meant(name: str) -> str:
    if muxer := _EXTENSIONS.get(name.lower().removeprefix(".")):
        return f": did you mean {muxer}?"
    return near_matches(name, _MUXERS) or f": use one of {', '.join(_MUXERS)}"


def default_codec(
    muxer: str, source: PixelFormat, *, piped: bool, wanted: str | None = None
) -> str:
    """The encoder for a picture like ``source`` if none is asked for.

    What a pipe's reader does not encode itself is lossless: raw, or FFV1 where Matroska has no name
    for the samples.

    Args:
        muxer: FFmpeg's name of the container.
        source: the pixel format of the source.
        piped: whether it goes to standard output.
        wanted: the pixel format that the user asks for.
    """
    if muxer == Y4M or (piped and muxer == "nut"):
        return "rawvideo"
    if piped and muxer == "matroska":
        return "rawvideo" if (wanted or source.as_planar().name) in _RAW[muxer] else "ffv1"
    return _codec_in_file(muxer, source)


def _codec_in_file(muxer: str, source: PixelFormat) -> str:
    if muxer == "webm":
        return "libvpx-vp9" if source.depth == 8 else "libsvtav1"  # PyAV's libvpx: 8 bits only
    if muxer in ("matroska", "nut", "avi") and (source.alpha or source.depth > 12):
        return "ffv1"
    if source.depth == 8:
        return "libx264"
    return "ffv1" if muxer == "avi" else "libx265"


def raw_formats(muxer: str, names: Iterable[str]) -> list[str]:
    """Those of the pixel formats ``names`` that raw video in ``muxer`` is read back as."""
    if muxer == "nut":
        return [name for name in names if name not in _NOT_RAW_IN_NUT]
    holds = Y4M_CHROMA if muxer == Y4M else _RAW.get(muxer, ())
    return [name for name in names if name in holds]


def is_blu_ray(path: Path) -> bool:
    """Whether ``path`` is named as streams of Blu-ray and AVCHD are, in packets of 192 bytes."""
    return path.suffix.lower() in (".m2ts", ".mts")


def muxer_options(muxer: str, given: dict[str, str], *, piped: bool) -> dict[str, str]:
    """Options of the container: those ``given``, and what a pipe needs.

    Raises:
        ConfigError: ``given`` holds an option that ``muxer`` has not, or switches off what a pipe
            needs.
    """
    if "movflags" in given and muxer not in ("mp4", "mov"):
        raise ConfigError(f"movflags are for mp4 and mov, and the output is {muxer}")
    if not piped or muxer not in ("mp4", "mov"):
        return dict(given)
    flags = flags_in(given.get("movflags", ""))
    flags.pop("faststart", None)
    signed = [f"{'+' if on else '-'}{flag}" for flag, on in flags.items()]
    options = {**given, "movflags": "".join([_FRAGMENTED, *signed])}
    if not is_fragmented(options):
        raise ConfigError(f"{muxer} to standard output needs fragments: leave out -frag_keyframe")
    return options


def flags_in(text: str) -> dict[str, bool]:
    """The names in a value of one of FFmpeg's options of flags, such as ``+faststart-write_colr``.

    Args:
        text: names, each with ``+`` or ``-`` in front, which the first may do without.

    Returns:
        Whether each is switched on, or off; where one is named twice, the last counts.
    """
    return {name: sign != "-" for sign, name in re.findall(r"([+-]?)([^+-]+)", text)}


def is_fragmented(options: Mapping[str, str]) -> bool:
    """Whether these options of MP4 or MOV ask for fragments."""
    return any("frag" in flag and on for flag, on in flags_in(options.get("movflags", "")).items())


def with_colr(options: dict[str, str]) -> dict[str, str]:
    """Options of MP4 or MOV that has its colour tags (``colr``) even if some are unspecified.

    By itself FFmpeg's muxer writes them only if matrix, primaries and transfer are all known.
    """
    flags = options.get("movflags", "")
    if "write_colr" in flags_in(flags):
        return options
    return {**options, "movflags": f"{flags}+write_colr"}

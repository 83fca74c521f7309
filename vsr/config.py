"""What a run was asked to do: frozen, keyword-only dataclasses, validated where they are made.

Defaults live here and nowhere else; the command line reads them from these classes. Nothing in
this module imports torch, so that ``--help`` stays instant.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Literal, get_args

from vsr.checking import check_part, check_tile, fit_fields, whole
from vsr.errors import ConfigError
from vsr.rationals import bounded
from vsr.tags import FieldOrder, Range, Siting

__all__ = [
    "BITEXACT",
    "DECODERS",
    "DEINTERLACERS",
    "DITHERS",
    "HWACCELS",
    "PIPE",
    "PRECISIONS",
    "RUNTIMES",
    "SOUNDS",
    "Decoder",
    "Deinterlacer",
    "Dither",
    "EncoderConfig",
    "FieldsConfig",
    "HwAccel",
    "InputConfig",
    "Precision",
    "Runtime",
    "ScriptConfig",
    "Sound",
    "SourceConfig",
    "UpscaleConfig",
]

Precision = Literal["auto", "fp32", "fp16", "bf16"]
Dither = Literal["none", "ordered"]
Runtime = Literal["auto", "torch", "compile", "triton", "openvino", "winograd"]
Deinterlacer = Literal["bwdif", "yadif"]
Decoder = Literal["pyav", "bestsource"]
HwAccel = Literal["none", "auto", "cuda"]
Sound = Literal["copy", "web"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DITHERS: tuple[Dither, ...] = get_args(Dither)
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
DEINTERLACERS: tuple[Deinterlacer, ...] = get_args(Deinterlacer)
DECODERS: tuple[Decoder, ...] = get_args(Decoder)
HWACCELS: tuple[HwAccel, ...] = get_args(HwAccel)
SOUNDS: tuple[Sound, ...] = get_args(Sound)

_LARGEST_THRESHOLD = 16
"""Of ``reuse_threshold``, in steps of 8 bits."""

PIPE = Path("-")
"""As an input standard input, as an output standard output."""
BITEXACT = "+bitexact"
"""FFmpeg's flag that makes a muxer write the same bytes each time."""


def _convert(config: object, how: Callable[[str, Any], object], *names: str) -> None:
    """Replace those fields ``names`` of a frozen dataclass that are given by what they mean."""
    for name in names:
        if (value := getattr(config, name)) is not None:
            object.__setattr__(config, name, how(name, value))


def _never() -> bool:
    """Not to be stopped; a function of its own, as a lambda could not be pickled."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class InputConfig:
    """What the user knows better than the input; None means "as it says"."""

    raw_size: tuple[int, int] | None = None
    """(width, height) of raw video, which says nothing of itself; with ``raw_format``."""
    raw_format: str | None = None
    """FFmpeg's pixel format name of raw video; makes the input raw video."""
    rate: Fraction | None = None
    """Frames a second: of raw video and pictures, or instead of the timestamps."""
    matrix: int | None = None
    """H.273 matrix coefficients."""
    range: Range | None = None
    """Whether code values have headroom."""
    primaries: int | None = None
    """H.273 colour primaries."""
    transfer: int | None = None
    """H.273 transfer characteristics."""
    siting: Siting | None = None
    """Where samples of chroma lie among those of luma."""
    sar: Fraction | None = None
    """Sample (pixel) aspect ratio."""
    field_order: FieldOrder | None = None
    """Which field of a frame is shown first, or that frames have none."""
    video_stream: int | None = None
    """Which of several video streams is upscaled, counted from 0 and without covers; None leaves
    the choice to FFmpeg."""
    self_contained: bool = False
    """Refuse what is a program, or names other files: scripts, playlists, lists. For inputs of
    unknown origin."""

    def __post_init__(self) -> None:
        fit_fields(self)
        if (self.raw_format is None) != (self.raw_size is None):
            raise ConfigError("raw video (-f rawvideo) needs both -video_size and -pixel_format")
        if self.raw_size is not None and min(self.raw_size) < 1:
            raise ConfigError("video size must be positive, not {}x{}".format(*self.raw_size))
        if self.rate is not None and self.rate <= 0:
            raise ConfigError(f"rate must be above 0, not {float(self.rate):g}")
        if self.sar is not None and self.sar <= 0:
            raise ConfigError(f"the sample aspect ratio must be above 0, not {self.sar}")
        if self.video_stream is not None and self.video_stream < 0:
            raise ConfigError(f"--video-stream must be 0 or more, not {self.video_stream}")
        # 29.97002997 is more exact than FFmpeg can be.
        _convert(self, lambda _, value: bounded(value), "rate", "sar")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptConfig:
    """How a VapourSynth script is run. It is a program: running it executes what stands in it."""

    arguments: Mapping[str, str] = field(default_factory=dict)
    """Global variables of the script, by name."""
    output: int = 0
    """Number of the output that is read."""

    def __post_init__(self) -> None:
        fit_fields(self)
        for name in self.arguments:
            if name.startswith("__") and name.endswith("__"):
                raise ConfigError(f"-a {name}=…: names like this are Python's own in a script")
        if self.output < 0:
            raise ConfigError(f"the output's index must be 0 or more, not {self.output}")

    @property
    def given(self) -> bool:
        """Whether there is anything that only a script can heed."""
        return bool(self.arguments) or self.output != 0

    @staticmethod
    def is_script(path: Path) -> bool:
        """Whether ``path`` names a VapourSynth script."""
        return path.suffix.lower() == ".vpy"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldsConfig:
    """What is done with interlaced and telecined pictures; nothing said means: stop at them."""

    deinterlace: Deinterlacer | None = None
    """FFmpeg's filter that makes whole frames of interlaced ones."""
    field_rate: bool = False
    """A frame for every field, not for every two: 50 fields a second become 50 frames."""
    flagged_only: bool = False
    """Deinterlace what is flagged as interlaced, and leave the other frames as they are, one for
    each: with ``field_rate`` the rate varies."""
    ivtc: bool = False
    """Undo hard telecine: every film frame once, at 4/5 of the rate."""
    progressive: bool = False
    """Go on with the frames as they are."""

    def __post_init__(self) -> None:
        fit_fields(self)
        chosen = (self.deinterlace is not None, self.ivtc, self.progressive)
        if sum(chosen) > 1:
            raise ConfigError("choose one of --deinterlace, --ivtc and --progressive")
        if self.field_rate and self.deinterlace is None:
            raise ConfigError("--field-rate goes with --deinterlace")
        if self.flagged_only and self.deinterlace is None:
            raise ConfigError("--flagged-only goes with --deinterlace")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """Which part of an input is read, and what is done to its pictures on the way."""

    input: InputConfig = field(default_factory=InputConfig)
    script: ScriptConfig = field(default_factory=ScriptConfig)
    """How a VapourSynth script is run."""
    decoder: Decoder = "pyav"
    """What decodes media files."""
    audio_from: Path | None = None
    """A file whose other streams go beside the pictures, instead of the input's own."""
    start: Fraction | None = None
    """Skip to this position, in seconds from the start of the input."""
    end: Fraction | None = None
    """Stop before the first frame at or after this position."""
    frames: int | None = None
    """Stop after this many frames."""
    fields: FieldsConfig | None = None
    """What to do with interlaced frames; None does not even look for them."""
    filters: str | None = None
    """A chain of libavfilter's."""
    crop: bool = True
    """Apply the container's cropping."""
    threads: int | None = None
    """Threads of the decoder; None and 0 mean one per processor, up to 4."""
    gpu: int | None = None
    """Number of the CUDA device that decodes, and keeps the frames, if it can; None for none."""
    should_stop: Callable[[], bool] = field(default=_never, compare=False)
    """Polled while standard input is awaited; True ends the input as its end would."""

    def __post_init__(self) -> None:
        fit_fields(self)
        _convert(self, whole, "frames")
        _convert(self, partial(whole, least=0), "threads")
        check_part(self.start, self.end, self.frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """How the picture is encoded; None means "chosen from the container and the source"."""

    codec: str | None = None
    """FFmpeg's encoder name, e.g. ``libx264``."""
    crf: float | None = None
    """Constant rate factor, in the encoder's own scale."""
    preset: str | None = None
    """The encoder's own name of a speed, e.g. ``slow``."""
    pix_fmt: str | None = None
    """FFmpeg's pixel format name, e.g. ``yuv420p10le``."""
    range: Range | None = None
    """Whether the output's code values have headroom; None: as the source's. RGB has none, and some
    codecs know one range only."""
    sound: Sound | None = None
    """``web``: sound that browsers do not play becomes AAC; None or ``copy``: only what the
    container cannot hold is encoded anew."""
    options: dict[str, str] = field(default_factory=dict)
    """Any further private options of the encoder."""
    muxer_options: dict[str, str] = field(default_factory=dict)
    """Options of the container, e.g. ``movflags``; ``fflags`` :data:`BITEXACT` leaves out what
    would be other bytes each time: random numbers, dates, FFmpeg's version, encoders' as well."""
    first_number: int | None = None
    """What numbered pictures are counted from; None: as the input's, if it is such, else from 1."""

    def __post_init__(self) -> None:
        fit_fields(self)
        if self.range == Range.LIMITED and (self.pix_fmt or "").startswith("yuvj"):
            raise ConfigError(f"{self.pix_fmt} has full range: leave out the j, or --range")
        if self.first_number is not None and self.first_number < 0:
            raise ConfigError(f"-start_number must be 0 or more, not {self.first_number}")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleConfig:
    """One upscaling run; paths may be given as text."""

    input: Path
    """A media file, a VapourSynth script (``.vpy``), a picture, a folder, pattern or glob of
    pictures, or :data:`PIPE`."""
    output: Path | None
    """A media file, a picture, a pattern or folder of pictures, or :data:`PIPE`; None discards the
    picture (``-f null -``)."""
    muxer: str | None = None
    """FFmpeg's name of the output's format; None takes it from the extension."""
    target: str | None = None
    """A named set of encoder options: ``archive``, ``edit``, ``web``, ``hevc``, ``av1``."""
    source: InputConfig = field(default_factory=InputConfig)
    """What the input does not say, or says wrongly."""
    script: ScriptConfig = field(default_factory=ScriptConfig)
    """How the input is run, if it is a script."""
    decoder: Decoder = "pyav"
    """What decodes media files: ``bestsource`` is a VapourSynth plugin, exact to the frame."""
    audio_from: Path | None = None
    """A file whose sound, subtitles, chapters, attachments and metadata go beside the picture,
    instead of the input's own."""
    fields: FieldsConfig = field(default_factory=FieldsConfig)
    """What is done with interlaced and telecined pictures."""
    filters: str | None = None
    """A chain of libavfilter's, ahead of the network: ``crop=704:576,nlmeans=s=2``."""
    crop: bool = True
    """Apply the cropping that the container asks for (clean aperture)."""
    square: bool = False
    """Resample to square pixels."""
    model: str = "span"
    """A name from ``vsr-upscale --list-models``; ``span`` picks the file that fits ``scale``."""
    weights: Path | None = None
    """A checkpoint of your own instead of ``model``."""
    variant: str | None = None
    """Which variant of its architecture ``weights`` is, where nothing else tells, e.g. ``sst+``."""
    scale: Fraction | int | None = None
    """Enlargement; None takes the smallest that the model offers above 1. Only a network that
    renders at any scale takes a fraction."""
    size: tuple[int, int] | None = None
    """Final (width, height) as it is seen, of a phone's video on its side after turning: a last
    Lanczos resize after the network, unless it renders any."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    precision: Precision = "auto"
    """Arithmetic of the network; ``auto`` is fp16 on CUDA, else bf16 where the CPU has it.

    The runtime ``winograd`` computes in fp32, also where bf16 is chosen."""
    runtime: Runtime = "auto"
    """What runs the network; ``auto`` is what is fastest there: on CUDA, by measurement."""
    tile: int | None = None
    """Longest side of a tile in source pixels, halo excluded; None processes whole frames."""
    dither: Dither = "none"
    """Dither when rounding to the output's code values."""
    reuse_threshold: float = 0.0
    """A frame that differs from the latest computed one by no more gets its result: the largest
    mean absolute difference of any block of 16x16 samples, in steps of 8 bits; 0 takes equal
    frames alone."""
    hwaccel: HwAccel = "none"
    """What decodes: ``cuda`` keeps the frames on the GPU, ``auto`` does where the run's device is
    one."""
    start: Fraction | None = None
    """Skip to this position (seconds from the start of the input)."""
    end: Fraction | None = None
    """Stop at this position (seconds from the start of the input)."""
    frames: int | None = None
    """Stop after this many frames, as they leave ``fields`` and ``filters``."""
    overwrite: bool = False
    """Replace an existing output, but no unfinished work for it: see ``restart``."""
    resume: bool = False
    """Go on with the work of an earlier run of the same settings, if there is any."""
    restart: bool = False
    """Throw the unfinished work of an earlier run away, if there is any."""
    segment_seconds: float = 10.0
    """Length of the segments that a file longer than one is written in, so that a run can be gone
    on with; 0 writes it in one go."""
    record: bool | None = None
    """Write a JSON record of the run beside the output; None means: if the target does."""
    framemd5: bool | None = None
    """Write the hash of every frame beside the output; None means: if the target does."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """How the picture is encoded."""
    decode_threads: int | None = None
    """Threads of the decoder; None and 0 mean up to 4."""

    def __post_init__(self) -> None:
        fit_fields(self)
        _convert(self, partial(whole, least=0), "decode_threads")
        if self.output is not None and str(self.output) == self.output.anchor != "":
            raise ConfigError(f"{self.output}: is a directory")
        if self.scale is not None and self.scale < 1:
            raise ConfigError(f"scale must be 1 or more, not {float(self.scale):.10g}")
        if self.size is not None and min(self.size) < 1:
            raise ConfigError("size must be positive, not {}x{}".format(*self.size))
        if self.tile is not None:
            check_tile(self.tile)
        if self.square and self.size is not None:
            raise ConfigError("--square chooses the size itself: leave out --size, or --square")
        if not 0 <= self.reuse_threshold <= _LARGEST_THRESHOLD:
            raise ConfigError(
                f"--reuse-threshold must be from 0 to {_LARGEST_THRESHOLD}, "
                f"not {self.reuse_threshold:g}"
            )
        check_part(self.start, self.end, self.frames)
        self._check_segments()

    def _check_segments(self) -> None:
        if self.resume and self.restart:
            raise ConfigError("--resume goes on with earlier work, --restart throws it away")
        if self.resume and PIPE in (self.input, self.output):
            raise ConfigError("--resume is for files: a pipe can be neither read nor written again")
        if not 0 <= self.segment_seconds < inf:
            raise ConfigError(
                f"--segment-seconds must be a number of 0 or more, not {self.segment_seconds:g}"
            )

"""What a run was asked to do: frozen, keyword-only dataclasses, validated where they are made.

Defaults live here and nowhere else; the command line reads them from these classes. Nothing in
this module imports torch, so that ``--help`` stays instant.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from vsr.errors import ConfigError

__all__ = ["DITHERS", "PRECISIONS", "Dither", "EncoderConfig", "Precision", "UpscaleConfig"]

Precision = Literal["auto", "fp32", "fp16", "bf16"]
Dither = Literal["none", "ordered"]

PRECISIONS: tuple[Precision, ...] = ("auto", "fp32", "fp16", "bf16")
DITHERS: tuple[Dither, ...] = ("none", "ordered")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """How the picture is encoded; None means "chosen from the container and the source"."""

    codec: str | None = None
    """FFmpeg's encoder name, e.g. ``libx264``."""
    crf: float | None = None
    """Constant rate factor, in the encoder's own scale."""
    preset: str | None = None
    pix_fmt: str | None = None
    """FFmpeg's pixel format name, e.g. ``yuv420p10le``."""
    options: dict[str, str] = field(default_factory=dict)
    """Any further private options of the encoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleConfig:
    """One upscaling run, from a file to a file."""

    input: Path
    output: Path | None
    """None discards the picture (``-f null -``)."""
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
    """Final (width, height): a last Lanczos resize after the network, unless it renders any."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    precision: Precision = "auto"
    """Arithmetic of the network; ``auto`` is fp16 on CUDA, else bf16 where the CPU has it."""
    tile: int | None = None
    """Longest side of a tile in source pixels, halo excluded; None processes whole frames."""
    dither: Dither = "none"
    """Dither when rounding to the output's code values."""
    start: Fraction | None = None
    """Skip to this position (seconds from the start of the input)."""
    end: Fraction | None = None
    """Stop at this position (seconds from the start of the input)."""
    frames: int | None = None
    """Stop after this many frames."""
    overwrite: bool = False
    """Replace an existing output."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decode_threads: int | None = None
    """Threads of the decoder; None means up to 4."""

    def __post_init__(self) -> None:
        if self.scale is not None and self.scale < 1:
            raise ConfigError(f"scale must be 1 or more, not {float(self.scale):g}")
        if self.size is not None and min(self.size) < 1:
            raise ConfigError("size must be positive, not {}x{}".format(*self.size))
        if self.tile is not None and self.tile < 16:
            raise ConfigError(f"tile must be at least 16 pixels, not {self.tile}")
        if self.frames is not None and self.frames < 1:
            raise ConfigError(f"frames must be 1 or more, not {self.frames}")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}")
        if self.dither not in DITHERS:
            raise ConfigError(f"dither must be one of {', '.join(DITHERS)}")
        self._check_times()

    def _check_times(self) -> None:
        if self.start is not None and self.start < 0:
            raise ConfigError(f"start must not be negative, not {float(self.start):g} s")
        if self.end is not None and self.end <= (self.start or 0):
            raise ConfigError("the end (-to) must lie after the start (-ss)")

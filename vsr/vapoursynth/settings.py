"""What a script asked of the filter, made exact: the network, where it runs, the result's shape."""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import vapoursynth as vs  # type: ignore[import-untyped]

from vsr.cache import local_file
from vsr.choosing import AUTO, LOOKED_AT, SourceFacts, choose_model, estimate_noise
from vsr.colour import VAPOURSYNTH
from vsr.config import Dither, UpscaleConfig
from vsr.device import describe
from vsr.errors import ConfigError, UnsupportedFormatError
from vsr.frame import PixelFormat
from vsr.sizes import enlarged_size, scale_to_reach
from vsr.vapoursynth.frames import VideoFormat, VideoNode, first_lumas, pixel_format
from vsr.vapoursynth.messages import tell
from vsr.vapoursynth.streams import Setup, choose_network, choose_setup

__all__ = ["FilterJob", "device_name", "exact_scale", "exact_size", "plan", "weights_file", "whole"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterJob:
    """What one filter does to its clip."""

    setup: Setup
    source: PixelFormat
    """Of the clip."""
    target: VideoFormat
    """Of the result."""
    size: tuple[int, int]
    """Width and height of the result."""
    dither: Dither

    def describe(self, width: int, height: int) -> str:
        """One line about a clip of ``width`` x ``height``."""
        network = self.setup.network
        by = f" x{network.scale}" if network.scale else ""
        return (
            f"{network.name}{by} on {describe(self.setup.device)}: "
            f"{width}x{height} {self.source.name} to "
            f"{self.size[0]}x{self.size[1]} {self.target.name}"
        )


def plan(
    clip: VideoNode, config: UpscaleConfig, *, format: int | str | None, num_streams: int,
    tile_pad: int | None,
) -> FilterJob:  # fmt: skip
    """Decide all that does not depend on a single frame.

    Raises:
        UnsupportedFormatError: the clip varies, or has samples that are not taken.
        VsrError: what was asked for makes no sense, or is not there.
    """
    whole("num_streams", num_streams, 1)
    if tile_pad is not None:
        whole("tile_pad", tile_pad)
    source = _clip_format(clip)
    target = clip.format if format is None else _format_of(format)
    config = _choose_model(config, clip, source)
    network = choose_network(config, clip.width, clip.height)
    size = config.size or enlarged_size(clip.width, clip.height, network.scale, config.scale)
    _check_size(*size, target)
    return FilterJob(
        setup=choose_setup(config, network, tile_pad, num_streams), source=source, target=target,
        size=size, dither=config.dither,
    )  # fmt: skip


def exact_scale(scale: Fraction | float | str | None) -> Fraction | int | None:
    """``scale`` as the number that was typed, an integer if it is whole.

    Raises:
        ConfigError: it is no number.
    """
    if scale is None:
        return None
    try:
        exact = Fraction(str(scale))
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"scale must be a number, not {scale!r}") from None
    return int(exact) if exact.denominator == 1 else exact


def exact_size(size: tuple[int, int] | None) -> tuple[int, int] | None:
    """``size`` as two whole numbers.

    Raises:
        ConfigError: it is something else.
    """
    match size:
        case None:
            return None
        case (int() as width, int() as height):
            return width, height
    raise ConfigError(f"size must be (width, height) in whole numbers, not {size!r}")


def whole(name: str, number: int, least: int = 0) -> int:
    """``number``, which a script may have left as the string that vspipe gave it.

    Raises:
        ConfigError: it is no whole number of at least ``least``; with the argument's name.
    """
    if not isinstance(number, int) or number < least:
        raise ConfigError(f"{name} must be a whole number, {least} or more, not {number!r}")
    return number


def device_name(device: str, index: int) -> str:
    """``device`` with the number that it lacks.

    Raises:
        ConfigError: it takes no number, or not this one.
    """
    if not isinstance(device, str):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, not {device!r}")
    if whole("device_index", index) and device not in ("auto", "cuda"):
        raise ConfigError(f"device_index {index} does not go with device {device!r}")
    return f"cuda:{index}" if device == "cuda" or index else device


def weights_file(weights: str | Path | None) -> Path | None:
    """The file that ``weights`` names: a path, or a reference that ``vsr-models`` has fetched.

    Raises:
        ConfigError: that looks like a reference and is none.
        WeightsError: it was not fetched.
    """
    return None if weights is None else local_file(str(weights))


def _choose_model(config: UpscaleConfig, clip: VideoNode, form: PixelFormat) -> UpscaleConfig:
    """``config`` with the model that ``auto`` means for ``clip``; says which, and why.

    What coded a clip is not known to a script, so that noise alone decides.
    """
    if config.model != AUTO or config.weights is not None:
        return config
    noise = estimate_noise(first_lumas(clip, form, LOOKED_AT))
    facts = SourceFacts(codec=VAPOURSYNTH, bits_per_pixel=None, noise=noise)
    size = config.size
    wanted = None if size is None else scale_to_reach(size, clip.width, clip.height)
    choice = choose_model(facts, config.scale, reaching=wanted)
    tell(choice.note)
    return replace(config, model=choice.model.name)


def _clip_format(clip: VideoNode) -> PixelFormat:
    """The format of a clip that can be upscaled."""
    if not isinstance(clip, vs.VideoNode):
        raise ConfigError(f"upscale() takes a video clip, not {type(clip).__name__}")
    if not clip.width or not clip.height:
        raise UnsupportedFormatError("the clip's size varies; resize it to one size first")
    if clip.format is None or clip.format.color_family == vs.UNDEFINED:
        raise UnsupportedFormatError("the clip's format varies; convert it to one format first")
    return pixel_format(clip.format)


def _format_of(wanted: int | str) -> VideoFormat:
    """A VapourSynth format by number or name."""
    number = getattr(vs, wanted, 0) if isinstance(wanted, str) else int(wanted)
    found = vs.core.get_video_format(number) if isinstance(number, int) else None
    if found is None or found.color_family == vs.UNDEFINED:
        raise ConfigError(
            f"format {wanted!r} is not known; give one of VapourSynth's, as YUV420P10"
        )
    pixel_format(found)
    return found


def _check_size(width: int, height: int, form: VideoFormat) -> None:
    across, down = 1 << (form.subsampling_w or 0), 1 << (form.subsampling_h or 0)
    if width % across or height % down:
        raise ConfigError(
            f"{width}x{height} is no size of {form.name}, whose width and height are multiples of "
            f"{across} and {down}; give another size or format"
        )

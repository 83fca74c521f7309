"""What a script asked of the filter, made exact: the network, where it runs, the result's shape."""

from dataclasses import dataclass, replace
from fractions import Fraction
from numbers import Integral
from pathlib import Path

import vapoursynth as vs  # type: ignore[import-untyped]

from vsr.cache import local_file
from vsr.checking import file_name, number, whole
from vsr.choosing import AUTO, LOOKED_AT, SourceFacts, choose_model, estimate_noise
from vsr.config import Dither, UpscaleConfig
from vsr.device import describe
from vsr.errors import ConfigError, UnsupportedFormatError
from vsr.frame import PixelFormat
from vsr.sizes import enlarged_size, scale_to_reach
from vsr.tagging import VAPOURSYNTH
from vsr.vapoursynth.frames import VideoFormat, VideoNode, first_lumas, pixel_format
from vsr.vapoursynth.messages import tell
from vsr.vapoursynth.streams import Setup, choose_network, choose_setup

__all__ = ["FilterJob", "device_name", "exact_scale", "model_name", "plan", "weights_file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterJob:
    """What one filter does to its clip."""

    setup: Setup
    source: PixelFormat
    """Of the clip."""
    target: VideoFormat
    """Of the result."""
    model: str | None
    """The name that was asked for; None of weights without one."""
    size: tuple[int, int]
    """Width and height of the result."""
    dither: Dither

    def describe(self, width: int, height: int) -> str:
        """One line about a clip of ``width`` x ``height``."""
        network = self.setup.network
        by = f" x{network.scale}" if network.scale else ""
        name = network.name
        if self.model not in (None, name):
            name = f"{self.model} ({name})"
        return (
            f"{name}{by} on {describe(self.setup.device)}: "
            f"{width}x{height} {self.source.name} to "
            f"{self.size[0]}x{self.size[1]} {self.target.name}"
        )


def plan(
    clip: VideoNode, config: UpscaleConfig, *, format: VideoFormat | int | str | None,
    num_streams: int, tile_pad: int | None,
) -> FilterJob:  # fmt: skip
    """Decide all that does not depend on a single frame.

    Raises:
        UnsupportedFormatError: the clip varies, or has samples that are not taken.
        VsrError: what was asked for makes no sense, or is not there.
    """
    streams = whole("num_streams", num_streams, least=1)
    halo = None if tile_pad is None else whole("tile_pad", tile_pad, least=0)
    source = _clip_format(clip)
    target = clip.format if format is None else _format_of(format)
    config = _choose_model(config, clip, source)
    network = choose_network(config, clip.width, clip.height)
    size = config.size or enlarged_size(clip.width, clip.height, network.scale, config.scale)
    _check_size(*size, target)
    return FilterJob(
        setup=choose_setup(config, network, halo, streams), source=source, target=target,
        model=config.model if config.weights is None else None, size=size, dither=config.dither,
    )  # fmt: skip


def exact_scale(scale: Fraction | float | str | None) -> Fraction | int | None:
    """``scale`` as it is written: 2.7 is 27/10, not the binary fraction; a whole one is an integer.

    Raises:
        ConfigError: it is no number.
    """
    if scale is None:
        return None
    exact = number("scale", str(scale))
    return int(exact) if exact.denominator == 1 else exact


def device_name(device: str, index: int) -> str:
    """``device`` with the number that it lacks.

    Raises:
        ConfigError: it takes no number, or not this one.
    """
    if not isinstance(device, str):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, not {device!r}")
    which = whole("device_index", index, least=0)
    if which and device not in ("auto", "cuda"):
        raise ConfigError(f"device_index {which} does not go with device {device!r}")
    return f"cuda:{which}" if device == "cuda" or which else device


def model_name(model: object) -> str:
    """``model``, which must be text; that of a path is told to be no model's later on.

    Raises:
        ConfigError: it is neither.
    """
    if not isinstance(model, str | Path):
        raise ConfigError(f"model must be the name of a model, not {model!r}")
    return str(model)


def weights_file(weights: str | Path | None) -> Path | None:
    """The file that ``weights`` names: a path, or a reference that ``vsr-models`` has fetched.

    Raises:
        ConfigError: that looks like a reference and is none, or is empty.
        WeightsError: it was not fetched.
    """
    return None if weights is None else local_file(str(file_name("weights", weights)))


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


def _format_of(wanted: VideoFormat | int | str) -> VideoFormat:
    """A VapourSynth format by itself, number or name."""
    code = getattr(vs, wanted, 0) if isinstance(wanted, str) else getattr(wanted, "id", wanted)
    found = vs.core.get_video_format(int(code)) if isinstance(code, Integral) else None
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

"""``--model auto``: which of the shipped models suits a source, and why.

Note [Clean or video]
    Models trained on bicubic reductions take what a codec leaves for detail and sharpen it; models
    trained on coded pictures smooth detail that a clean picture has. Three things tell which a
    source is. What coded it: lossless and studio codecs, and pictures that are files, leave nothing
    to mend. Bits per pixel: below a bound that depends on the codec's age, blocks and ringing show.
    Noise: film grain and old cameras, whatever the codec. Noise is measured in the flattest parts
    of the first frames, where there is nothing else (Immerkær, "Fast noise variance estimation",
    CVIU 64, 1996).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from vsr.errors import ConfigError
from vsr.index import Model, list_models

__all__ = ["AUTO", "LOOKED_AT", "Choice", "SourceFacts", "choose_model", "estimate_noise"]

AUTO = "auto"
"""What ``--model`` says to have it chosen."""
LOOKED_AT = 8
"""Frames, the first ones, whose noise is measured."""

_CLEAN_CODECS = (
    "ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "v210", "r210", "prores", "dnxhd", "cfhd",
    "wrapped_avframe", "magicyuv", "qtrle", "png", "tiff", "dpx", "exr", "bmp", "vapoursynth",
)  # fmt: skip
_BOUNDS = {
    "mpeg1video": 1.5, "mpeg2video": 1.2, "mpeg4": 0.6, "msmpeg4v3": 0.6, "wmv2": 0.6, "wmv3": 0.5,
    "vc1": 0.4, "mjpeg": 2.0, "dvvideo": 0.0, "theora": 0.6, "vp8": 0.4, "h264": 0.25, "vp9": 0.15,
    "hevc": 0.15, "av1": 0.1,
}  # fmt: skip
"""Bits per pixel below which a codec's traces are to be expected."""
_OTHER_BOUND = 0.6
_NOISY = 2.5
"""Standard deviation in 8-bit codes."""
_BLOCK = 16
_FLAT_SHARE = 0.1
_BLACK, _WHITE = 18, 234
"""Codes beyond which noise is cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """What is known of a source before its first frame is processed."""

    codec: str
    """FFmpeg's name."""
    bits_per_pixel: float | None
    """None if nothing says how large the stream is."""
    noise: float | None
    """Standard deviation in 8-bit codes, see :func:`estimate_noise`; None if no frame could be
    looked at."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A model, and why it."""

    model: Model
    note: str


def choose_model(
    facts: SourceFacts, scale: Fraction | int | None = None, *, reaching: float | None = None
) -> Choice:
    """The model for a source, among those that ship and say what they are for.

    Args:
        facts: about the source.
        scale: the enlargement wanted, exactly.
        reaching: without ``scale``, the enlargement that is to be reached, by the largest scale if
            by none; without either, the smallest scale is taken.

    Returns:
        The model, and a line that says which and why.

    Raises:
        ConfigError: none is marked as ``clean`` or ``video`` at this scale.
    """
    purpose, reason = _purpose(facts)
    known = [model for model in list_models() if model.purpose and model.file]
    scales = sorted({model.scale for model in known})
    if scale is None and scales:
        scale = next((s for s in scales if s >= (reaching or 0)), scales[-1])
    fitting = [model for model in known if model.scale == scale]
    if not fitting:
        there = ", ".join(map(str, scales)) or "none"
        raise ConfigError(f"model auto has no scale {float(scale or 0):g}; it has {there}")
    suiting = [model for model in fitting if model.purpose == purpose]
    model = (suiting or fitting)[0]
    missing = "" if suiting else f", but no {purpose} model ships at x{model.scale}"
    return Choice(model, f"model {model.name} (auto): {reason}{missing}")


def _purpose(facts: SourceFacts) -> tuple[str, str]:
    """``clean`` or ``video``, and why, in words."""
    noise = facts.noise
    said = [facts.codec or "unknown codec"]
    if facts.bits_per_pixel is not None:
        said[0] += f" at {facts.bits_per_pixel:.2f} bits a pixel"
    if noise is not None:
        said.append(f"noise {noise:.1f}")
    words = ", ".join(said)
    if noise is not None and noise > _NOISY:
        return "video", f"{words}: noisy"
    if facts.codec.startswith(_CLEAN_CODECS):
        return "clean", f"{words}: nothing to mend"
    bound = _BOUNDS.get(facts.codec, _OTHER_BOUND)
    if facts.bits_per_pixel is None:
        return "video", f"{words}: compressed, how much is not known"
    if facts.bits_per_pixel < bound:
        return "video", f"{words}: compressed"
    return "clean", f"{words}: coded well"


def estimate_noise(pictures: Sequence[Tensor]) -> float | None:
    """The noise of pictures, where they are flattest.

    Args:
        pictures: luma, (H, W) float32 in 8-bit codes.

    Returns:
        Standard deviation in 8-bit codes, the median over pictures; None without any, or if they
        are too small to tell.
    """
    found = [noise for picture in pictures if (noise := _noise_of(picture)) is not None]
    return sorted(found)[len(found) // 2] if found else None


def _noise_of(picture: Tensor) -> float | None:
    """Immerkær's estimate, of the blocks where it is smallest; bars of one colour do not count."""
    if min(picture.shape) < 2 * _BLOCK:
        return None
    mask = torch.tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]], device=picture.device)
    edges = torch.nn.functional.conv2d(picture[None, None], mask[None, None]).abs()
    blocks = torch.nn.functional.avg_pool2d(edges, _BLOCK).flatten()
    inner = picture[None, None, 1:-1, 1:-1]
    brightest = torch.nn.functional.max_pool2d(inner, _BLOCK).flatten()
    darkest = -torch.nn.functional.max_pool2d(-inner, _BLOCK).flatten()
    seen = blocks[(blocks > 0) & (darkest > _BLACK) & (brightest < _WHITE)]
    if seen.numel() == 0:
        return 0.0
    count = max(1, math.ceil(_FLAT_SHARE * seen.numel()))
    flattest = seen.sort().values[:count]
    return float(flattest.median()) * math.sqrt(math.pi / 2) / 6

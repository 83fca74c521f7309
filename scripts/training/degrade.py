"""What happens to a picture between the camera and us: the degradation of real video.

A sequence of sharp pictures is blurred, reduced with one of several kernels, made noisy, turned
into YUV 4:2:0 by :mod:`vsr.colour`, woven into fields and deinterlaced, coded and decoded by real
codecs, now and then twice, and turned back into RGB. Every choice is drawn from one generator.

Note [What is drawn]: most sequences are reduced cleanly and coded once, since that is what an
encoder is fed with; blur, noise and fields are exceptions. Qualities span what is met: H.264 at
CRF 17 to 34, MPEG-2 at quantisers 2 to 10 (a DVD's), MPEG-4 at 2 to 9 (AVI of the 2000s). Colour is
BT.601 or BT.709, limited range, sited left or centred: :mod:`vsr.colour` undoes the tagged one, so
what remains is what subsampling and rounding lose.

Note [Soft truth]: photographs are sharper than film and video ever are. A network that has seen
nothing else sharpens whatever is soft: on a film of 1940 it lost 2 dB against Lanczos, without any
codec between. So a part of the sequences is blurred before it becomes truth; what is blurred
afterwards, to be made sharp again, must be little, since the two cannot be told apart.

Note [Night]: photographs are well lit, too. Of a crowd with lights in a dark hall, a network that
had seen no night took the little that is to be seen between them for noise. A power of the codes
turns day into that: what is bright stays so, and most of the rest sinks to where codecs save bits.
"""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import inf
from typing import Any

import av.filter
import numpy as np
import torch
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.codecs import Codec, quality_codec, recode
from training.fields import SHARE, problem_with
from vsr.colour import FromRgb, ToRgb
from vsr.frame import Colour, Matrix, Range, Siting, pixel_format
from vsr.resample import resize

__all__ = ["Degradation", "degrade", "from_planes", "problem_with_degradation", "to_planes"]

Planes = NDArray[np.uint8]

_TICK = Fraction(1, 25)
_QUALITIES = {
    "mpeg2": (2.0, 10.0), "mpeg4": (2.0, 9.0), "h264": (17.0, 34.0), "hevc": (19.0, 36.0),
    "vp9": (22.0, 48.0),
}  # fmt: skip
_BOUNDS = {
    **dict.fromkeys(
        ("dark", "soft", "blurred", "clean_reduction", "noisy", "interlaced", "coded", "recoded"),
        SHARE,
    ),
    **dict.fromkeys(("softness", "blur", "noise", "shares"), (0, inf)),
    "darkness": (1, inf),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """How often each harm is done, and how much of it at most."""

    dark: float = 0.0
    """Share of sequences that become night, truth and all; see Note [Night]."""
    darkness: float = 4.0
    """Largest power of the codes that makes them so."""
    soft: float = 0.4
    """Share of sequences whose truth is soft, as most video is; see Note [Soft truth]."""
    softness: float = 1.5
    """Largest standard deviation of that blur, in output pixels."""
    blurred: float = 0.1
    """Share of sequences that are blurred ahead of the reduction, but not in their truth."""
    blur: float = 1.0
    """Largest standard deviation of the blur, in output pixels."""
    clean_reduction: float = 0.7
    """Share reduced by MATLAB's bicubic; the others by another kernel."""
    noisy: float = 0.25
    noise: float = 6.0
    """Largest standard deviation of the noise, in 8-bit codes."""
    interlaced: float = 0.08
    coded: float = 0.92
    recoded: float = 0.15
    """Share of coded sequences that had been coded before."""
    codecs: tuple[str, ...] = ("mpeg2", "mpeg4", "h264", "hevc", "vp9")
    shares: tuple[float, ...] = (0.27, 0.25, 0.28, 0.1, 0.1)
    """Of the codecs."""

    @property
    def rate(self) -> int:
        """How many pictures are wanted for each that is delivered: fields need twice as many."""
        return 2 if self.interlaced else 1


def problem_with_degradation(values: Mapping[str, Any]) -> str | None:
    """What keeps ``values`` from changing :class:`Degradation`, in one line; None if nothing does.

    Args:
        values: of its fields, as TOML gives them.
    """
    if problem := problem_with(Degradation, values, _BOUNDS):
        return problem
    codecs = values.get("codecs", Degradation().codecs)
    shares = values.get("shares", Degradation().shares)
    if unknown := [name for name in codecs if name not in _QUALITIES]:
        return f"codecs: {', '.join(unknown)}: each must be one of {', '.join(_QUALITIES)}"
    if len(codecs) != len(shares) or not sum(shares) > 0:
        return "shares must be as many as codecs, and not all 0"
    return None


def degrade(
    sequence: Tensor, scale: int, settings: Degradation, rng: np.random.Generator
) -> tuple[Tensor, Tensor, str]:
    """Degrade a sequence.

    Args:
        sequence: (frames, 3, scale * H, scale * W) float32 in [0, 255], H and W even; of
            ``settings.rate`` pictures for each that is wanted.
        scale: reduction.
        settings: how often and how much.
        rng: decides.

    Returns:
        What is left, (frames / rate, 3, H, W) uint8; what should be found again, (frames / rate, 3,
        scale * H, scale * W) uint8; and what was done, in words.
    """
    words: list[str] = []
    if settings.dark and rng.random() < settings.dark:  # older recipes draw the rest as they did
        sequence = _darken(sequence, float(rng.uniform(1.0, settings.darkness)), words)
    if rng.random() < settings.soft:
        sigma = float(rng.uniform(0.3, settings.softness))
        words.append(f"soft {sigma:.2f}")
        sequence = _blur(sequence, sigma)
    woven = rng.random() < settings.interlaced
    high = sequence[:: settings.rate]
    low = _reduce(sequence if woven else high, scale, settings, rng, words)
    if rng.random() < settings.noisy:
        low = _add_noise(low, float(rng.uniform(0.5, settings.noise)), rng, words)
    colour = _draw_colour(rng)
    if woven:
        low = _weave(low)
    planes = [to_planes(picture, colour) for picture in low]
    for codec in _draw_codecs(settings, rng, interlaced=woven):
        quality = codec.options.get("crf") or codec.options.get("qmin", "")
        words.append(f"{codec.name} {quality}")
        planes, _ = recode(planes, codec)
    if woven:
        words.append("fields")
        planes = _deinterlace(planes, str(rng.choice(["bwdif", "yadif"])))
    restored = torch.stack([from_planes(picture, colour) for picture in planes])
    return _round(restored * 255), _round(high), ", ".join(words) or "none"


def _round(pictures: Tensor) -> Tensor:
    return pictures.add(0.5).floor_().clamp_(0, 255).to(torch.uint8)


# Ahead of the codec.


def _darken(sequence: Tensor, power: float, words: list[str]) -> Tensor:
    words.append(f"dark {power:.1f}")
    return (sequence / 255) ** power * 255


def _reduce(
    sequence: Tensor, scale: int, settings: Degradation, rng: np.random.Generator, words: list[str]
) -> Tensor:
    height, width = (side // scale for side in sequence.shape[-2:])
    if rng.random() < settings.blurred:
        sigma = float(rng.uniform(0.2, settings.blur)) * scale
        words.append(f"blur {sigma:.2f}")
        sequence = _blur(sequence, sigma)
    if rng.random() < settings.clean_reduction:
        return resize(sequence, height, width, "bicubic")
    kind = str(rng.choice(["lanczos", "bilinear", "area", "sharp"]))
    words.append(kind)
    if kind == "lanczos":
        return resize(sequence, height, width, "lanczos")
    if kind == "area":
        return F.interpolate(sequence, size=(height, width), mode="area")
    mode = "bicubic" if kind == "sharp" else "bilinear"  # sharp: aliased, as cheap scalers do
    return F.interpolate(sequence, size=(height, width), mode=mode, antialias=kind != "sharp")


def _blur(sequence: Tensor, sigma: float) -> Tensor:
    reach = max(1, round(3 * sigma))
    taps = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    padded = F.pad(sequence, (reach,) * 4, mode="replicate").flatten(0, 1)[:, None]
    across = F.conv2d(padded, taps.view(1, 1, 1, -1))
    return F.conv2d(across, taps.view(1, 1, -1, 1))[:, 0].view(sequence.shape)


def _add_noise(
    sequence: Tensor, sigma: float, rng: np.random.Generator, words: list[str]
) -> Tensor:
    """Gaussian noise, new in each picture; half of the time the same in all three channels."""
    words.append(f"noise {sigma:.1f}")
    frames, channels, height, width = sequence.shape
    grain = rng.standard_normal(
        (frames, 1 if rng.random() < 0.5 else channels, height, width), dtype=np.float32
    )
    return (sequence + sigma * torch.from_numpy(grain)).clamp_(0, 255)


def _draw_colour(rng: np.random.Generator) -> Colour:
    matrix = Matrix.BT709 if rng.random() < 0.5 else Matrix.SMPTE170M
    siting = Siting.LEFT if rng.random() < 0.8 else Siting.CENTRE
    return Colour(matrix=matrix, range=Range.LIMITED, siting=siting)


# Colour.


@lru_cache(maxsize=16)
def _converters(colour: Colour, width: int, height: int) -> tuple[FromRgb, ToRgb]:
    place, cpu = pixel_format("yuv420p"), torch.device("cpu")
    return (
        FromRgb(place, colour, width, height, cpu),
        ToRgb(place, colour, width, height, cpu),
    )


def to_planes(picture: Tensor, colour: Colour) -> Planes:
    """(3, H, W) in [0, 255] as yuv420p planes, (H * 3 / 2, W) uint8."""
    height, width = picture.shape[-2:]
    components = _converters(colour, width, height)[0](picture[None] / 255)
    return np.concatenate([part.numpy().reshape(-1, width) for part in components])


def from_planes(planes: Planes, colour: Colour) -> Tensor:
    """yuv420p planes as (3, H, W) float32, nominally in [0, 1]."""
    rows, width = planes.shape
    height = rows * 2 // 3
    luma, chroma = planes[:height], planes[height:].reshape(2, height // 2, width // 2)
    parts = [torch.from_numpy(np.ascontiguousarray(part)) for part in (luma, *chroma)]
    return _converters(colour, width, height)[1](parts)[0]


# Fields.


def _weave(sequence: Tensor) -> Tensor:
    """Frames of two fields each, top field first, softened between lines as cameras do."""
    padded = F.pad(sequence, (0, 0, 1, 1), mode="replicate")
    soft = (padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4
    woven = soft[0::2].clone()
    woven[:, :, 1::2] = soft[1::2, :, 1::2]
    return woven


def _deinterlace(sequence: Sequence[Planes], name: str) -> list[Planes]:
    """One picture for each frame, at the time of its top field, by libavfilter's ``name``."""
    rows, width = sequence[0].shape
    graph = av.filter.Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_buffer(width=width, height=rows * 2 // 3, format="yuv420p", time_base=_TICK),
        graph.add("setfield", "tff"),
        graph.add(name, "mode=send_frame:parity=tff:deint=all"),
        graph.add("buffersink"),
    ).configure()
    return list(_filtered(graph, sequence))


def _filtered(graph: av.filter.Graph, sequence: Sequence[Planes]) -> Iterator[Planes]:
    for index, planes in enumerate(sequence):
        frame = VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = index, _TICK
        graph.vpush(frame)
    graph.vpush(None)
    for _ in sequence:
        pulled = graph.vpull()
        yield pulled.to_ndarray(format="yuv420p").astype(np.uint8, copy=False)


# Codecs.


def _draw_codecs(
    settings: Degradation, rng: np.random.Generator, *, interlaced: bool
) -> list[Codec]:
    if rng.random() >= settings.coded:
        return []
    count = 2 if rng.random() < settings.recoded else 1
    if interlaced:
        return [_draw_codec("mpeg2", rng, flags="+ildct+ilme")]
    shares = np.array(settings.shares) / sum(settings.shares)
    names = [str(rng.choice(settings.codecs, p=shares)) for _ in range(count)]
    return [_draw_codec(name, rng) for name in names]


def _draw_codec(name: str, rng: np.random.Generator, **options: str) -> Codec:
    low, high = _QUALITIES[name]
    # At usual rates the MPEG codecs reach their best quantisers in all but the hardest scenes.
    skew = 2.5 if name in ("mpeg2", "mpeg4") else 1.0
    quality = low + (high - low) * float(rng.random()) ** skew
    if name == "h264":
        options["preset"] = str(rng.choice(["veryfast", "medium", "slower"]))
    return quality_codec(name, round(quality, 1), **options)

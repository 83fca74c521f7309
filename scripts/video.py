"""Video pairs: what a codec leaves of a clip, and how close an enlargement of it comes.

Note [Flicker]: pictures that are each close to the truth may still tremble. What is measured is the
change from one picture to the next: the root mean square, over pixels and pairs of neighbours, of
(out[t+1] - out[t]) - (truth[t+1] - truth[t]) on luma, in 8-bit codes. 0 means that everything that
moves, moves as in the truth; a constant error costs nothing.

Note [The codec test]: the clips are the truth. They are cropped to multiples of 8, reduced by
MATLAB's bicubic ("clean"), turned into 4:2:0, coded, decoded, turned back, enlarged, and compared.
Nothing of the degradations that models are trained with enters. What codecs make whiter than white
is cut off, as wherever networks are trained: the authors' SPAN turns it into salt and pepper (25 dB
instead of 33 on a face in front of a bright wall), which would be no comparison.
"""

from __future__ import annotations  # av's generic classes are generic in the stubs only

import gc
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import av
import av.filter
import torch
from av.video.frame import VideoFrame
from metrics import luma, psnr, ssim
from pictures import reduce_bicubic, to_uint8
from torch import Tensor
from training.codecs import Codec, quality_codec, rate_codec, recode
from training.degrade import from_planes, to_planes

from vsr.colour import ToRgb
from vsr.frame import Colour, Matrix, Range, Siting
from vsr.sources import open_source

__all__ = ["CODINGS", "Result", "Scores", "code_clip", "compare", "flicker", "read_clip",
           "score_codecs", "vmaf"]  # fmt: skip

Upscale = Callable[[Tensor], Tensor]
"""(1, 3, H, W) float32 in [0, 1] to (1, 3, s*H, s*W)."""

_TICK = Fraction(1, 25)
_HIGHEST = 100.0
COLOUR = Colour(matrix=Matrix.BT709, range=Range.LIMITED, siting=Siting.LEFT)
"""Of the coded clips, and of what VMAF is shown."""

_DVD = 5_000_000 / (720 * 576 * 25)
"""Bits a pixel of a DVD at 5 Mbit/s."""
_ASP = 1_200_000 / (640 * 352 * 24)
"""Bits a pixel of a film on two CDs in MPEG-4 ASP."""

Coding = Callable[[int, int], Codec]
"""Makes a codec for a width and a height."""

CODINGS: Mapping[str, Coding] = {
    "h264-crf28": lambda width, height: quality_codec("h264", 28),
    "mpeg2-dvd": lambda width, height: _at_rate("mpeg2", _DVD * width * height * 25),
    "mpeg4-asp": lambda width, height: _at_rate("mpeg4", _ASP * width * height * 25),
}
"""H.264 at CRF 28, MPEG-2 and MPEG-4 ASP at as many bits a pixel as they were used with."""


def _at_rate(name: str, rate: float) -> Codec:
    buffer = {"maxrate": str(round(1.8 * rate)), "bufsize": str(round(rate / 2))}
    return rate_codec(name, round(rate), **buffer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """How close a clip is to the truth: means over its pictures."""

    psnr: float
    """dB on luma; a picture that is the same counts as 100."""
    ssim: float
    vmaf: float
    flicker: float
    """8-bit codes; see Note [Flicker]."""


def read_clip(
    path: Path, frames: int, multiple: int, largest: tuple[int, int], *, skip: float = 0.0
) -> Tensor:
    """Pictures of a video as (frames, 3, H, W) uint8 RGB, cropped around the centre.

    Args:
        path: a video.
        frames: how many, at most.
        multiple: of which both sides will be.
        largest: (width, height) that is not exceeded.
        skip: share of the video that is skipped, as far as its length is known: many begin black.
    """
    start = Fraction(0)
    if skip:
        with open_source(path) as source:
            start = (source.info.duration or start) * Fraction(skip).limit_denominator(1000)
    with open_source(path, frames=frames, start=start) as source:
        info = source.info
        place = torch.device("cpu")
        to_rgb = ToRgb(info.format, info.colour, info.width, info.height, place)
        pictures = [to_uint8(to_rgb(frame.components)[0] * 255) for frame in source]
    clip = torch.stack(pictures)
    for axis, most in ((2, largest[1]), (3, largest[0])):
        length = min(clip.shape[axis], most) // multiple * multiple
        clip = clip.narrow(axis, (clip.shape[axis] - length) // 2, length)
    return clip.contiguous()


def code_clip(truth: Tensor, scale: int, coding: Coding) -> tuple[Tensor, float]:
    """A clip reduced, coded and decoded.

    Args:
        truth: (frames, 3, scale * H, scale * W) uint8; H and W even.
        scale: of the reduction.
        coding: what codes it.

    Returns:
        (frames, 3, H, W) float32 in [0, 1], and bits a pixel.
    """
    low = [reduce_bicubic(picture, scale) for picture in truth]
    planes = [to_planes(picture.float(), COLOUR) for picture in low]
    height, width = low[0].shape[-2:]
    coded, size = recode(planes, coding(width, height))
    pixels = len(low) * height * width
    decoded = torch.stack([from_planes(part, COLOUR) for part in coded])
    return decoded.clamp_(0, 1), 8 * size / pixels


def compare(output: Tensor, truth: Tensor, border: int) -> Scores:
    """Score a clip.

    Args:
        output: (frames, 3, H, W) uint8.
        truth: the same.
        border: pixels left out at each side for PSNR and SSIM.
    """
    inner = slice(border, -border or None)
    outputs, truths = ([luma(p)[inner, inner] for p in clip] for clip in (output, truth))
    pairs = list(zip(outputs, truths, strict=True))
    return Scores(
        psnr=fmean(min(_HIGHEST, psnr(*pair)) for pair in pairs),
        ssim=fmean(ssim(*pair) for pair in pairs),
        vmaf=vmaf(output, truth),
        flicker=flicker(outputs, truths),
    )


def flicker(output: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """Root mean square of wrong change between neighbours; see Note [Flicker].

    Args:
        output: (H, W) luma of each picture, in 8-bit codes.
        truth: the same.
    """
    errors = [a - b for a, b in zip(output, truth, strict=True)]
    changes = [(after - before).square().mean() for before, after in pairwise(errors)]
    return float(torch.stack(changes).mean().sqrt()) if changes else 0.0


def vmaf(output: Tensor, truth: Tensor) -> float:
    """Netflix' VMAF (its default model), by libvmaf as a filter of libavfilter's.

    Args:
        output: (frames, 3, H, W) uint8.
        truth: the same.

    Returns:
        The mean over pictures, 0 to 100.
    """
    with tempfile.TemporaryDirectory(prefix="vsr-") as folder:
        log = Path(folder) / "vmaf.json"
        _judge(output, truth, log)
        gc.collect()  # libvmaf writes when it is taken down, and PyAV's graphs hold themselves
        return float(json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"])


def _judge(output: Tensor, truth: Tensor, log: Path) -> None:
    """Show both clips to libvmaf, which writes ``log`` once nothing refers to its graph."""
    graph = av.filter.Graph()
    height, width = truth.shape[-2:]
    sources = [
        graph.add_buffer(width=width, height=height, format="yuv420p", time_base=_TICK)
        for _ in range(2)
    ]
    judge = graph.add("libvmaf", f"log_fmt=json:log_path={log}:n_threads=1")
    for index, source in enumerate(sources):
        source.link_to(judge, 0, index)
    judge.link_to(graph.add("buffersink"))
    graph.configure()
    for pair in zip(_frames(output), _frames(truth), strict=True):
        for source, frame in zip(sources, pair, strict=True):
            source.push(frame)
        graph.vpull()
    for source in sources:
        source.push(None)
    with suppress(av.FFmpegError):  # the end of what can be pulled
        graph.vpull()


def _frames(clip: Tensor) -> Iterator[VideoFrame]:
    for index, picture in enumerate(clip):
        frame = VideoFrame.from_ndarray(to_planes(picture.float(), COLOUR), format="yuv420p")
        frame.pts, frame.time_base = index, _TICK
        yield frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one model made of one coded clip."""

    clip: str
    coding: str
    model: str
    rate: float
    """Bits a pixel of the coded clip."""
    scores: Scores
    low: Tensor
    """(frames, 3, H, W) uint8: what the model was given."""
    output: Tensor
    """(frames, 3, scale * H, scale * W) uint8."""


def score_codecs(
    clips: Mapping[str, Tensor], models: Mapping[str, Upscale], scale: int
) -> Iterator[Result]:
    """The codec test: every model on every coding of every clip.

    Args:
        clips: truth by name, (frames, 3, H, W) uint8, sides multiples of ``2 * scale``.
        models: what enlarges, by name.
        scale: of the models.
    """
    for name, truth in clips.items():
        for coding, make in CODINGS.items():
            low, rate = code_clip(truth, scale, make)
            for model, upscale in models.items():
                output = torch.cat([to_uint8(upscale(picture[None]) * 255) for picture in low])
                yield Result(
                    clip=name, coding=coding, model=model, rate=rate,
                    scores=compare(output, truth, scale), low=to_uint8(low * 255), output=output,
                )  # fmt: skip

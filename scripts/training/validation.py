"""PSNR on pictures that a training never sees."""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from metrics import luma, psnr
from pictures import load, load_pair, reduce_bicubic, to_uint8
from torch import Tensor

from training.cache import Cache
from training.starts import State
from training.stills import SUFFIXES
from training.subject import Subject

__all__ = ["Pairs", "pairs_of_cache", "pairs_of_folder", "validate"]

Pairs = list[tuple[Tensor, Tensor]]
"""Low (3, H, W) and high (3, scale * H, scale * W), uint8."""

_CROP = 128
"""Side in low-resolution pixels: whole pictures would take longer than the training between."""


def pairs_of_folder(folder: Path, scale: int) -> Pairs:
    """From ``HR`` and ``LRx<scale>`` of an evaluation set, or from pictures reduced here.

    Raises:
        SystemExit: there are none, or one cannot be used.
    """
    pairs = list(_standard(folder, scale) if (folder / "HR").is_dir() else _reduced(folder, scale))
    if not pairs:
        raise SystemExit(f"{folder}: no pictures to validate with")
    if min(side for _, high in pairs for side in high.shape[-2:]) <= 2 * scale:
        raise SystemExit(f"{folder}: a picture is too small: nothing is left without its borders")
    return pairs


def _standard(folder: Path, scale: int) -> Iterator[tuple[Tensor, Tensor]]:
    for path in sorted((folder / f"LRx{scale}").glob("*.png")):
        yield load_pair(path, folder / "HR" / path.name, scale)


def _reduced(folder: Path, scale: int) -> Iterator[tuple[Tensor, Tensor]]:
    for path in sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES):
        high = _centre(load(path), _CROP * scale, scale)
        if not high.numel():
            raise SystemExit(f"{path}: too small")
        yield reduce_bicubic(high, scale), high


def _centre(picture: Tensor, side: int, multiple: int) -> Tensor:
    spans = []
    for length in picture.shape[-2:]:
        kept = min(side, length) // multiple * multiple
        spans.append(slice((length - kept) // 2, (length - kept) // 2 + kept))
    return picture[:, spans[0], spans[1]]


def pairs_of_cache(cache: Cache) -> Pairs:
    """Every picture of a cache."""
    low, high = (
        torch.from_numpy(np.ascontiguousarray(part)).flatten(0, 1)
        for part in (cache.low, cache.high)
    )
    return list(zip(low, high, strict=True))


@torch.no_grad()
def validate(
    subject: Subject, weights: State, pairs: Pairs, scale: int, device: torch.device
) -> float:
    """Mean PSNR in dB on luma, in float32, by the standard protocol (see ``evaluate.py``)."""
    moved = {name: value.to(device) for name, value in weights.items()}
    inner = slice(scale, -scale)
    scores = []
    for low, high in pairs:
        picture = low[None].float().div(255).to(device)
        out = subject.forward(moved, picture)[0].cpu()
        a, b = (luma(p)[inner, inner] for p in (to_uint8(out * 255), high))
        scores.append(psnr(a, b))
    return fmean(scores)

"""Crops side by side, to be looked at."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

__all__ = ["busiest_place", "crop", "write_sheet"]

_GAP = 4
_ENLARGED = 3


def busiest_place(picture: Tensor, side: int) -> tuple[int, int]:
    """Row and column of the square with the most edges in (3, H, W) uint8."""
    luma = picture.float().mean(0)
    edges = (luma[1:, 1:] - luma[:-1, 1:]).abs() + (luma[1:, 1:] - luma[1:, :-1]).abs()
    step = max(1, side // 4)
    side = min(side, *edges.shape)
    means = torch.nn.functional.avg_pool2d(edges[None, None], side, step)[0, 0]
    row, column = divmod(int(means.argmax()), means.shape[1])
    return step * row, step * column


def crop(picture: Tensor, place: tuple[int, int], side: int) -> Tensor:
    """The square of (3, H, W) at ``place``."""
    return picture[:, place[0] : place[0] + side, place[1] : place[1] + side]


def write_sheet(rows: Sequence[Sequence[Tensor]], path: Path) -> None:
    """Write rows of (3, h, w) uint8 as one PNG, three times as large, with gaps between."""
    pad = torch.nn.functional.pad
    lines = [torch.cat([pad(part, (0, _GAP, 0, _GAP)) for part in row], dim=2) for row in rows]
    width = max(line.shape[2] for line in lines)
    sheet = torch.cat([pad(line, (0, width - line.shape[2], 0, 0)) for line in lines], dim=1)
    image = Image.fromarray(sheet.permute(1, 2, 0).contiguous().numpy())
    size = (_ENLARGED * image.width, _ENLARGED * image.height)
    image.resize(size, Image.Resampling.NEAREST).save(path)

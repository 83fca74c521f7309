"""Moving crops: what a camera would see that pans and zooms over a still picture.

Positions are fractions of pixels, and sampling is Lanczos through :mod:`vsr.resample`, so that
motion compensation in a codec finds what it finds in film: motion that no whole pixel describes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsr.resample import Resampler, resize_matrix

__all__ = ["Path", "draw_path", "moving_crop"]


@dataclass(frozen=True, slots=True)
class Path:
    """Where a crop of ``size`` x ``size`` lies at each moment, in pixels of the still."""

    rows: NDArray[np.float64]
    """(frames,) its top."""
    columns: NDArray[np.float64]
    """(frames,) its left side."""
    zoom: NDArray[np.float64]
    """(frames,) pixels of the still for each of the crop."""
    size: int


def draw_path(
    still: tuple[int, int], size: int, frames: int, speed: float, rng: np.random.Generator
) -> Path:
    """A random path inside a still of (height, width).

    Args:
        still: must exceed ``size`` a little: what the path cannot reach is cut off.
        size: of the crop.
        frames: how many moments.
        speed: pixels a frame, at most, in each direction.
        rng: decides.
    """
    moments = np.arange(frames) - (frames - 1) / 2
    zoom = np.ones(frames) + rng.uniform(-0.004, 0.004) * moments * float(rng.random() < 0.4)
    shake = 0.4 * float(rng.random() < 0.3)
    starts: list[NDArray[np.float64]] = []
    for side in still:
        velocity = rng.uniform(-speed, speed) * float(rng.random() < 0.85)
        drift = velocity * moments + rng.normal(0, shake, frames)
        centre = rng.uniform(size / 2, max(size / 2, side - size / 2))
        start = centre + drift - zoom * size / 2
        starts.append(np.clip(start, 0, np.maximum(0, side - zoom * size)))
    return Path(starts[0], starts[1], zoom, size)


def moving_crop(still: Tensor, path: Path) -> Tensor:
    """The crops of ``still``, (3, H, W) uint8, along ``path``: (frames, 3, size, size) float32."""
    return torch.stack([_crop(still, path, moment) for moment in range(len(path.zoom))])


def _crop(still: Tensor, path: Path, moment: int) -> Tensor:
    zoom, size = float(path.zoom[moment]), path.size
    margin = 8
    picture = still
    for axis, start in ((1, path.rows[moment]), (2, path.columns[moment])):
        # Only the stretch that is seen: the matrix of a whole axis would be large.
        first = max(0, int(start) - margin)
        last = min(still.shape[axis], int(start + zoom * size) + margin)
        picture = picture.narrow(axis, first, last - first)
        positions = start - first + (np.arange(size) + 0.5) * zoom - 0.5
        matrix = resize_matrix(positions, last - first, "lanczos", stretch=max(1.0, zoom))
        sampler = Resampler.from_matrix(matrix)
        picture = (sampler.columns if axis == 1 else sampler.rows)(picture.float())
    return picture.clamp(0, 255)

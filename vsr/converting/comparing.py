"""Whether two forms of a network do the same: a picture, and how far two outputs are apart."""

import torch
from torch import Tensor

__all__ = ["LIMIT", "difference", "draw"]

LIMIT = 1e-4
"""Largest difference of outputs that is rounding, in standard deviations of the output."""


def draw(channels: int, height: int, width: int) -> Tensor:
    """A picture to compare networks with, (1, channels, height, width) in [0, 1].

    Waves and a few edges, as in a photograph. Noise will not do: networks are unstable on it (the
    published SPAN answers white noise with values near 80, and rounding grows 10,000-fold).
    """
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    planes = [
        0.5 + 0.2 * torch.sin((x + 2 * c) / 5 + y / 9) * torch.cos(y / (4 + c))
        + 0.2 * ((x // 16 + y // 20 + c) % 2)
        for c in range(channels)
    ]  # fmt: skip
    return torch.stack(planes)[None].float()


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference between two outputs, in standard deviations of ``expected``.

    Not a number, and so no less than any limit, if an output is not finite.
    """
    apart = (found.double() - expected.double()).abs().max()
    return float(apart / expected.double().std()) if apart else 0.0

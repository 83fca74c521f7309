"""Whether two ways to compute something do the same: a picture, and how far results are apart."""

import torch
from torch import Tensor

__all__ = ["LIMIT", "difference", "draw", "why_unlike"]

LIMIT = 1e-4
"""Largest difference of outputs that is rounding, in standard deviations of the output."""
_OVERALL, _ANYWHERE = 0.03, 0.2
"""How far results in half precision may be apart, as parts of what they are: on average (root mean
square), and at the worst place. bfloat16 takes a third of either at worst, of networks at hand; an
edge that was left out is all of the latter."""


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


def why_unlike(found: Tensor, expected: Tensor) -> str | None:
    """How two results are apart by more than half precision rounds, in words; None if they are not.

    Args:
        found: what one way made.
        expected: what another made, of the same shape and device.
    """
    apart, size = (found.float() - expected.float()).abs(), expected.float().abs()
    overall = float(apart.square().mean().sqrt() / size.square().mean().sqrt())
    worst = float(apart.max() / size.max())
    if overall <= _OVERALL and worst <= _ANYWHERE:  # neither holds of what is no number
        return None
    return f"{overall:.1%} on average, {worst:.1%} at the worst place"

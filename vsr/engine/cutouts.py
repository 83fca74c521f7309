"""What is hidden under alpha, kept out of what is seen.

Note [Hidden colours]
    A cut-out has one colour, mostly black or white, wherever nothing is to be seen. A network takes
    the border between that and the picture for an edge, and overshoots there, in opaque pixels,
    too. So what is hidden, if it is all of one colour, is replaced by what is seen, continued, and
    put back into the result wherever alpha is 0. Hidden samples of several colours are somebody's
    and stay as they are.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

__all__ = ["Cutout"]


@dataclass(frozen=True, slots=True)
class Cutout:
    """A picture without the one colour under alpha 0; see note [Hidden colours].

    Nothing here waits for a device.
    """

    picture: Tensor
    """(1, 3, H, W) R'G'B', for the network."""
    _colour: Tensor
    """(1, 3, 1, 1)"""
    _single: Tensor
    """(1, 1, 1, 1) bool: whether that is the only colour that is hidden."""

    @classmethod
    def of(cls, picture: Tensor, alpha: Tensor) -> "Cutout":
        """Take the hidden colour out of ``picture``.

        Args:
            picture: (1, 3, H, W) R'G'B', straight: not multiplied by alpha.
            alpha: (1, 1, H, W) in [0, 1].
        """
        seen = alpha > 0
        lowest = torch.where(seen, inf, picture).amin((2, 3), keepdim=True)
        highest = torch.where(seen, -inf, picture).amax((2, 3), keepdim=True)
        single = (lowest == highest).all(1, keepdim=True)
        continued = torch.where(seen | ~single, picture, _continued(picture, seen.to(picture)))
        return cls(continued, lowest, single)

    def put_back(self, enlarged: Tensor, alpha: Tensor, smallest: float) -> Tensor:
        """The result with the hidden colour where nothing is seen.

        Args:
            enlarged: (1, 3, H', W').
            alpha: (1, 1, H', W').
            smallest: the alpha up to which nothing is seen.
        """
        return torch.where(self._single & (alpha <= smallest), self._colour, enlarged)


def _continued(picture: Tensor, seen: Tensor) -> Tensor:
    """``picture`` with averages of what is seen, of ever larger surroundings, where it is not.

    Source: Gortler, Grzeszczuk, Szeliski, Cohen, "The Lumigraph", SIGGRAPH 1996, section 3.4 (pull
    and push).

    Args:
        picture: (1, 3, H, W).
        seen: (1, 1, H, W), 1 or 0.
    """
    height, width = picture.shape[-2:]
    if max(height, width) == 1:
        return picture
    share = _halved(seen)
    mean = _halved(picture * seen) / share.clamp(min=torch.finfo(share.dtype).tiny)
    coarse = _continued(mean, (share > 0).to(seen))
    return torch.where(seen > 0, picture, interpolate(coarse, (height, width), mode="bilinear"))


def _halved(values: Tensor) -> Tensor:
    return avg_pool2d(values, 2, ceil_mode=True, count_include_pad=False)

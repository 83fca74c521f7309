"""How a network wants its input shifted and scaled, found out by trying it.

A checkpoint of SPAN does not hold the mean and range that it was trained with, and what metadata
say of them may be wrong. With wrong ones a network still runs, and ruins every picture. But it
shows at once: a super-resolution network comes close to a bicubic enlargement of a smooth picture,
whatever it was trained for, and a wrongly fed one does not come near.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vsr.resample import resize

__all__ = ["DIV2K_MEAN", "Normalisation", "choose", "probe_picture"]

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
IMAGENET_MEAN = (0.485, 0.456, 0.406)

# dB against a bicubic enlargement of the probe. Six files, fed in every way: 39 to 40 if fed right
# (26 where a model shifts colours), 22 to 32 with the other mean, at most 13 in every other way.
_CERTAIN = 36.0
"""From here on, nothing else is tried: the wrong mean never gets so far."""
_CREDIBLE = 20.0
"""Below, a network is taken for no trained one, and nothing is concluded from it."""
_MARGIN = 6.0
"""By so much another normalisation has to be better."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Normalisation:
    """A network's input is ``(picture - mean) * img_range``; the defaults leave it as it is."""

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    img_range: float = 1.0

    def apply(self, picture: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to what the network's first convolution is to see."""
        return (picture - self._mean()) * self.img_range

    def undo(self, normalised: Tensor) -> Tensor:
        """The inverse of :meth:`apply`."""
        return normalised / self.img_range + self._mean()

    def _mean(self) -> Tensor:
        return torch.tensor(self.mean).view(-1, 1, 1)

    def __str__(self) -> str:
        if self == Normalisation():
            return "none"
        return f"mean ({', '.join(f'{m:g}' for m in self.mean)}) and range {self.img_range:g}"


KNOWN = (
    Normalisation(),
    Normalisation(DIV2K_MEAN, 255.0),
    Normalisation(DIV2K_MEAN, 1.0),
    Normalisation(IMAGENET_MEAN, 1.0),
    Normalisation(IMAGENET_MEAN, 255.0),
)
"""Those that published checkpoints were trained with, and the one in between."""


def choose(
    network: Callable[[Tensor], Tensor], scale: int, inferred: Normalisation, name: str
) -> Normalisation:
    """The normalisation that a network's weights were trained with.

    ``inferred`` stays unless another one of :data:`KNOWN` is better beyond doubt; then a warning
    says so. A network that makes no picture of any of them (it is not trained, or does something
    else) keeps it without a word. One that shifts colours by itself may hide a wrong mean, not a
    wrong range.

    Args:
        network: maps (N, 3, H, W) in [0, 1] to (N, 3, scale * H, scale * W); float32, CPU.
            It normalises by ``inferred`` itself.
        scale: its enlargement.
        inferred: what the file says, or what is usual.
        name: how the warning calls it.
    """
    (before,) = _score(network, scale, inferred, [inferred])
    if before >= _CERTAIN:
        return inferred
    others = [other for other in KNOWN if str(other) != str(inferred)]  # but for rounding
    after, best = max(
        zip(_score(network, scale, inferred, others), others, strict=True), key=lambda s: s[0]
    )
    if after < _CREDIBLE or after < before + _MARGIN:
        return inferred
    logger.warning(
        "%s: its normalisation looks wrong (%.1f dB against a bicubic enlargement); "
        "using %s instead (%.1f dB)", name, before, best, after,
    )  # fmt: skip
    return best


@torch.inference_mode()
def _score(
    network: Callable[[Tensor], Tensor],
    scale: int,
    inferred: Normalisation,
    tried: Sequence[Normalisation],
) -> list[float]:
    """PSNR in dB of the probe, fed in every way of ``tried``, against a bicubic enlargement."""
    picture = probe_picture()
    height, width = (scale * side for side in picture.shape[2:])
    fed = torch.cat([inferred.undo(way.apply(picture)) for way in tried])
    wrong = network(fed).clamp(0, 1) - resize(picture, height, width, "bicubic").clamp(0, 1)
    errors = wrong.square().mean((1, 2, 3)).nan_to_num(nan=math.inf)
    return (-10 * errors.log10()).tolist()


def probe_picture(side: int = 24) -> Tensor:
    """A picture of the colours of photographs, (1, 3, side, side) in [0, 1]: no file, no chance.

    Waves whose height falls with their frequency, a disc, a horizon, a gradient. It is smoother
    than most photographs, so that networks of every taste agree about it.
    """
    along = (torch.arange(side) + 0.5) / side
    y, x = along[:, None], along[None, :]
    count = torch.arange(24)[:, None, None]
    frequency = 0.7 * (0.6 * side) ** (count / 23)  # cycles across the picture, to 0.42 a pixel
    angle, phase = 2.4 * count, 1.3 * count**2  # spread evenly, in no order
    waves = torch.cos(math.tau * frequency * (x * angle.cos() + y * angle.sin()) + phase)
    texture = (waves / frequency).sum(0)
    disc = torch.sigmoid((0.28 - torch.hypot(x - 0.6, y - 0.45)) * 1.5 * side)
    ground = torch.sigmoid((y - 0.3 * x - 0.55) * 1.5 * side)
    light = 0.12 * texture + 0.3 * disc - 0.3 * ground + 0.2 * x
    red, green, blue = light + 0.1 * disc, light, light - 0.1 * disc + 0.1 * ground
    picture = torch.stack([red, green, blue])
    colours = torch.tensor([0.467, 0.446, 0.405])  # between the means of DIV2K and ImageNet
    picture += colours.view(3, 1, 1) - picture.mean((1, 2), keepdim=True)
    return picture.clamp(0, 1)[None]

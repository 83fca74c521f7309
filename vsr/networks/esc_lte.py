"""ESC+LTE: pictures of any size from ESC's features, by a local texture estimator.

ESC is in :mod:`vsr.networks.esc`, the estimator is Lee and Jin's (CVPR 2022). Checked against the
outputs of ESC's authors, who put both together (github.com/dslisleedh/ESC, folder esc_arb, BSD-3,
commit e7e6938). Parameter names are those of the published checkpoint.
"""

import math
from collections.abc import Iterable, Mapping
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.networks.esc import LTE_FEATURES, Esc, EscConfig
from vsr.networks.esc import infer_config as infer_encoder

__all__ = ["EscLte", "detect", "infer_config"]


class _Mlp(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        hidden = [part for _ in range(3) for part in (nn.Linear(features, features), nn.ReLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(features, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class EscLte(nn.Module):
    """ESC's features, read at any place: a local texture estimator (Lee and Jin, CVPR 2022).

    For a place in the output, each of the four nearest input pixels estimates the frequencies of
    the texture there; a small network makes a colour of them; the four are weighted by area.
    """

    _PIXELS = 32768
    """Output pixels that are worked on at once: each takes 4 x 256 numbers."""
    _LARGEST_TRAINED = 4

    def __init__(self, config: EscConfig, features: int = LTE_FEATURES) -> None:
        super().__init__()
        self.config = config
        self.encoder = Esc(config)
        self.coef = nn.Conv2d(config.channels, features, 3, padding=1)
        self.freq = nn.Conv2d(config.channels, features, 3, padding=1)
        self.phase = nn.Linear(2, features // 2, bias=False)
        self.imnet = _Mlp(features)

    def encode(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to features (N, C, H, W)."""
        out: Tensor = self.encoder(2 * x - 1)
        return out

    def forward(self, x: Tensor, shape: tuple[int, int]) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, *shape), nominally in [0, 1], not clamped."""
        return self.render(self.encode(x), x, shape)

    def render(self, features: Tensor, x: Tensor, shape: tuple[int, int]) -> Tensor:
        """The picture of ``shape`` (height, width) from :meth:`encode`'s features of ``x``."""
        coefficients, frequencies = (
            layer(features).permute(0, 2, 3, 1) for layer in (self.coef, self.freq)
        )
        down, across = _neighbours(x.shape[2], shape[0], x), _neighbours(x.shape[3], shape[1], x)
        phase = self._phase(x, shape)
        step = max(1, self._PIXELS // shape[1])
        strips = [
            self._strip(coefficients, frequencies, down[:, :, top : top + step], across, phase)
            for top in range(0, shape[0], step)
        ]
        smooth = F.interpolate(2 * x - 1, size=shape, mode="bilinear")
        return (torch.cat(strips, dim=1).permute(0, 3, 1, 2) + smooth) * 0.5 + 0.5

    def _phase(self, x: Tensor, shape: tuple[int, int]) -> Tensor:
        """Of the size of an output pixel, which is not let below what training has seen."""
        height, width = x.shape[2:]
        least = max(shape[0] / height / self._LARGEST_TRAINED, 1)
        sides = (2 * height / shape[0], 2 * width / shape[1])
        pixel = torch.cat([x.new_full((1,), side * least) for side in sides])  # capturable
        out: Tensor = self.phase(pixel)
        return out

    def _strip(
        self, coefficients: Tensor, frequencies: Tensor, down: Tensor, across: Tensor, phase: Tensor
    ) -> Tensor:
        """Some rows of the output: (N, rows, W, 3)."""
        colour = total = phase.new_zeros(())
        for upper, left in product((0, 1), (0, 1)):
            (rows, away_y), (columns, away_x) = down[:, upper], across[:, left]
            place = rows.long()[:, None], columns.long()
            found = self._estimate(coefficients[:, *place], frequencies[:, *place],
                                   away_y[:, None, None], away_x[:, None], phase)  # fmt: skip
            opposite = down[1, 1 - upper][:, None] * across[1, 1 - left]
            area = opposite.abs()[..., None] + 1e-9
            colour, total = colour + area * found, total + area
        return colour / total

    def _estimate(
        self, coefficients: Tensor, frequencies: Tensor, away_y: Tensor, away_x: Tensor,
        phase: Tensor,
    ) -> Tensor:  # fmt: skip
        """Colours from one input pixel each, ``away`` from it in input pixels: (N, h, w, 3)."""
        waves = frequencies.reshape(*frequencies.shape[:-1], -1, 2)
        angle = math.pi * (waves[..., 0] * away_y + waves[..., 1] * away_x + phase)
        basis = torch.cat([angle.cos(), angle.sin()], dim=-1) * coefficients
        layers = self.imnet.layers
        assert isinstance(layers[0], nn.Linear)
        out: Tensor = self.imnet(basis.to(layers[0].weight.dtype))
        return out.to(basis.dtype)


def _neighbours(length: int, target: int, like: Tensor) -> Tensor:
    """For places on one axis, the input pixels before and after, and how far away those are.

    Returns:
        (2, 2, target): index and distance in input pixels; of the pixel before, of the one after.
    """
    places = (2 * torch.arange(target, device=like.device) + 1) / target - 1
    shifts = (2 * torch.arange(2.0, device=like.device)[:, None] - 1) / length
    moved = (places + shifts + 1e-6).clamp(-1 + 1e-6, 1 - 1e-6)
    index = ((moved + 1) * length / 2 - 0.5).round().clamp(0, length - 1)
    centres = (2 * index + 1) / length - 1
    return torch.stack([index, (places - centres) * length])


def detect(keys: Iterable[str]) -> bool:
    """Whether ``keys`` are those of ESC+LTE."""
    return {"encoder.plk_filter", "coef.weight", "imnet.layers.0.weight"} <= set(keys)


def infer_config(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> EscConfig:
    """Hyper-parameters of the encoder of ESC+LTE from the shapes."""
    prefix = "encoder."
    encoder = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return infer_encoder(encoder, metadata)

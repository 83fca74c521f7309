"""SSTReal: one step from noise to a picture, by the layers of SST.

Written from the authors' code and checked against its outputs (github.com/dslisleedh/SST, MIT,
commit bcd6132); it is in no paper. Parameter names are those of the published checkpoint. Windows
leave no trace in it: metadata ``windows``, else the published ones. The running sum of features
stays in float32 when the layers are in half precision, as in :mod:`vsr.networks.sst`.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.networks.attention import (
    ImplicitBiasAttention,
    LayerNorm,
    Pointwise,
    pad_to_multiple,
)
from vsr.networks.variants import parse_windows

__all__ = ["SstReal", "SstRealConfig", "detect", "infer_config", "prepare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SstRealConfig:
    """Hyper-parameters of the one published model."""

    channels: int = 192
    blocks: int = 14
    windows: tuple[int, ...] = (16, 32, 64, 16, 32, 64)
    heads: int = 6
    ranks: tuple[int, ...] = (16, 16, 16, 32, 32, 32)
    inner: int = 384
    embedding: int = 768
    noise_channels: int = 192
    middle: int = 96
    fused: int = 7
    """Leading blocks that see the input again; the last of them gives the guiding picture."""
    guidance: float = 2.0
    """How far the result goes beyond the guiding picture: 1 is no guidance, the authors test 2."""
    scale: int = 4
    in_channels: int = 3
    out_channels: int = 3

    @property
    def halo(self) -> int:
        """Pixels by which tiles overlap: one of the largest windows."""
        return max(self.windows)

    @property
    def grid(self) -> int:
        """What tile origins must be multiples of; pictures are mirrored to a multiple of it."""
        return math.lcm(*self.windows)

    @property
    def body(self) -> tuple[str, ...]:
        """Layers that may run in half precision; noise, modulation and the ends do not."""
        depth = len(self.windows)
        layers = [f"proj_body.{b}.blocks.{i}" for b in range(self.blocks) for i in range(depth)]
        return tuple(f"{layer}.{part}" for layer in layers for part in ("attn", "ffn"))

    @property
    def values_per_pixel(self) -> float:
        """Numbers that are alive at once for an input pixel, at the worst moment."""
        return max(16 * self.channels + 12 * self.inner, 8 * self.middle * self.scale**2)


class SwiGluFfn(nn.Module):
    """Gated feed-forward layer with a depthwise convolution."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.w12 = nn.Sequential(
            Pointwise(channels, 2 * inner),
            nn.Conv2d(2 * inner, 2 * inner, 3, padding=1, groups=2 * inner),
        )
        self.w3 = Pointwise(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        gate, value = self.w12(x).chunk(2, dim=1)
        out: Tensor = self.w3(F.silu(gate) * value)
        return out


class RealLayer(nn.Module):
    """A transformer layer whose normalised inputs and outputs are modulated by the noise level."""

    def __init__(self, config: SstRealConfig, window: int, rank: int) -> None:
        super().__init__()
        c = config.channels
        self.norm_attn = LayerNorm(c, affine=False)
        self.attn = ImplicitBiasAttention(c, config.heads, window, rank)
        self.norm_ffn = LayerNorm(c, affine=False)
        self.ffn = SwiGluFfn(c, config.inner)

    def forward(self, x: Tensor, modulation: tuple[Tensor, ...]) -> Tensor:
        """(N, C, H, W) to the same; ``modulation`` is six of (1, C, 1, 1)."""
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = modulation
        dtype = self.attn.to_out.weight.dtype
        seen = self.norm_attn(x) * (1 + scale) + shift
        x = x + self.attn(seen.to(dtype)) * gate
        seen = self.norm_ffn(x) * (1 + ffn_scale) + ffn_shift
        out: Tensor = x + self.ffn(seen.to(dtype)) * ffn_gate
        return out


class RealBlock(nn.Module):
    """Six layers, a convolution, and a skip whose weight is learnt."""

    def __init__(self, config: SstRealConfig, *, fuse: bool) -> None:
        super().__init__()
        c = config.channels
        self.fuse_lr = Pointwise(2 * c, c) if fuse else None
        sizes = zip(config.windows, config.ranks, strict=True)
        self.blocks = nn.ModuleList(RealLayer(config, *size) for size in sizes)
        self.out_conv = nn.Conv2d(c, c, 3, padding=1)
        self.adaLN_modulation = nn.Linear(config.embedding, 6 * c)
        self.gamma = nn.Parameter(torch.full((1, c, 1, 1), 1e-3))

    def forward(self, x: Tensor, low: Tensor, embedding: Tensor) -> Tensor:
        """(N, C, H, W) to the same; ``low`` are the input's features."""
        modulation = self.adaLN_modulation(embedding)[:, :, None, None].chunk(6, dim=1)
        hidden = x if self.fuse_lr is None else self.fuse_lr(torch.cat([x, low], dim=1))
        for layer in self.blocks:
            hidden = layer(hidden, modulation)
        out: Tensor = x + self.gamma * self.out_conv(hidden)
        return out


class NoiseEmbedding(nn.Module):
    """The noise level as a vector."""

    def __init__(self, frequencies: int, features: int) -> None:
        super().__init__()
        self.waves = frequencies // 2
        self.mlp = nn.Sequential(
            nn.Linear(frequencies, features), nn.SiLU(), nn.Linear(features, features)
        )

    def forward(self, level: Tensor) -> Tensor:
        """(N,) to (N, features)."""
        powers = torch.arange(self.waves, dtype=torch.float32, device=level.device) / self.waves
        angles = level[:, None] * 10000**-powers
        out: Tensor = self.mlp(torch.cat([angles.cos(), angles.sin()], dim=1))
        return out


def _enlarger(channels: int, middle: int) -> nn.Sequential:
    """Four times as large: nearest neighbour and convolution, twice."""
    return nn.Sequential(
        nn.Conv2d(channels, middle, 3, padding=1), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2),
        nn.Conv2d(middle, middle, 3, padding=1), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2),
        nn.Conv2d(middle, middle, 3, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(middle, 3, 3, padding=1),
    )  # fmt: skip


class SstReal(nn.Module):
    """One step of a consistency model from a noisy enlargement to a picture (published code only).

    The result depends on the noise. It is drawn once from a fixed seed and stays where it is on the
    screen, so that frames of a clip do not flicker against each other.
    """

    SIGMA, SIGMA_DATA = 1.0, 0.5

    def __init__(self, config: SstRealConfig) -> None:
        super().__init__()
        self.config = config
        c = config.channels
        self.map_noise = NoiseEmbedding(config.noise_channels, config.embedding)
        self.proj_in = nn.Conv2d(3 * config.scale**2, c, 3, padding=1)
        self.proj_lr = nn.Conv2d(3, c, 3, padding=1)
        self.proj_body = nn.ModuleList(
            RealBlock(config, fuse=index < config.fused) for index in range(config.blocks)
        )
        self.up_i = _enlarger(c, config.middle)
        self.up_f = _enlarger(c, config.middle)

    @staticmethod
    def noise(height: int, width: int, device: torch.device) -> Tensor:
        """(1, 48, height, width): the noise of a clip, folded to the input's size."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(1, 48, height, width, generator=generator).to(device)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale.

        Args:
            x: (N, 3, H, W) in [0, 1]; or (N, 51, H, W), with the noise of its pixels behind it.

        Returns:
            (N, 3, 4 H, 4 W), nominally in [0, 1], not clamped.
        """
        height, width = x.shape[-2:]
        if x.shape[1] == 3:
            noise = self.noise(height, width, x.device).expand(x.shape[0], -1, -1, -1)
            x = torch.cat([x, noise], dim=1)
        padded = pad_to_multiple(x, self.config.grid)
        low, noise = padded[:, :3] * 2 - 1, F.pixel_shuffle(padded[:, 3:], 4)
        enlarged = F.interpolate(low, scale_factor=4, mode="bicubic")
        out = self.denoise(low, enlarged + self.SIGMA * noise)
        return out[..., : 4 * height, : 4 * width] * 0.5 + 0.5

    def denoise(self, low: Tensor, noisy: Tensor) -> Tensor:
        """One step: (N, 3, H, W) and (N, 3, 4 H, 4 W), both in [-1, 1], to (N, 3, 4 H, 4 W)."""
        level = self.SIGMA / 0.1
        spread = math.hypot(level, self.SIGMA_DATA)
        skip, gain = (self.SIGMA_DATA / spread) ** 2, level / spread
        inner, final = self._pictures(low, noisy)
        guide, result = skip * noisy + gain * inner, skip * noisy + gain * final
        return guide + self.config.guidance * (result - guide)

    def _pictures(self, low: Tensor, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """The pictures after the last fused block and after all of them."""
        embedding = self.map_noise(low.new_full((1,), math.log(self.SIGMA + 0.002) / 4))
        first = hidden = self.proj_in(F.pixel_unshuffle(noisy, 4))
        features, inner = self.proj_lr(low), noisy
        for index, block in enumerate(self.proj_body):
            hidden = block(hidden, features, embedding)
            if index == self.config.fused - 1:
                inner = self.up_i(hidden + first)
        return inner, self.up_f(hidden + first)


def detect(keys: Iterable[str]) -> bool:
    """Whether ``keys`` are those of an SSTReal checkpoint."""
    names = {key.removeprefix("model.") for key in keys}
    return {"proj_in.weight", "proj_body.0.blocks.0.attn.to_hidden", "up_f.8.weight"} <= names


def prepare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefix of the diffusion wrapper."""
    return {key.removeprefix("model."): value for key, value in state.items()}


def infer_config(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> SstRealConfig:
    """Hyper-parameters from the shapes; windows are the published ones unless the file names them.

    Raises:
        ValueError: the shapes are not those of a four-fold enlargement of colour pictures.
    """
    layers = [key for key in state if key.startswith("proj_body.0.") and key.endswith("attn.to_q")]
    queries = [state[key] for key in sorted(layers)]
    named: dict[str, Any] = {}
    if "windows" in metadata:
        named["windows"] = parse_windows(metadata["windows"])
    if state["proj_in.weight"].shape[1] != 48:
        raise ValueError("not a four-fold enlargement of colour pictures")
    return SstRealConfig(
        channels=state["proj_lr.weight"].shape[0],
        blocks=sum(key.endswith(".gamma") for key in state), heads=queries[0].shape[0],
        ranks=tuple(q.shape[2] for q in queries),
        inner=state["proj_body.0.blocks.0.ffn.w3.weight"].shape[1],
        embedding=state["map_noise.mlp.0.weight"].shape[0],
        noise_channels=state["map_noise.mlp.0.weight"].shape[1],
        middle=state["up_f.0.weight"].shape[0],
        fused=sum(key.endswith(".fuse_lr.weight") for key in state), **named,
    )  # fmt: skip

"""SPANPlus: SPAN in stages, with Mish and a choice of ends (neosr and traiNNer-redux).

There is no paper: it is written from a description of the published graph and checked against
outputs of the original. The learnt end is DySample (Liu et al., arXiv 2308.15085). Against SPAN:
the picture is used as it is, Mish takes the place of SiLU, and a network may have several stages.
As with SPAN, every three-branch convolution is folded when weights are loaded. The dropout of
training is absent.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.networks.blocks import FoldedConv, Spab
from vsr.networks.shapes import shuffle_factors

__all__ = ["PRESETS", "SpanPlus", "SpanPlusConfig", "Upsampler", "detect", "infer_config"]

Upsampler = Literal["dys", "ps", "conv"]
"""DySample, a pixel shuffle, or a plain convolution that leaves the size as it is."""

_GROUPS = 4
"""Groups of channels that DySample moves together. Shapes do not tell; SPANPlus has four."""
_REACH = 4
"""Offsets of DySample, in input pixels, that the halo allows for (see SpanPlusConfig.halo)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanPlusConfig:
    """Hyper-parameters; the defaults are those of the preset ``spanplus``."""

    scale: int = 4
    channels: int = 48
    in_channels: int = 3
    out_channels: int = 3
    blocks: tuple[int, ...] = (4,)
    """Blocks of each stage between its first and its last."""
    upsampler: Upsampler = "dys"

    @property
    def halo(self) -> int:
        """Receptive radius in input pixels.

        Exact for ``ps`` and ``conv``. DySample reads at learnt offsets, which nothing bounds. Four
        pixels are allowed for them: trained ones lie within about one, as neighbouring samples
        would change places otherwise. With larger ones, tiles may show at their seams.
        """
        trunk = 1 + sum(3 * (count + 2) + 1 for count in self.blocks)
        return trunk + (_REACH if self.upsampler == "dys" else 1)

    @property
    def body(self) -> tuple[str, ...]:
        """The submodules that may run in half precision: the blocks and what follows them.

        The ends stay in float32, as the picture itself passes through them. So does DySample: a
        coordinate in fp16 is no finer than half a pixel beyond column 1024, in bf16 beyond 128.
        """
        parts = ("block_1", "block_n", "block_end", "conv_2")
        stages = range(1, len(self.blocks) + 1)
        return tuple(f"feats.{stage}.{part}" for stage in stages for part in parts)


PRESETS = {
    "spanplus": SpanPlusConfig(),
    "spanplus_s": SpanPlusConfig(channels=32, blocks=(2,)),
    "spanplus_st": SpanPlusConfig(upsampler="ps"),
    "spanplus_sts": SpanPlusConfig(channels=32, blocks=(2,), upsampler="ps"),
}
"""The named variants, for an enlargement of 4."""


class Stage(nn.Module):
    """A row of attention blocks, joined with its input as SPAN's blocks are."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.block_1 = Spab(channels, nn.Mish)
        self.block_n = nn.ModuleList(Spab(channels, nn.Mish) for _ in range(blocks))
        self.block_end = Spab(channels, nn.Mish)
        self.conv_2 = FoldedConv(channels, channels)
        self.conv_cat = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape, in the precision of ``x``."""
        hidden = x.to(self.conv_2.eval_conv.weight.dtype)
        first, _ = self.block_1(hidden)
        hidden = first
        for block in self.block_n:
            hidden, _ = block(hidden)
        hidden, activation = self.block_end(hidden)
        return self._join(x, torch.cat([self.conv_2(hidden), first, activation], dim=1))

    def _join(self, x: Tensor, others: Tensor) -> Tensor:
        """``conv_cat`` of ``x`` and ``others``, each in its own precision."""
        own, rest = self.conv_cat.weight.tensor_split([x.shape[1]], dim=1)
        return F.conv2d(x, own, self.conv_cat.bias) + F.conv2d(others, rest.to(others.dtype))


class DySample(nn.Module):
    """Enlarges by sampling at learnt places (Liu et al., arXiv 2308.15085), then mixes channels."""

    init_pos: Tensor

    def __init__(self, channels: int, outputs: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        coordinates = 2 * _GROUPS * scale**2
        self.offset = nn.Conv2d(channels, coordinates, 1)
        self.scope = nn.Conv2d(channels, coordinates, 1, bias=False)
        self.register_buffer("init_pos", _sub_pixel_centres(scale))
        self.end_conv = nn.Conv2d(channels, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, outputs, scale * H, scale * W)."""
        samples = F.grid_sample(
            self._mix(x), self._grid(x), mode="bilinear", padding_mode="border", align_corners=False
        )
        assert self.end_conv.bias is not None
        shares = samples.reshape(len(x), _GROUPS, *samples.shape[1:])
        return shares.sum(1) + self.end_conv.bias.view(-1, 1, 1)

    def _mix(self, x: Tensor) -> Tensor:
        """Every group's share in ``end_conv``: (N * groups, outputs, H, W).

        The mix follows the sampling in the published code. Both are linear and act on different
        axes, so their order is free, and this one samples a fraction of the channels.
        """
        weight = self.end_conv.weight  # outputs, channels, 1, 1
        own = weight.reshape(len(weight), _GROUPS, -1, 1, 1).transpose(0, 1).flatten(0, 1)
        return F.conv2d(x, own, groups=_GROUPS).reshape(-1, len(weight), *x.shape[2:])

    def _grid(self, x: Tensor) -> Tensor:
        """Where to sample, -1 to 1 across the picture: (N * groups, scale * H, scale * W, 2)."""
        offset = self.offset(x) * self.scope(x).sigmoid() * 0.5 + self.init_pos
        across, down = offset.chunk(2, dim=1)  # input pixels
        height, width = x.shape[2:]
        columns = torch.arange(width, dtype=x.dtype, device=x.device) + 0.5
        rows = torch.arange(height, dtype=x.dtype, device=x.device).view(-1, 1) + 0.5
        places = torch.cat([(across + columns) * (2 / width), (down + rows) * (2 / height)], dim=1)
        grid = F.pixel_shuffle(places - 1, self.scale)
        grid = grid.reshape(len(x), 2, _GROUPS, *grid.shape[2:])
        return grid.permute(0, 2, 3, 4, 1).flatten(0, 1)


def _sub_pixel_centres(scale: int) -> Tensor:
    """Offsets from a pixel's centre to those of its parts: (1, 2 * groups * scale**2, 1, 1).

    Channels are ordered by axis (x, y), group, row and column of the part.
    """
    centres = (torch.arange(scale) + 0.5) / scale - 0.5
    down, across = torch.meshgrid(centres, centres, indexing="ij")
    places = torch.stack([across, down])[:, None].expand(-1, _GROUPS, -1, -1)
    return places.reshape(1, -1, 1, 1)


class SpanPlus(nn.Module):
    """The network, in its folded form."""

    def __init__(self, config: SpanPlusConfig) -> None:
        super().__init__()
        self.config = config
        c = config.channels
        stages = (Stage(c, blocks) for blocks in config.blocks)
        self.feats = nn.Sequential(FoldedConv(config.in_channels, c), *stages)
        self.upsampler = _end(config)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale (N, in_channels, H, W) in [0, 1] by ``scale``; the result is not clamped."""
        out: Tensor = self.upsampler(self.feats(x))
        return out


def _end(config: SpanPlusConfig) -> nn.Module:
    """From features to the enlarged picture."""
    c, outputs, scale = config.channels, config.out_channels, config.scale
    if config.upsampler == "dys":
        return DySample(c, outputs, scale)
    if config.upsampler == "ps":
        conv = nn.Conv2d(c, outputs * scale**2, 3, padding=1)
        return nn.Sequential(conv, nn.PixelShuffle(scale))
    return nn.Conv2d(c, outputs, 3, padding=1)


def detect(keys: Iterable[str]) -> bool:
    """Whether ``keys`` are those of a SPANPlus checkpoint, folded or not."""
    names = set(keys)
    starts = ("feats.0.eval_conv.weight", "feats.0.sk.weight")
    ends = ("upsampler.offset.weight", "upsampler.0.weight", "upsampler.weight")
    return (
        not names.isdisjoint(starts)
        and not names.isdisjoint(ends)
        and any(name.startswith("feats.1.block_1.c1_r.") for name in names)
    )


def infer_config(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> SpanPlusConfig:
    """Hyper-parameters from the shapes of a folded state dict; ``metadata`` is not needed.

    Raises:
        ValueError: the shapes fit no integer scale.
    """
    channels, in_channels = state["feats.0.eval_conv.weight"].shape[:2]
    stages = sum(name.endswith(".block_1.c1_r.eval_conv.weight") for name in state)
    upsampler, out_channels, scale = _infer_end(state, in_channels)
    return SpanPlusConfig(
        scale=scale, channels=channels, in_channels=in_channels, out_channels=out_channels,
        blocks=tuple(_middle_blocks(state, stage) for stage in range(1, stages + 1)),
        upsampler=upsampler,
    )  # fmt: skip


def _middle_blocks(state: Mapping[str, Tensor], stage: int) -> int:
    start = f"feats.{stage}.block_n."
    return sum(k.startswith(start) and k.endswith(".c1_r.eval_conv.weight") for k in state)


def _infer_end(state: Mapping[str, Tensor], in_channels: int) -> tuple[Upsampler, int, int]:
    """Kind of the end, output channels, scale."""
    if "upsampler.weight" in state:
        return "conv", state["upsampler.weight"].shape[0], 1
    if "upsampler.0.weight" in state:
        return "ps", *shuffle_factors(state["upsampler.0.weight"].shape[0], in_channels)
    coordinates, channels = state["upsampler.offset.weight"].shape[:2]
    if channels % _GROUPS:
        raise ValueError(f"{channels} channels do not fall into {_GROUPS} groups")
    scale = isqrt(coordinates // (2 * _GROUPS))
    if coordinates != 2 * _GROUPS * scale**2:
        raise ValueError(f"{coordinates} coordinates of {_GROUPS} groups fit no integer scale")
    return "dys", state["upsampler.end_conv.weight"].shape[0], scale

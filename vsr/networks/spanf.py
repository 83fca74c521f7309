"""SPAN-F, second in NTIRE 2025's efficient super-resolution challenge (XiaomiMM, team 24).

Written from the challenge report and checked against the authors' outputs (code in
github.com/Amazingren/NTIRE2025_ESR, MIT). Against SPAN: the picture is used as it is, a
nearest-neighbour skip joins before the last convolution, and the first block, whose channel counts
differ, goes without attention.

With ``unshuffle`` above 1, which is ours, the network works on a grid that is as many times
coarser: the pixels of a cell become channels, and the last shuffle brings them back. At 2, the
blocks cost a quarter and see twice as far.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.networks.blocks import FoldedConv, Spab
from vsr.networks.shapes import shuffle_scale

__all__ = ["SpanF", "SpanFConfig", "detect", "infer_config"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanFConfig:
    """Hyper-parameters; the defaults are the challenge entry's."""

    scale: int = 4
    channels: int = 32
    in_channels: int = 3
    blocks: int = 5
    unshuffle: int = 1
    """Side of the cells whose pixels become channels."""

    @property
    def out_channels(self) -> int:
        """The skip ties them to ``in_channels``."""
        return self.in_channels

    @property
    def inner_channels(self) -> int:
        """Channels of the picture on the coarse grid."""
        return self.in_channels * self.unshuffle**2

    @property
    def halo(self) -> int:
        """Receptive radius in input pixels; with cells, in whole cells."""
        radius = 3 * self.blocks + 1
        return radius if self.unshuffle == 1 else self.unshuffle * (radius + 1)

    @property
    def multiple(self) -> int:
        """What sides must be multiples of: one cell."""
        return self.unshuffle

    @property
    def body(self) -> tuple[str, ...]:
        """The submodules that may run in half precision: the blocks, not the picture's own path."""
        return tuple(f"block_{index}" for index in range(1, self.blocks + 1))


class Head(nn.Module):
    """First block: from the picture to features, without attention."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.c1_r = FoldedConv(inputs, channels)
        self.c2_r = FoldedConv(channels, channels)
        self.c3_r = FoldedConv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, channels, H, W)."""
        first = F.silu(self.c1_r(x), inplace=True)
        second = F.silu(self.c2_r(first), inplace=True)
        out: Tensor = self.c3_r(second)
        return out


class SpanF(nn.Module):
    """The network, in its folded form."""

    def __init__(self, config: SpanFConfig) -> None:
        super().__init__()
        self.config = config
        c, colours = config.channels, config.inner_channels
        pixels = colours * config.scale**2
        self.conv_near = nn.Conv2d(colours, pixels, 3, padding=1, groups=colours, bias=False)
        self.block_1 = Head(colours, c)
        for index in range(2, config.blocks + 1):
            self.add_module(f"block_{index}", Spab(c))
        self.conv_cat = nn.Conv2d(pixels + 2 * c, c, 1)
        self.conv_2 = FoldedConv(c, pixels)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale (N, in_channels, H, W) in [0, 1] by ``scale``; the result is not clamped."""
        fold = self.config.unshuffle
        x = F.pixel_unshuffle(x, fold)
        near = self.conv_near(x)
        first = hidden = self.block_1(x.to(self.block_1.c1_r.eval_conv.weight.dtype))
        for index in range(2, self.config.blocks + 1):
            hidden, _ = self.get_submodule(f"block_{index}")(hidden)
        fused = self.conv_cat(torch.cat([near, hidden.to(near), first.to(near)], dim=1))
        return F.pixel_shuffle(self.conv_2(fused), fold * self.config.scale)


def detect(keys: Iterable[str]) -> bool:
    """Whether ``keys`` are those of a SPAN-F checkpoint, folded or not."""
    names = set(keys)
    return {"conv_near.weight", "conv_cat.weight"} <= names and any(
        name.startswith("block_1.c1_r.") for name in names
    )


def infer_config(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> SpanFConfig:
    """Hyper-parameters from a folded state dict; ``metadata`` is not needed.

    No picture has 12 channels or 27: they are cells of 2 x 2 or 3 x 3 pixels of three colours.
    """
    channels, inner = state["block_1.c1_r.eval_conv.weight"].shape[:2]
    fold = isqrt(inner // 3) if inner > 3 and inner == 3 * isqrt(inner // 3) ** 2 else 1
    return SpanFConfig(
        scale=shuffle_scale(state["conv_near.weight"].shape[0], inner),
        channels=channels,
        in_channels=inner // fold**2,
        unshuffle=fold,
        blocks=sum(name.endswith("c1_r.eval_conv.weight") for name in state),
    )

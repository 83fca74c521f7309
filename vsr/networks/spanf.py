"""SPAN-F, second in NTIRE 2025's efficient super-resolution challenge (XiaomiMM, team 24).

Written from the challenge report and checked against the authors' outputs (code in
github.com/Amazingren/NTIRE2025_ESR, MIT). Against SPAN: the picture is used as it is, a
nearest-neighbour skip joins before the last convolution, and the first block, whose channel counts
differ, goes without attention.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.networks.blocks import FoldedConv, Spab

__all__ = ["SpanF", "SpanFConfig", "detect", "infer_config"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanFConfig:
    """Hyper-parameters; the defaults are the challenge entry's."""

    scale: int = 4
    channels: int = 32
    in_channels: int = 3
    blocks: int = 5

    @property
    def out_channels(self) -> int:
        """The skip ties them to ``in_channels``."""
        return self.in_channels

    @property
    def halo(self) -> int:
        """Receptive radius in input pixels."""
        return 3 * self.blocks + 1

    @property
    def body(self) -> tuple[str, ...]:
        """The submodules that may run in half precision: all of them."""
        return ("",)


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
        c, colours = config.channels, config.in_channels
        pixels = colours * config.scale**2
        self.conv_near = nn.Conv2d(colours, pixels, 3, padding=1, groups=colours, bias=False)
        self.block_1 = Head(colours, c)
        for index in range(2, config.blocks + 1):
            self.add_module(f"block_{index}", Spab(c))
        self.conv_cat = nn.Conv2d(pixels + 2 * c, c, 1)
        self.conv_2 = FoldedConv(c, pixels)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale (N, in_channels, H, W) in [0, 1] by ``scale``; the result is not clamped."""
        near = self.conv_near(x)
        first = hidden = self.block_1(x)
        for index in range(2, self.config.blocks + 1):
            hidden, _ = self.get_submodule(f"block_{index}")(hidden)
        fused = self.conv_cat(torch.cat([near, hidden, first], dim=1))
        return F.pixel_shuffle(self.conv_2(fused), self.config.scale)


def detect(keys: Iterable[str]) -> bool:
    """Whether ``keys`` are those of a SPAN-F checkpoint, folded or not."""
    names = set(keys)
    return {"conv_near.weight", "conv_cat.weight"} <= names and any(
        name.startswith("block_1.c1_r.") for name in names
    )


def infer_config(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> SpanFConfig:
    """Hyper-parameters from a folded state dict; ``metadata`` is not needed."""
    channels, in_channels = state["block_1.c1_r.eval_conv.weight"].shape[:2]
    return SpanFConfig(
        scale=isqrt(state["conv_near.weight"].shape[0] // in_channels),
        channels=channels,
        in_channels=in_channels,
        blocks=sum(name.endswith("c1_r.eval_conv.weight") for name in state),
    )

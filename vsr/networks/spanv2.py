"""SPANV2, winner of NTIRE 2026's efficient super-resolution challenge (XiaomiMM, team 22).

Written from the challenge report and checked against the authors' outputs (code in
github.com/Amazingren/NTIRE2026_ESR, MIT). Against SPAN-F: plain convolutions without bias, ReLU, a
learned 1x1 "guidance map" in the place of the sigmoid, and a depthwise-separable end. The authors
fuse the guidance product in a CUDA operator of their own; the arithmetic is the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.networks.shapes import shuffle_scale

__all__ = ["SpanV2", "SpanV2Config", "detect", "infer_config"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanV2Config:
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


class PlainConv(nn.Module):
    """3x3 convolution without bias, under the name that checkpoints use."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        out: Tensor = self.conv(x)
        return out


class Block(nn.Module):
    """Three convolutions; with ``guided``, their residual is weighted by a map of the features."""

    def __init__(self, inputs: int, channels: int, *, guided: bool) -> None:
        super().__init__()
        self.c1 = PlainConv(inputs, channels)
        self.c2 = PlainConv(channels, channels)
        self.c3 = PlainConv(channels, channels)
        self.guidance_map_conv = nn.Conv2d(channels, channels, 1) if guided else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, channels, H, W)."""
        hidden = F.relu(self.c1(x), inplace=True)
        features: Tensor = self.c3(F.relu(self.c2(hidden), inplace=True))
        if self.guidance_map_conv is None:
            return F.relu(features, inplace=True)
        guided: Tensor = (x + features) * self.guidance_map_conv(features)
        return guided


class SpanV2(nn.Module):
    """The network."""

    def __init__(self, config: SpanV2Config) -> None:
        super().__init__()
        self.config = config
        c, colours = config.channels, config.in_channels
        pixels = colours * config.scale**2
        self.conv_near = nn.Conv2d(colours, pixels, 3, padding=1, groups=colours, bias=False)
        for index in range(1, config.blocks + 1):
            inputs = colours if index == 1 else c
            self.add_module(f"block_{index}", Block(inputs, c, guided=index > 1))
        self.depthwise_conv = nn.Conv2d(
            pixels + c, pixels + c, 3, padding=1, groups=pixels + c, bias=False
        )
        self.pointwise_conv = nn.Conv2d(pixels + c, pixels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale (N, in_channels, H, W) in [0, 1] by ``scale``; the result is not clamped."""
        near, hidden = self.conv_near(x), x
        for index in range(1, self.config.blocks + 1):
            hidden = self.get_submodule(f"block_{index}")(hidden)
        mixed = self.depthwise_conv(torch.cat([near, hidden], dim=1))
        return F.pixel_shuffle(self.pointwise_conv(mixed), self.config.scale)


def detect(keys: Iterable[str]) -> bool:
    """Whether ``keys`` are those of a SPANV2 checkpoint."""
    wanted = ("conv_near.weight", "depthwise_conv.weight", "block_2.guidance_map_conv.weight")
    return set(wanted) <= set(keys)


def infer_config(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> SpanV2Config:
    """Hyper-parameters from the shapes of a state dict; ``metadata`` is not needed."""
    channels, in_channels = state["block_1.c1.conv.weight"].shape[:2]
    return SpanV2Config(
        scale=shuffle_scale(state["conv_near.weight"].shape[0], in_channels),
        channels=channels,
        in_channels=in_channels,
        blocks=sum(name.endswith(".c1.conv.weight") for name in state),
    )

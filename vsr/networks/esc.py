"""ESC: convolution that emulates self-attention.

Written from the papers and checked against the authors' outputs (github.com/dslisleedh/ESC, MIT,
commit e7e6938; ESC-RIB from github.com/dslisleedh/SST, MIT). Parameter names are those of published
checkpoints. One attention layer a block looks at the features of a window; then convolutions carry
on what it found (:mod:`vsr.networks.conv_attention`). They share one large kernel, and each makes a
small one from the picture's own mean features.

Because of that mean, every output pixel depends on the whole picture. The authors evaluate pictures
mirrored to a multiple of the window, which the mean sees; a runtime does the same (``multiple``).

Two deliberate differences in form, none in values: the large kernel is averaged over flips and
rotations when it is loaded, and both kernels are one when they are applied.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.networks.attention import (
    ImplicitBiasAttention,
    LayerNorm,
    Pointwise,
    RelativeBiasAttention,
    WindowAttention,
)
from vsr.networks.conv_attention import ConvAttention, DecomposedConvAttention
from vsr.networks.shapes import count_modules, shuffle_scale
from vsr.networks.variants import parse_windows

__all__ = [
    "LTE_FEATURES",
    "VARIANTS",
    "Esc",
    "EscConfig",
    "detect",
    "infer_config",
]

LTE_FEATURES = 256
"""Of each input pixel of ESC+LTE (:mod:`vsr.networks.esc_lte`), twice."""

Ending = Literal["direct", "bicubic", "nearest", "features"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EscConfig:
    """Hyper-parameters; the defaults are ESC's."""

    scale: int = 2
    """Enlargement; 0 is any, by :mod:`vsr.networks.esc_lte`."""
    channels: int = 64
    blocks: int = 5
    convolutions: int = 5
    """Convolutional attentions in a block."""
    window: int = 32
    heads: int = 4
    large_channels: int = 16
    """Leading channels that the large kernel sees; the others pass by."""
    kernel: int = 13
    kernel_hidden: int = 8
    """Width of the layer that makes the small kernel."""
    inner: int = 80
    """Channels inside the feed-forward layers of the convolutions."""
    projection_inner: int = 128
    """Channels inside the feed-forward layer before the attention."""
    normalised: bool = False
    """Whether each convolution's input is normalised."""
    decomposed: bool = False
    """ESC-FP: the large kernel is a 1x1 and a depthwise one."""
    rank: int = 0
    """ESC-RIB: rank of the implicit bias; 0 is a table of relative positions."""
    hidden: int = 32
    frequencies: int = 10
    ending: Ending = "direct"
    """How the picture is made: pixel shuffle upon the nearest neighbour; upon bicubic (ESC-FP);
    nearest neighbour and convolution, twice (ESC-Real); or not at all."""
    in_channels: int = 3
    out_channels: int = 3

    @property
    def halo(self) -> int:
        """Pixels by which tiles overlap: one window."""
        return self.window

    @property
    def grid(self) -> int:
        """What tile origins must be multiples of, so that windows lie where they lay."""
        return self.window

    @property
    def multiple(self) -> int:
        """What sides are mirrored to a multiple of, as the authors do."""
        return self.window

    @property
    def body(self) -> tuple[str, ...]:
        """Layers that may run in half precision; normalisation and both ends do not."""
        parts = [f"{part}.{i}" for part in ("pconvs", "convffns") for i in range(self.convolutions)]
        layers = [
            f"blocks.{block}.{part}"
            for block in range(self.blocks)
            for part in ("proj", "attn", *parts, "conv_out")
        ]
        if self.ending != "features":
            return tuple(layers)
        return (*(f"encoder.{layer}" for layer in layers), "imnet")

    @property
    def values_per_pixel(self) -> float:
        """Numbers that are alive at once for an input pixel, at the worst moment."""
        layer = 9 * self.channels + 3 * max(self.inner, self.projection_inner)
        if self.ending == "features":
            return layer + 4 * LTE_FEATURES
        enlarged = 8 * self.channels * 16 if self.ending == "nearest" else 8 * self.scale**2
        return max(layer, 3 * self.channels + enlarged)


class ConvFfn(nn.Module):
    """Feed-forward layer with a depthwise convolution beside the identity."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = Pointwise(channels, inner)
        self.dwc = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.aggr = Pointwise(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        x = F.gelu(self.proj(x))
        out: Tensor = self.aggr(x + F.gelu(self.dwc(x)))
        return out


class ConvLayer(nn.Module):
    """Convolutional attention on the leading channels, then a mix of all."""

    def __init__(self, config: EscConfig) -> None:
        super().__init__()
        kind = DecomposedConvAttention if config.decomposed else ConvAttention
        self.large_channels = config.large_channels
        self.plk = kind(config.large_channels, config.kernel_hidden)
        self.aggr = Pointwise(config.channels, config.channels)

    def forward(self, x: Tensor, large: tuple[Tensor, ...]) -> Tensor:
        """(N, C, H, W) to the same."""
        seen, rest = x.tensor_split([self.large_channels], dim=1)
        seen = self.plk(seen, large)
        mixed = F.conv2d(seen, self.aggr.weight[:, : self.large_channels], self.aggr.bias)
        return mixed + F.conv2d(rest, self.aggr.weight[:, self.large_channels :])


class Block(nn.Module):
    """Attention once, then convolutions that carry on with what it found."""

    def __init__(self, config: EscConfig) -> None:
        super().__init__()
        c, count = config.channels, config.convolutions
        self.ln_proj = LayerNorm(c)
        self.proj = ConvFfn(c, config.projection_inner)
        self.ln_attn = LayerNorm(c)
        self.attn = _attention(config)
        norms = (LayerNorm(c) if config.normalised else nn.Identity() for _ in range(count))
        self.lns = nn.ModuleList(norms)
        self.pconvs = nn.ModuleList(ConvLayer(config) for _ in range(count))
        self.convffns = nn.ModuleList(ConvFfn(c, config.inner) for _ in range(count))
        self.ln_out = LayerNorm(c)
        self.conv_out = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x: Tensor, large: tuple[Tensor, ...]) -> Tensor:
        """(N, C, H, W) to the same."""
        dtype = self.conv_out.weight.dtype
        hidden = self.proj(self.ln_proj(x).to(dtype)).to(x.dtype)
        hidden = hidden + self.attn(self.ln_attn(hidden).to(dtype))
        for norm, attention, feed in zip(self.lns, self.pconvs, self.convffns, strict=True):
            hidden = hidden + attention(feed(norm(hidden).to(dtype)), large)
        out: Tensor = x + self.conv_out(self.ln_out(hidden).to(dtype))
        return out


def _attention(config: EscConfig) -> WindowAttention:
    c, heads, window = config.channels, config.heads, config.window
    if config.rank:
        return ImplicitBiasAttention(
            c, heads, window, config.rank, config.hidden, config.frequencies
        )
    return RelativeBiasAttention(c, heads, window)


class Esc(nn.Module):
    """The network of figure 3, in all its variants."""

    def __init__(self, config: EscConfig) -> None:
        super().__init__()
        self.config = config
        c, p, k = config.channels, config.large_channels, config.kernel
        if config.decomposed:
            self.lk_channel = nn.Parameter(torch.randn(p, p, 1, 1))
            self.lk_spatial = nn.Parameter(torch.randn(p, 1, k, k))
            self.ln_last = LayerNorm(c)
        else:
            self.plk_filter = nn.Parameter(torch.randn(p, p, k, k))
        self.proj = nn.Conv2d(config.in_channels, c, 3, padding=1)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        last = nn.Conv2d(c, c, 3, padding=1)
        self.last: nn.Module = nn.Sequential(LayerNorm(c), last) if config.rank else last
        self._build_ending()

    def _build_ending(self) -> None:
        config = self.config
        c, rows = config.channels, config.out_channels * config.scale**2
        if config.ending == "nearest":
            self.skip = nn.Sequential(
                Pointwise(3, 2 * c),
                nn.Conv2d(2 * c, 2 * c, 7, padding=3, groups=2 * c, padding_mode="reflect"),
                nn.LeakyReLU(0.2), Pointwise(2 * c, c),
            )  # fmt: skip
            self.to_img: nn.Module = nn.Sequential(*_nearest_ending(c))
        elif config.rank:
            self.upsampler = nn.ModuleDict({"up_conv": nn.Conv2d(c, rows, 3, padding=1)})
        elif config.ending != "features":
            self.to_img = nn.Conv2d(c, rows, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale.

        Args:
            x: (N, 3, H, W), nominally in [0, 1]; any H and W from 4 on.

        Returns:
            (N, 3, scale * H, scale * W), nominally in [0, 1], not clamped; or features
            (N, C, H, W) where the config's ending is "features".
        """
        first = hidden = self.proj(x)
        if self.config.decomposed:
            large: tuple[Tensor, ...] = (self.lk_channel, self.lk_spatial)
        else:
            large = (self.plk_filter,)
        for block in self.blocks:
            hidden = block(hidden, large)
        if self.config.decomposed:
            hidden = self.ln_last(hidden)
        return self._picture(first + self.last(hidden), x)

    def _picture(self, features: Tensor, x: Tensor) -> Tensor:
        ending, scale = self.config.ending, self.config.scale
        if ending == "features":
            return features
        if ending == "nearest":
            out: Tensor = self.to_img(features + self.skip(x))
            return out
        rows = self.upsampler["up_conv"](features) if self.config.rank else self.to_img(features)
        enlarged = F.interpolate(
            x, scale_factor=scale, mode="bicubic" if ending == "bicubic" else "nearest-exact"
        )
        return F.pixel_shuffle(rows, scale) + enlarged


def _nearest_ending(c: int) -> Iterator[nn.Module]:
    for enlarge in (True, True, False):
        if enlarge:
            yield nn.Upsample(scale_factor=2)
        yield nn.Conv2d(c, c, 3, padding=1)
        yield nn.LeakyReLU(0.2)
    yield nn.Conv2d(c, 3, 3, padding=1)


# Published variants, and which one a checkpoint is.

VARIANTS: Mapping[str, EscConfig] = {
    "esc": EscConfig(),
    "esc-light": EscConfig(blocks=3),
    "esc-fp": EscConfig(
        channels=48, heads=3, kernel_hidden=4, inner=60, projection_inner=72, normalised=True,
        decomposed=True, ending="bicubic",
    ),
    "esc-xl": EscConfig(
        channels=192, blocks=8, window=48, heads=12, large_channels=48, kernel_hidden=24, inner=240,
        projection_inner=384, normalised=True,
    ),
    "esc-real": EscConfig(scale=4, blocks=10, inner=128, normalised=True, ending="nearest"),
    "esc-rib": EscConfig(window=64, projection_inner=256, rank=16),
    "esc-lte": EscConfig(scale=0, ending="features"),
}  # fmt: skip
"""At x2, where a variant has more than one scale."""


def detect(keys: Iterable[str]) -> bool:
    """Whether ``keys`` are those of an ESC of one scale."""
    names = set(keys)
    large = {"plk_filter", "lk_spatial"} & names
    endings = {"to_img.weight", "to_img.8.weight", "upsampler.up_conv.weight"} & names
    return bool(large and endings) and "blocks.0.attn.to_qkv.weight" in names


def infer_config(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> EscConfig:
    """Hyper-parameters from the shapes; without an ending, those of a network for features.

    Only the window of ESC-RIB leaves no trace: ``metadata["windows"]``, else the published 64.

    Raises:
        ValueError: the shapes fit no integer scale.
    """
    block = {k.removeprefix("blocks.0."): v for k, v in state.items() if k.startswith("blocks.0.")}
    decomposed, implicit = "lk_spatial" in state, "attn.to_q" in block
    maker = "pconvs.0.plk.proj" if decomposed else "pconvs.0.plk.dwc_proj"
    large = state["lk_spatial" if decomposed else "plk_filter"]
    ending = _infer_ending(state)
    if implicit:
        heads, hidden, rank = block["attn.to_q"].shape
        default = str(VARIANTS["esc-rib"].window)
        (window,) = parse_windows(metadata.get("windows", default))
        frequencies = (block["attn.to_hidden"].shape[0] - 2) // 4
    else:
        heads, steps = block["attn.relative_position_bias"].shape
        window, rank, hidden, frequencies = (math.isqrt(steps) + 1) // 2, 0, 32, 10
    return EscConfig(
        scale=_infer_scale(state), channels=state["proj.weight"].shape[0],
        blocks=count_modules(state, "blocks.{}.ln_out.weight"),
        convolutions=count_modules(block, "pconvs.{}.aggr.weight"), window=window, heads=heads,
        large_channels=large.shape[0], kernel=large.shape[-1],
        kernel_hidden=block[f"{maker}.1.weight"].shape[0],
        inner=block["convffns.0.proj.weight"].shape[0],
        projection_inner=block["proj.proj.weight"].shape[0],
        normalised="lns.0.weight" in block, decomposed=decomposed, rank=rank, hidden=hidden,
        frequencies=frequencies, ending=ending,
    )  # fmt: skip


def _infer_ending(state: Mapping[str, Tensor]) -> Ending:
    if "to_img.8.weight" in state:
        return "nearest"
    if _last_convolution(state) is None:
        return "features"
    return "bicubic" if "lk_spatial" in state else "direct"


def _infer_scale(state: Mapping[str, Tensor]) -> int:
    if "to_img.8.weight" in state:  # nearest neighbour, twice
        return 4
    last = _last_convolution(state)
    return 0 if last is None else shuffle_scale(last.shape[0], 3)


def _last_convolution(state: Mapping[str, Tensor]) -> Tensor | None:
    """The kernel before the pixel shuffle, if there is one."""
    return state.get("to_img.weight", state.get("upsampler.up_conv.weight"))

"""SST: a FlashAttention transformer with a rank-factorised implicit neural bias.

Written from the paper and checked against the authors' outputs (github.com/dslisleedh/SST, MIT,
commit bcd6132). Parameter names are those of published checkpoints. What the paper does not say and
the published models do: pictures are mirrored at the bottom and right up to each layer's window,
layers are normalised before the gate, and a last normalisation precedes the last convolution.

The sizes of windows leave no trace in a checkpoint: SST and SST+ have the same shapes. Metadata
``windows`` or ``variant``, the file's name or the user tell them apart.

The running sum of features stays in float32 when the layers are in half precision: there are up to
130 additions, and each would round.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from vsr.networks.attention import ImplicitBiasAttention, LayerNorm, Pointwise
from vsr.networks.shapes import count_modules, shuffle_scale
from vsr.networks.variants import choose_variant, parse_windows

__all__ = [
    "VARIANTS",
    "Sst",
    "SstConfig",
    "detect",
    "infer_config",
]

Upsampling = Literal["pixelshuffle_direct", "pixelshuffle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SstConfig:
    """Hyper-parameters (table S1 of the paper); the defaults are SST-light's."""

    scale: int = 2
    channels: int = 48
    blocks: int = 5
    windows: tuple[int, ...] = (8, 16, 32, 16, 32, 64)
    """Sides of the windows of a block's layers, in input pixels."""
    heads: int = 3
    ranks: tuple[int, ...] = (16, 16, 16, 24, 24, 24)
    """Columns that the position adds to a query, for each layer of a block."""
    hidden: int = 32
    frequencies: int = 10
    inner: int = 72
    """Channels inside the feed-forward part: 1.5 times ``channels`` here, 1.25 or 2 elsewhere."""
    upsampling: Upsampling = "pixelshuffle_direct"
    middle: int = 64
    """Channels before the pixel shuffle, unless it is direct."""
    in_channels: int = 3
    out_channels: int = 3

    @property
    def halo(self) -> int:
        """Pixels by which tiles overlap: one of the largest windows."""
        return max(self.windows)

    @property
    def grid(self) -> int:
        """What tile origins must be multiples of, so that windows lie where they lay."""
        return math.lcm(*self.windows)

    @property
    def body(self) -> tuple[str, ...]:
        """Layers that may run in half precision; normalisation and both ends do not."""
        depth = len(self.windows)
        layers = [f"body.{block}.{layer}" for block in range(self.blocks) for layer in range(depth)]
        inner = [f"{layer}.{part}" for layer in layers for part in ("attn", "ffn")]
        return (*inner, *(f"body.{block}.{depth}" for block in range(self.blocks)))

    @property
    def values_per_pixel(self) -> float:
        """Numbers that are alive at once for an input pixel, at the worst moment."""
        layer = 16 * self.channels + 6 * self.inner
        shuffled = 0 if self.upsampling == "pixelshuffle_direct" else 6 * self.middle
        return max(layer, 3 * self.channels + self.scale**2 * (shuffled + 6))


class ConvFfn(nn.Module):
    """Feed-forward layer with a depthwise convolution beside the identity."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = Pointwise(channels, inner)
        self.dwc = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.agg = Pointwise(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        x = F.gelu(self.proj(x))
        out: Tensor = self.agg(x + F.gelu(self.dwc(x)))
        return out


class Layer(nn.Module):
    """One transformer layer (STL): attention, then the feed-forward part, both residual."""

    def __init__(self, config: SstConfig, window: int, rank: int) -> None:
        super().__init__()
        c = config.channels
        self.norm_attn = LayerNorm(c)
        self.attn = ImplicitBiasAttention(
            c, config.heads, window, rank, config.hidden, config.frequencies
        )
        self.norm_ffn = LayerNorm(c)
        self.ffn = ConvFfn(c, config.inner)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        dtype = self.attn.to_out.weight.dtype
        x = x + self.attn(self.norm_attn(x).to(dtype))
        out: Tensor = x + self.ffn(self.norm_ffn(x).to(dtype))
        return out


class Block(nn.Sequential):
    """Layers with windows of different sizes, a convolution, and a skip around them (SSTB)."""

    def __init__(self, config: SstConfig) -> None:
        layers = [Layer(config, *sizes) for sizes in zip(config.windows, config.ranks, strict=True)]
        super().__init__(*layers, nn.Conv2d(config.channels, config.channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        *layers, last = self
        hidden = x
        for layer in layers:
            hidden = layer(hidden)
        assert isinstance(last, nn.Conv2d)
        out: Tensor = x + last(hidden.to(last.weight.dtype))
        return out


class Upsampler(nn.Module):
    """The enlarged picture: pixel shuffle of features, upon the nearest-neighbour enlargement."""

    def __init__(self, config: SstConfig) -> None:
        super().__init__()
        self.scale, area, middle = config.scale, config.scale**2, config.middle
        self.feature_conv: nn.Conv2d | None = None
        self.final_conv: nn.Conv2d | None = None
        if config.upsampling == "pixelshuffle_direct":
            self.up_conv = nn.Conv2d(config.channels, config.out_channels * area, 3, padding=1)
        else:
            self.feature_conv = nn.Conv2d(config.channels, middle, 3, padding=1)
            self.up_conv = nn.Conv2d(middle, middle * area, 3, padding=1)
            self.final_conv = nn.Conv2d(middle, config.out_channels, 3, padding=1)

    def forward(self, features: Tensor, picture: Tensor) -> Tensor:
        """(N, C, H, W) and (N, 3, H, W) to (N, 3, scale * H, scale * W)."""
        if self.feature_conv is not None:
            features = F.leaky_relu(self.feature_conv(features), 0.1)
        out = F.pixel_shuffle(self.up_conv(features), self.scale)
        if self.final_conv is not None:
            out = self.final_conv(out)
        enlarged: Tensor = out + F.interpolate(
            picture, scale_factor=self.scale, mode="nearest-exact"
        )
        return enlarged


class Sst(nn.Module):
    """The network of figure 2."""

    def __init__(self, config: SstConfig) -> None:
        super().__init__()
        self.config = config
        c = config.channels
        self.proj = nn.Conv2d(config.in_channels, c, 3, padding=1)
        blocks = [Block(config) for _ in range(config.blocks)]
        self.body = nn.Sequential(*blocks, LayerNorm(c), nn.Conv2d(c, c, 3, padding=1))
        self.upsampler = Upsampler(config)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale.

        Args:
            x: (N, 3, H, W), nominally in [0, 1]; any H and W.

        Returns:
            (N, 3, scale * H, scale * W), nominally in [0, 1], not clamped.
        """
        first = self.proj(x)
        out: Tensor = self.upsampler(first + self.body(first), x)
        return out


# Published variants, and which one a checkpoint is.

_CYCLE, _PLUS = (16, 32, 64, 16, 32, 64), (16, 32, 48, 32, 48, 96)
_BASE = SstConfig(
    channels=180, blocks=6, heads=6, ranks=(18, 18, 18, 34, 34, 34), inner=225,
    upsampling="pixelshuffle",
)  # fmt: skip
_LARGE = SstConfig(
    channels=192, blocks=8, heads=6, ranks=(16, 16, 16, 32, 32, 32), inner=384,
    upsampling="pixelshuffle", middle=96,
)  # fmt: skip
VARIANTS: Mapping[str, SstConfig] = {
    "sst-light": SstConfig(),
    "sst-light+": SstConfig(windows=_PLUS),
    "sst": replace(_BASE, windows=_CYCLE),
    "sst+": replace(_BASE, windows=_PLUS),
    "sst-l": replace(_LARGE, windows=_CYCLE),
    "sst-l+": replace(_LARGE, windows=_PLUS),
    "sst-xl+": replace(_LARGE, channels=224, blocks=10, heads=7, inner=448, windows=_PLUS),
}
"""Table S1 of the paper at x2, and SST-XL+, which came later. Any of them exists at x3 and x4."""


def detect(keys: Iterable[str]) -> bool:
    """Whether ``keys`` are those of an SST checkpoint."""
    return {"proj.weight", "body.0.0.attn.to_hidden", "upsampler.up_conv.weight"} <= set(keys)


def infer_config(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> SstConfig:
    """Hyper-parameters from the shapes, windows from ``metadata``.

    Args:
        state: a published state dict.
        metadata: ``windows`` ("16,32,48") or a hint at the variant.

    Raises:
        ConfigError: the windows are not known.
        ValueError: the shapes fit no integer scale.
    """
    layers = count_modules(state, "body.0.{}.attn.to_q")
    queries = [state[f"body.0.{layer}.attn.to_q"] for layer in range(layers)]
    encoded, hidden = state["body.0.0.attn.to_hidden"].shape
    direct = "upsampler.feature_conv.weight" not in state
    rows, middle = state["upsampler.up_conv.weight"].shape[:2]
    config = SstConfig(
        scale=shuffle_scale(rows, 3 if direct else middle), channels=state["proj.weight"].shape[0],
        blocks=sum(key.endswith(f".{layers}.weight") and key.count(".") == 3 for key in state),
        heads=queries[0].shape[0], ranks=tuple(q.shape[2] for q in queries), hidden=hidden,
        frequencies=(encoded - 2) // 4, inner=state["body.0.0.ffn.proj.weight"].shape[0],
        upsampling="pixelshuffle_direct" if direct else "pixelshuffle",
        middle=VARIANTS["sst-light"].middle if direct else middle,
        in_channels=state["proj.weight"].shape[1],
    )  # fmt: skip
    return replace(config, windows=_windows(config, metadata))


def _windows(config: SstConfig, metadata: Mapping[str, str]) -> tuple[int, ...]:
    if "windows" in metadata:
        return parse_windows(metadata["windows"])
    fitting = [
        name
        for name, variant in VARIANTS.items()
        if replace(variant, scale=config.scale, windows=config.windows) == config
    ]
    if not fitting:
        raise ValueError("no published SST has these shapes, and the file names no windows")
    return VARIANTS[choose_variant(fitting, metadata)].windows

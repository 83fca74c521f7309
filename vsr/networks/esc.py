"""ESC: convolution that emulates self-attention.

Written from the papers and checked against the authors' outputs (github.com/dslisleedh/ESC, MIT,
and its folder esc_arb, BSD-3, commit e7e6938; ESC-RIB from github.com/dslisleedh/SST, MIT).
Parameter names are those of published checkpoints. One attention layer a block looks at the
features of a window; then convolutions whose large kernel is shared by the whole network, and whose
small kernel is made from the picture's own mean features, carry on what it found.

Because of that mean, every output pixel depends on the whole picture. The authors evaluate pictures
mirrored to a multiple of the window, which the mean sees; a runtime does the same (``multiple``).

Two deliberate differences in form, none in values: the large kernel is averaged over flips and
rotations when it is loaded; and the small kernel is added to the large one's diagonal, so that a
step is one convolution, for batches of any size.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
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
    parse_windows,
)

__all__ = [
    "VARIANTS",
    "Esc",
    "EscConfig",
    "EscLte",
    "average_large_kernel",
    "detect",
    "detect_lte",
    "infer_config",
    "infer_lte_config",
]

_LTE_FEATURES = 256

Ending = Literal["direct", "bicubic", "nearest", "features"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EscConfig:
    """Hyper-parameters; the defaults are ESC's."""

    scale: int = 2
    """Enlargement; 0 is any, by :class:`EscLte`."""
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
            return layer + 4 * _LTE_FEATURES
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


def _kernel_maker(channels: int, hidden: int, taps: int = 9) -> nn.Sequential:
    """From mean features to a small depthwise kernel; the published pooling is at place 0."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), Pointwise(channels, hidden), nn.GELU(),
        Pointwise(hidden, channels * taps),
    )  # fmt: skip


def _together(x: Tensor, kernels: Tensor, groups: int) -> Tensor:
    """Convolve each picture of (N, C, H, W) with its own of (N, C, I, k, k)."""
    count, channels = x.shape[:2]
    joined = x.reshape(1, count * channels, *x.shape[2:])
    padding = kernels.shape[-1] // 2
    out = F.conv2d(joined, kernels.flatten(0, 1), padding=padding, groups=count * groups)
    return out.reshape(x.shape)


class ConvAttention(nn.Module):
    """A dense large kernel that all share, and a depthwise 3x3 made from the picture."""

    def __init__(self, config: EscConfig) -> None:
        super().__init__()
        self.dwc_proj = _kernel_maker(config.large_channels, config.kernel_hidden)

    def forward(self, x: Tensor, large: tuple[Tensor, ...]) -> Tensor:
        """(N, p, H, W) to the same; ``large`` is one kernel (p, p, k, k)."""
        (kernel,) = (part.to(x.dtype) for part in large)
        small = self.dwc_proj(x).reshape(x.shape[0], -1, 3, 3)
        margin = kernel.shape[-1] // 2 - 1
        diagonal = F.pad(small, [margin] * 4).permute(0, 2, 3, 1)
        kernels = kernel + torch.diag_embed(diagonal).permute(0, 3, 4, 1, 2)
        return _together(x, kernels, 1)


class DecomposedConvAttention(nn.Module):
    """ESC-FP's: a 1x1 and a depthwise large kernel that all share, and the 3x3."""

    def __init__(self, config: EscConfig) -> None:
        super().__init__()
        self.proj = _kernel_maker(config.large_channels, config.kernel_hidden)

    def forward(self, x: Tensor, large: tuple[Tensor, ...]) -> Tensor:
        """(N, p, H, W) to the same; ``large`` is (p, p, 1, 1) and (p, 1, k, k)."""
        mixing, spatial = (part.to(x.dtype) for part in large)
        small = self.proj(x).reshape(x.shape[0], -1, 1, 3, 3)
        margin = spatial.shape[-1] // 2 - 1
        kernels = spatial + F.pad(small, [margin] * 4)
        return _together(F.conv2d(x, mixing), kernels, x.shape[1])


class ConvLayer(nn.Module):
    """Convolutional attention on the leading channels, then a mix of all."""

    def __init__(self, config: EscConfig) -> None:
        super().__init__()
        kind = DecomposedConvAttention if config.decomposed else ConvAttention
        self.large_channels = config.large_channels
        self.plk = kind(config)
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


# Any scale.


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

    def __init__(self, config: EscConfig, features: int = _LTE_FEATURES) -> None:
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

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, *size), nominally in [0, 1], not clamped."""
        return self.render(self.encode(x), x, size)

    def render(self, features: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
        """The picture of ``size`` (height, width) from :meth:`encode`'s features of ``x``."""
        coefficients, frequencies = (
            layer(features).permute(0, 2, 3, 1) for layer in (self.coef, self.freq)
        )
        down, across = _neighbours(x.shape[2], size[0], x), _neighbours(x.shape[3], size[1], x)
        phase = self._phase(x, size)
        step = max(1, self._PIXELS // size[1])
        strips = [
            self._strip(coefficients, frequencies, down[:, :, top : top + step], across, phase)
            for top in range(0, size[0], step)
        ]
        smooth = F.interpolate(2 * x - 1, size=size, mode="bilinear")
        return (torch.cat(strips, dim=1).permute(0, 3, 1, 2) + smooth) * 0.5 + 0.5

    def _phase(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Of the size of an output pixel, which is not let below what training has seen."""
        height, width = x.shape[2:]
        least = max(size[0] / height / self._LARGEST_TRAINED, 1)
        pixel = x.new_tensor([2 * height / size[0], 2 * width / size[1]]) * least
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
    shifts = torch.tensor([[-1.0], [1.0]], device=like.device) / length
    moved = (places + shifts + 1e-6).clamp(-1 + 1e-6, 1 - 1e-6)
    index = ((moved + 1) * length / 2 - 0.5).round().clamp(0, length - 1)
    centres = (2 * index + 1) / length - 1
    return torch.stack([index, (places - centres) * length])


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


def detect_lte(keys: Iterable[str]) -> bool:
    """Whether ``keys`` are those of ESC+LTE."""
    return {"encoder.plk_filter", "coef.weight", "imnet.layers.0.weight"} <= set(keys)


def average_large_kernel(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The large kernel averaged over the eight flips and rotations, as the authors run it."""
    averaged = dict(state)
    for name in ("plk_filter", "encoder.plk_filter"):
        if name in averaged:
            turned = [torch.rot90(averaged[name], turns, (2, 3)) for turns in range(4)]
            averaged[name] = sum(part + part.flip(3) for part in turned) / 8  # type: ignore[assignment]
    return averaged


def infer_config(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> EscConfig:
    """Hyper-parameters from the shapes.

    Only the window of ESC-RIB leaves no trace: ``metadata["windows"]``, else the published 64.

    Raises:
        ValueError: the shapes fit no integer scale.
    """
    block = {k.removeprefix("blocks.0."): v for k, v in state.items() if k.startswith("blocks.0.")}
    decomposed, implicit = "lk_spatial" in state, "attn.to_q" in block
    maker = "pconvs.0.plk.proj" if decomposed else "pconvs.0.plk.dwc_proj"
    large = state["lk_spatial" if decomposed else "plk_filter"]
    ending: Ending = "bicubic" if decomposed else "direct"
    if "to_img.8.weight" in state or "skip.0.weight" in state:
        ending = "nearest"
    if implicit:
        heads, hidden, rank = block["attn.to_q"].shape
        default = str(VARIANTS["esc-rib"].window)
        (window,) = parse_windows(metadata.get("windows", default))
        frequencies = (block["attn.to_hidden"].shape[0] - 2) // 4
    else:
        heads, steps = block["attn.relative_position_bias"].shape
        window, rank, hidden, frequencies = (math.isqrt(steps) + 1) // 2, 0, 32, 10
    return EscConfig(
        scale=_scale(state, ending), channels=state["proj.weight"].shape[0],
        blocks=_count(state, "blocks.{}.ln_out.weight"),
        convolutions=_count(block, "pconvs.{}.aggr.weight"), window=window, heads=heads,
        large_channels=large.shape[0], kernel=large.shape[-1],
        kernel_hidden=block[f"{maker}.1.weight"].shape[0],
        inner=block["convffns.0.proj.weight"].shape[0],
        projection_inner=block["proj.proj.weight"].shape[0],
        normalised="lns.0.weight" in block, decomposed=decomposed, rank=rank, hidden=hidden,
        frequencies=frequencies, ending=ending,
    )  # fmt: skip


def infer_lte_config(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> EscConfig:
    """Hyper-parameters of the encoder of ESC+LTE from the shapes."""
    prefix = "encoder."
    encoder = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return replace(infer_config({**encoder, "to_img.weight": torch.empty(3, 1)}, metadata),
                   scale=0, ending="features")  # fmt: skip


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    count = 0
    while pattern.format(count) in state:
        count += 1
    return count


def _scale(state: Mapping[str, Tensor], ending: Ending) -> int:
    if ending == "nearest":
        return 4
    name = "to_img.weight" if "to_img.weight" in state else "upsampler.up_conv.weight"
    rows = state[name].shape[0]
    scale = math.isqrt(rows // 3)
    if 3 * scale * scale != rows:
        raise ValueError(f"{rows} channels before the pixel shuffle fit no integer scale")
    return scale

"""SPAN: Swift Parameter-free Attention Network (Wan et al., arXiv 2311.12770).

Written from the paper and checked against the authors' outputs (github.com/hongyuanyu/SPAN,
Apache-2.0, commit c77a591). Two deliberate differences in form, none in values: every three-branch
convolution is folded into one 3x3 kernel once, when weights are loaded, in float64; and activation
is written where it acts (the published code relies on an in-place SiLU for the last skip).

Parameter names are those of published checkpoints: ``conv_1.eval_conv.weight`` and so on. Training
checkpoints hold the branches (``conv_1.sk``, ``conv_1.conv.0`` to ``.2``) as well; :func:`fold`
turns them into the names used here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Span", "SpanConfig", "branches", "detect", "fold", "infer_config"]

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanConfig:
    """Hyper-parameters; the defaults are the authors' smaller model (SPAN-S in the paper)."""

    scale: int = 2
    channels: int = 48
    fused_channels: int = 48
    """Channels after the concatenation; equals ``channels`` but for one NTIRE 2025 entry."""
    in_channels: int = 3
    out_channels: int = 3
    blocks: int = 6
    norm: bool = True
    """Whether the input is shifted and scaled; community models often use it as it is."""
    mean: tuple[float, ...] = DIV2K_MEAN
    img_range: float = 255.0

    @property
    def halo(self) -> int:
        """Receptive radius in input pixels: one for each 3x3 convolution in the chain."""
        return 3 * self.blocks + 3


class FoldedConv(nn.Module):
    """3x3 convolution under the name that checkpoints give to the folded kernel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.eval_conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        out: Tensor = self.eval_conv(x)
        return out


class Spab(nn.Module):
    """Swift parameter-free attention block (section 3.2): the features weight themselves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.c1_r = FoldedConv(channels, channels)
        self.c2_r = FoldedConv(channels, channels)
        self.c3_r = FoldedConv(channels, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the block's output and its first activation, both (N, C, H, W)."""
        first = F.silu(self.c1_r(x), inplace=True)
        second = F.silu(self.c2_r(first), inplace=True)
        features = self.c3_r(second)
        attention = torch.sigmoid(features) - 0.5  # odd: keeps the sign of a feature
        return (features + x) * attention, first


class Span(nn.Module):
    """The network of figure 2, in its folded form."""

    def __init__(self, config: SpanConfig) -> None:
        super().__init__()
        self.config = config
        c, fused = config.channels, config.fused_channels
        if config.norm:
            mean = torch.tensor(config.mean).view(1, -1, 1, 1)
            self.register_buffer("mean", mean, persistent=False)
        else:
            self.register_buffer("no_norm", torch.zeros(1))  # the marker that others look for
        self.conv_1 = FoldedConv(config.in_channels, c)
        for index in range(1, config.blocks + 1):
            self.add_module(f"block_{index}", Spab(c))
        self.conv_2 = FoldedConv(c, c)
        self.conv_cat = nn.Conv2d(4 * c, fused, 1)
        self.upsampler = nn.Sequential(
            nn.Conv2d(fused, config.out_channels * config.scale**2, 3, padding=1),
            nn.PixelShuffle(config.scale),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Upscale.

        Args:
            x: (N, in_channels, H, W), nominally in [0, 1].

        Returns:
            (N, out_channels, scale * H, scale * W), nominally in [0, 1], not clamped.
        """
        features = self.conv_1(self._normalise(x))
        first_output, first_activation = self.block_1(features)
        hidden = first_output
        for index in range(2, self.config.blocks + 1):
            hidden, first_activation = self.get_submodule(f"block_{index}")(hidden)
        deep = self.conv_2(hidden)
        # The paper draws the last skip before block 6; the published models take it inside.
        skips = torch.cat([features, deep, first_output, first_activation], dim=1)
        out: Tensor = self.upsampler(self.conv_cat(skips))
        return out

    def _normalise(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.config.img_range if self.config.norm else x


def detect(keys: Iterable[str]) -> bool:
    """Whether ``keys`` are those of a SPAN checkpoint, folded or not."""
    names = set(keys)
    sites = ("conv_1.eval_conv.weight", "conv_1.sk.weight")
    return (
        any(site in names for site in sites)
        and any(name.startswith("block_1.c1_r.") for name in names)
        and {"conv_cat.weight", "upsampler.0.weight"} <= names
    )


def infer_config(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> SpanConfig:
    """Hyper-parameters from a folded state dict; ``metadata`` can only settle normalisation.

    Raises:
        ValueError: the shapes fit no integer scale, or normalisation without three channels.
    """
    channels, in_channels = state["conv_1.eval_conv.weight"].shape[:2]
    fused = state["conv_cat.weight"].shape[0]
    out_channels, scale = _shuffle(state["upsampler.0.weight"].shape[0], in_channels)
    norm = "no_norm" not in state and metadata.get("norm") != "none"
    mean = DIV2K_MEAN
    if metadata.get("rgb_mean", "null") != "null":
        mean = tuple(float(v) for v in metadata["rgb_mean"].strip("[]").split(","))
    if norm and in_channels != len(mean):
        raise ValueError(f"normalisation needs 3 input channels, the checkpoint has {in_channels}")
    return SpanConfig(
        scale=scale, channels=channels, fused_channels=fused, in_channels=in_channels,
        out_channels=out_channels, blocks=sum(k.endswith("c1_r.eval_conv.weight") for k in state),
        norm=norm, mean=mean, img_range=float(metadata.get("img_range", 255.0)) if norm else 255.0,
    )  # fmt: skip


def _shuffle(rows: int, in_channels: int) -> tuple[int, int]:
    """Output channels and scale of a pixel shuffle that is fed ``rows`` channels."""
    for out_channels in (in_channels, 3, 4, 1):
        scale = isqrt(rows // out_channels)
        if scale and out_channels * scale * scale == rows:
            return out_channels, scale
    raise ValueError(f"{rows} channels before the pixel shuffle fit no integer scale")


def fold(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace the branches of every three-branch convolution by one 3x3 kernel (section 3.3).

    Differentiable, in the precision of ``state``. A stored ``eval_conv`` beside the branches may be
    stale and is recomputed; without branches it is kept.
    """
    sites = [name.removesuffix(".sk.weight") for name in state if name.endswith(".sk.weight")]
    inner = tuple(f"{site}.{part}" for site in sites for part in ("sk.", "conv.", "eval_conv."))
    folded = {name: value for name, value in state.items() if not name.startswith(inner)}
    for site in sites:
        branch = {k: state[f"{site}.{k}"] for k in _BRANCH_NAMES}
        kernel, bias = _fold_site(branch)
        folded[f"{site}.eval_conv.weight"], folded[f"{site}.eval_conv.bias"] = kernel, bias
    return folded


_BRANCH_NAMES = tuple(
    f"{layer}.{kind}"
    for layer in ("sk", "conv.0", "conv.1", "conv.2")
    for kind in ("weight", "bias")
)


def _fold_site(branch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """1x1, 3x3 and 1x1 in a row, plus a 1x1 beside them, as one 3x3 kernel and bias.

    Exact at borders too: padding precedes the first 1x1, so its bias fills the border.
    """
    first, last = branch["conv.0.weight"][:, :, 0, 0], branch["conv.2.weight"][:, :, 0, 0]
    middle = branch["conv.1.weight"]
    left = (last @ middle.flatten(1)).view(len(last), *middle.shape[1:])  # O N 3 3
    kernel = torch.einsum("onuv,ni->oiuv", left, first)
    kernel = kernel + F.pad(branch["sk.weight"], (1, 1, 1, 1))
    bias = left.sum((2, 3)) @ branch["conv.0.bias"] + last @ branch["conv.1.bias"]
    return kernel, bias + branch["conv.2.bias"] + branch["sk.bias"]


def branches(folded: Mapping[str, Tensor], gain: int = 2) -> dict[str, Tensor]:
    """A training state whose fold is ``folded``: random branches, the remainder in none of them.

    The 1x1 beside the chain can only hold a centre tap, so the 3x3 of the chain is chosen by least
    squares to make up the rest; ``fold(branches(s))`` equals ``s`` to rounding.
    """
    state = {}
    for name, value in folded.items():
        if not name.endswith(".eval_conv.weight"):
            if not name.endswith(".eval_conv.bias"):
                state[name] = value.clone()
            continue
        site = name.removesuffix(".eval_conv.weight")
        split = _split_site(value, folded[f"{site}.eval_conv.bias"], gain)
        state.update({f"{site}.{key}": part for key, part in split.items()})
    return state


def _split_site(kernel: Tensor, bias: Tensor, gain: int) -> dict[str, Tensor]:
    outputs, inputs = kernel.shape[:2]
    beside = nn.Conv2d(inputs, outputs, 1).weight.detach()
    first = nn.Conv2d(inputs, gain * inputs, 1)
    last = nn.Conv2d(gain * outputs, outputs, 1)
    rest = (kernel - F.pad(beside, (1, 1, 1, 1))).double()
    left = torch.linalg.pinv(last.weight.detach()[:, :, 0, 0].double())
    right = torch.linalg.pinv(first.weight.detach()[:, :, 0, 0].double())
    middle = torch.einsum("mo,oiuv,in->mnuv", left, rest, right).float()
    return {
        "sk.weight": beside, "sk.bias": bias.clone(),
        "conv.0.weight": first.weight.detach(), "conv.0.bias": torch.zeros(gain * inputs),
        "conv.1.weight": middle, "conv.1.bias": torch.zeros(gain * outputs),
        "conv.2.weight": last.weight.detach(), "conv.2.bias": torch.zeros(outputs),
    }  # fmt: skip

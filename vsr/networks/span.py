"""SPAN: Swift Parameter-free Attention Network (Wan et al., arXiv 2311.12770).

Written from the paper and checked against the authors' outputs (github.com/hongyuanyu/SPAN,
Apache-2.0, commit c77a591). Two deliberate differences in form, none in values: every three-branch
convolution is folded into one 3x3 kernel once, when weights are loaded, in float64; and activation
is written where it acts (the published code relies on an in-place SiLU for the last skip).

Parameter names are those of published checkpoints: ``conv_1.eval_conv.weight`` and so on. Training
checkpoints hold the branches (``conv_1.sk``, ``conv_1.conv.0`` to ``.2``) as well;
:func:`vsr.networks.blocks.fold` turns them into the names used here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.networks.blocks import FoldedConv, Spab
from vsr.networks.normalisation import DIV2K_MEAN, Normalisation, choose
from vsr.networks.shapes import shuffle_factors
from vsr.networks.variants import choose_variant

__all__ = ["Span", "SpanConfig", "detect", "infer_config", "settle"]


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

    @property
    def body(self) -> tuple[str, ...]:
        """The submodules that may run in half precision: 96 % of the work, none of the picture."""
        return (*(f"block_{index}" for index in range(1, self.blocks + 1)), "conv_2")


class Span(nn.Module):
    """The network of figure 2, in its folded form."""

    mean: Tensor

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

    @property
    def blocks(self) -> list[nn.Module]:
        """The SPABs, in order."""
        names = (f"block_{index}" for index in range(1, self.config.blocks + 1))
        return [self.get_submodule(name) for name in names]

    def forward(self, x: Tensor) -> Tensor:
        """Upscale.

        In the paper: ``upsampler(conv_cat(cat(conv_1, conv_2, block_1, activation)))``. A 1x1
        convolution of a concatenation is a sum, here of the share of ``conv_1`` and of all others.

        Args:
            x: (N, in_channels, H, W), nominally in [0, 1].

        Returns:
            (N, out_channels, scale * H, scale * W), nominally in [0, 1], not clamped.
        """
        x = self._normalise(x)
        hidden = self.conv_1(x).to(self.conv_2.eval_conv.weight.dtype)
        out: Tensor = self.upsampler(self._direct(x) + self.trunk(hidden))
        return out

    def trunk(self, hidden: Tensor) -> Tensor:
        """What the blocks add: their share of ``conv_cat``.

        Args:
            hidden: (N, channels, H, W), the features of ``conv_1``.

        Returns:
            (N, fused_channels, H, W).
        """
        first_block, *blocks = self.blocks
        first, activation = first_block(hidden)
        hidden = first
        for block in blocks:
            hidden, activation = block(hidden)
        deep = self.conv_2(hidden)
        # The paper draws the last skip before block 6; the published models take it inside.
        others = torch.cat([deep, first, activation], dim=1)
        _, fusion_of_others = self._split_fusion()
        return F.conv2d(others, fusion_of_others.to(others.dtype))

    def _direct(self, x: Tensor) -> Tensor:
        """The share of ``conv_1`` in ``conv_cat``: one 3x3 convolution of the picture.

        Nothing nonlinear lies between the two. It stays in full precision and costs next to
        nothing; with bf16 throughout, the output would be no finer than 8 bits. The two kernels are
        multiplied for every picture, because training changes both.
        """
        first, (fusion_of_first, _) = self.conv_1.eval_conv, self._split_fusion()
        assert first.bias is not None
        assert self.conv_cat.bias is not None
        own = fusion_of_first[:, :, 0, 0]
        kernel = torch.einsum("oc,cikl->oikl", own, first.weight)
        return F.conv2d(x, kernel, own @ first.bias + self.conv_cat.bias, padding=1)

    def _split_fusion(self) -> tuple[Tensor, Tensor]:
        """The kernel of ``conv_cat`` for ``conv_1``, and that for everything after it."""
        channels = self.conv_1.eval_conv.out_channels
        of_first, of_others = self.conv_cat.weight.tensor_split([channels], dim=1)
        return of_first, of_others

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

    It may say ``norm`` (none), ``rgb_mean`` and ``img_range``, or hint at a variant, ``norm`` or
    ``no-norm``.

    Raises:
        ValueError: the shapes fit no integer scale, or normalisation without three channels.
    """
    channels, in_channels = state["conv_1.eval_conv.weight"].shape[:2]
    fused = state["conv_cat.weight"].shape[0]
    out_channels, scale = shuffle_factors(state["upsampler.0.weight"].shape[0], in_channels)
    norm = _is_normalised(state, metadata)
    mean: tuple[float, ...] = DIV2K_MEAN
    if metadata.get("rgb_mean", "null") != "null":
        mean = tuple(float(v) for v in metadata["rgb_mean"].strip("[]").split(","))
    if norm and in_channels != len(mean):
        raise ValueError(f"normalisation needs 3 input channels, the checkpoint has {in_channels}")
    return SpanConfig(
        scale=scale, channels=channels, fused_channels=fused, in_channels=in_channels,
        out_channels=out_channels, blocks=sum(k.endswith("c1_r.eval_conv.weight") for k in state),
        norm=norm, mean=mean, img_range=float(metadata.get("img_range", 255.0)) if norm else 255.0,
    )  # fmt: skip


def _is_normalised(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bool:
    """Whether the input is shifted and scaled; what the file itself says comes first."""
    if "no_norm" in state or metadata.get("norm") == "none":
        return False
    return choose_variant(("norm", "nonorm"), metadata, default="norm") == "norm"


def settle(network: Span) -> Span:
    """``network``, or a copy that normalises as its weights were trained with (see ``choose``).

    ``network`` is in float32 on the CPU, ready for inference, and keeps its parameters. Without
    three channels on both sides there is nothing to choose.
    """
    config = network.config
    if (config.in_channels, config.out_channels) != (3, 3):
        return network
    inferred = Normalisation(config.mean, config.img_range) if config.norm else Normalisation()
    chosen = choose(network, config.scale, inferred, "span")
    if chosen == inferred:
        return network
    return _renormalised(network, chosen)


def _renormalised(network: Span, chosen: Normalisation) -> Span:
    norm = chosen != Normalisation()
    mean, img_range = (chosen.mean, chosen.img_range) if norm else (DIV2K_MEAN, 255.0)
    with torch.random.fork_rng(devices=[]):  # values are drawn only to be replaced
        copy = Span(replace(network.config, norm=norm, mean=mean, img_range=img_range))
    copy.load_state_dict(network.state_dict(), strict=False, assign=True)  # but for ``no_norm``
    return copy.eval().requires_grad_(False)

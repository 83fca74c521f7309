"""What the SPAN family shares: folded convolutions, the attention block, the fold itself.

Section 3 of the SPAN paper (Wan et al., arXiv 2311.12770).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FoldedConv", "Spab", "branches", "fold"]


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

    def __init__(self, channels: int, activation: type[nn.SiLU] | type[nn.Mish] = nn.SiLU) -> None:
        super().__init__()
        self.activation = activation(inplace=True)
        self.c1_r = FoldedConv(channels, channels)
        self.c2_r = FoldedConv(channels, channels)
        self.c3_r = FoldedConv(channels, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the block's output and its first activation, both (N, C, H, W)."""
        first = self.activation(self.c1_r(x))
        second = self.activation(self.c2_r(first))
        features = self.c3_r(second)
        attention = torch.sigmoid(features) - 0.5  # odd: keeps the sign of a feature
        return (features + x) * attention, first


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
    """A training state whose fold is ``folded``, in branches that are random but for one.

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

"""ConvAttn: the convolutions by which ESC carries on what its attention found.

A large kernel that all blocks of a network share, and a depthwise 3x3 that each makes from the mean
features of the picture at hand. Both see the leading channels only (see :mod:`vsr.networks.esc`).

Note [One convolution]
    The paper adds the results of both kernels. They see the same features, so the kernels
    themselves are added: the small one to the diagonal of the dense large one, or to the depthwise
    part of a decomposed one. Each picture of a batch then has a kernel of its own, and is a group
    of one convolution.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.networks.attention import Pointwise

__all__ = ["ConvAttention", "DecomposedConvAttention", "average_large_kernel"]


def _kernel_maker(channels: int, hidden: int, taps: int = 9) -> nn.Sequential:
    """From mean features to a small depthwise kernel; the published pooling is at place 0."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), Pointwise(channels, hidden), nn.GELU(),
        Pointwise(hidden, channels * taps),
    )  # fmt: skip


def _convolve_each(x: Tensor, kernels: Tensor, groups: int) -> Tensor:
    """Convolve each picture of (N, C, H, W), in ``groups``, with its own of (N, C, I, k, k)."""
    count, channels = x.shape[:2]
    joined = x.reshape(1, count * channels, *x.shape[2:])
    padding = kernels.shape[-1] // 2
    out = F.conv2d(joined, kernels.flatten(0, 1), padding=padding, groups=count * groups)
    return out.reshape(x.shape)


class ConvAttention(nn.Module):
    """A dense large kernel that all share, and a depthwise 3x3 made from the picture.

    Args:
        channels: p, those that are seen.
        hidden: width of the layer that makes the small kernel.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.dwc_proj = _kernel_maker(channels, hidden)

    def forward(self, x: Tensor, large: tuple[Tensor, ...]) -> Tensor:
        """(N, p, H, W) to the same; ``large`` is one kernel (p, p, k, k)."""
        (kernel,) = (part.to(x.dtype) for part in large)
        small = self.dwc_proj(x).reshape(x.shape[0], -1, 3, 3)
        margin = kernel.shape[-1] // 2 - 1
        diagonal = F.pad(small, [margin] * 4).permute(0, 2, 3, 1)
        kernels = kernel + torch.diag_embed(diagonal).permute(0, 3, 4, 1, 2)
        return _convolve_each(x, kernels, 1)


class DecomposedConvAttention(nn.Module):
    """ESC-FP's: a 1x1 and a depthwise large kernel that all share, and the 3x3.

    The arguments are those of :class:`ConvAttention`.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.proj = _kernel_maker(channels, hidden)

    def forward(self, x: Tensor, large: tuple[Tensor, ...]) -> Tensor:
        """(N, p, H, W) to the same; ``large`` is (p, p, 1, 1) and (p, 1, k, k)."""
        mixing, spatial = (part.to(x.dtype) for part in large)
        small = self.proj(x).reshape(x.shape[0], -1, 1, 3, 3)
        margin = spatial.shape[-1] // 2 - 1
        kernels = spatial + F.pad(small, [margin] * 4)
        return _convolve_each(F.conv2d(x, mixing), kernels, x.shape[1])


def average_large_kernel(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The large kernel averaged over the eight flips and rotations, as the authors run it."""
    averaged = dict(state)
    for name in ("plk_filter", "encoder.plk_filter"):
        if name in averaged:
            turned = [torch.rot90(averaged[name], turns, (2, 3)) for turns in range(4)]
            averaged[name] = sum(part + part.flip(3) for part in turned) / 8  # type: ignore[assignment]
    return averaged

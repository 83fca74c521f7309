"""PyTorch as it is: channels last, the network's body in the precision asked for."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, cast

import torch
from torch import Tensor

from vsr.colour import FromRgb
from vsr.config import Runtime
from vsr.networks import AnyScale, Network
from vsr.networks.attention import fold_attention, pad_to_multiple
from vsr.runtimes.tf32 import without_tf32

__all__ = ["RUNTIME_NAMES", "EagerRuntime", "current"]

RUNTIME_NAMES: dict[Runtime, str] = {
    "winograd": "Winograd kernels", "triton": "Triton", "openvino": "OpenVINO",
    "compile": "torch.compile", "torch": "PyTorch",
}  # fmt: skip
"""What the option's words are called in lines for people, in records and in work folders."""


class EagerRuntime:
    """Runs a network eagerly on one device."""

    option: ClassVar[Runtime] = "torch"
    """The word by which it is asked for."""

    def __init__(self, network: Network, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype if network.body else torch.float32
        """Precision of the network's body."""
        self._input = dtype if "" in network.body else torch.float32
        self._module = copy.deepcopy(network.module)
        fold_attention(self._module)  # while it is in float32
        self._module.to(device)
        self._module.to(memory_format=torch.channels_last)
        for name in network.body:
            self._module.get_submodule(name).to(dtype)
        self._luma_only = network.in_channels == 1
        self._multiple = network.multiple
        self._any_scale = network.scale == 0
        self._precision = without_tf32 if device.type == "cuda" else nullcontext

    @property
    def name(self) -> str:
        """What people call it."""
        return RUNTIME_NAMES[self.option]

    @torch.inference_mode()
    def __call__(self, picture: Tensor) -> Tensor:
        """Upscale (N, 3, H, W) float32 on this device; or, at any scale, make its features."""
        if picture.device != self.device:
            raise ValueError(f"picture is on {picture.device}, the network on {self.device}")
        with current(self.device):
            if self._luma_only:  # a network of one channel sees R, G and B as three pictures
                out = self._run(picture.flatten(0, 1)[:, None])
                return out.reshape(*picture.shape[:2], *out.shape[2:])
            return self._run(picture)

    @torch.inference_mode()
    def render(self, features: Tensor, picture: Tensor, shape: tuple[int, int]) -> Tensor:
        """The picture of ``shape`` (height, width) from what a call made of (N, 3, H, W)."""
        with current(self.device), self._precision():
            return cast(AnyScale, self._module).render(features, picture, shape)

    def delivers(self, from_rgb: FromRgb) -> Callable[[Tensor], list[tuple[Tensor, ...]]] | None:
        """A way from pictures to the components that ``from_rgb`` makes of the results, in one go.

        Returns:
            Maps (N, 3, H, W) float32 to the components of each, as ``from_rgb`` does after a call;
            None where there is no such way.
        """
        return None

    def _run(self, picture: Tensor) -> Tensor:
        height, width = picture.shape[-2:]
        packed = picture.to(self._input, memory_format=torch.channels_last)
        padded = pad_to_multiple(packed, self._multiple)
        run = cast(AnyScale, self._module).encode if self._any_scale else self._module
        with self._precision():
            out: Tensor = run(padded)
        scale = out.shape[-1] // padded.shape[-1]
        return out[..., : scale * height, : scale * width]


def current(device: torch.device) -> AbstractContextManager[object]:
    """``device`` as the current one of this thread, if it is a GPU: Triton launches on no other."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()

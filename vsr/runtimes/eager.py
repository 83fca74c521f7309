"""PyTorch as it is: channels last, in the precision asked for."""

import copy

import torch
from torch import Tensor

from vsr.networks import Network

__all__ = ["EagerRuntime"]


class EagerRuntime:
    """Runs a network eagerly on one device."""

    def __init__(self, network: Network, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = torch.float32 if network.exact else dtype
        module = copy.deepcopy(network.module).to(device, self.dtype)
        self._module = module.to(memory_format=torch.channels_last)
        self._luma_only = network.in_channels == 1

    @torch.inference_mode()
    def __call__(self, picture: Tensor) -> Tensor:
        """Upscale (N, 3, H, W) float32 on this device; the result is in the runtime's dtype."""
        if picture.device != self.device:
            raise ValueError(f"picture is on {picture.device}, the network on {self.device}")
        if self._luma_only:  # a network of one channel sees R, G and B as three pictures
            batch = picture.shape[0]
            return self._run(picture.flatten(0, 1)[:, None]).unflatten(0, (batch, 3))[:, :, 0]
        return self._run(picture)

    def _run(self, picture: Tensor) -> Tensor:
        packed = picture.to(self.dtype, memory_format=torch.channels_last)
        out: Tensor = self._module(packed)
        return out

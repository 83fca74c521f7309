"""Kernels of our own for SPAN on CUDA: one for each convolution, or for each block."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import torch
from torch import Tensor

from vsr.colour import FromRgb
from vsr.errors import ConfigError
from vsr.kernels.configurations import device_name, network_key, sample, tune
from vsr.kernels.span import SpanKernels, why_not
from vsr.networks import Network
from vsr.networks.span import Span
from vsr.runtimes.compiled import CompiledRuntime
from vsr.runtimes.eager import EagerRuntime, current
from vsr.stopwatch import milliseconds
from vsr.timings import compare

__all__ = ["TritonRuntime", "make_fastest", "why_not_here"]

logger = logging.getLogger(__name__)


class TritonRuntime(EagerRuntime):
    """Runs SPAN through Triton.

    Args:
        network: a SPAN from RGB to RGB.
        device: CUDA; or the CPU, in Triton's interpreter, to test with.
        dtype: float16 or bfloat16, of features between the ends.

    Raises:
        ConfigError: the kernels do not run on this device, or not right.
    """

    option = "triton"

    def __init__(self, network: Network, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(network, device, dtype)
        self._kernels = SpanKernels(cast(Span, network.module), device, dtype)
        if device.type == "cuda" and not tune(self._kernels, device, super()._run):
            raise ConfigError(
                "runtime triton: on this device no configuration of the kernels runs, or computes "
                "what it should (--log-level debug says why)"
            )

    @property
    def kernels(self) -> SpanKernels:
        """What runs."""
        return self._kernels

    def delivers(self, from_rgb: FromRgb) -> Callable[[Tensor], list[tuple[Tensor, ...]]] | None:
        """The last convolution with colour conversion, rounding and pixel shuffle in it.

        Components in full size are made by it; subsampled chroma is made in full size, in float32,
        and resampled by ``from_rgb``.
        """
        if (affine := from_rgb.affine) is None:
            return None
        format = from_rgb.format
        subsampled = bool(format.chroma_w or format.chroma_h)
        last = self._kernels.tail(
            *affine, coded=1 if subsampled else len(affine[1]), dtype=format.dtype,
            ceiling=float((1 << format.depth) - 1),
        )  # fmt: skip

        @torch.inference_mode()
        def deliver(pictures: Tensor) -> list[tuple[Tensor, ...]]:
            with current(self.device):
                codes, rest = self._kernels.deliver(pictures, last)
            return [
                (*own, *map(from_rgb.component, range(last.coded, last.components), others))
                for own, others in zip(codes, rest, strict=True)
            ]

        return deliver

    def _run(self, picture: Tensor) -> Tensor:
        return self._kernels.rgb(picture)


def why_not_here(network: Network, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why these kernels do not run ``network`` on ``device``, which is CUDA; None if they do."""
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "the kernels need a GPU of compute capability 8.0 or more"
    if dtype == torch.float32:
        return "the kernels compute in fp16 or bf16, not in fp32"
    reason = why_not(network.module)
    return reason and f"Triton {reason}"


def make_fastest(network: Network, device: torch.device, dtype: torch.dtype) -> EagerRuntime:
    """These kernels, torch.compile or PyTorch: what ``device`` runs ``network`` fastest with.

    Measured once for each device and network, which takes some minutes, and remembered.
    """
    try:
        made: dict[str, EagerRuntime] = {"Triton": TritonRuntime(network, device, dtype)}
    except ConfigError as error:
        logger.warning("%s: PyTorch runs the network", error)
        return EagerRuntime(network, device, dtype)
    key = f"runtimes of {network_key(cast(TritonRuntime, made['Triton']).kernels)}"

    def time(name: str) -> float:
        if name not in made:
            made[name] = _OTHERS[name](network, device, dtype)
        picture = sample(device)
        with torch.cuda.device(device):
            return milliseconds(lambda: made[name](picture), device)

    names = (*_OTHERS, "Triton")
    times = compare(device_name(device), key, {name: partial(time, name) for name in names})
    best = min(times, key=lambda name: times[name])
    return made.get(best) or _OTHERS[best](network, device, dtype)


_OTHERS: Mapping[str, type[EagerRuntime]] = {
    "PyTorch": EagerRuntime, "torch.compile": CompiledRuntime,
}  # fmt: skip
"""PyTorch comes first: it is taken if nothing could be timed."""

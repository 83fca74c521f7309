"""OpenVINO for what a network does most of its work in: the fastest there is on a CPU.

A network that has a ``trunk`` (:class:`vsr.networks.Trunk`) keeps its ends in PyTorch, in float32:
in bf16 the picture itself would be no finer than 8 bits. Others are converted whole.
"""

import importlib
import sys
import threading
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from vsr.networks import Network, Trunk
from vsr.runtimes.eager import EagerRuntime

__all__ = ["OpenVinoRuntime", "load_openvino"]

_GEOMETRIES = 8
"""Compiled at a time: a whole frame, or the tiles of one."""
_SAMPLE_SIDE = 32
"""Of the picture that a network is traced with; its result holds for any size."""


class OpenVinoRuntime(EagerRuntime):
    """Runs a network of plain convolutions on the CPU, its trunk or all of it through OpenVINO.

    Args:
        network: one without windows, of one scale.
        dtype: bf16 or float32, of what OpenVINO computes.
        threads: how many OpenVINO may use.

    Raises:
        ImportError: OpenVINO (extra ``cpu``) is not installed.
    """

    name = "OpenVINO"

    def __init__(self, network: Network, dtype: torch.dtype, threads: int) -> None:
        super().__init__(network, torch.device("cpu"), torch.float32)
        self.dtype = dtype
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
        }  # fmt: skip
        module = self._module.requires_grad_(False)  # constants to the tracer
        if isinstance(module, Trunk):
            sample = torch.zeros(1, module.trunk_channels, _SAMPLE_SIDE, _SAMPLE_SIDE)
            cast(Any, module).trunk = _Compiled(module.trunk, sample, options)
        else:
            sample = torch.zeros(1, network.in_channels, _SAMPLE_SIDE, _SAMPLE_SIDE)
            self._module = _Module(_Compiled(module, sample, options))


class _Module(nn.Module):
    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._run = run

    def forward(self, x: Tensor) -> Tensor:
        return self._run(x)


class _Compiled:
    """A piece of a network, converted once, and compiled for each geometry that it meets."""

    def __init__(
        self, piece: Callable[[Tensor], Tensor], sample: Tensor, options: dict[str, Any]
    ) -> None:
        self._openvino, self._options = load_openvino(), options
        self._lock = threading.Lock()  # there is one request for a geometry, and one model
        self._model = _convert(piece, sample)
        self._requests = lru_cache(maxsize=_GEOMETRIES)(self._compile)

    def __call__(self, x: Tensor) -> Tensor:
        """Run on (N, C, H, W) float32."""
        x = x.contiguous()
        with self._lock:
            request = self._requests(tuple(x.shape))
            request.set_input_tensor(self._openvino.Tensor(x.numpy(), shared_memory=True))
            request.infer()
            return torch.from_numpy(request.get_output_tensor().data.copy())

    def _compile(self, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - an InferRequest
        self._model.reshape(list(shape))
        compiled = self._openvino.Core().compile_model(self._model, "CPU", self._options)
        return compiled.create_infer_request()


def load_openvino() -> Any:  # noqa: ANN401 - the module
    """OpenVINO, without its reports of use: importing it would fork a process that sends one.

    Forking a process that has threads can leave the child waiting for ever; and a program that
    sends nothing by itself is what people expect here.
    """
    reports = "openvino_telemetry"
    muted = reports not in sys.modules
    if muted:
        sys.modules[reports] = cast(Any, None)  # what is None cannot be imported: a stub is used
    try:
        return importlib.import_module("openvino")
    finally:
        if muted:
            del sys.modules[reports]


def _convert(piece: Callable[[Tensor], Tensor], sample: Tensor) -> Any:  # noqa: ANN401 - a Model
    """``piece`` as OpenVINO's model, through its reader of traced modules.

    ``openvino.convert_model`` would do the same, and send a report of it.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing is deprecated, and still what OpenVINO reads
        trace = cast(Callable[..., Any], torch.jit.trace)
        traced = trace(_Module(piece).eval(), sample, check_trace=False)
        decoder = TorchScriptPythonDecoder(traced)  # the model refers to it
        reader = FrontEndManager().load_by_framework("pytorch")
        return reader.convert(reader.load(decoder))

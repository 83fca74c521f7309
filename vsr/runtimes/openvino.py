"""OpenVINO on a CPU: the fastest there where our own kernels do not run.

Note [One graph of two precisions]. In bf16 the picture itself would be no finer than 8 bits, so the
ends of a network stay in float32 (:attr:`vsr.networks.Network.body` names what may be rounded).
OpenVINO's hint for bf16 rounds everything, and a graph of the body alone would have its features
copied and laid out anew at both sides, which took a fifth of the time. So there is one graph, which
says itself what is rounded: casts are traced, the weights' are folded, and the hint is float32.

Note [No core of its own]. OpenVINO binds its threads to cores, and begins with the same core for
each network that it compiles. Two that render two pictures at a time would share one core and leave
the others idle; a decoder or an encoder that runs there would halt one of them. So the system
places the threads.

Note [A stack for signals]. With its first network OpenVINO gives the thread that it runs on a stack
for signals, and frees it with its last. If that happens on another thread, the first keeps the
address, and Python dies of the next Ctrl-C. So the object that holds all networks is never freed.
"""

import importlib
import logging
import sys
import threading
import warnings
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vsr.constants import loose
from vsr.networks import Network
from vsr.runtimes.eager import EagerRuntime

__all__ = ["OpenVinoRuntime", "load_openvino"]

_GEOMETRIES = 8
"""Compiled at a time: a whole frame, or the tiles of one."""
_SAMPLE_SIDE = 32
"""Of the picture that a network is traced with; its result holds for any size."""


class OpenVinoRuntime(EagerRuntime):
    """Runs a network of plain convolutions on the CPU through OpenVINO.

    Args:
        network: one without windows, of one scale.
        dtype: bf16 or float32, of the network's body.
        threads: how many OpenVINO may use.

    Raises:
        ImportError: OpenVINO (extra ``cpu``) is not installed.
    """

    option = "openvino"

    def __init__(self, network: Network, dtype: torch.dtype, threads: int) -> None:
        super().__init__(network, torch.device("cpu"), torch.float32)
        self.dtype = dtype
        throughout = dtype == torch.bfloat16 and "" in network.body
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if throughout else "f32",
            "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # see note [No core of its own]
        }  # fmt: skip
        module = self._module.requires_grad_(False)  # constants to the tracer
        if dtype == torch.bfloat16 and not throughout:
            _round_weights(module, network.body)
        sample = torch.zeros(1, network.in_channels, _SAMPLE_SIDE, _SAMPLE_SIDE)
        self._module = _Module(_Compiled(module, sample, options))


class _Rounded(nn.Module):
    """A parameter as it is computed with."""

    def forward(self, value: Tensor) -> Tensor:
        return value.to(torch.bfloat16)


def _round_weights(module: nn.Module, names: tuple[str, ...]) -> None:
    """Have the named parts of ``module`` cast their parameters to bf16 wherever they use them.

    The parameters themselves stay: OpenVINO misreads constants of bf16 in traced modules.
    """
    for part in [part for name in names for part in module.get_submodule(name).modules()]:
        for name in [name for name, _ in part.named_parameters(recurse=False)]:
            parametrize.register_parametrization(part, name, _Rounded(), unsafe=True)


class _Module(nn.Module):
    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._run = run

    def forward(self, x: Tensor) -> Tensor:
        return self._run(x)


class _Compiled:
    """A network, converted once, and compiled for each geometry that it meets."""

    def __init__(
        self, network: Callable[[Tensor], Tensor], sample: Tensor, options: dict[str, Any]
    ) -> None:
        self._openvino, self._options = load_openvino(), options
        self._lock = threading.Lock()  # there is one request for a geometry, and one model
        self._model = _convert(network, sample)
        self._requests = lru_cache(maxsize=_GEOMETRIES)(loose(self._compile))

    def __call__(self, x: Tensor) -> Tensor:
        """Run on (N, C, H, W) float32."""
        x = x.contiguous()
        with self._lock:
            request = self._requests(tuple(x.shape))
            out = torch.empty(tuple(request.model_outputs[0].shape))
            request.set_input_tensor(self._shared(x))
            request.set_output_tensor(self._shared(out))
            request.infer()
        return out

    def _shared(self, x: Tensor) -> Any:  # noqa: ANN401 - an OpenVINO Tensor
        return self._openvino.Tensor(x.numpy(), shared_memory=True)

    def _compile(self, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - an InferRequest
        self._model.reshape(list(shape))
        compiled = _core().compile_model(self._model, "CPU", self._options)
        return compiled.create_infer_request()


def load_openvino() -> Any:  # noqa: ANN401 - the module
    """OpenVINO, without its reports of use: importing it would fork a process that sends one.

    Forking a process that has threads can leave the child waiting for ever; and a program that
    sends nothing by itself is what people expect here. Under vspipe, where all that is logged is
    shown, its reader would write out whole graphs.
    """
    logger = logging.getLogger("openvino")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)
    reports = "openvino_telemetry"
    muted = reports not in sys.modules
    if muted:
        sys.modules[reports] = cast(Any, None)  # what is None cannot be imported: a stub is used
    try:
        return importlib.import_module("openvino")
    finally:
        if muted:
            del sys.modules[reports]


@cache
def _core() -> Any:  # noqa: ANN401 - a Core
    """One for the process; see note [A stack for signals]."""
    return load_openvino().Core()


def _convert(network: Callable[[Tensor], Tensor], sample: Tensor) -> Any:  # noqa: ANN401 - a Model
    """``network`` as OpenVINO's model, through its reader of traced modules.

    ``openvino.convert_model`` would do the same, and send a report of it.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing is deprecated, and still what OpenVINO reads
        trace = cast(Callable[..., Any], torch.jit.trace)
        traced = trace(_Module(network).eval(), sample, check_trace=False)
        decoder = TorchScriptPythonDecoder(traced)  # the model refers to it
        reader = FrontEndManager().load_by_framework("pytorch")
        return reader.convert(reader.load(decoder))

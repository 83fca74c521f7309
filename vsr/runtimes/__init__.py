"""How a network is run on a device; every runtime is a callable from pictures to pictures."""

import importlib.util
import logging
from collections.abc import Callable
from functools import cache, partial

import torch

from vsr.config import Runtime
from vsr.errors import ConfigError
from vsr.networks import Network
from vsr.runtimes.eager import RUNTIME_NAMES, EagerRuntime

__all__ = ["RUNTIME_NAMES", "EagerRuntime", "make_runtime", "runtime_called"]

logger = logging.getLogger(__name__)


def make_runtime(
    network: Network, device: torch.device, dtype: torch.dtype, wanted: Runtime = "auto",
    *, stated: bool = False,
) -> EagerRuntime:  # fmt: skip
    """What runs ``network`` fastest where it is.

    On a CPU these are our own kernels for the networks that they know (in float32, which is faster
    there than bf16 by any other means; with AMX, that is measured once), then OpenVINO where it is
    installed, then PyTorch. On CUDA what was measured to be fastest on that device: our kernels in
    Triton, torch.compile, or PyTorch; PyTorch for networks that these kernels do not know.

    Args:
        network: what to run.
        device: where.
        dtype: of the network's body.
        wanted: the name of one instead of choosing.
        stated: somebody asked for ``dtype``: none that computes in another will do.

    Raises:
        ConfigError: the one that is asked for is not installed, or does not run this here.
    """
    for name, make in _MAKERS.items():
        if wanted not in (name, "auto"):
            continue
        try:
            if stated:
                _check_precision(name, dtype)
            return make(network, device, dtype, wanted == name)
        except _NotHereError as reason:
            if wanted == name:
                raise ConfigError(f"runtime {name}: {reason}") from reason
            logger.debug("not through %s: %s", name, reason)
    raise ConfigError(f"no runtime is called {wanted!r}")


def runtime_called(name: str) -> Runtime:
    """The option's word for the runtime called ``name``, as work folders hold it; else ``auto``."""
    return next((option for option, called in RUNTIME_NAMES.items() if called == name), "auto")


class _NotHereError(Exception):
    """Why a runtime does not run something."""


def _check_precision(name: str, dtype: torch.dtype) -> None:
    if name == "winograd" and dtype != torch.float32:
        raise _NotHereError("the kernels compute in fp32 alone")


def _winograd(
    network: Network, device: torch.device, dtype: torch.dtype, by_name: bool
) -> EagerRuntime:
    from vsr.runtimes.measured import faster
    from vsr.runtimes.winograd import WinogradRuntime, runs
    from vsr.winograd import CompilerError

    if device.type != "cpu":
        raise _NotHereError(f"the kernels are for a CPU, not for {device}")
    if not runs(network):
        raise _NotHereError(f"the kernels do not know {network.name}, only SPAN and SPAN-F")
    if dtype == torch.float16:
        raise _NotHereError("the kernels compute in fp32 alone")
    try:
        kernels = WinogradRuntime(network, torch.get_num_threads())
    except CompilerError as error:
        if not by_name:
            _tell_what_is_missed(str(error))
        raise _NotHereError(str(error)) from error
    except ValueError as error:
        raise _NotHereError(str(error)) from error
    if by_name or dtype == torch.float32 or not torch.cpu._is_amx_tile_supported():
        return kernels
    parameters = sum(values.numel() for values in network.module.parameters())
    key = f"{network.name} x{network.scale} of {parameters} parameters"
    return faster(kernels, partial(_rounded, network, device, dtype), key)


@cache
def _tell_what_is_missed(reason: str) -> None:
    """Say, once in a process, why it goes without what is faster, and exact."""
    logger.info("without the CPU kernels, which are faster: %s", reason)


def _rounded(network: Network, device: torch.device, dtype: torch.dtype) -> EagerRuntime:
    """What computes in bf16 on a CPU."""
    try:
        return _openvino(network, device, dtype, by_name=False)
    except _NotHereError:
        return _torch(network, device, dtype, by_name=False)


def _openvino(
    network: Network, device: torch.device, dtype: torch.dtype, by_name: bool
) -> EagerRuntime:
    if device.type != "cpu":
        raise _NotHereError(f"OpenVINO runs on a CPU, not on {device}")
    if importlib.util.find_spec("openvino") is None:
        raise _NotHereError("OpenVINO is not installed: pip install openvino")
    plain = network.grid == 1 and network.multiple == 1 and network.scale > 1 and network.body
    if not plain or network.noise is not None:
        raise _NotHereError(
            f"OpenVINO does not run {network.name}: only networks of plain convolutions"
        )
    if dtype == torch.float16:
        raise _NotHereError("OpenVINO computes in bf16 or fp32, not in fp16")
    from vsr.runtimes.openvino import OpenVinoRuntime

    return OpenVinoRuntime(network, dtype, torch.get_num_threads())


def _triton(
    network: Network, device: torch.device, dtype: torch.dtype, by_name: bool
) -> EagerRuntime:
    if device.type != "cuda":  # asked here, since importing Triton takes a quarter of a second
        raise _NotHereError(f"the kernels are for CUDA, not for {device}")
    if importlib.util.find_spec("triton") is None:
        raise _NotHereError("Triton is not installed: pip install triton")
    from vsr.runtimes.triton import TritonRuntime, make_fastest, why_not_here

    if reason := why_not_here(network, device, dtype):
        raise _NotHereError(reason)
    make = TritonRuntime if by_name else make_fastest
    return make(network, device, dtype)


def _compile(
    network: Network, device: torch.device, dtype: torch.dtype, by_name: bool
) -> EagerRuntime:
    if not by_name:
        raise _NotHereError("it is compared only with our kernels; it takes a minute to begin")
    from vsr.runtimes.compiled import CompiledRuntime

    return CompiledRuntime(network, device, dtype)


def _torch(
    network: Network, device: torch.device, dtype: torch.dtype, by_name: bool
) -> EagerRuntime:
    return EagerRuntime(network, device, dtype)


_MAKERS: dict[str, Callable[[Network, torch.device, torch.dtype, bool], EagerRuntime]] = {
    "winograd": _winograd, "triton": _triton, "openvino": _openvino, "compile": _compile,
    "torch": _torch,
}  # fmt: skip
"""Those that may be faster come first. The last argument says that it was asked for by name."""

"""How a network is run on a device; every runtime is a callable from pictures to pictures."""

import importlib.util

import torch

from vsr.config import Runtime
from vsr.errors import ConfigError
from vsr.networks import Network
from vsr.runtimes.eager import EagerRuntime

__all__ = ["EagerRuntime", "make_runtime"]


def make_runtime(
    network: Network, device: torch.device, dtype: torch.dtype, wanted: Runtime = "auto"
) -> EagerRuntime:
    """What runs ``network`` fastest: OpenVINO on a CPU where it is installed, else PyTorch.

    Args:
        network: what to run.
        device: where.
        dtype: of the network's body.
        wanted: ``torch`` or ``openvino`` instead of choosing.

    Raises:
        ConfigError: OpenVINO is asked for, and not installed, or does not run this here.
    """
    if wanted == "torch":
        return EagerRuntime(network, device, dtype)
    if (reason := _why_not_openvino(network, device, dtype)) is None:
        from vsr.runtimes.openvino import OpenVinoRuntime

        return OpenVinoRuntime(network, dtype, torch.get_num_threads())
    if wanted == "openvino":
        raise ConfigError(f"OpenVINO {reason}")
    return EagerRuntime(network, device, dtype)


def _why_not_openvino(network: Network, device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cpu":
        return f"runs on a CPU, not on {device}"
    if importlib.util.find_spec("openvino") is None:
        return "is not installed: pip install 'vsr[cpu]'"
    plain = network.grid == 1 and network.multiple == 1 and network.scale > 1 and network.body
    if not plain or network.noise is not None:
        return f"does not run {network.name}: only networks of plain convolutions"
    return None if dtype != torch.float16 else "computes in bf16 or fp32, not in fp16"

"""torch.compile: Inductor fuses what stands between convolutions; any network, on any device."""

from typing import Any, cast

import torch
from torch import Tensor

from vsr.errors import ConfigError
from vsr.networks import Network
from vsr.runtimes.eager import EagerRuntime

__all__ = ["CompiledRuntime"]


class CompiledRuntime(EagerRuntime):
    """Runs a network as torch.compile makes it, anew for each geometry of its input.

    Its first frame takes a good while longer. Convolutions stay those of PyTorch.
    """

    option = "compile"

    def __init__(self, network: Network, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(network, device, dtype)
        method = "encode" if self._any_scale else "forward"
        compiled = torch.compile(getattr(self._module, method), dynamic=False)
        setattr(cast(Any, self._module), method, compiled)

    def _run(self, picture: Tensor) -> Tensor:
        try:
            return super()._run(picture)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(
                f"runtime compile: torch.compile does not work here ({reason}); use another"
            ) from error

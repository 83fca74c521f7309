"""How a network is run on a device; every runtime is a callable from pictures to pictures."""

from vsr.runtimes.eager import EagerRuntime

__all__ = ["EagerRuntime"]

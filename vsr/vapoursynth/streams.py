"""Weights, loaded once, and the streams that work with them.

Note [A thread of its own]
    VapourSynth calls back on many threads in turn. Were the network run on these, OpenMP would keep
    a team of threads for each of them, and malloc an arena, which it empties and fills again with
    every frame: 9,200 page faults a frame of 320x180, against 120 in the command. So each stream
    has one thread for all its work, and on a CPU freed memory is kept, as the command does: a
    script's process is there to render.

Note [Cores among streams]
    A network spreads over cores well, what surrounds it does not: reading a frame, resampling its
    chroma, the health check. So the cores of a CPU are dealt out to the streams, and while one is
    between two frames, the others compute.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue

import torch
from torch import Tensor

from vsr.config import Runtime, UpscaleConfig
from vsr.device import choose_device, choose_dtype, keep_freed_memory
from vsr.engine import Engine, RenderTarget, share_of_cores
from vsr.errors import ConfigError
from vsr.frame import Frame
from vsr.health import Incident
from vsr.index import scale_reaching
from vsr.networks import Network
from vsr.runtimes import make_runtime
from vsr.sizes import scale_to_reach
from vsr.weights import load_network

__all__ = ["Pool", "Setup", "choose_network", "choose_setup", "pool_for", "taken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """What names a network."""

    model: str
    scale: Fraction | int | None
    path: Path | None
    written: int
    """When the file at ``path`` was written, in ns: one that changed is loaded anew."""
    variant: str | None


@lru_cache(maxsize=8)
def _load(weights: _Weights) -> Network:
    return load_network(
        weights.model, scale=weights.scale, weights=weights.path, variant=weights.variant
    )


def choose_network(config: UpscaleConfig, width: int, height: int) -> Network:
    """The network; if only a size is asked for, of the smallest scale that reaches it."""
    scale, path = config.scale, config.weights
    if path is None and scale is None and config.size is not None:
        scale = scale_reaching(config.model, scale_to_reach(config.size, width, height))
    written = path.stat().st_mtime_ns if path is not None and path.exists() else 0
    return _load(
        _Weights(
            model=config.model, scale=scale, path=path, written=written, variant=config.variant
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Where and how a network runs; filters that agree in it share their streams."""

    network: Network
    device: torch.device
    dtype: torch.dtype
    runtime: Runtime
    tile: int | None
    streams: int

    def __hash__(self) -> int:
        module = id(self.network.module)
        return hash((module, self.device, self.dtype, self.runtime, self.tile, self.streams))


def choose_setup(
    config: UpscaleConfig, network: Network, tile_pad: int | None, streams: int
) -> Setup:
    """Where and how ``network`` runs.

    Args:
        config: device, precision, runtime, tile.
        network: what runs.
        tile_pad: pixels around a tile; None takes what the network needs.
        streams: batches in flight; on a CPU not more than there are threads.

    Raises:
        ConfigError: ``tile_pad`` is less than the network needs.
        DeviceError: there is no such device.
    """
    device = choose_device(config.device)
    if tile_pad is not None:
        if tile_pad < network.halo:
            raise ConfigError(
                f"tile_pad {tile_pad} would leave seams: {network.name} needs {network.halo}"
            )
        network = replace(network, halo=tile_pad)
    return Setup(
        network=network, device=device, dtype=choose_dtype(device, config.precision),
        runtime=config.runtime, tile=config.tile,
        streams=streams if device.type == "cuda" else min(streams, torch.get_num_threads()),
    )  # fmt: skip


class _Stream:
    """A network on its device, and what surrounds it; does one thing at a time.

    See note [A thread of its own].

    Args:
        setup: the network, where and how it runs.
        threads: how many PyTorch, or the runtime, may take on a CPU.
    """

    def __init__(self, setup: Setup, threads: int) -> None:
        self._setup = setup
        self._thread = ThreadPoolExecutor(1, "vsr-stream", torch.set_num_threads, (threads,))
        self._runtime = self._thread.submit(
            make_runtime, setup.network, setup.device, setup.dtype, setup.runtime
        ).result()
        self._engine = lru_cache(maxsize=4)(self._make_engine)

    def render(
        self, frames: Sequence[Frame], target: RenderTarget, into: Sequence[Sequence[Tensor]]
    ) -> list[Incident]:
        """Upscale ``frames`` with one call of the network, and write them ``into`` planes.

        Returns:
            What was wrong with some of them; their ``pts`` say which.
        """
        return self._thread.submit(self._render, frames, target, into).result()

    def _render(
        self, frames: Sequence[Frame], target: RenderTarget, into: Sequence[Sequence[Tensor]]
    ) -> list[Incident]:
        engine, incidents = self._engine(target), list[Incident]()
        engine.watch.tell = incidents.append
        for pending, planes in zip(engine.submit_batch(frames), into, strict=True):
            engine.collect(pending, planes)
        return incidents

    def _make_engine(self, target: RenderTarget) -> Engine:
        setup = self._setup
        return Engine(
            setup.network, target, device=setup.device, dtype=setup.dtype, tile=setup.tile,
            runtimes=[self._runtime],
        )  # fmt: skip


Pool = SimpleQueue[_Stream]


@lru_cache(maxsize=8)
def pool_for(setup: Setup) -> Pool:
    """The streams of a setup, made when they are first asked for."""
    if setup.device.type == "cpu":
        keep_freed_memory()  # before the threads start, which settle in an arena then
    pool: Pool = SimpleQueue()
    with share_of_cores(setup.streams) as threads:
        for _ in range(setup.streams):
            pool.put(_Stream(setup, threads))
    return pool


@contextmanager
def taken(pool: Pool) -> Iterator[_Stream]:
    """A stream that nobody else has; waits for one."""
    stream = pool.get()
    try:
        yield stream
    finally:
        pool.put(stream)

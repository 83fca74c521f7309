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

Note [What a filter leaves behind]
    A previewer reads the same script over and over in one process, each time with other settings.
    So streams live as long as a filter that uses them: filters hold their pool, the tables here do
    not. Only the latest pool is kept without a filter, since the next script is mostly this one
    again; it goes before another one is made, so that there is room for that.
"""

import gc
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from queue import SimpleQueue
from weakref import WeakValueDictionary, finalize

import torch
from torch import Tensor

from vsr.config import Runtime, UpscaleConfig
from vsr.device import choose_device, choose_dtype, keep_freed_memory, return_freed_memory
from vsr.engine import Engine, RenderTarget, share_of_cores
from vsr.errors import ConfigError
from vsr.frame import Frame
from vsr.health import Incident
from vsr.index import find_model, scale_reaching
from vsr.networks import Network
from vsr.runtimes import EagerRuntime, make_runtime
from vsr.sizes import scale_to_reach
from vsr.weights import load_network

__all__ = ["Pool", "Setup", "choose_network", "choose_setup", "pool_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """What names a network."""

    model: str
    scale: Fraction | int | None
    path: Path | None
    written: int
    """When the file at ``path`` was written, in ns: one that changed is loaded anew."""
    variant: str | None


_lock = threading.Lock()
_networks: WeakValueDictionary[_Weights, Network] = WeakValueDictionary()


def _load(weights: _Weights) -> Network:
    """The network that ``weights`` names; one that is in use is not loaded again."""
    with _lock:
        if (network := _networks.get(weights)) is None:
            _networks[weights] = network = load_network(
                weights.model, scale=weights.scale, weights=weights.path, variant=weights.variant
            )
        return network


def choose_network(config: UpscaleConfig, width: int, height: int) -> Network:
    """The network; if only a size is asked for, of the smallest scale that reaches it."""
    scale, path = config.scale, config.weights
    if path is None and scale is None and config.size is not None:
        scale = scale_reaching(config.model, scale_to_reach(config.size, width, height))
    elif path is None:
        find_model(config.model, scale, otherwise="for another, give size=(width, height)")
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
    """As it was loaded, so that it is known while it is in use."""
    halo: int
    """Pixels around a tile."""
    device: torch.device
    dtype: torch.dtype
    runtime: Runtime
    tile: int | None
    streams: int

    def __hash__(self) -> int:
        module = id(self.network.module)
        tiling = self.tile, self.halo
        return hash((module, self.device, self.dtype, self.runtime, tiling, self.streams))


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
    halo = network.halo if tile_pad is None else tile_pad
    if halo < network.halo:
        raise ConfigError(
            f"tile_pad {tile_pad} would leave seams: {network.name} needs {network.halo}"
        )
    return Setup(
        network=network, halo=halo, device=device, dtype=choose_dtype(device, config.precision),
        runtime=config.runtime, tile=config.tile,
        streams=streams if device.type == "cuda" else min(streams, torch.get_num_threads()),
    )  # fmt: skip


class _Stream:
    """A network on its device, and what surrounds it; does one thing at a time.

    Its thread ends with it. See note [A thread of its own].

    Args:
        setup: the network, where and how it runs.
        threads: how many PyTorch, or the runtime, may take on a CPU.
    """

    def __init__(self, setup: Setup, threads: int) -> None:
        self._thread = ThreadPoolExecutor(1, "vsr-stream", torch.set_num_threads, (threads,))
        finalize(self, self._thread.shutdown, wait=False).atexit = False
        network = replace(setup.network, halo=setup.halo)
        runtime = self._thread.submit(
            make_runtime, network, setup.device, setup.dtype, setup.runtime
        ).result()
        # Not of a method, which would hold the stream.
        self._engine = lru_cache(maxsize=4)(partial(_make_engine, setup, network, runtime))

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


def _make_engine(
    setup: Setup, network: Network, runtime: EagerRuntime, target: RenderTarget
) -> Engine:
    return Engine(
        network, target, device=setup.device, dtype=setup.dtype, tile=setup.tile,
        runtimes=[runtime],
    )  # fmt: skip


class Pool:
    """The streams of a setup."""

    def __init__(self, setup: Setup) -> None:
        self._free: SimpleQueue[_Stream] = SimpleQueue()
        with share_of_cores(setup.streams) as threads:
            for _ in range(setup.streams):
                self._free.put(_Stream(setup, threads))

    @contextmanager
    def taken(self) -> Iterator[_Stream]:
        """A stream that nobody else has; waits for one."""
        stream = self._free.get()
        try:
            yield stream
        finally:
            self._free.put(stream)


_pools: WeakValueDictionary[Setup, Pool] = WeakValueDictionary()
_latest: Pool | None = None


def pool_for(setup: Setup) -> Pool:
    """The streams of a setup, made if no filter has them; see note [What a filter leaves behind].

    They live as long as the result, the latest ones until other ones are asked for.
    """
    global _latest
    with _lock:
        if (pool := _pools.get(setup)) is None:
            _latest = None
            gc.collect()  # a compiled network refers to itself
            if setup.device.type == "cpu":
                return_freed_memory(setup.device)
                keep_freed_memory()  # before the threads start, which settle in an arena then
            _pools[setup] = pool = Pool(setup)
        _latest = pool
        return pool

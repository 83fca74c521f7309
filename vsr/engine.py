"""Frames in, upscaled frames out, on one device.

A frame goes through five steps that can be seen in the code: upload, YUV to RGB, network, RGB to
YUV, download. The engine owns no thread: ``submit`` enqueues (on CUDA it never waits), ``collect``
waits for one frame and is called by the thread that writes.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from vsr.colour import FromRgb, ToRgb
from vsr.config import Dither
from vsr.device import default_tile, is_out_of_memory
from vsr.errors import OutOfMemoryError
from vsr.frame import Colour, Frame, PixelFormat
from vsr.networks import Network
from vsr.resample import resize
from vsr.runtimes import EagerRuntime
from vsr.slots import Ring, Slot
from vsr.tiles import run_tiled

__all__ = ["IN_FLIGHT", "Engine", "Target"]

logger = logging.getLogger(__name__)

IN_FLIGHT = 2
"""Frames that may wait between ``submit`` and ``collect``."""
_SMALLEST_TILE = 32

Pending = Frame | Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the engine delivers."""

    width: int
    height: int
    format: PixelFormat
    """A planar format."""
    colour: Colour
    dither: Dither = "none"


class Engine:
    """Upscales frames of any geometry and colour to one target."""

    def __init__(
        self, network: Network, target: Target, *, device: torch.device, dtype: torch.dtype,
        tile: int | None = None,
    ) -> None:  # fmt: skip
        self._network, self._target, self._device = network, target, device
        self._runtime = EagerRuntime(network, device, dtype)
        self.dtype = self._runtime.dtype
        self._tile = tile
        self._to_rgb = lru_cache(maxsize=8)(self._make_to_rgb)
        self._noise = lru_cache(maxsize=2)(self._make_noise)
        self._from_rgb = FromRgb(
            target.format, target.colour, target.width, target.height, device, dither=target.dither
        )
        self._ring = Ring(device, IN_FLIGHT + 2) if device.type == "cuda" else None

    @property
    def tile(self) -> int | None:
        """Longest side of a tile, if pictures are tiled."""
        return self._tile

    def submit(self, frames: Iterable[Frame]) -> Iterator[Pending]:
        """Upscale ``frames`` in order; pass each result to :meth:`collect`."""
        for frame in frames:
            if self._tile is None:
                self._tile = default_tile(
                    self._device, self._network, frame.height, frame.width, self.dtype.itemsize
                )
            yield self._start(frame)

    def collect(self, pending: Pending) -> Frame:
        """Wait for one result of :meth:`submit`; call in order, at most ``IN_FLIGHT`` late."""
        if isinstance(pending, Frame):
            return pending
        return self._finished(pending.frame, pending.collect())

    def _start(self, frame: Frame) -> Pending:
        try:
            return self._on_host(frame) if self._ring is None else self._on_gpu(frame, self._ring)
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(  # of the conversions around the network: tiles do not help
                f"out of memory on {self._device}: pictures of {frame.width}x{frame.height} "
                f"to {self._target.width}x{self._target.height} do not fit"
            ) from error

    @torch.inference_mode()
    def _on_host(self, frame: Frame) -> Frame:
        return self._finished(frame, self._render(frame, frame.planes))

    @torch.inference_mode()
    def _on_gpu(self, frame: Frame, ring: Ring) -> Slot:
        with torch.cuda.device(self._device), torch.cuda.stream(ring.computing):
            slot = ring.take(frame, self._output_planes())
            slot.upload(frame)
            slot.await_upload()
            slot.download(self._render(frame, slot.inputs))
        return slot

    def _finished(self, frame: Frame, planes: tuple[Tensor, ...]) -> Frame:
        return Frame(
            planes=planes, format=self._target.format, width=self._target.width,
            height=self._target.height, colour=self._target.colour, pts=frame.pts,
            time_base=frame.time_base, duration=frame.duration, corrupt=frame.corrupt,
            captions=frame.captions,
        )  # fmt: skip

    def _render(self, frame: Frame, planes: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Planes of the source to planes of the target, all on the engine's device."""
        components = frame.format.views(planes, frame.width, frame.height)
        convert = self._to_rgb(frame.format, frame.colour, frame.width, frame.height)
        out = self._from_rgb(self._upscale(convert(components)))
        if self._target.format.alpha:
            out = (*out, self._alpha(frame, components, convert))
        return self._target.format.planes(out)

    def _alpha(self, frame: Frame, components: tuple[Tensor, ...], convert: ToRgb) -> Tensor:
        """Alpha goes through the network as a gray picture, so that its edges match."""
        if not frame.format.alpha:
            size = (self._target.height, self._target.width)
            opaque = torch.ones((1, 3, *size), device=self._device)
            return self._from_rgb.alpha(opaque)
        return self._from_rgb.alpha(self._upscale(convert.alpha(components[-1])))

    def _upscale(self, rgb: Tensor) -> Tensor:
        out = self._run_network(rgb)
        if out.shape[-2:] != (self._target.height, self._target.width):
            out = resize(out, self._target.height, self._target.width, "lanczos")
        return out

    def _run_network(self, rgb: Tensor) -> Tensor:
        """Run the network; when memory runs out, halve the tile and run the same frame again."""
        network, size = self._network, (self._target.height, self._target.width)
        seen = rgb
        if network.noise is not None:
            seen = torch.cat([rgb, self._noise(*rgb.shape[-2:]).expand(len(rgb), -1, -1, -1)], 1)
        while True:
            try:
                out = run_tiled(
                    self._runtime, seen, tile=self._tile or max(rgb.shape[-2:]),
                    halo=network.halo, scale=network.scale or 1, grid=network.grid,
                )  # fmt: skip
                return out if network.scale else self._runtime.render(out, rgb, size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve_tile(rgb, error)
            if self._device.type == "cuda":  # not before the error let go of what it refers to
                torch.cuda.empty_cache()

    def _halve_tile(self, rgb: Tensor, error: BaseException) -> None:
        longest = min(self._tile or max(rgb.shape[-2:]), max(rgb.shape[-2:]))
        smallest = max(_SMALLEST_TILE, self._network.grid)
        if longest <= smallest:
            raise OutOfMemoryError(
                f"out of memory on {self._device} even with tiles of {longest} pixels"
            ) from error
        self._tile = max(smallest, -(-longest // 2))
        logger.warning("out of memory: frames are now split into tiles of %d pixels", self._tile)

    def _make_noise(self, height: int, width: int) -> Tensor:
        assert self._network.noise is not None
        return self._network.noise(height, width, self._device)

    def _make_to_rgb(self, format: PixelFormat, colour: Colour, width: int, height: int) -> ToRgb:
        return ToRgb(format, colour, width, height, self._device)

    def _output_planes(self) -> list[Tensor]:
        """Stand-ins with the shapes and type of the target's planes; they take no memory."""
        target = self._target
        sizes = [
            target.format.component_size(index, target.width, target.height)
            for index in range(len(target.format.components))
        ]
        empty = torch.empty(1, dtype=target.format.dtype, device=self._device)
        return list(target.format.planes(tuple(empty.expand(size) for size in sizes)))

"""Frames in, upscaled frames out, on one device.

A frame goes through five steps that can be seen in the code: upload, YUV to RGB, network, RGB to
YUV, download. The engine owns no thread: ``submit`` enqueues (on CUDA it never waits), ``collect``
waits for one frame and is called by the thread that writes.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
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
from vsr.slots import Ring, Slot, copy_planes
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
        tile: int | None = None, runtime: EagerRuntime | None = None,
    ) -> None:  # fmt: skip
        """Prepare everything that does not depend on a frame.

        Args:
            network: what enlarges.
            target: what is delivered.
            device: where everything happens.
            dtype: precision of the network's body.
            tile: longest side of a tile; None tiles where memory asks for it.
            runtime: ``network`` as it already is on ``device`` in ``dtype``; engines that share one
                must not work at the same time.
        """
        self._network, self._target, self._device = network, target, device
        self._runtime = runtime or EagerRuntime(network, device, dtype)
        self.dtype = self._runtime.dtype
        self._tile = tile
        self._to_rgb = lru_cache(maxsize=8)(self._make_to_rgb)
        self._noise = lru_cache(maxsize=2)(self._make_noise)
        self._from_rgb = FromRgb(
            target.format, target.colour, target.width, target.height, device, dither=target.dither
        )
        self._ring = Ring(device, IN_FLIGHT + 2) if device.type == "cuda" else None

    @property
    def runtime(self) -> str:
        """What runs the network: PyTorch or OpenVINO."""
        return self._runtime.name

    @property
    def tile(self) -> int | None:
        """Longest side of a tile, if pictures are tiled."""
        return self._tile

    def submit(self, frames: Iterable[Frame]) -> Iterator[Pending]:
        """Upscale ``frames`` in order; pass each result to :meth:`collect`."""
        for frame in frames:
            yield self.submit_batch([frame])[0]

    def submit_batch(self, frames: Sequence[Frame]) -> list[Pending]:
        """Upscale ``frames``, all of one size, with one call of the network.

        Pass each result to :meth:`collect`, in order.
        """
        if self._tile is None:
            one, size = frames[0], self.dtype.itemsize * len(frames)
            self._tile = default_tile(self._device, self._network, one.height, one.width, size)
        return self._start(frames)

    def collect(self, pending: Pending, into: Sequence[Tensor] | None = None) -> Frame:
        """Wait for one result of :meth:`submit`; call in order, at most ``IN_FLIGHT`` late.

        Args:
            pending: what ``submit`` gave.
            into: planes to write the result to, of the target's shapes and type; the frame's
                planes are then these.
        """
        if isinstance(pending, Slot):
            return self._finished(pending.frame, pending.collect(into))
        if into is None:
            return pending
        return self._finished(pending, copy_planes(pending.planes, into))

    def _start(self, frames: Sequence[Frame]) -> list[Pending]:
        try:
            if self._ring is None:
                return [*self._on_host(frames)]
            return [*self._on_gpu(frames, self._ring)]
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
                raise
            frame = frames[0]
            raise OutOfMemoryError(  # of the conversions around the network: tiles do not help
                f"out of memory on {self._device}: pictures of {frame.width}x{frame.height} "
                f"to {self._target.width}x{self._target.height} do not fit"
            ) from error

    @torch.inference_mode()
    def _on_host(self, frames: Sequence[Frame]) -> list[Frame]:
        rendered = self._render(frames, [frame.planes for frame in frames])
        return [self._finished(*pair) for pair in zip(frames, rendered, strict=True)]

    @torch.inference_mode()
    def _on_gpu(self, frames: Sequence[Frame], ring: Ring) -> list[Slot]:
        slots = []
        ring.widen((IN_FLIGHT + 2) * len(frames))
        with torch.cuda.device(self._device), torch.cuda.stream(ring.computing):
            for frame in frames:
                slots.append(ring.take(frame, self._output_planes()))
                slots[-1].upload(frame)
            for slot in slots:
                slot.await_upload()
            rendered = self._render(frames, [slot.inputs for slot in slots])
            for slot, planes in zip(slots, rendered, strict=True):
                slot.download(planes)
        return slots

    def _finished(self, frame: Frame, planes: tuple[Tensor, ...]) -> Frame:
        return Frame(
            planes=planes, format=self._target.format, width=self._target.width,
            height=self._target.height, colour=self._target.colour, pts=frame.pts,
            time_base=frame.time_base, duration=frame.duration, corrupt=frame.corrupt,
            captions=frame.captions,
        )  # fmt: skip

    def _render(
        self, frames: Sequence[Frame], planes: Sequence[tuple[Tensor, ...]]
    ) -> list[tuple[Tensor, ...]]:
        """Planes of the sources to planes of the target, all on the engine's device."""
        pictures = [
            self._converter(frame)(frame.format.views(own, frame.width, frame.height))
            for frame, own in zip(frames, planes, strict=True)
        ]
        enlarged = self._upscale(pictures[0] if len(pictures) == 1 else torch.cat(pictures))
        del pictures  # room for what follows
        return [
            self._deliver(frame, own, rgb[None])
            for frame, own, rgb in zip(frames, planes, enlarged, strict=True)
        ]

    def _deliver(self, frame: Frame, planes: tuple[Tensor, ...], rgb: Tensor) -> tuple[Tensor, ...]:
        """An enlarged picture (1, 3, H, W) as planes of the target, beside the source's alpha."""
        out = self._from_rgb(rgb)
        if self._target.format.alpha:
            out = (*out, self._alpha(frame, planes))
        return self._target.format.planes(out)

    def _converter(self, frame: Frame) -> ToRgb:
        return self._to_rgb(frame.format, frame.colour, frame.width, frame.height)

    def _alpha(self, frame: Frame, planes: tuple[Tensor, ...]) -> Tensor:
        """Alpha goes through the network as a gray picture, so that its edges match."""
        if not frame.format.alpha:
            size = (self._target.height, self._target.width)
            opaque = torch.ones((1, 3, *size), device=self._device)
            return self._from_rgb.alpha(opaque)
        components = frame.format.views(planes, frame.width, frame.height)
        convert = self._converter(frame)
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

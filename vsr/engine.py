"""Frames in, upscaled frames out, on one device.

A frame goes through five steps that can be seen in the code: upload, YUV to RGB, network, RGB to
YUV, download. The engine owns no thread: ``submit`` enqueues (on CUDA it never waits), ``collect``
waits for one frame and is called by the thread that writes.

Note [Small pictures go together]. Below 720 lines a frame is too little work for a large GPU: its
kernels are shorter than the time between them, and leave most of the device idle. Two frames or
four then go through the network with one call. From a file they are there at once; from a slow
source, a frame waits for those that it goes with.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from vsr.batching import in_groups
from vsr.colour import FromRgb, ToRgb
from vsr.config import Dither
from vsr.device import default_tile, fits, is_out_of_memory
from vsr.errors import OutOfMemoryError
from vsr.frame import Colour, Frame, PixelFormat
from vsr.fusing import FusedEnd
from vsr.graphs import Graphs
from vsr.health import MEASURES, Rendered, Watch, measure
from vsr.networks import Network
from vsr.resample import resize
from vsr.runtimes import EagerRuntime
from vsr.slots import Layout, Ring, Slot, copy_planes, kind_of
from vsr.tiles import run_tiled

__all__ = ["IN_FLIGHT", "Engine", "Pending", "Target"]

logger = logging.getLogger(__name__)

IN_FLIGHT = 2
"""Batches that may wait between ``submit`` and ``collect``."""
_SMALLEST_TILE = 32
_BATCHES = ((640 * 480, 4), (1280 * 720, 2))
"""On a GPU: pictures of fewer pixels than this, and how many of them go together."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A frame on its way, between ``submit`` and ``collect``."""

    frame: Frame
    """As it came; with neither of the following, it repeats the one before."""
    place: tuple[Slot, int] | None = None
    """Where on a GPU its result will be, and as which of a batch."""
    rendered: Rendered | None = None
    """Its result, on a CPU."""


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

    def __init__(  # noqa: PLR0913 - everything but what a frame says itself
        self, network: Network, target: Target, *, device: torch.device, dtype: torch.dtype,
        tile: int | None = None, runtime: EagerRuntime | None = None, graphs: bool = True,
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
            graphs: on a GPU, capture what is done for a batch, and replay it.
        """
        self._network, self._target, self._device = network, target, device
        self._runtime = runtime or EagerRuntime(network, device, dtype)
        self.dtype = self._runtime.dtype
        self._tile = tile
        self._singly = False
        self._to_rgb = lru_cache(maxsize=8)(self._make_to_rgb)
        self._batch = lru_cache(maxsize=8)(self._choose_batch)
        self._tile_for = lru_cache(maxsize=8)(self._choose_tile)
        self._noise = lru_cache(maxsize=2)(self._make_noise)
        self._from_rgb = FromRgb(
            target.format, target.colour, target.width, target.height, device, dither=target.dither
        )
        self._outputs = self._output_layout()
        self._fused = self._find_fused_end()
        self._latest: tuple[Tensor, ...] | None = None
        self.watch = Watch(self._render_exactly, self._enlarge_exactly, device)
        """Looks at every frame that is collected."""
        self.warnings: list[str] = []
        """What was changed on the way, because memory ran out."""
        self._ring = Ring(device) if device.type == "cuda" else None
        if self._ring is not None:
            self._graphs = Graphs(self._ring.computing, enabled=graphs)

    @property
    def runtime(self) -> str:
        """What runs the network: PyTorch or OpenVINO."""
        return self._runtime.name

    @property
    def tile(self) -> int | None:
        """Longest side of a tile, if pictures are tiled."""
        return self._tile

    @property
    def busy(self) -> float | None:
        """Seconds that a GPU has computed for the frames collected so far; None on a CPU."""
        return None if self._ring is None else self._ring.busy

    def batch(self, width: int, height: int) -> int:
        """How many frames of a size go through the network together.

        See note [Small pictures go together].
        """
        if self._ring is None or self._tile is not None or self._singly:
            return 1
        return self._batch(width, height)

    def submit(self, frames: Iterable[Frame]) -> Iterator[Pending]:
        """Upscale ``frames`` in order; pass each result to :meth:`collect`.

        Of one that repeats the one before (:attr:`vsr.frame.Frame.repeats`) nothing is computed.
        """
        for group in in_groups(frames, lambda frame: self.batch(frame.width, frame.height)):
            fresh = [frame for frame in group if not frame.repeats]
            started = iter(self.submit_batch(fresh) if fresh else ())
            for frame in group:
                yield Pending(frame) if frame.repeats else next(started)

    def submit_batch(self, frames: Sequence[Frame]) -> list[Pending]:
        """Upscale ``frames``, all of one size, with one call of the network.

        Pass each result to :meth:`collect`, in order.
        """
        if self._tile is None:
            self._tile = self._tile_for(frames[0].height, frames[0].width, len(frames))
        if self._singly:
            return [pending for frame in frames for pending in self._start([frame])]
        return self._start(frames)

    def collect(self, pending: Pending, into: Sequence[Tensor] | None = None) -> Frame:
        """Wait for one result of :meth:`submit`; call once for each, in order.

        At most ``IN_FLIGHT`` batches late, or more memory is taken for those that wait.

        Args:
            pending: what ``submit`` gave.
            into: planes to write the result to, of the target's shapes and type; the frame's
                planes are then these.
        """
        frame, rendered = pending.frame, _await(pending)
        if rendered is not None:
            planes = self.watch.check(frame, rendered)
        elif self._latest is None:
            raise ValueError("there is no frame before the first that it could repeat")
        else:
            planes = self.watch.pass_on(self._latest)
        self._latest = planes
        return self._finished(frame, planes if into is None else copy_planes(planes, into))

    def _start(self, frames: Sequence[Frame]) -> list[Pending]:
        try:
            if self._ring is None:
                return [*self._on_host(frames)]
            return [*self._on_gpu(frames, self._ring)]
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
                raise
            if len(frames) == 1:
                frame = frames[0]
                raise OutOfMemoryError(  # of the conversions around the network: tiles do not help
                    f"out of memory on {self._device}: pictures of {frame.width}x{frame.height} "
                    f"to {self._target.width}x{self._target.height} do not fit"
                ) from error
            self._warn(f"out of memory with {len(frames)} frames at a time: now they go singly")
        # not before the error let go of what it refers to
        self._singly = True
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return [pending for frame in frames for pending in self._start([frame])]

    @torch.inference_mode()
    def _on_host(self, frames: Sequence[Frame]) -> list[Pending]:
        rendered = self._render(frames, [frame.planes for frame in frames])
        return [
            Pending(frame, rendered=planes) for frame, planes in zip(frames, rendered, strict=True)
        ]

    @torch.inference_mode()
    def _on_gpu(self, frames: Sequence[Frame], ring: Ring) -> list[Pending]:
        with torch.cuda.device(self._device), torch.cuda.stream(ring.computing):
            slot = ring.take(frames, self._outputs)
            slot.upload(frames)
            self._graphs.run(slot, kind_of(frames), lambda: self._fill(slot, frames))
            slot.download()
        return [Pending(frame, (slot, index)) for index, frame in enumerate(frames)]

    def _fill(self, slot: Slot, frames: Sequence[Frame]) -> None:
        """What is done on the device for a batch, and captured there."""
        rendered = self._render(frames, slot.inputs)
        for planes, kept in zip(rendered, slot.outputs, strict=True):
            copy_planes(planes, kept)

    def _finished(self, frame: Frame, planes: tuple[Tensor, ...]) -> Frame:
        return Frame(
            planes=planes, format=self._target.format, width=self._target.width,
            height=self._target.height, colour=self._target.colour, pts=frame.pts,
            time_base=frame.time_base, duration=frame.duration, corrupt=frame.corrupt,
            repeats=frame.repeats, captions=frame.captions,
        )  # fmt: skip

    @cached_property
    def _exact(self) -> "Engine":
        """The same in float32, for frames that went wrong; shares nothing that is written to."""
        return Engine(
            self._network, self._target, device=self._device, dtype=torch.float32,
            tile=self._tile, graphs=False,
        )  # fmt: skip

    def _render_exactly(self, frame: Frame) -> Rendered:
        (pending,) = self._exact.submit_batch([frame])
        rendered = _await(pending)
        assert rendered is not None
        return rendered

    @torch.inference_mode()
    def _enlarge_exactly(self, picture: Tensor) -> Tensor:
        return self._exact._upscale(picture)

    def _render(
        self, frames: Sequence[Frame], planes: Sequence[tuple[Tensor, ...]]
    ) -> list[Rendered]:
        """Planes of the sources to planes of the target, all on the engine's device."""
        pictures = [
            self._converter(frame)(frame.format.views(own, frame.width, frame.height))
            for frame, own in zip(frames, planes, strict=True)
        ]
        if (fused := self._try_fused(frames, planes, pictures)) is not None:
            return fused
        source = pictures[0] if len(pictures) == 1 else torch.cat(pictures)
        enlarged = self._upscale(source)
        found = measure(source, enlarged)
        del pictures, source  # room for what follows
        return [
            self._complete(frame, own, self._from_rgb(rgb[None]), row[None])
            for frame, own, rgb, row in zip(frames, planes, enlarged, found, strict=True)
        ]

    def _try_fused(
        self, frames: Sequence[Frame], planes: Sequence[tuple[Tensor, ...]], pictures: list[Tensor]
    ) -> list[Rendered] | None:
        """The results by the runtime's fused end; None where there is none, or it needs tiles."""
        if self._fused is None or self._tile is not None:
            return None
        if not all(self._fused.takes(frame.width, frame.height) for frame in frames):
            return None
        try:
            ends = map(self._fused, pictures)
            return [
                self._complete(frame, own, *end)
                for frame, own, end in zip(frames, planes, ends, strict=True)
            ]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or self._is_capturing():
                raise
            self._fused = None  # what follows has tiles to fall back on
        torch.cuda.empty_cache()
        return None

    def _complete(
        self, frame: Frame, planes: tuple[Tensor, ...], out: tuple[Tensor, ...], found: Tensor
    ) -> Rendered:
        """Components of the result as planes, beside the source's alpha, with their measures."""
        if self._target.format.alpha:
            alpha, of_alpha = self._alpha(frame, planes)
            out, found = (*out, alpha), torch.cat([found, found if of_alpha is None else of_alpha])
        return (*self._target.format.planes(out), found)

    def _converter(self, frame: Frame) -> ToRgb:
        return self._to_rgb(frame.format, frame.colour, frame.width, frame.height)

    def _alpha(self, frame: Frame, planes: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        """Alpha, and its measures if it went through the network: as gray, so that edges match."""
        if not frame.format.alpha:
            size = (self._target.height, self._target.width)
            opaque = torch.ones((1, 3, *size), device=self._device)
            return self._from_rgb.alpha(opaque), None
        components = frame.format.views(planes, frame.width, frame.height)
        source = self._converter(frame).alpha(components[-1])
        enlarged = self._upscale(source)
        return self._from_rgb.alpha(enlarged), measure(source, enlarged)

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
                    multiple=network.multiple,
                )  # fmt: skip
                return out if network.scale else self._runtime.render(out, rgb, size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self._is_capturing() or len(rgb) > 1:
                    raise  # a batch is taken apart before its pictures are
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
        self._warn(f"out of memory: frames are now split into tiles of {self._tile} pixels")

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        logger.warning(text)

    def _make_noise(self, height: int, width: int) -> Tensor:
        assert self._network.noise is not None
        return self._network.noise(height, width, self._device)

    def _make_to_rgb(self, format: PixelFormat, colour: Colour, width: int, height: int) -> ToRgb:
        return ToRgb(format, colour, width, height, self._device)

    def _find_fused_end(self) -> FusedEnd | None:
        deliver, target = self._runtime.delivers(self._from_rgb), self._target
        if deliver is None or self._network.noise is not None:
            return None
        size = target.width, target.height
        return FusedEnd(deliver, self._network.scale, target.format, target.colour, size)

    def _choose_tile(self, height: int, width: int, count: int) -> int | None:
        size = self.dtype.itemsize * count
        return default_tile(self._device, self._network, height, width, size)

    def _choose_batch(self, width: int, height: int) -> int:
        network, itemsize = self._network, self.dtype.itemsize
        return next(
            (
                count
                for pixels, count in _BATCHES
                if width * height < pixels
                and fits(self._device, network, height, width, count * itemsize)
            ),
            1,
        )

    def _is_capturing(self) -> bool:
        """Whether a graph is being captured, which must not be answered by another."""
        return self._device.type == "cuda" and torch.cuda.is_current_stream_capturing()

    def _output_layout(self) -> Layout:
        target = self._target
        sizes = [
            target.format.component_size(index, target.width, target.height)
            for index in range(len(target.format.components))
        ]
        empty = torch.empty(1, dtype=target.format.dtype)
        planes = target.format.planes(tuple(empty.expand(size) for size in sizes))
        return Layout.of([*planes, torch.empty(1 + target.format.alpha, MEASURES)])


def _await(pending: Pending) -> Rendered | None:
    """What was made of a frame, as soon as it is there; None if nothing had to be."""
    if pending.place is None:
        return pending.rendered
    slot, index = pending.place
    return slot.collect(index)

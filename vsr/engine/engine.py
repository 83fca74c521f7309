"""Frames in, upscaled frames out, on one device.

A frame goes through five steps that can be seen in the code: upload, YUV to RGB, network, RGB to
YUV, download. On a GPU the engine owns no thread: ``submit`` enqueues and never waits, ``collect``
waits for one frame and is called by the thread that writes. On a CPU ``submit`` computes.

Note [Small pictures go together]
    Below 720 lines a frame is too little work for a large GPU: its kernels are shorter than the
    time between them, and leave most of the device idle. Two frames or four then go through the
    network with one call. From a file they are there at once; from a slow source, a frame waits for
    those that it goes with.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

import torch
from torch import Tensor

from vsr.constants import loose
from vsr.device import is_out_of_memory, return_freed_memory
from vsr.engine.batching import in_groups
from vsr.engine.graphs import Graphs
from vsr.engine.lanes import in_lanes
from vsr.engine.rendering import Renderer, RenderTarget
from vsr.engine.slots import Ring, Slot, copy_into, kind_of
from vsr.errors import OutOfMemoryError
from vsr.frame import Frame
from vsr.health import Rendered, Watch
from vsr.judging import Measures, draw_chart, measure
from vsr.networks import Network
from vsr.notes import Notes
from vsr.runtimes import EagerRuntime

__all__ = ["IN_FLIGHT", "Engine", "PendingFrame"]

logger = logging.getLogger(__name__)

IN_FLIGHT = 2
"""Batches that may wait between ``submit`` and ``collect``."""
_BATCHES = ((640 * 480, 4), (1280 * 720, 2))
"""On a GPU: pictures of fewer pixels than this, and how many of them go together."""


@dataclass(frozen=True, slots=True)
class PendingFrame:
    """A frame on its way, between ``submit`` and ``collect``."""

    frame: Frame
    """As it came. If ``place`` and ``rendered`` are both None, the frame repeats the one before."""
    place: tuple[Slot, int] | None = None
    """Where on a GPU its result will be, and as which of a batch."""
    rendered: Rendered | None = None
    """Its result, on a CPU."""


class Engine:
    """Upscales frames of any geometry and colour to one target."""

    def __init__(  # noqa: PLR0913 - everything but what a frame says itself
        self, network: Network, target: RenderTarget, *, device: torch.device, dtype: torch.dtype,
        tile: int | None = None, runtimes: Sequence[EagerRuntime] = (), graphs: bool = True,
    ) -> None:  # fmt: skip
        """Prepare everything that does not depend on a frame.

        Args:
            network: what enlarges.
            target: what frames are rendered to.
            device: where everything happens.
            dtype: precision of the network's body.
            tile: longest side of a tile; None tiles where memory asks for it.
            runtimes: ``network`` as it already is on ``device`` in ``dtype``; engines that share
                one must not work at the same time. On a CPU as many pictures are rendered at a time
                as there are, each by its own.
            graphs: on a GPU, capture what is done for a batch, and replay it.
        """
        self._network, self._target, self._device = network, target, device
        self.warnings = Notes(logger=logger)
        """What was changed on the way, because memory ran out."""
        self._renderers = [
            Renderer(network, target, device, runtime, tile, self.warnings.warn)
            for runtime in runtimes or [EagerRuntime(network, device, dtype)]
        ]
        self._renderer = self._renderers[0]
        for renderer in self._renderers:  # where memory is too small for one, it is for all
            renderer.tiling = self._renderer.tiling
        self._outputs = self._renderer.layout
        self._singly = False
        self._batch = lru_cache(maxsize=8)(loose(self._choose_batch))
        self._latest: tuple[Tensor, ...] | None = None
        self.watch = Watch(loose(self._render_exactly), loose(self._measure_chart))
        """Looks at every frame that is collected."""
        self._ring = Ring(device) if device.type == "cuda" else None
        if self._ring is not None:
            self._graphs = Graphs(self._ring.computing, enabled=graphs)

    @property
    def runtime(self) -> str:
        """What runs the network, by the name of its runtime."""
        return self._renderer.runtime

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network's body."""
        return self._renderer.dtype

    @property
    def lanes(self) -> int:
        """Pictures that are rendered at a time on a CPU."""
        return len(self._renderers)

    def settle_tile(self, shape: tuple[int, int]) -> None:
        """Choose a tile now, unless there is one, if frames of a shape do not fit as a whole."""
        self._renderer.settle_tile(shape, 1)

    @property
    def tile(self) -> int | None:
        """Longest side of a tile, if pictures are tiled."""
        return self._renderer.tile

    @property
    def busy(self) -> float | None:
        """Seconds that a GPU has computed for the frames collected so far; None on a CPU."""
        return None if self._ring is None else self._ring.busy

    def batch(self, shape: tuple[int, int]) -> int:
        """How many frames of a shape go through the network together.

        See note [Small pictures go together].
        """
        if self._ring is None or self.tile is not None or self._singly:
            return 1
        return self._batch(shape)

    def submit(self, frames: Iterable[Frame]) -> Iterator[PendingFrame]:
        """Upscale ``frames`` in order; pass each result to :meth:`collect`.

        Of one that repeats the one before (:attr:`vsr.frame.Frame.repeats`) nothing is computed.
        """
        groups = in_groups(frames, lambda frame: self.batch(frame.shape))
        if self.lanes == 1:
            for group in groups:
                yield from self._submit_group(0, group)
            return
        submitted = in_lanes(groups, self._submit_group, self.lanes, costs_nothing=_all_repeat)
        with closing(submitted):
            for pending in submitted:
                yield from pending

    def submit_batch(self, frames: Sequence[Frame]) -> list[PendingFrame]:
        """Upscale ``frames``, all of one shape, with one call of the network.

        Pass each result to :meth:`collect`, in order.
        """
        return self._submit(frames, self._renderer)

    def collect(
        self, pending: PendingFrame, into: Sequence[Tensor] | None = None, *,
        number: int | None = None,
    ) -> Frame:  # fmt: skip
        """Wait for one result of :meth:`submit`; call once for each, in order.

        At most ``IN_FLIGHT`` batches late, or more memory is taken for those that wait.

        Args:
            pending: what ``submit`` gave.
            into: planes to write the result to, of the target's shapes and type; the frame's
                planes are then these.
            number: by which an incident names the frame; None is the one after the last.
        """
        if number is not None:
            self.watch.number = number
        frame, rendered = pending.frame, _await(pending)
        if rendered is not None:
            planes = self.watch.check(frame, rendered)
        elif self._latest is None:
            raise ValueError("there is no frame before the first that it could repeat")
        else:
            planes = self.watch.pass_on(self._latest)
        self._latest = planes
        return self._finished(frame, planes if into is None else copy_into(into, planes))

    def _submit_group(self, lane: int, group: Sequence[Frame]) -> list[PendingFrame]:
        fresh = [frame for frame in group if not frame.repeats]
        started = iter(self._submit(fresh, self._renderers[lane]) if fresh else ())
        return [PendingFrame(frame) if frame.repeats else next(started) for frame in group]

    def _submit(self, frames: Sequence[Frame], renderer: Renderer) -> list[PendingFrame]:
        renderer.settle_tile(frames[0].shape, len(frames))
        if len(frames) > 1 and not self._singly:
            try:
                return self._start(frames, renderer)
            except (RuntimeError, MemoryError) as error:
                if not _ran_out(error):
                    raise
            self.warnings.warn(
                f"out of memory with {len(frames)} frames at a time: now they go singly"
            )
            self._singly = True
            return_freed_memory(self._device)  # not before the error let go of what it refers to
        return [self._start_one(frame, renderer) for frame in frames]

    def _start_one(self, frame: Frame, renderer: Renderer) -> PendingFrame:
        try:
            (pending,) = self._start([frame], renderer)
        except (RuntimeError, MemoryError) as error:
            if not _ran_out(error):
                raise
            raise OutOfMemoryError(  # of the conversions around the network: tiles do not help
                f"out of memory on {self._device}: pictures of {frame.width}x{frame.height} "
                f"to {self._target.width}x{self._target.height} do not fit"
            ) from error
        return pending

    def _start(self, frames: Sequence[Frame], renderer: Renderer) -> list[PendingFrame]:
        if self._ring is None:
            return self._on_host(frames, renderer)
        return self._on_gpu(frames, self._ring)

    @torch.inference_mode()
    def _on_host(self, frames: Sequence[Frame], renderer: Renderer) -> list[PendingFrame]:
        rendered = renderer.render(frames, [frame.planes for frame in frames])
        return [
            PendingFrame(frame, rendered=done) for frame, done in zip(frames, rendered, strict=True)
        ]

    @torch.inference_mode()
    def _on_gpu(self, frames: Sequence[Frame], ring: Ring) -> list[PendingFrame]:
        with torch.cuda.device(self._device), torch.cuda.stream(ring.computing):
            slot = ring.take(frames, self._outputs)
            slot.upload(frames)
            self._graphs.run(slot, kind_of(frames), lambda: self._fill(slot, frames))
            slot.download()
        return [PendingFrame(frame, (slot, index)) for index, frame in enumerate(frames)]

    def _fill(self, slot: Slot, frames: Sequence[Frame]) -> None:
        """What is done on the device for a batch, and captured there."""
        rendered = self._renderer.render(frames, slot.inputs)
        for done, kept in zip(rendered, slot.outputs, strict=True):
            copy_into(kept, done.tensors)

    def _finished(self, frame: Frame, planes: tuple[Tensor, ...]) -> Frame:
        return Frame(
            planes=planes, format=self._target.format, width=self._target.width,
            height=self._target.height, colour=self._target.colour, pts=frame.pts,
            time_base=frame.time_base, duration=frame.duration, corrupt=frame.corrupt,
            repeats=frame.repeats, captions=frame.captions, icc=frame.icc,
        )  # fmt: skip

    @cached_property
    def _exact(self) -> "Engine":
        """The same in float32, for frames that went wrong; shares nothing that is written to."""
        return Engine(
            self._network, self._target, device=self._device, dtype=torch.float32,
            tile=self.tile, graphs=False,
        )  # fmt: skip

    def _render_exactly(self, frame: Frame) -> Rendered:
        with self._exactly():
            (pending,) = self._exact.submit_batch([frame])
            rendered = _await(pending)
        assert rendered is not None
        return rendered

    @torch.inference_mode()
    def _measure_chart(self) -> Measures:
        with self._exactly():
            chart = draw_chart(self._device)
            return Measures(*measure(chart, self._exact._renderer.enlarge(chart))[0].tolist())

    @contextmanager
    def _exactly(self) -> Iterator[None]:
        """Say it as all of vsr does where the block, or what it begins with, runs out of memory."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not _ran_out(error):
                raise
            raise OutOfMemoryError(
                f"out of memory on {self._device}: there is no room for the network in float32"
            ) from error

    def _choose_batch(self, shape: tuple[int, int]) -> int:
        return next(
            (
                count
                for pixels, count in _BATCHES
                if prod(shape) < pixels and self._renderer.fits(shape, count)
            ),
            1,
        )


def _all_repeat(frames: Sequence[Frame]) -> bool:
    return all(frame.repeats for frame in frames)


def _ran_out(error: BaseException) -> bool:
    """Whether memory ran out; not where ``error`` is our own, which says that nothing helps."""
    return is_out_of_memory(error) and not isinstance(error, OutOfMemoryError)


def _await(pending: PendingFrame) -> Rendered | None:
    """What was made of a frame, as soon as it is there; None if nothing had to be."""
    if pending.place is None:
        return pending.rendered
    slot, index = pending.place
    return Rendered.of(slot.collect(index))

"""CUDA buffers, streams and events, allocated once and used again.

Note [Slots instead of record_stream]
    The buffers of a batch belong to a slot. The uploading, computing and downloading streams are
    ordered by a slot's events, and a slot is used again only after all its frames were collected;
    so no buffer is reused while a stream still reads it, nothing is allocated per frame, and the
    host waits in :meth:`Slot.collect` alone. There come to be as many slots as batches can be
    alive: those queued, one being enqueued, one being collected. The input and the output of a slot
    are one piece of memory each, so that a batch is one copy up, and a frame one copy down.

Note [Results return by themselves]
    An encoder may keep a picture as long as it likes, so a result cannot belong to a slot. It is
    handed out as it was downloaded, in pinned memory from PyTorch's cache of such memory: it
    returns to that cache when the last reference goes, a picture's of FFmpeg included, and after
    the first frames no result is allocated by the driver any more.

Note [Memory has a stream]
    PyTorch hands out device memory for the stream that is current, and may hand out what that
    stream's earlier kernels still read: they come first on that stream. On any other stream they do
    not; so a stream that writes to memory it did not allocate waits for the one that did. This
    happens where a slot is made, and where weights made by the caller are first used.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from vsr.engine.graphs import Captured
from vsr.frame import Frame

__all__ = ["Layout", "Ring", "Slot", "copy_into", "kind_of"]

_ALIGNMENT = 256
"""Bytes; what kernels of any width, and copies, like planes to begin at."""
_GEOMETRIES = 8
"""For which slots are kept: batches of one to four frames, of two geometries."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the planes of a picture lie in one piece of memory."""

    planes: tuple[tuple[tuple[int, ...], torch.dtype], ...]
    """Shape and type of each."""

    @classmethod
    def of(cls, planes: Sequence[Tensor]) -> "Layout":
        """The layout of planes like these."""
        return cls(tuple((tuple(plane.shape), plane.dtype) for plane in planes))

    @property
    def size(self) -> int:
        """Bytes of a picture."""
        return sum(map(_padded, self.planes))

    def views(self, memory: Tensor) -> tuple[Tensor, ...]:
        """The planes in ``memory``, :attr:`size` bytes as uint8."""
        found, start = [], 0
        for plane in self.planes:
            shape, dtype = plane
            found.append(memory[start : start + _bytes(plane)].view(dtype).view(shape))
            start += _padded(plane)
        return tuple(found)


@dataclass(slots=True)
class _Shared:
    """What slots share with their ring, to which they do not refer: it would outlive its engine."""

    device: torch.device
    uploading: torch.cuda.Stream
    downloading: torch.cuda.Stream
    busy: float = 0.0
    """Seconds that the device has computed for batches that were collected."""


class Slot:
    """Buffers and events of one batch in flight."""

    def __init__(self, shared: _Shared, count: int, planes: Layout, outputs: Layout) -> None:
        self._shared, self._result = shared, outputs
        self._staging = _pinned(count * planes.size)
        self._input = torch.empty_like(self._staging, device=shared.device)
        self._output = torch.empty((count, outputs.size), dtype=torch.uint8, device=shared.device)
        self._staged = [planes.views(part) for part in self._staging.view(count, -1)]
        self.inputs = [planes.views(part) for part in self._input.view(count, -1)]
        """Planes of each frame, on the device."""
        self.outputs = [outputs.views(part) for part in self._output]
        """What is downloaded of each frame, on the device; to be filled."""
        self.graph: Captured | None = None
        """What fills the outputs from the inputs, once it has been captured."""
        self.waiting = 0
        """Frames that were not collected yet."""
        self._frames: Sequence[Frame] = ()
        self._downloads: list[Tensor] = []
        self._uploaded = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._started = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._computed = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        # blocking: the thread that waits sleeps, and leaves its core to the encoder
        self._downloaded = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        # See note [Memory has a stream].
        shared.uploading.wait_stream(torch.cuda.current_stream(shared.device))

    def upload(self, frames: Sequence[Frame]) -> None:
        """Start the way of ``frames`` to the device, and make the current stream wait for them.

        Planes in main memory are copied to pinned memory first. Planes that are on the device have
        been written when they come here, and are kept until the slot is used again.
        """
        self._frames = frames
        for frame, staged in zip(frames, self._staged, strict=True):
            if not _on_device(frame):
                copy_into(staged, frame.planes)
        with torch.cuda.stream(self._shared.uploading):
            if not all(map(_on_device, frames)):
                self._input.copy_(self._staging, non_blocking=True)
            for frame, arrived in zip(frames, self.inputs, strict=True):
                if _on_device(frame):
                    copy_into(arrived, frame.planes)
            self._uploaded.record()
        stream = torch.cuda.current_stream(self._shared.device)
        stream.wait_event(self._uploaded)
        self._started.record(stream)

    def download(self) -> None:
        """Start the way of the outputs, filled on the current stream, to the host."""
        self._computed.record()
        with torch.cuda.stream(self._shared.downloading):
            self._shared.downloading.wait_event(self._computed)
            # See note [Results return by themselves].
            self._downloads = [_pinned(self._result.size) for _ in self.outputs]
            for result, kept in zip(self._downloads, self._output, strict=True):
                result.copy_(kept, non_blocking=True)
            self._downloaded.record()
        self.waiting = len(self.outputs)

    def collect(self, index: int) -> tuple[Tensor, ...]:
        """Wait for the download of frame ``index`` and give it away; once for each frame."""
        self._downloaded.synchronize()
        if self.waiting == len(self.outputs):
            self._shared.busy += self._started.elapsed_time(self._computed) / 1e3
        planes = self._result.views(self._downloads[index])
        if self.waiting == 1:
            self._downloads = []
        # Nothing after this: at 0 the thread that enqueues may take the slot, and fill it anew.
        self.waiting -= 1
        return planes


class Ring:
    """Slots, and the three streams that they share."""

    def __init__(self, device: torch.device) -> None:
        uploading = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.computing = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        downloading = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._shared = _Shared(device, uploading, downloading)
        # See note [Memory has a stream].
        self.computing.wait_stream(torch.cuda.current_stream(device))
        self._slots: OrderedDict[Hashable, deque[Slot]] = OrderedDict()

    @property
    def busy(self) -> float:
        """Seconds that the device has computed for batches that were collected."""
        return self._shared.busy

    def take(self, frames: Sequence[Frame], outputs: Layout) -> Slot:
        """A slot for ``frames`` that nobody waits for, made anew if there is none.

        Args:
            frames: the batch; all planes of one layout.
            outputs: what will be downloaded of each frame.
        """
        slots = self._slots_for(kind_of(frames))
        slot = next((slot for slot in slots if not slot.waiting), None)
        if slot is None:
            slot = Slot(self._shared, len(frames), Layout.of(frames[0].planes), outputs)
        else:
            slots.remove(slot)
        slots.append(slot)
        return slot

    def _slots_for(self, kind: Hashable) -> deque[Slot]:
        slots = self._slots.setdefault(kind, deque())
        self._slots.move_to_end(kind)
        if len(self._slots) > _GEOMETRIES:
            self._slots.popitem(last=False)
        return slots


def kind_of(frames: Sequence[Frame]) -> Hashable:
    """What batches have in common that the same work is done for, on memory of the same layout."""
    return tuple(
        (frame.format, frame.colour, frame.width, frame.height, Layout.of(frame.planes))
        for frame in frames
    )


def copy_into(targets: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Copy ``tensors`` into ``targets``, which are returned."""
    return tuple(target.copy_(one) for target, one in zip(targets, tensors, strict=True))


def _on_device(frame: Frame) -> bool:
    return frame.planes[0].device.type != "cpu"


def _bytes(plane: tuple[tuple[int, ...], torch.dtype]) -> int:
    shape, dtype = plane
    return prod(shape) * dtype.itemsize


def _padded(plane: tuple[tuple[int, ...], torch.dtype]) -> int:
    return -(-_bytes(plane) // _ALIGNMENT) * _ALIGNMENT


def _pinned(size: int) -> Tensor:
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)

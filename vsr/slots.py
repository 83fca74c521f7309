"""CUDA buffers, streams and events, allocated once and used in turn.

Note [Slots instead of record_stream]. A frame's buffers belong to a slot of a ring. The uploading,
computing and downloading streams are ordered by a slot's events, and a slot is used again only
after it was collected; so no buffer is freed or reused while a stream still reads it, nothing is
allocated per frame, and the host waits in :meth:`Slot.collect` alone. The ring holds as many slots
as frames can be alive: those queued, one being enqueued, one being collected.

Note [Memory has a stream]. PyTorch hands out device memory for the stream that is current, and may
hand out what that stream's earlier kernels still read: they come first on that stream. On any other
stream they do not; so a stream that writes to memory it did not allocate waits for the one that
did. This happens where a slot is made, and where weights made by the caller are first used.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from vsr.frame import Frame

__all__ = ["Ring", "Slot", "copy_planes"]


class Slot:
    """Buffers and events of one frame in flight."""

    def __init__(self, frame: Frame, outputs: Sequence[Tensor], ring: "Ring") -> None:
        self._ring = ring
        self._staging = [_pinned(plane) for plane in frame.planes]
        self.inputs = tuple(torch.empty_like(p, device=ring.device) for p in self._staging)
        self._outputs = [torch.empty_like(plane) for plane in outputs]
        self._results = [_pinned(plane) for plane in outputs]
        self._uploaded = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._computed = torch.cuda.Event()  # type: ignore[no-untyped-call]
        # blocking: the thread that waits sleeps, and leaves its core to the encoder
        self._downloaded = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self.frame = frame
        self.in_use = False
        """Whether the slot waits to be collected."""
        # See note [Memory has a stream].
        ring.uploading.wait_stream(torch.cuda.current_stream(ring.device))

    def fits(self, frame: Frame) -> bool:
        """Whether ``frame`` has the planes that this slot was made for."""
        same = (a.shape == b.shape for a, b in zip(self.inputs, frame.planes, strict=True))
        return frame.format == self.frame.format and all(same)

    def upload(self, frame: Frame) -> None:
        """Copy ``frame`` to pinned memory and start its way to the device."""
        self.frame, self.in_use = frame, True
        for staged, plane in zip(self._staging, frame.planes, strict=True):
            staged.copy_(plane)
        with torch.cuda.stream(self._ring.uploading):
            for target, staged in zip(self.inputs, self._staging, strict=True):
                target.copy_(staged, non_blocking=True)
            self._uploaded.record()

    def await_upload(self) -> None:
        """Make the current stream wait until the inputs have arrived."""
        torch.cuda.current_stream().wait_event(self._uploaded)

    def download(self, planes: Sequence[Tensor]) -> None:
        """Keep ``planes``, made on the current stream, and start their way to the host."""
        for kept, plane in zip(self._outputs, planes, strict=True):
            kept.copy_(plane)
        self._computed.record()
        with torch.cuda.stream(self._ring.downloading):
            self._ring.downloading.wait_event(self._computed)
            for result, kept in zip(self._results, self._outputs, strict=True):
                result.copy_(kept, non_blocking=True)
            self._downloaded.record()

    def collect(self, into: Sequence[Tensor] | None = None) -> tuple[Tensor, ...]:
        """Wait for the download; the result is a copy, since encoders keep what they are given.

        Args:
            into: where to copy to; None makes new planes.
        """
        self._downloaded.synchronize()
        planes = copy_planes(self._results, into)
        self.in_use = False
        return planes


def copy_planes(
    planes: Sequence[Tensor], into: Sequence[Tensor] | None = None
) -> tuple[Tensor, ...]:
    """``planes`` once more, in tensors of their own or in those of ``into``."""
    if into is None:
        return tuple(plane.clone() for plane in planes)
    return tuple(target.copy_(plane) for target, plane in zip(into, planes, strict=True))


def _pinned(plane: Tensor) -> Tensor:
    return torch.empty(plane.shape, dtype=plane.dtype, pin_memory=True)


class Ring:
    """Slots in turn, and the three streams that they share."""

    def __init__(self, device: torch.device, size: int) -> None:
        self.device = device
        self.uploading = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.computing = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.downloading = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # See note [Memory has a stream].
        self.computing.wait_stream(torch.cuda.current_stream(device))
        self._slots: list[Slot | None] = [None] * size
        self._next = 0

    def widen(self, size: int) -> None:
        """Make room for ``size`` slots, if there is not."""
        self._slots += [None] * (size - len(self._slots))

    def take(self, frame: Frame, outputs: Sequence[Tensor]) -> Slot:
        """The next slot in turn, made anew if it does not fit ``frame`` or was not collected yet.

        Args:
            frame: the frame that will be uploaded.
            outputs: device tensors shaped like the planes that will be downloaded.
        """
        slot = self._slots[self._next]
        if slot is None or slot.in_use or not slot.fits(frame):
            slot = self._slots[self._next] = Slot(frame, outputs, self)
        self._next = (self._next + 1) % len(self._slots)
        return slot

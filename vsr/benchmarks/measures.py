"""Peaks of a device, the work of a network, memory, and distance: what figures are held against.

Note [Work is that of the direct method]
    FLOP are counted by PyTorch as the network runs in float32: of convolutions, matrix products and
    attention, two for a multiplication with its addition. A method that multiplies less, such as
    Winograd's, can come out above the peak. Bytes are those of every tensor that an operation of
    eager PyTorch reads or writes, each once, in the precision of the way that is measured. What
    fuses operations, or finds its operands in a cache, moves less, and can come out above the peak
    as well: the figure says what an eager run would have to move in that time.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from vsr.device import dtype_name
from vsr.stopwatch import milliseconds

Arguments = tuple[object, ...]
Keywords = dict[str, object]

__all__ = ["count_work", "measure_peaks", "peak_mib", "psnr"]

_SIDES = {"cpu": 1536, "cuda": 8192}
"""Of the matrices that are multiplied."""
_COPIED = {"cpu": 1 << 28, "cuda": 1 << 30}
"""Bytes that are copied."""
_ENOUGH, _MOST_CALLS = 500, 1000
"""Milliseconds, and calls, that are spent on a peak."""


def measure_peaks(device: torch.device, dtypes: Sequence[torch.dtype]) -> dict[str, Any]:
    """TFLOP/s of matrix products in each of ``dtypes``, and GB/s of a copy (read and written)."""
    return {
        "tflops": {dtype_name(dtype): _matmul(device, dtype) for dtype in dtypes},
        "gbs": _copy(device),
    }


def _matmul(device: torch.device, dtype: torch.dtype) -> float:
    side = _SIDES[device.type]
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    return 2 * side**3 / (_time(lambda: a @ b, device) * 1e9)


def _copy(device: torch.device) -> float:
    source = torch.ones(_COPIED[device.type], dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * source.numel() / (_time(lambda: target.copy_(source), device) * 1e6)


def _time(run: Callable[[], object], device: torch.device) -> float:
    return milliseconds(run, device, _MOST_CALLS, enough=_ENOUGH)


def count_work(run: Callable[[Tensor], Tensor], picture: Tensor) -> tuple[Tensor, int, int]:
    """Run in float32; returns the result, its FLOP, and the bytes that its operations move.

    See note [Work is that of the direct method].
    """
    with FlopCounterMode(display=False) as flops, _Traffic() as traffic:
        out = run(picture)
    return out, flops.get_total_flops(), traffic.bytes


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the bytes that operations read and write; views move none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: Arguments = (), kwargs: Keywords | None = None
    ) -> object:
        out = func(*args, **(kwargs or {}))
        read = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        written = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        known = {x.untyped_storage().data_ptr() for x in read}
        if func._schema.is_mutable or any(
            x.untyped_storage().data_ptr() not in known for x in written
        ):
            self.bytes += sum(x.numel() * x.element_size() for x in [*read, *written])
        return out


def peak_mib(device: torch.device) -> float:
    """The most memory that this process has held: on a GPU PyTorch's there, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**20
    # Not getrusage: what that says of a process begins with the size of its parent.
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return kib / 1024


def psnr(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float | None:
    """Decibels over all samples, of a range of 1; None where they are equal."""
    error = float(np.mean(np.square(found.astype(np.float64) - expected)))
    return None if error == 0 else float(-10 * np.log10(error))

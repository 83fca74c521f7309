"""Which device a run uses, in which precision, and how much it can hold at once."""

import ctypes
import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import torch

from vsr.config import PRECISIONS, Precision
from vsr.errors import ConfigError, DeviceError
from vsr.memory import free_host_memory
from vsr.networks import Network

__all__ = [
    "PRECISIONS_BY_DTYPE",
    "choose_device",
    "choose_dtype",
    "default_tile",
    "describe",
    "dtype_name",
    "fits",
    "is_out_of_memory",
    "keep_freed_memory",
    "memory_needed",
    "plain_torch",
    "return_freed_memory",
]

logger = logging.getLogger(__name__)


def dtype_name(dtype: torch.dtype) -> str:
    """What PyTorch calls a type, without its own name: ``bfloat16``."""
    return str(dtype).removeprefix("torch.")


_DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
PRECISIONS_BY_DTYPE = {dtype_name(dtype): name for name, dtype in _DTYPES.items()}
"""The option's word for what PyTorch calls a type."""
_STEP = 64  # tiles are multiples of this, so that a little more or less memory changes nothing
_NO_MEMORY = (  # what torch, CUDA and its libraries say where they raise a plain RuntimeError
    "can't allocate memory",
    "could not create a primitive",  # oneDNN, which does not say why
    "not enough memory",
    "out of memory",
    "_STATUS_ALLOC_FAILED",
)


@contextmanager
def plain_torch() -> Iterator[None]:
    """PyTorch as our code expects it on this thread, whatever the program around it has set.

    Raises:
        ConfigError: numbers are not float32 unless said otherwise; PyTorch has one such setting for
            all threads, which is not ours to change.
    """
    if (kind := torch.get_default_dtype()) != torch.float32:
        raise ConfigError(f"vsr computes in float32: torch.set_default_dtype({kind}) is in its way")
    with ExitStack() as stack:
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def choose_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` as a device that exists.

    Raises:
        ConfigError: nothing has such a name.
        DeviceError: it does not exist on this machine.
    """
    available = torch.cuda.is_available()
    if name == "auto":
        return (
            torch.device("cuda", torch.cuda.current_device()) if available else torch.device("cpu")
        )
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is not known; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise ConfigError(f"device {name!r} is not supported; use auto, cpu, cuda or cuda:N")
    if not available:
        raise DeviceError(f"device {name!r}: PyTorch finds no CUDA device here")
    index = torch.cuda.current_device() if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r}: there are {torch.cuda.device_count()} CUDA devices")
    return torch.device("cuda", index)


def choose_dtype(device: torch.device, precision: Precision) -> torch.dtype:
    """Arithmetic of the network: fp16 on CUDA, bf16 on a CPU that has it, else fp32.

    Raises:
        ConfigError: there is no such precision.
    """
    if precision != "auto":
        if precision not in _DTYPES:
            raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}")
        return _DTYPES[precision]
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if _cpu_has_bf16() else torch.float32


def _cpu_has_bf16() -> bool:
    """Whether dot products of bf16 are instructions here; emulated, they are slower than fp32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def describe(device: torch.device) -> str:
    """A device as people call it, e.g. ``cuda:0 (NVIDIA H100)``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} {'thread' if threads == 1 else 'threads'})"


def memory_needed(
    network: Network, shape: tuple[int, int], *, itemsize: int, count: int = 1
) -> float:
    """Bytes that a network takes for whole pictures at a time.

    Args:
        network: what runs.
        shape: (height, width) of a picture.
        itemsize: bytes of a number in the network's body.
        count: how many pictures there are.
    """
    return math.prod(shape) * network.values_per_pixel * itemsize * count


def fits(
    device: torch.device, network: Network, shape: tuple[int, int], *, itemsize: int,
    count: int = 1,
) -> bool:  # fmt: skip
    """Whether memory allows whole pictures; see :func:`memory_needed`."""
    needed = memory_needed(network, shape, itemsize=itemsize, count=count)
    return bool(needed <= _free_memory(device))


def default_tile(
    device: torch.device, network: Network, shape: tuple[int, int], *, itemsize: int,
    count: int = 1,
) -> int | None:  # fmt: skip
    """The tile for pictures when none was asked for: None, the whole frame, if memory allows.

    Estimated before the first frame. A CPU process that asks for too much is killed by the kernel
    rather than told; a GPU says when it runs out, and the tile is halved then. For the arguments
    see :func:`memory_needed`.
    """
    needed = memory_needed(network, shape, itemsize=itemsize, count=count)
    free = _free_memory(device)
    if needed <= free:
        return None
    side = math.isqrt(int(free * math.prod(shape) / needed))
    margin = network.halo if network.grid > 1 else 2 * network.halo
    step = max(network.grid, _STEP)
    tile = max(step, (side - margin) // step * step)
    height, width = shape
    logger.info(
        "frames of %dx%d need about %.1f GB at once, %.1f GB may be used: tiles of %d",
        width, height, needed / 1e9, free / 1e9, tile,
    )  # fmt: skip
    return tile


def _free_memory(device: torch.device) -> float:
    """Bytes that a network may use: most of a GPU's, half of the host's."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return 0.8 * (free + kept)
    return 0.5 * free_host_memory()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on a GPU or the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)


def return_freed_memory(device: torch.device) -> None:
    """Give back what PyTorch, or malloc, keeps of freed tensors: others may need it.

    On a CPU these are libraries that ask the kernel, not malloc, for the code that they make.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return
    with suppress(OSError, AttributeError):  # malloc is not glibc's
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory() -> None:
    """Tell glibc's malloc to keep the pages of freed tensors instead of returning them.

    By default each tensor of a picture's size is mapped anew, and every page of it is zeroed by the
    kernel at first touch; a network on the CPU spends about a sixth of its time so. The setting is
    the process's, which is why only programs (the command, the benchmark, a VapourSynth script)
    make it, not the library. It does nothing where malloc is not glibc's.
    """
    trim_threshold, mmap_threshold, arena_max, never = -1, -3, -8, 1 << 30
    try:
        libc = ctypes.CDLL(None)
        # One arena: other threads' are made of 64 MiB heaps, which free() unmaps when empty.
        kept = (
            libc.mallopt(mmap_threshold, never)
            and libc.mallopt(trim_threshold, never)
            and libc.mallopt(arena_max, 1)
        )
    except (OSError, AttributeError):
        kept = 0
    logger.debug("freed memory is %s", "kept" if kept else "returned: malloc is not glibc's")

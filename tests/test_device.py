import subprocess

import pytest
import torch

from tests.warm import PYTHON
from vsr import device as devices
from vsr.device import choose_device, choose_dtype, default_tile, describe, is_out_of_memory
from vsr.errors import ConfigError, DeviceError
from vsr.networks import Network

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu() -> None:
    assert choose_device("auto") == CPU
    assert choose_device("cpu") == CPU
    for name in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError, match=f"{name}.*no CUDA device"):
            choose_device(name)


@pytest.mark.usefixtures("two_gpus")
def test_with_gpus() -> None:
    """A device always has an index, as the tensors on it do."""
    assert choose_device("auto") == torch.device("cuda", 1)
    assert choose_device("cuda") == torch.device("cuda", 1)
    assert choose_device("cuda:0") == CUDA
    assert choose_device("cpu") == CPU
    with pytest.raises(DeviceError, match=r"cuda:2.*there are 2"):
        choose_device("cuda:2")


@pytest.mark.parametrize(
    "name", ["gpu", "", "cuda:x", "cuda:-1", "meta", "xpu", "CUDA", "cpu,cuda"]
)
def test_unknown_devices(name: str) -> None:
    with pytest.raises(ConfigError, match="use auto, cpu, cuda or cuda:N") as caught:
        choose_device(name)
    assert "\n" not in str(caught.value)


def test_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_dtype(CPU, "fp32") == torch.float32
    assert choose_dtype(CUDA, "bf16") == torch.bfloat16
    assert choose_dtype(CPU, "fp16") == torch.float16
    assert choose_dtype(CUDA, "auto") == torch.float16
    monkeypatch.setattr(devices, "_cpu_has_bf16", lambda: True)
    assert choose_dtype(CPU, "auto") == torch.bfloat16
    monkeypatch.setattr(devices, "_cpu_has_bf16", lambda: False)
    assert choose_dtype(CPU, "auto") == torch.float32


def test_this_processor_can_be_asked() -> None:
    assert choose_dtype(CPU, "auto") in (torch.bfloat16, torch.float32)


@pytest.mark.parametrize(("threads", "words"), [(1, "cpu (1 thread)"), (3, "cpu (3 threads)")])
def test_a_cpu_is_described(monkeypatch: pytest.MonkeyPatch, threads: int, words: str) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert describe(CPU) == words


@pytest.mark.parametrize(("grid", "halo", "tile"), [(1, 21, 256), (96, 96, 192)])
def test_pictures_that_do_not_fit_are_tiled(
    monkeypatch: pytest.MonkeyPatch, grid: int, halo: int, tile: int
) -> None:
    network = Network(
        module=torch.nn.Identity(), name="x", scale=1, halo=halo, grid=grid, values_per_pixel=1000
    )
    monkeypatch.setattr(devices, "free_host_memory", lambda: 2 * 2000 * 360 * 300)
    assert default_tile(CPU, network, (360, 300), itemsize=2) is None
    assert default_tile(CPU, network, (360, 301), itemsize=2) == tile
    assert default_tile(CPU, network, (360, 300), itemsize=4) is not None
    assert default_tile(CPU, network, (360, 300), itemsize=2, count=2) is not None
    monkeypatch.setattr(devices, "free_host_memory", lambda: 0.0)
    assert default_tile(CPU, network, (16, 16), itemsize=2) == max(grid, 64)  # never nothing


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_out_of_memory_is_recognised(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) == expected


def test_a_real_shortage_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 55, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.cuda
def test_the_gpu_has_a_name() -> None:
    assert torch.cuda.get_device_name(0) in describe(choose_device("cuda:0"))


def test_freed_memory_is_kept():
    """In a process of its own: tensors of a picture's size come back without new page faults."""
    code = """
import resource, torch
from vsr.device import keep_freed_memory
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    before = faults()
    for _ in range(20):
        torch.zeros(16_000_000).add_(1)
    return faults() - before
work()
before = work()
keep_freed_memory()
work()
print(before, work())
"""
    run = subprocess.run([*PYTHON, "-c", code], check=True, capture_output=True, text=True)
    before, after = map(int, run.stdout.split())
    assert before > 10 * max(after, 1), run.stdout

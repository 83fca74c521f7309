"""What a GPU does for a frame, on tensors without memory that claim to be on one.

PyTorch's FakeTensorMode knows the shape, type and device of every result without a GPU, and refuses
what CUDA would refuse: tensors of two devices in one operation, types that do not go together, a
kernel whose result decides what comes next. So what is never run here is at least run through.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vsr import constants
from vsr.colour import FromRgb
from vsr.engine.rendering import Renderer, RenderTarget
from vsr.frame import Colour, Frame, Matrix, Range, Siting, pixel_format
from vsr.networks import Network, attention_kernels, classical, describe
from vsr.networks.esc import Esc, EscConfig
from vsr.networks.esc_lte import EscLte
from vsr.networks.span import Span, SpanConfig
from vsr.networks.spanf import SpanF, SpanFConfig
from vsr.networks.spanplus import SpanPlus, SpanPlusConfig
from vsr.networks.spanv2 import SpanV2, SpanV2Config
from vsr.networks.sst import Sst, SstConfig
from vsr.networks.sst_real import SstReal, SstRealConfig
from vsr.runtimes import EagerRuntime

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
GPU = torch.device("cuda", 0)
SST: dict[str, Any] = {"channels": 8, "blocks": 1, "heads": 2, "windows": (4, 8), "inner": 12}
ESC: dict[str, Any] = {
    "channels": 16, "blocks": 1, "convolutions": 2, "window": 8, "heads": 2, "large_channels": 8,
    "kernel": 5, "kernel_hidden": 4, "inner": 20, "projection_inner": 24,
}  # fmt: skip
NETWORKS: dict[str, tuple[Callable[[Any], nn.Module], Any]] = {
    "span": (Span, SpanConfig(channels=12, scale=2)),
    "span, gray": (Span, SpanConfig(norm=False, in_channels=1, out_channels=1, scale=2)),
    "spanf": (SpanF, SpanFConfig(channels=16, blocks=2, scale=2, unshuffle=2)),
    "spanv2": (SpanV2, SpanV2Config(scale=2)),
    "spanplus": (SpanPlus, SpanPlusConfig(channels=8, blocks=(2, 1), scale=2)),
    "sst": (Sst, SstConfig(**SST, ranks=(2, 4), frequencies=4, hidden=8)),
    "sst-real": (SstReal, SstRealConfig(**SST | {"inner": 6}, ranks=(2, 6), embedding=10,
                                        noise_channels=8, middle=4, fused=1)),
    "esc": (Esc, EscConfig(**ESC)),
    "esc-fp": (Esc, EscConfig(**ESC, decomposed=True, ending="bicubic")),
    "esc-real": (Esc, EscConfig(**ESC, scale=4, ending="nearest")),
    "esc-rib": (Esc, EscConfig(**ESC, rank=4)),
    "esc-lte": (EscLte, EscConfig(**ESC, scale=0, ending="features")),
}  # fmt: skip
BACKENDS = {
    "math": attention_kernels.sdpa, "cudnn": attention_kernels._cudnn,
    "flash": attention_kernels._flash, "efficient": attention_kernels._efficient,
}  # fmt: skip


class Crossings(TorchDispatchMode):
    """Notes what takes from main memory, which no graph can capture, and waits."""

    def __init__(self) -> None:
        super().__init__()
        self.found = list[str]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
        if {tensor.device.type for tensor in tensors} - {"cuda"}:
            self.found.append(str(func))
        return out


def moved(module: nn.Module, *target: Any, **layout: Any) -> nn.Module:
    """``module.to``, which swaps tensors where these have no memory, and cannot here."""
    for part in module.modules():
        for name, value in [*part._parameters.items(), *part._buffers.items()]:
            if value is None or (layout and value.dim() != 4):
                continue
            to = [one for one in target if one is not torch.float16 or value.is_floating_point()]
            new = value.detach().to(*(to or [value.dtype]), **layout)
            if name in part._parameters:
                part._parameters[name] = nn.Parameter(new, requires_grad=False)
            else:
                part._buffers[name] = new
    return module


def forget_constants() -> None:
    """Empty all caches of constants, since those that are made here are of no use elsewhere."""
    for name, module in list(sys.modules.items()):
        if name.startswith("vsr."):
            for value in vars(module).values():
                if (forget := getattr(value, "__dict__", {}).get("cache_clear")) is not None:
                    forget()


@pytest.fixture(autouse=True)
def claimed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("vsr.device._free_memory", lambda _: 1e12)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(nn.Module, "to", moved)
    # Single numbers would be kept, and computed with, on a GPU that is not there.
    monkeypatch.setattr(FakeTensorMode, "may_turn_const", lambda *_: False)
    monkeypatch.setattr(constants, "_makes_no_content", lambda: False)  # kept as on a GPU
    monkeypatch.setattr(torch.cuda, "device", current)
    forget_constants()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        yield
    forget_constants()


CURRENT = [GPU]
"""The last is the device on which kernels of Triton would be launched."""


@contextmanager
def current(device: torch.device) -> Iterator[None]:
    CURRENT.append(device)
    yield
    CURRENT.pop()


@contextmanager
def attention_by(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def choose(
        device: torch.device, dtype: torch.dtype, width: int, value_width: int, biased: bool
    ) -> attention_kernels.Kernel:
        widths = attention_kernels._value_widths(width, value_width)
        backend = "efficient" if biased and name == "flash" else name
        wide = widths[-1 if backend == "flash" else 0]
        return attention_kernels.Kernel(name, wide, BACKENDS[backend])

    with monkeypatch.context() as patched:
        patched.setattr("vsr.networks.attention.choose_kernel", choose)
        yield


def colour_of(name: str) -> Colour:
    rgb = pixel_format(name).family == "rgb"
    return Colour(
        matrix=Matrix.RGB if rgb else Matrix.BT709, range=Range.FULL if rgb else Range.LIMITED,
        primaries=1, transfer=1, siting=Siting.LEFT,
    )  # fmt: skip


def frame_of(name: str, width: int, height: int) -> Frame:
    form, shapes = pixel_format(name), dict[int, tuple[int, int]]()
    for index, component in enumerate(form.components):
        rows, columns = form.component_shape(index, width, height)
        samples = max(columns * component.step, shapes.get(component.plane, (0, 0))[1])
        shapes[component.plane] = rows, samples
    planes = [torch.empty(shapes[p], dtype=form.dtype, device=GPU) for p in sorted(shapes)]
    return Frame(
        planes=tuple(planes), format=form, width=width, height=height, colour=colour_of(name),
        pts=0, time_base=Fraction(1, 25), duration=1,
    )  # fmt: skip


def render(
    network: Network, source: str, target: str, *, count: int = 1, size: tuple[int, int] = (64, 48),
    scale: int = 2, tile: int | None = None, dtype: torch.dtype = torch.float16,
    dither: Any = "none",
) -> list[str]:  # fmt: skip
    """What a second batch takes from main memory; the first makes constants."""
    width, height = size
    form = RenderTarget(
        width=scale * width, height=scale * height, format=pixel_format(target),
        colour=colour_of(target), dither=dither,
    )  # fmt: skip
    runtime = EagerRuntime(network, GPU, dtype)
    renderer = Renderer(network, form, GPU, runtime, tile, pytest.fail)
    frames = [frame_of(source, width, height) for _ in range(count)]
    planes = [frame.planes for frame in frames]
    renderer.render(frames, planes)
    crossings = Crossings()
    with crossings:
        for done in renderer.render(frames, planes):
            assert {tensor.device for tensor in done.tensors} == {GPU}
            assert [t.dtype for t in done.tensors[:-1]] == [form.format.dtype] * len(done.planes)
    return crossings.found


@pytest.mark.parametrize("target", ["yuv422p10le", "gray", "gbrapf32le", "yuva444p10le"])
@pytest.mark.parametrize("source", ["yuv420p", "p010le", "gray", "gbrpf32le", "rgba", "ya16le"])
def test_formats_stay_on_the_device(source: str, target: str) -> None:
    assert render(classical("lanczos", 2), source, target, count=2, dither="ordered") == []


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_stay_on_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, config = NETWORKS[name]
    network = describe(name, build(config).eval().requires_grad_(False), config)
    uneven: dict[str, Any] = {"size": (33, 37), "scale": 3}
    ways: list[tuple[str, dict[str, Any]]] = [
        ("math", {"count": 2}), ("math", {"size": (50, 34), "tile": 32}),
        ("math", uneven | {"dtype": torch.float32}),
    ]  # fmt: skip
    if name in ("sst", "esc", "esc-rib"):
        ways += [("cudnn", {"count": 2}), ("flash", {"count": 2}), ("efficient", uneven)]
    for backend, settings in ways:
        with attention_by(backend, monkeypatch):
            assert render(network, "yuv420p", "yuv420p", **settings) == []


class Launches:
    """Stands for the kernels of SPAN, and notes the devices on which they are launched."""

    def __init__(self, *_: object) -> None:
        self.on = list[torch.device]()

    def rgb(self, pictures: Tensor) -> Tensor:
        self.on.append(CURRENT[-1])
        return torch.nn.functional.interpolate(pictures, scale_factor=2)

    def tail(self, *_: object, coded: int, **__: object) -> SimpleNamespace:
        return SimpleNamespace(coded=coded, components=coded)

    def deliver(self, pictures: Tensor, _: object) -> Any:
        (*codes,) = self.rgb(pictures)
        return codes, [()] * len(codes)


def test_kernels_are_launched_on_their_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine with several, though another is current: by a host program or by nobody."""
    triton = pytest.importorskip("vsr.runtimes.triton", exc_type=ImportError)
    monkeypatch.setattr(triton, "SpanKernels", Launches)
    monkeypatch.setattr(triton, "tune", lambda *_: True)
    other, config = torch.device("cuda", 1), SpanConfig(channels=12, scale=2)
    span = describe("span", Span(config).eval().requires_grad_(False), config)
    runtime = triton.TritonRuntime(span, other, torch.float16)
    picture = torch.rand(1, 3, 8, 6, device=other)
    deliver = runtime.delivers(
        FromRgb(pixel_format("yuv444p"), colour_of("yuv444p"), 12, 16, other)
    )
    runtime(picture)
    deliver(picture)
    assert runtime.kernels.on == [other, other]
    assert CURRENT == [GPU]


def test_what_cuda_refuses_is_refused() -> None:
    """The stand-in notices what these tests are for."""
    picture = torch.zeros(1, 3, 4, 4, device=GPU)
    with pytest.raises(RuntimeError, match="same device"):
        picture + torch.zeros(1, 3, 4, 4)
    with pytest.raises(DataDependentOutputException):
        bool((picture > 0).all())
    crossings = Crossings()
    with crossings:
        torch.zeros(2, 2).to(GPU)
    assert crossings.found

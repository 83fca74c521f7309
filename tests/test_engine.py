import gc
import re
import subprocess
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.warm import PYTHON
from vsr.colour import FromRgb, ToRgb
from vsr.engine import IN_FLIGHT, Engine, RenderTarget
from vsr.errors import OutOfMemoryError
from vsr.frame import Colour, Frame, Matrix, Range, Siting, pixel_format
from vsr.networks import Network, classical
from vsr.networks.span import Span, SpanConfig
from vsr.resample import resize
from vsr.runtimes import EagerRuntime
from vsr.weights import load_network

FrameMaker = Callable[..., Frame]
CPU = torch.device("cpu")
BT709 = Colour(
    matrix=Matrix.BT709, range=Range.LIMITED, primaries=1, transfer=1, siting=Siting.LEFT
)
RGB = replace(BT709, matrix=Matrix.RGB, range=Range.FULL, siting=Siting.UNSPECIFIED)


def small_span(**options: Any) -> Network:
    """An untrained network of SPAN's form around bilinear-sized values, enlarging twice."""
    options = {"channels": 4, "fused_channels": 4, "blocks": 1, "norm": False} | options
    config = SpanConfig(**options)
    return Network(
        module=Span(config).eval(), name="span", scale=config.scale, halo=config.halo,
        in_channels=config.in_channels, out_channels=config.out_channels, bounded=False,
    )  # fmt: skip


def engine_for(
    network: Network, width: int, height: int, name: str, colour: Colour = BT709, *,
    device: torch.device = CPU, dtype: torch.dtype = torch.float32, tile: int | None = None,
    dither: Any = "none",
) -> Engine:  # fmt: skip
    target = RenderTarget(
        width=width, height=height, format=pixel_format(name), colour=colour, dither=dither
    )
    return Engine(network, target, device=device, dtype=dtype, tile=tile)


def run(engine: Engine, frames: Iterable[Frame]) -> list[Frame]:
    """All results, each collected as late as the engine allows."""
    waiting, done = [], []
    for pending in engine.submit(frames):
        waiting.append(pending)
        if len(waiting) > IN_FLIGHT:
            done.append(engine.collect(waiting.pop(0)))
    return done + [engine.collect(pending) for pending in waiting]


def assert_same_codes(found: Frame, expected: Frame, tolerance: int = 0) -> None:
    for ours, theirs in zip(found.components, expected.components, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        assert (ours.int() - theirs.int()).abs().max() <= tolerance


def test_an_engine_goes_with_the_last_reference(make_frame: FrameMaker) -> None:
    """And all that it holds: nothing waits for the garbage collector."""
    frame, engine = make_frame("yuv420p", 16, 12), engine_for(small_span(), 32, 24, "yuv420p")
    run(engine, [frame] * 3)
    assert engine._render_exactly(frame).planes[0].shape == (24, 32)
    held = [weakref.ref(one) for one in (engine, engine._renderer._runtime, engine._exact)]
    gc.disable()
    try:
        del engine
        assert [one() for one in held] == [None] * 3
    finally:
        gc.enable()


# What comes out.


def test_frames_in_are_frames_out(make_frame: FrameMaker) -> None:
    """Number, order, time and damage, whatever the timestamps look like."""
    times = [(0, 40), (40, 33), (73, 1), (500, 0), (501, 12000), (13000, 9)]
    frames = [
        replace(make_frame("yuv420p", 16, 12), pts=pts, duration=duration,
                time_base=Fraction(1, 90000), corrupt=pts == 73)
        for pts, duration in times
    ]  # fmt: skip
    found = run(engine_for(small_span(), 32, 24, "yuv420p"), frames)
    assert [(f.pts, f.duration) for f in found] == times
    assert {f.time_base for f in found} == {Fraction(1, 90000)}
    assert [f.corrupt for f in found] == [False, False, True, False, False, False]
    for frame in found:
        assert (frame.width, frame.height, frame.colour) == (32, 24, BT709)
        assert [p.shape for p in frame.planes] == [(24, 32), (12, 16), (12, 16)]


def test_frames_are_taken_one_at_a_time(make_frame: FrameMaker) -> None:
    taken = []

    def frames() -> Iterable[Frame]:
        for index in range(5):
            taken.append(index)
            yield make_frame("yuv420p", 16, 12)

    results = engine_for(classical("identity", 1), 16, 12, "yuv420p").submit(frames())
    assert taken == []
    next(iter(results))
    assert taken == [0]


class Products(TorchDispatchMode):
    """Notes how exactly matrices may be multiplied, whenever some are."""

    def __init__(self) -> None:
        super().__init__()
        self.found = Counter[str]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.matmul):
            self.found[torch.get_float32_matmul_precision()] += 1
        return func(*args, **(kwargs or {}))


def test_a_host_program_does_not_have_float32_rounded(make_frame: FrameMaker) -> None:
    """Where chroma and pictures are resampled, before and after the network."""
    engine = engine_for(classical("lanczos", 2), 40, 30, "yuv420p")
    torch.set_float32_matmul_precision("medium")
    try:
        with Products() as products:
            run(engine, [make_frame("yuv420p", 16, 12)])
            engine._measure_chart()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert products.found.keys() == {"highest"}


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("yuv420p", 1), ("yuv422p", 1), ("yuv420p10le", 1), ("yuv422p10le", 1), ("yuv444p", 0),
     ("yuv444p10le", 0), ("yuv444p16le", 0), ("gray", 0), ("gray10le", 0), ("gray16le", 0),
     ("yuva420p", 1), ("yuva444p10le", 0)],
)  # fmt: skip
@pytest.mark.parametrize(("width", "height"), [(48, 32), (33, 27)])
def test_identity_gives_back_the_planes(
    make_frame: FrameMaker, name: str, tolerance: int, width: int, height: int
) -> None:
    frame = make_frame(name, width, height)
    (found,) = run(engine_for(classical("identity", 1), width, height, name), [frame])
    assert found.format == frame.format
    assert_same_codes(found, frame, tolerance)


@pytest.mark.parametrize("name", ["gbrp", "gbrp10le", "gbrp16le", "gbrap", "gbrap12le"])
def test_identity_gives_back_rgb(make_frame: FrameMaker, name: str) -> None:
    frame = make_frame(name, 33, 27, RGB)
    (found,) = run(engine_for(classical("identity", 1), 33, 27, name, RGB), [frame])
    assert_same_codes(found, frame)
    assert all(map(torch.equal, found.planes, frame.planes))


@pytest.mark.parametrize(
    ("name", "planar", "colour"),
    [("nv12", "yuv420p", BT709), ("p010le", "yuv420p10le", BT709), ("rgb24", "gbrp", RGB),
     ("bgra", "gbrap", RGB), ("yuyv422", "yuv422p", BT709), ("argb", "gbrap", RGB)],
)  # fmt: skip
def test_packed_sources_become_planar(
    make_frame: FrameMaker, name: str, planar: str, colour: Colour
) -> None:
    frame = make_frame(name, 24, 16, colour)
    (found,) = run(engine_for(classical("identity", 1), 24, 16, planar, colour), [frame])
    for ours, theirs in zip(found.components, frame.components, strict=True):
        assert (ours.int() - (theirs.int() >> frame.format.shift)).abs().max() <= 1


def test_steps_are_conversion_network_conversion(make_frame: FrameMaker) -> None:
    network = small_span()
    frame = make_frame("yuv420p", 20, 14)
    rgb = ToRgb(frame.format, frame.colour, 20, 14, CPU)(frame.components)
    with torch.no_grad():
        out = network.module(rgb)
    expected = FromRgb(pixel_format("yuv444p10le"), BT709, 40, 28, CPU)(out)
    (found,) = run(engine_for(network, 40, 28, "yuv444p10le"), [frame])
    for ours, theirs in zip(found.planes, expected, strict=True):
        assert (ours.int() - theirs.int()).abs().max() <= 1


@pytest.mark.parametrize(("width", "height"), [(50, 30), (30, 21), (41, 28), (40, 29)])
def test_another_size_is_a_lanczos_resize(make_frame: FrameMaker, width: int, height: int) -> None:
    frame = make_frame("yuv444p", 20, 14)
    rgb = ToRgb(frame.format, frame.colour, 20, 14, CPU)(frame.components)
    expected = resize(resize(rgb, 28, 40, "lanczos"), height, width, "lanczos")
    planes = FromRgb(pixel_format("yuv444p"), BT709, width, height, CPU)(expected)
    (found,) = run(engine_for(classical("lanczos", 2), width, height, "yuv444p"), [frame])
    assert all(map(torch.equal, found.planes, planes))


def test_alpha_is_upscaled_beside_the_picture(make_frame: FrameMaker) -> None:
    frame = make_frame("yuva420p", 16, 12)
    (found,) = run(engine_for(classical("lanczos", 2), 32, 24, "yuva420p"), [frame])
    alpha = resize(frame.components[3], 24, 32).add(0.5).floor().clamp(0, 255)
    assert (found.components[3].float() - alpha).abs().max() <= 1


def test_alpha_without_a_source_is_opaque(make_frame: FrameMaker) -> None:
    for dither in ("none", "ordered"):
        engine = engine_for(classical("lanczos", 2), 32, 24, "yuva444p10le", dither=dither)
        (found,) = run(engine, [make_frame("yuv420p", 16, 12)])
        assert bool((found.components[3].int() == 1023).all())


def test_alpha_is_dropped_where_the_target_has_none(make_frame: FrameMaker) -> None:
    (found,) = run(
        engine_for(classical("lanczos", 2), 32, 24, "yuv420p"), [make_frame("bgra", 16, 12, RGB)]
    )
    assert len(found.planes) == 3


def test_networks_of_one_channel_see_each_colour(make_frame: FrameMaker) -> None:
    network = small_span(in_channels=1, out_channels=1)
    frame = make_frame("gbrp16le", 16, 12, RGB)
    rgb = ToRgb(frame.format, RGB, 16, 12, CPU)(frame.components)
    with torch.no_grad():
        out = torch.cat([network.module(rgb[:, i : i + 1]) for i in range(3)], dim=1)
    expected = FromRgb(frame.format, RGB, 32, 24, CPU)(out)
    (found,) = run(engine_for(network, 32, 24, "gbrp16le", RGB), [frame])
    for ours, theirs in zip(found.components, expected, strict=True):
        assert (ours.int() - theirs.int()).abs().max() <= 2


@pytest.mark.parametrize("name", ["gray", "yuv420p", "gbrap"])
def test_networks_of_one_channel_take_every_format(make_frame: FrameMaker, name: str) -> None:
    network = small_span(in_channels=1, out_channels=1)
    colour = RGB if name == "gbrap" else BT709
    (found,) = run(engine_for(network, 32, 24, name, colour), [make_frame(name, 16, 12, colour)])
    assert found.components[0].shape == (24, 32)


def test_geometry_and_format_may_change_on_the_way(make_frame: FrameMaker) -> None:
    """The target stays; each frame says how it is to be read."""
    sources = [("yuv420p", 16, 12), ("yuv444p10le", 20, 10), ("nv12", 16, 12), ("gray", 8, 8)]
    frames = [make_frame(name, width, height) for name, width, height in sources]
    found = run(engine_for(classical("lanczos", 2), 32, 24, "yuv420p"), frames)
    assert [p.shape for f in found for p in f.planes] == [(24, 32), (12, 16), (12, 16)] * 4
    for frame, result in zip(frames, found, strict=True):
        alone = run(engine_for(classical("lanczos", 2), 32, 24, "yuv420p"), [frame])
        assert_same_codes(result, alone[0])


def batched(engine: Engine, frames: list[Frame], size: int) -> list[Frame]:
    """All results, ``size`` at a time."""
    found = []
    for first in range(0, len(frames), size):
        pending = engine.submit_batch(frames[first : first + size])
        found += [engine.collect(one) for one in pending]
    return found


def test_a_batch_is_one_call_of_the_network(make_frame: FrameMaker) -> None:
    modest, logging, log = greedy(limit=10**9)
    frames = [make_frame("yuva420p", 24, 16, pts=i) for i in range(5)]
    frames[1] = replace(frames[1], colour=replace(BT709, matrix=Matrix.BT2020_NCL))
    target = ("yuv420p10le", BT709)
    found = batched(engine_for(logging, 48, 32, *target), frames, 3)
    assert len(log) == 2
    assert [f.pts for f in found] == list(range(5))
    for ours, theirs in zip(found, run(engine_for(modest, 48, 32, *target), frames), strict=True):
        assert_same_codes(ours, theirs, 1)


@pytest.mark.parametrize("name", ["yuva444p", "gray"])
def test_batches_carry_alpha_and_tiles(make_frame: FrameMaker, name: str) -> None:
    frames = [make_frame(name, 40, 30) for _ in range(3)]
    network = small_span()
    found = batched(engine_for(network, 80, 60, name, tile=16), frames, 3)
    for ours, theirs in zip(found, run(engine_for(network, 80, 60, name), frames), strict=True):
        assert_same_codes(ours, theirs, 1)


def test_results_are_written_where_they_are_wanted(make_frame: FrameMaker) -> None:
    frame = make_frame("yuv420p", 16, 12)
    engine = engine_for(classical("lanczos", 2), 32, 24, "yuv420p")
    (expected,) = run(engine, [frame])
    memory = [torch.full((p.shape[0], 64), 7, dtype=p.dtype) for p in expected.planes]
    into = [m[:, : p.shape[1]] for m, p in zip(memory, expected.planes, strict=True)]
    (pending,) = engine.submit_batch([frame])
    found = engine.collect(pending, into)
    assert_same_codes(found, expected)
    for wanted, given, whole in zip(into, found.planes, memory, strict=True):
        assert given.data_ptr() == wanted.data_ptr()
        assert bool((whole[:, wanted.shape[1] :] == 7).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_classical_filters_stay_exact(make_frame: FrameMaker, dtype: torch.dtype) -> None:
    engine = engine_for(classical("identity", 1), 16, 12, "yuv444p16le", dtype=dtype)
    assert engine.dtype == torch.float32
    frame = make_frame("yuv444p16le", 16, 12)
    assert_same_codes(run(engine, [frame])[0], frame)


def test_half_precision_is_used(make_frame: FrameMaker) -> None:
    network = small_span()
    engine = engine_for(network, 32, 24, "yuv420p", dtype=torch.bfloat16)
    assert engine.dtype == torch.bfloat16
    assert {p.dtype for p in network.module.parameters()} == {torch.float32}  # a copy is converted
    assert len(run(engine, [make_frame("yuv420p", 16, 12)])) == 1


def test_an_error_in_the_source_comes_through(make_frame: FrameMaker) -> None:
    def frames() -> Iterable[Frame]:
        yield make_frame("yuv420p", 16, 12)
        raise OSError("gone")

    results = iter(engine_for(classical("identity", 1), 16, 12, "yuv420p").submit(frames()))
    next(results)
    with pytest.raises(OSError, match="gone"):
        next(results)


# Tiles and memory.


class Drawing(nn.Module):
    """Adds what an untrained network makes to a picture enlarged twice: it keeps averages."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = nn.functional.interpolate(x, scale_factor=2) + self.inner(x)
        return out


class Greedy(nn.Module):
    """Enlarges twice, but runs out of memory on pictures of more than ``limit`` pixels."""

    def __init__(self, inner: nn.Module, limit: int, log: Callable[[int], None]) -> None:
        super().__init__()
        self.inner, self.limit, self.log = inner, limit, log

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.shape[-2] * x.shape[-1]
        self.log(pixels)
        if pixels > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        out: Tensor = self.inner(x)
        return out


def greedy(limit: int) -> tuple[Network, Network, list[int]]:
    """A network, the same with an appetite, and a log of what the second was fed."""
    log: list[int] = []
    modest = small_span()
    modest = replace(modest, module=Drawing(modest.module))
    return modest, replace(modest, module=Greedy(modest.module, limit, log.append)), log


@pytest.mark.parametrize("tile", [16, 32, 50])
def test_tiles_change_nothing(make_frame: FrameMaker, tile: int) -> None:
    network = small_span()
    frame = make_frame("yuv444p", 70, 45)
    whole = run(engine_for(network, 140, 90, "yuv444p"), [frame])[0]
    engine = engine_for(network, 140, 90, "yuv444p", tile=tile)
    assert_same_codes(run(engine, [frame])[0], whole, 1)
    assert engine.tile == tile


@pytest.mark.parametrize("name", ["yuv420p", "yuva444p", "gray"])
def test_out_of_memory_halves_the_tile_and_loses_nothing(make_frame: FrameMaker, name: str) -> None:
    modest, hungry, log = greedy(limit=60 * 60)
    frames = [make_frame(name, 150, 90, pts=i) for i in range(4)]
    whole = run(engine_for(modest, 300, 180, name), frames)
    engine = engine_for(hungry, 300, 180, name)
    found = run(engine, frames)
    assert [f.pts for f in found] == [0, 1, 2, 3]
    for ours, theirs in zip(found, whole, strict=True):
        assert_same_codes(ours, theirs, 1)
    assert engine.tile == 38  # 150, 75, 38
    assert sum(pixels > 60 * 60 for pixels in log) == 2  # remembered: the other frames ran at once


def engine_in_lanes(*networks: Network) -> Engine:
    """An engine that makes 300x180 of 150x90, with a lane for each of ``networks``."""
    target = RenderTarget(width=300, height=180, format=pixel_format("yuv444p"), colour=BT709)
    runtimes = [EagerRuntime(network, CPU, torch.float32) for network in networks]
    return Engine(networks[0], target, device=CPU, dtype=torch.float32, runtimes=runtimes)


def test_what_one_lane_learns_of_memory_holds_for_all(make_frame: FrameMaker) -> None:
    modest, _, _ = greedy(0)
    log: list[int] = []  # what the lane that runs out is fed
    beside: list[int] = []  # what the lane beside it is fed, which has room for everything
    begun, learnt = threading.Event(), threading.Event()

    def run_out_once_the_other_has_begun(pixels: int) -> None:
        assert begun.wait(20)
        log.append(pixels)
        if pixels <= 60 * 60:
            learnt.set()

    def begin_and_let_the_other_run_out(pixels: int) -> None:
        beside.append(pixels)
        begun.set()
        assert learnt.wait(20)

    hungry = replace(
        modest, module=Greedy(modest.module, 60 * 60, run_out_once_the_other_has_begun)
    )
    watched = replace(modest, module=Greedy(modest.module, 10**9, begin_and_let_the_other_run_out))
    frames = [make_frame("yuv444p", 150, 90, pts=i) for i in range(6)]
    whole = run(engine_for(modest, 300, 180, "yuv444p"), frames)
    engine = engine_in_lanes(watched, hungry)
    found = run(engine, frames)
    for ours, theirs in zip(found, whole, strict=True):
        assert_same_codes(ours, theirs, 1)
    assert engine.tile == 38
    assert sum(pixels > 60 * 60 for pixels in log) == 2
    assert sum(pixels > 60 * 60 for pixels in beside) == 1  # its first frame; then it knew
    assert len(engine.warnings) == 2


def test_lanes_that_run_out_together_halve_their_tiles_once(make_frame: FrameMaker) -> None:
    modest, _, _ = greedy(0)
    both = threading.Barrier(2, timeout=20)

    class Fails(Greedy):
        def forward(self, x: Tensor) -> Tensor:
            if max(x.shape[-2:]) == 150:
                both.wait()
            return super().forward(x)

    network = replace(modest, module=Fails(modest.module, 120 * 90, lambda pixels: None))
    frames = [make_frame("yuv444p", 150, 90, pts=i) for i in range(2)]
    engine = engine_in_lanes(network, network)
    assert [frame.pts for frame in run(engine, frames)] == [0, 1]
    assert engine.tile == 75
    assert engine.warnings == ["out of memory: frames are now split into tiles of 75 pixels"]


def test_out_of_memory_takes_a_batch_apart_first(make_frame: FrameMaker) -> None:
    modest, _, _ = greedy(0)
    shapes: list[int] = []

    class Fails(Greedy):
        def forward(self, x: Tensor) -> Tensor:
            self.log(len(x))
            if len(x) > 1:
                raise torch.OutOfMemoryError("out of memory")
            out: Tensor = self.inner(x)
            return out

    network = replace(modest, module=Fails(modest.module, 0, shapes.append))
    frames = [make_frame("yuv420p", 60, 40, pts=i) for i in range(6)]
    whole = run(engine_for(modest, 120, 80, "yuv420p"), frames)
    engine = engine_for(network, 120, 80, "yuv420p")
    found = []
    for batch in (frames[:4], frames[4:]):
        found += [engine.collect(pending) for pending in engine.submit_batch(batch)]
    assert [frame.pts for frame in found] == [0, 1, 2, 3, 4, 5]
    for ours, theirs in zip(found, whole, strict=True):
        assert_same_codes(ours, theirs, 1)
    assert shapes == [4, 1, 1, 1, 1, 1, 1]  # remembered: the second batch was not tried
    assert engine.tile is None
    assert engine.warnings == ["out of memory with 4 frames at a time: now they go singly"]


HOGGED = """
import resource, torch
from fractions import Fraction
from vsr.config import UpscaleConfig
from vsr.engine import Engine, RenderTarget
from vsr.frame import Colour, Frame, Siting, pixel_format
from vsr.networks.span import Span, SpanConfig
from vsr.networks import describe

config = SpanConfig()
network = describe("span", Span(config).eval(), config)
colour = Colour(matrix=1, range=1, siting=Siting.LEFT)
form = pixel_format("yuv444p")
planes = tuple(torch.randint(16, 235, (272, 480), dtype=torch.uint8) for _ in range(3))
frame = Frame(planes=planes, format=form, width=480, height=272, colour=colour, pts=0,
              time_base=Fraction(1, 25), duration=1)
target = RenderTarget(width=960, height=544, format=form, colour=colour)
cpu = torch.device("cpu")

def enlarge(**options):
    engine = Engine(network, target, device=cpu, dtype=torch.float32, **options)
    (pending,) = engine.submit_batch([frame])
    return engine, engine.collect(pending)

_, whole = enlarge(tile=64)  # also what libraries allocate at their first use
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line[:7] == "VmSize:")
limit = used * 1024 + 120_000_000  # a whole frame takes more
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
engine, found = enlarge(tile=480)
pairs = zip(found.planes, whole.planes)
print(engine.tile, max(int((a.int() - b.int()).abs().max()) for a, b in pairs))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_AS is Linux's")
def test_a_host_without_memory(tmp_path: Path) -> None:
    done = subprocess.run([*PYTHON, "-c", HOGGED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tile, difference = map(int, done.stdout.split())
    assert 32 <= tile < 480
    assert difference <= 1
    assert "out of memory: frames are now split" in done.stderr


@pytest.mark.cuda
def test_a_gpu_without_memory(make_frame: FrameMaker) -> None:
    device = torch.device("cuda", 0)
    network = small_span(channels=48, fused_channels=48)
    frames = [make_frame("yuv420p", 1280, 720, pts=i) for i in range(4)]
    whole = run(engine_for(network, 2560, 1440, "yuv420p", device=device), frames)
    gc.collect()  # of the engine, whose graphs hold a gigabyte
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    limit = torch.cuda.memory_reserved(device) + 400e6  # a feature map takes 177 MB
    torch.cuda.set_per_process_memory_fraction(limit / total, device)
    try:
        engine = engine_for(network, 2560, 1440, "yuv420p", device=device, tile=1280)
        found = run(engine, frames)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert [frame.pts for frame in found] == [0, 1, 2, 3]
    assert engine.warnings
    for ours, theirs in zip(found, whole, strict=True):
        assert_same_codes(ours, theirs, 1)


def test_out_of_memory_inside_a_tile_starts_the_frame_again(make_frame: FrameMaker) -> None:
    """Not at the first tile: those that were done are done again with smaller ones."""
    modest, _, _ = greedy(0)
    calls: list[int] = []

    class Fails(Greedy):
        def forward(self, x: Tensor) -> Tensor:
            self.log(1)
            if len(calls) == 3:
                raise torch.OutOfMemoryError("out of memory")
            out: Tensor = self.inner(x)
            return out

    network = replace(modest, module=Fails(modest.module, 0, calls.append))
    frame = make_frame("yuv444p", 100, 80)
    engine = engine_for(network, 200, 160, "yuv444p", tile=64)
    (found,) = run(engine, [frame])
    (whole,) = run(engine_for(modest, 200, 160, "yuv444p"), [frame])
    assert_same_codes(found, whole, 1)
    assert engine.tile == 32


def test_out_of_memory_at_the_smallest_tile(make_frame: FrameMaker) -> None:
    _, hungry, log = greedy(limit=100)
    engine = engine_for(hungry, 300, 180, "yuv420p")
    with pytest.raises(OutOfMemoryError, match="tiles of 32 pixels") as caught:
        run(engine, [make_frame("yuv420p", 150, 90)])
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    assert "\n" not in str(caught.value)
    assert len(log) == 4  # 150, 75, 38, 32


def test_out_of_memory_on_a_tiny_picture(make_frame: FrameMaker) -> None:
    _, hungry, _ = greedy(limit=10)
    with pytest.raises(OutOfMemoryError):
        run(engine_for(hungry, 32, 24, "yuv420p"), [make_frame("yuv420p", 16, 12)])


def test_out_of_memory_around_the_network(
    make_frame: FrameMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(self: FromRgb, rgb: Tensor) -> tuple[Tensor, ...]:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB.")

    monkeypatch.setattr(FromRgb, "__call__", convert)
    engine = engine_for(classical("lanczos", 2), 32, 24, "yuv420p")
    with pytest.raises(OutOfMemoryError, match="16x12 to 32x24") as caught:
        run(engine, [make_frame("yuv420p", 16, 12)])
    assert "\n" not in str(caught.value)


def test_other_errors_are_left_alone(make_frame: FrameMaker) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("shapes cannot be multiplied")

    network = replace(small_span(), module=Broken())
    with pytest.raises(RuntimeError, match="multiplied") as caught:
        run(engine_for(network, 32, 24, "yuv420p"), [make_frame("yuv420p", 16, 12)])
    assert not isinstance(caught.value, OutOfMemoryError)


def test_large_pictures_are_tiled_unasked(
    make_frame: FrameMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsr.device._STEP", 20)
    monkeypatch.setattr("vsr.device.free_host_memory", lambda: 0.0)
    modest, hungry, log = greedy(limit=10**9)
    frame = make_frame("yuv420p", 50, 40)
    engine = engine_for(hungry, 100, 80, "yuv420p")
    (found,) = run(engine, [frame])
    assert engine.tile == 20
    assert len(log) == 6
    monkeypatch.undo()
    assert_same_codes(found, run(engine_for(modest, 100, 80, "yuv420p"), [frame])[0], 1)


# On a GPU.


@pytest.fixture
def gpu() -> torch.device:
    return torch.device("cuda", 0)


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("name", "target"),
    [("yuv420p", "yuv420p"), ("yuv420p10le", "yuv422p10le"), ("nv12", "yuv420p"),
     ("p010le", "yuv420p10le"), ("gbrap16le", "gbrap16le"), ("gray16le", "gray16le"),
     ("rgb48le", "gbrp16le"), ("yuyv422", "yuv444p")],
)  # fmt: skip
def test_gpu_equals_cpu(make_frame: FrameMaker, gpu: torch.device, name: str, target: str) -> None:
    colour = RGB if "rgb" in name or "gbr" in name else BT709
    frames = [make_frame(name, 49, 31, colour, pts=i) for i in range(12)]
    network = small_span()
    found = run(engine_for(network, 98, 62, target, colour, device=gpu), frames)
    expected = run(engine_for(network, 98, 62, target, colour), frames)
    assert [f.pts for f in found] == list(range(12))
    deep = pixel_format(target).depth > 12
    for ours, theirs in zip(found, expected, strict=True):
        assert_same_codes(ours, theirs, 8 if deep else 1)


@pytest.mark.cuda
def test_gpu_equals_cpu_with_real_weights(
    make_frame: FrameMaker, gpu: torch.device, shared: Path
) -> None:
    network = load_network(shared / "weights" / "spanx2_ch48.safetensors")
    frames = [make_frame("yuv420p", 160, 96, low=40, high=200) for _ in range(2)]
    found = run(engine_for(network, 320, 192, "yuv420p", device=gpu), frames)
    for ours, theirs in zip(
        found, run(engine_for(network, 320, 192, "yuv420p"), frames), strict=True
    ):
        assert_same_codes(ours, theirs, 1)


@pytest.mark.cuda
@pytest.mark.parametrize("size", [1, 3, 8])
def test_gpu_batches_keep_frames_apart(
    make_frame: FrameMaker, gpu: torch.device, size: int
) -> None:
    frames = [make_frame("yuv420p", 640, 360, pts=i) for i in range(20)]
    engine = engine_for(classical("identity", 1), 640, 360, "yuv420p", device=gpu)
    found = batched(engine, frames, size)
    assert [f.pts for f in found] == list(range(20))
    for ours, theirs in zip(found, frames, strict=True):
        assert_same_codes(ours, theirs, 1)


@pytest.mark.cuda
@pytest.mark.parametrize("late", [0, IN_FLIGHT, 12])
def test_gpu_keeps_frames_apart(make_frame: FrameMaker, gpu: torch.device, late: int) -> None:
    """More frames than slots, large enough that copies and kernels overlap."""
    frames = [make_frame("yuv420p", 1280, 720, pts=i) for i in range(12)]
    engine = engine_for(classical("identity", 1), 1280, 720, "yuv420p", device=gpu)
    waiting, found = [], []
    for pending in engine.submit(frames):
        waiting.append(pending)
        if len(waiting) > late:
            found.append(engine.collect(waiting.pop(0)))
    found += [engine.collect(pending) for pending in waiting]
    assert [f.pts for f in found] == list(range(12))
    for ours, theirs in zip(found, frames, strict=True):
        assert_same_codes(ours, theirs, 1)


@pytest.mark.cuda
def test_gpu_takes_a_change_of_geometry(make_frame: FrameMaker, gpu: torch.device) -> None:
    """New slots are made while frames of the old size are on their way."""
    sources = [
        ("yuv420p", 640, 360),
        ("yuv444p10le", 320, 180),
        ("nv12", 640, 360),
        ("gray", 64, 48),
    ]
    frames = [make_frame(*sources[i // 2 % 4], pts=i) for i in range(24)]
    network = small_span()
    found = run(engine_for(network, 640, 360, "yuv420p", device=gpu), frames)
    expected = run(engine_for(network, 640, 360, "yuv420p"), frames)
    for ours, theirs in zip(found, expected, strict=True):
        assert_same_codes(ours, theirs, 1)


@pytest.mark.cuda
def test_gpu_results_are_not_overwritten(make_frame: FrameMaker, gpu: torch.device) -> None:
    """Encoders keep what they are given."""
    frames = [make_frame("yuv420p", 64, 48, pts=i) for i in range(9)]
    found = run(engine_for(classical("identity", 1), 64, 48, "yuv420p", device=gpu), frames)
    pointers = {plane.data_ptr() for frame in found for plane in frame.planes}
    assert len(pointers) == 27


@pytest.mark.cuda
def test_gpu_out_of_memory(make_frame: FrameMaker, gpu: torch.device) -> None:
    modest, hungry, _ = greedy(limit=60 * 60)
    frames = [make_frame("yuv420p", 150, 90, pts=i) for i in range(3)]
    engine = engine_for(hungry, 300, 180, "yuv420p", device=gpu)
    for ours, theirs in zip(
        run(engine, frames), run(engine_for(modest, 300, 180, "yuv420p"), frames), strict=True
    ):
        assert_same_codes(ours, theirs, 1)
    assert engine.tile == 38


@pytest.mark.cuda
@pytest.mark.parametrize("size", [(320, 180), (720, 576), (1280, 720)])
def test_gpu_graphs_change_nothing(
    make_frame: FrameMaker, gpu: torch.device, size: tuple[int, int]
) -> None:
    width, height = size
    network = small_span()
    frames = [make_frame("yuv420p", width, height, pts=i) for i in range(30)]
    target = RenderTarget(width=2 * width, height=2 * height, format=pixel_format("yuv420p"),
                    colour=BT709)  # fmt: skip
    plain, graphed = (
        run(Engine(network, target, device=gpu, dtype=torch.float16, graphs=graphs), frames)
        for graphs in (False, True)
    )
    for ours, theirs in zip(graphed, plain, strict=True):
        assert ours.pts == theirs.pts
        assert_same_codes(ours, theirs)


def settled(engine: Engine, frame: Frame, count: int = 64) -> list[Frame]:
    """``engine`` after its warm-ups, with everything captured that will be."""
    return run(engine, [replace(frame, pts=index) for index in range(count)])


@pytest.mark.cuda
def test_gpu_graphs_are_captured(
    make_frame: FrameMaker, gpu: torch.device, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_for(small_span(), 1280, 720, "yuv420p", device=gpu, dtype=torch.float16)
    settled(engine, make_frame("yuv420p", 640, 360))
    assert engine._ring is not None
    slots = [slot for kind in engine._ring._slots.values() for slot in kind]
    assert any(slot.graph is not None for slot in slots)
    assert not [message for message in caplog.messages if "CUDA graph" in message]
    assert engine.busy is not None
    assert engine.busy > 0


def within(profile: torch.profiler.profile, name: str) -> set[str]:
    """What was called within a section: the profiler itself waits for the device at its end."""
    events = [e for e in profile.events() or () if e.device_type.name == "CPU"]
    (section,) = (event.time_range for event in events if event.name == name)
    return {
        without_version(event.name)
        for event in events
        if section.start <= event.time_range.start and event.time_range.end <= section.end
    }


def without_version(name: str) -> str:
    """A call of CUDA as it is known; newer profilers add which version of it was called."""
    return re.sub(r"_v\d+$", "", name)


def test_calls_are_told_apart_by_the_section_they_are_in() -> None:
    """The profiler's own words; on a GPU, calls of CUDA stand among them."""
    one = torch.ones(2)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        one.exp()
        with torch.profiler.record_function("here"):
            one.log()
        one.sin()
    found = within(profile, "here")
    assert "aten::log" in found
    assert not found & {"aten::exp", "aten::sin"}
    assert without_version("cudaMalloc_v3020") == "cudaMalloc"
    assert without_version("aten::_validate") == "aten::_validate"


WAITING = {
    "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMalloc",
    "cudaFree", "cudaHostAlloc", "cudaFreeHost",
}  # fmt: skip


@pytest.mark.cuda
@pytest.mark.parametrize(("width", "height"), [(640, 360), (1280, 720)])
@pytest.mark.parametrize("graphs", [True, False])
def test_gpu_enqueueing_waits_for_nothing(
    make_frame: FrameMaker, gpu: torch.device, graphs: bool, width: int, height: int
) -> None:
    """By the profiler and by PyTorch's own watch: only collecting waits, and nothing allocates."""
    target = RenderTarget(width=2 * width, height=2 * height, format=pixel_format("yuv420p"),
                    colour=BT709)  # fmt: skip
    engine = Engine(small_span(), target, device=gpu, dtype=torch.float16, graphs=graphs)
    frame = make_frame("yuv420p", width, height)
    settled(engine, frame)
    together = engine.batch((height, width))
    submitted = [replace(frame, pts=index) for index in range(together)]
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    called: set[str] = set()
    for _ in range(4):
        with torch.profiler.profile(activities=activities) as profile:
            try:
                torch.cuda.set_sync_debug_mode("error")
                with torch.profiler.record_function("submitting"):
                    pending = engine.submit_batch(submitted)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        called |= within(profile, "submitting")
        for one in pending:
            engine.collect(one)
    assert not called & WAITING
    assert bool(called & {"cudaGraphLaunch"}) == graphs


@pytest.mark.cuda
def test_gpu_repeats_get_the_previous_result(make_frame: FrameMaker, gpu: torch.device) -> None:
    shown = [make_frame("yuv420p", 320, 180) for _ in range(9)]
    frames = [
        replace(picture, pts=4 * number + turn, repeats=turn > 0)
        for number, picture in enumerate(shown)
        for turn in range(1 + number % 4)
    ]
    found = run(engine_for(small_span(), 640, 360, "yuv420p", device=gpu), frames)
    latest: Frame | None = None
    for frame, result in zip(frames, found, strict=True):
        assert result.pts == frame.pts
        if frame.repeats:
            assert latest is not None
            assert_same_codes(result, latest)
        latest = result

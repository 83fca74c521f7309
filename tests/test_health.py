"""Frames that cannot be right: what trips the check, what must not, and what is done about it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vsr.engine import Engine, RenderTarget
from vsr.frame import Colour, Frame, Matrix, Range, Siting, pixel_format
from vsr.health import Incident
from vsr.judging import Limits, Measures, choose_limits, draw_chart, judge, measure
from vsr.networks import Network, classical
from vsr.networks.span import Span, SpanConfig
from vsr.resample import resize, resize_matrix
from vsr.runtimes import EagerRuntime
from vsr.weights import load_network

FrameMaker = Callable[..., Frame]
CPU = torch.device("cpu")
BT709 = Colour(
    matrix=Matrix.BT709, range=Range.LIMITED, primaries=1, transfer=1, siting=Siting.LEFT
)
RGB = replace(BT709, matrix=Matrix.RGB, range=Range.FULL, siting=Siting.UNSPECIFIED)


def measured(source: Tensor, result: Tensor) -> Measures:
    return Measures(*measure(source, result)[0].tolist())


def fault(source: Tensor, result: Tensor) -> str | None:
    return judge(measured(source, result), Limits())


@pytest.fixture
def photo(shared: Path, scripts: Callable[[str], ModuleType]) -> Tensor:
    picture: Tensor = scripts("pictures").load(shared / "data" / "Set5" / "LRx2" / "img_003.png")
    return picture[None].float() / 255


def scene(height: int = 96, width: int = 128) -> Tensor:
    """A coloured picture with structure of every size, (1, 3, H, W)."""
    coarse = torch.rand(1, 3, height // 24 + 1, width // 24 + 1)
    fine = torch.rand(1, 3, height, width)
    return (resize(coarse, height, width) * 0.9 + fine * 0.1).clamp(0, 1)


# What is measured.


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_bound_of_the_note(scale: int) -> None:
    """How far the average of a block of a Lanczos enlargement can be from the source's."""
    pixels, block = 160, 16
    positions = (np.arange(pixels * scale) + 0.5) / scale - 0.5
    enlarging = resize_matrix(positions, pixels, "lanczos")
    worst = 0.0
    for index in range(pixels // block):
        weights = enlarging[index * block * scale : (index + 1) * block * scale].mean(0)
        own = np.zeros(pixels)
        own[index * block : (index + 1) * block] = 1 / block
        excess = np.outer(weights, weights) - np.outer(own, own)
        worst = max(worst, excess.clip(0).sum(), (-excess).clip(0).sum())
    assert 0.01 < worst < 0.021
    drawn = torch.from_numpy((excess > 0).astype(np.float32))[None, None]
    difference = measured(drawn, resize(drawn, pixels * scale, pixels * scale)).worst
    assert difference <= worst + 1e-5


@pytest.mark.parametrize(
    ("height", "width", "out"),
    [(96, 128, (192, 256)), (33, 27, (99, 81)), (16, 12, (32, 24)), (5, 3, (10, 6)),
     (1, 1, (2, 2)), (1, 40, (4, 160)), (97, 131, (262, 354)), (90, 120, (240, 320)),
     (96, 128, (64, 80)), (64, 96, (64, 96)), (241, 61, (482, 122))],
)  # fmt: skip
def test_right_pictures_of_any_size_pass(height: int, width: int, out: tuple[int, int]) -> None:
    source = scene(height, width)
    found = measured(source, resize(source, *out))
    assert judge(found, Limits()) is None
    assert found.worst < 0.05


@pytest.mark.parametrize("place", [(0, 0), (191, 255), (100, 17), (96, 128)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_number_that_is_none_shows(
    place: tuple[int, int], value: float, dtype: torch.dtype
) -> None:
    source = scene()
    result = resize(source, 192, 256).to(dtype)
    assert fault(source, result) is None
    result[0, 1, place[0], place[1]] = value
    assert fault(source, result) == "not finite"


@pytest.mark.parametrize("size", [(101, 131), (7, 5)])
def test_no_pixel_is_left_out(size: tuple[int, int]) -> None:
    """Whatever the size, each pixel of the result counts."""
    source = scene(*size)
    clean = resize(source, 2 * size[0], 2 * size[1])
    for row in range(0, 2 * size[0], 9):
        for column in (0, 1, size[1], 2 * size[1] - 1):
            result = clean.clone()
            result[0, 2, row, column] = math.nan
            assert fault(source, result) == "not finite"
    clean[0, 0, -1, -1] = math.nan
    assert fault(source, clean) == "not finite"


def damages(right: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "black", torch.zeros_like(right)
    yield "white", torch.ones_like(right)
    yield "gray", torch.full_like(right, 0.5)
    yield "inverted", 1 - right
    yield "rolled down", right.roll(right.shape[-2] // 2, -2)
    yield "rolled across", right.roll(right.shape[-1] // 3, -1)
    yield "mirrored", right.flip(-1)
    yield "upside down", right.flip(-2)
    yield "turned", resize(right.mT, *right.shape[-2:])
    yield "red for blue", right.flip(1)
    yield "too bright", right * 2 + 0.3
    yield "enormous", right * 1e30
    yield "noise", torch.rand_like(right)
    rows = right.shape[-2] // 2
    yield "lower half missing", right * (torch.arange(2 * rows) < rows)[:, None]
    tile = right.clone()
    tile[..., 60:110, 60:110] = 1 - right[..., 60:110, 60:110].round()
    yield "a garbled tile", tile


def test_what_goes_wrong_shows() -> None:
    source = scene()
    right = resize(source, 192, 256)
    assert fault(source, right) is None
    missed = [name for name, result in damages(right) if fault(source, result) is None]
    assert missed == []


def test_what_goes_wrong_shows_in_a_photograph(photo: Tensor) -> None:
    right = resize(photo, 2 * photo.shape[-2], 2 * photo.shape[-1])
    assert fault(photo, right) is None
    missed = [name for name, result in damages(right) if fault(photo, result) is None]
    assert missed == []


def test_black_sources_may_stay_black() -> None:
    for level in range(4):
        source = torch.full((1, 3, 40, 40), level / 255)
        assert fault(source, torch.zeros(1, 3, 80, 80)) is None
    night = torch.full((1, 3, 40, 40), 5 / 255)
    assert fault(night, torch.zeros(1, 3, 80, 80)) == "black"
    assert fault(night, torch.full((1, 3, 80, 80), 4 / 255)) is None


def test_beyond_white_differences_count_in_proportion() -> None:
    source = scene() * 100
    right = resize(source, 192, 256)
    assert fault(source, right) is None
    assert fault(source, right.clamp(0, 1)) is not None
    source[..., 50, 50] = 65504  # what infinity is read as; it spreads to neighbouring blocks
    assert fault(source, resize(source, 192, 256)) is None


def test_pictures_of_a_batch_are_measured_apart() -> None:
    sources = torch.cat([scene() for _ in range(3)])
    results = resize(sources, 192, 256)
    results[1] = 0
    found = [judge(Measures(*row), Limits()) for row in measure(sources, results).tolist()]
    assert found == [None, "black", None]


# What a network may mean.


def test_the_chart_settles_the_limits() -> None:
    chart = draw_chart(CPU)
    assert choose_limits(measured(chart, chart)) == Limits()
    shifted = choose_limits(measured(chart, chart * 0.8))
    assert shifted is not None
    assert shifted.worst > Limits().worst
    for nonsense in (torch.zeros_like(chart), torch.rand_like(chart), chart * math.nan):
        assert choose_limits(measured(chart, nonsense)) is None


@pytest.mark.parametrize("name", ["span-x2", "lanczos", "identity"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_difficult_pictures_pass(
    scripts: Callable[[str], ModuleType], name: str, dtype: torch.dtype
) -> None:
    network = load_network(name)
    runtime = EagerRuntime(network, CPU, dtype)
    for title, picture in scripts("bench_health").hard_pictures(64, 80):
        assert fault(picture, runtime(picture)) is None, title


@pytest.mark.parametrize("name", ["spanx2_ch48", "2xHFA2kSPAN_27k"])
def test_real_pictures_pass_with_weights_of_others(shared: Path, name: str) -> None:
    network = load_network(shared / "weights" / f"{name}.safetensors")
    exact = EagerRuntime(network, CPU, torch.float32)
    chart = draw_chart(CPU)
    limits = choose_limits(measured(chart, exact(chart)))
    assert limits is not None
    frames = EagerRuntime(network, CPU, torch.bfloat16)
    load: Any = __import__("PIL.Image", fromlist=["open"]).open
    for path in sorted((shared / "data" / "kodak24").iterdir())[:6]:
        with load(path) as image:
            picture = torch.from_numpy(np.array(image.convert("RGB").resize((96, 64))))
        source = picture.permute(2, 0, 1)[None].float() / 255
        assert judge(measured(source, frames(source)), limits) is None, path.name


# What is done about it.


class Spoils(nn.Module):
    """Spoils what a network makes wherever it runs in half precision, as an overflow would."""

    def __init__(self, inner: nn.Module, spoil: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.spoil = inner, spoil
        self.like = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x.float())
        return out if self.like.dtype == torch.float32 else self.spoil(out)


def spoilt(spoil: Callable[[Tensor], Tensor], inner: Network | None = None) -> Network:
    inner = inner or classical("lanczos", 2)
    return replace(inner, module=Spoils(inner.module, spoil), body=("",))


def engine_for(
    network: Network, width: int, height: int, name: str = "yuv420p", colour: Colour = BT709, *,
    dtype: torch.dtype = torch.bfloat16, tile: int | None = None, device: torch.device = CPU,
) -> Engine:  # fmt: skip
    target = RenderTarget(width=width, height=height, format=pixel_format(name), colour=colour)
    return Engine(network, target, device=device, dtype=dtype, tile=tile)


def run(engine: Engine, frames: list[Frame]) -> list[Frame]:
    return [engine.collect(pending) for pending in engine.submit(frames)]


def faults(engine: Engine) -> list[tuple[int, str, bool]]:
    return [(i.frame, i.fault, i.repaired) for i in engine.watch.health.incidents]


def assert_equal(found: Frame, expected: Frame) -> None:
    for ours, theirs in zip(found.planes, expected.planes, strict=True):
        assert torch.equal(ours, theirs)


def assert_close(found: Frame, expected: Frame) -> None:
    """Within a code: other shapes, other rounding."""
    for ours, theirs in zip(found.planes, expected.planes, strict=True):
        assert (ours.int() - theirs.int()).abs().max() <= 1


def overflowing(factor: float) -> Network:
    """Real weights, with a factor that cancels out, but for what overflows on the way."""
    network = load_network("span-x2")
    module = network.module
    assert isinstance(module, Span)
    bias = module.conv_2.eval_conv.bias
    assert bias is not None
    with torch.no_grad():
        module.conv_2.eval_conv.weight *= factor
        bias *= factor
        module.conv_cat.weight[:, 48:96] /= factor
    return network


def test_what_overflows_in_half_precision_is_done_again(
    make_frame: FrameMaker, caplog: pytest.LogCaptureFixture
) -> None:
    network = overflowing(1e6)
    frames = [make_frame("yuv420p", 48, 32, pts=i) for i in range(3)]
    engine = engine_for(network, 96, 64, dtype=torch.float16)
    found = run(engine, frames)
    expected = run(engine_for(network, 96, 64, dtype=torch.float32), frames)
    for ours, theirs in zip(found, expected, strict=True):
        assert_equal(ours, theirs)
    assert faults(engine) == [(number, "not finite", True) for number in range(3)]
    assert [record.getMessage() for record in caplog.records] == [
        f"frame {number} ({number / 25:.3f} s) holds NaN or infinity: done again in float32"
        for number in range(3)
    ]


def test_a_network_that_fails_once(make_frame: FrameMaker) -> None:
    network, calls = load_network("span-x2"), []

    def poison(module: nn.Module, inputs: object, output: Tensor) -> None:
        calls.append(output.shape)
        if len(calls) == 3:
            output[..., 5, 7] = math.nan

    network.module.get_submodule("conv_2").register_forward_hook(poison)
    frames = [make_frame("yuv420p", 48, 32, pts=i) for i in range(4)]
    engine = engine_for(network, 96, 64, dtype=torch.float32)
    found = run(engine, frames)
    assert faults(engine) == [(2, "not finite", True)]
    assert len(calls) == 5
    for ours, theirs in zip(
        found, run(engine_for(load_network("span-x2"), 96, 64, dtype=torch.float32), frames),
        strict=True,
    ):  # fmt: skip
        assert_equal(ours, theirs)


def smooth(make_frame: FrameMaker, name: str, width: int = 64, height: int = 48) -> Frame:
    """A frame of few large spots, so that places and colours differ."""
    frame = make_frame(name, width, height, RGB if "gbr" in name else BT709)
    planes = []
    for plane in frame.planes:
        coarse = torch.rand(1, 1, 3, 4)
        levels = resize(coarse, *plane.shape)[0, 0].clamp(0, 1) * 200 + 25
        planes.append((levels * 2 ** (frame.format.depth - 8)).to(frame.format.dtype))
    return replace(frame, planes=tuple(planes))


SPOILS = [
    ("black", lambda x: x * 0), ("not finite", lambda x: x / 0),
    ("different", lambda x: x.roll(60, -1)), ("different", lambda x: x.flip(1)),
    ("different", lambda x: 1 - x), ("different", lambda x: x.flip(-2)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spoil"), SPOILS)
@pytest.mark.parametrize("name", ["yuv420p", "yuv444p10le", "gbrp"])
def test_spoilt_pictures_are_repaired(
    make_frame: FrameMaker, kind: str, spoil: Callable[[Tensor], Tensor], name: str
) -> None:
    colour = RGB if name == "gbrp" else BT709
    frame = smooth(make_frame, name)
    engine = engine_for(spoilt(spoil), 128, 96, name, colour)
    (found,) = run(engine, [frame])
    assert faults(engine) == [(0, kind, True)]
    assert_equal(found, run(engine_for(classical("lanczos", 2), 128, 96, name, colour), [frame])[0])


@pytest.mark.parametrize(("size", "tile"), [((128, 96), 32), ((100, 80), None), ((131, 97), 24)])
def test_tiles_and_resized_pictures_too(
    make_frame: FrameMaker, size: tuple[int, int], tile: int | None
) -> None:
    frame = smooth(make_frame, "yuv420p")
    engine = engine_for(spoilt(lambda x: x.flip(1)), *size, tile=tile)
    (found,) = run(engine, [frame])
    assert faults(engine) == [(0, "different", True)]
    sound = engine_for(classical("lanczos", 2), *size, tile=tile)
    assert_equal(found, run(sound, [frame])[0])
    assert faults(sound) == []


def test_one_frame_of_a_batch(make_frame: FrameMaker) -> None:
    def spoil(x: Tensor) -> Tensor:
        x = x.clone()
        x[1] *= 0
        return x

    frames = [replace(smooth(make_frame, "yuv420p"), pts=i) for i in range(3)]
    engine = engine_for(spoilt(spoil), 128, 96)
    found = [engine.collect(pending) for pending in engine.submit_batch(frames)]
    assert faults(engine) == [(1, "black", True)]
    expected = run(engine_for(classical("lanczos", 2), 128, 96), frames)
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs)


def test_alpha_is_looked_at(make_frame: FrameMaker) -> None:
    def spoil(x: Tensor) -> Tensor:
        return 1 - x if torch.equal(x[:, 0], x[:, 1]) else x  # alpha is the gray one

    frame = smooth(make_frame, "yuva444p")
    engine = engine_for(spoilt(spoil), 128, 96, "yuva444p")
    (found,) = run(engine, [frame])
    assert faults(engine) == [(0, "different", True)]
    assert_equal(found, run(engine_for(classical("lanczos", 2), 128, 96, "yuva444p"), [frame])[0])
    opaque = engine_for(spoilt(spoil), 128, 96, "yuva444p")
    run(opaque, [smooth(make_frame, "yuv444p")])  # there alpha is made, not enlarged
    assert faults(opaque) == []


class AnyScale(nn.Module):
    """Keeps the picture as its features, and spoils it in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.like = nn.Parameter(torch.zeros(1), requires_grad=False)

    def encode(self, x: Tensor) -> Tensor:
        return x

    def render(self, features: Tensor, x: Tensor, shape: tuple[int, int]) -> Tensor:
        out = resize(x, *shape)
        return out if self.like.dtype == torch.float32 else out.roll(70, -1)


def test_networks_of_any_scale(make_frame: FrameMaker) -> None:
    frame = smooth(make_frame, "yuv420p")
    network = Network(module=AnyScale(), name="any", scale=0, halo=0)
    engine = engine_for(network, 172, 130)
    run(engine, [frame])
    assert faults(engine) == [(0, "different", True)]


def test_what_stays_wrong_is_kept(make_frame: FrameMaker, caplog: pytest.LogCaptureFixture) -> None:
    """In float32 it is the same: the network means it, or nothing helps."""

    class Upset(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out = resize(x, 2 * x.shape[-2], 2 * x.shape[-1])
            return out if x.shape[-1] != 64 else 1 - out

    network = replace(classical("lanczos", 2), module=Upset())
    frames = [smooth(make_frame, "yuv444p"), smooth(make_frame, "yuv444p", 40, 30)]
    engine = engine_for(network, 128, 96, "yuv444p")
    found = run(engine, frames)
    assert faults(engine) == [(0, "different", False)]
    assert (engine.watch.health.checked, engine.watch.health.kept) == (2, 1)
    assert "frame 0 (0.000 s) is wildly different from its source" in caplog.text
    assert found[0].planes[0].float().mean() > 0


def test_two_tries_that_are_no_numbers(make_frame: FrameMaker) -> None:
    network = spoilt(lambda x: x / 0)
    network.module.register_forward_hook(lambda module, inputs, output: output * math.nan)
    chart_too = replace(network, module=network.module)
    engine = engine_for(chart_too, 128, 96)
    (found,) = run(engine, [smooth(make_frame, "yuv420p")])
    assert faults(engine) == [(0, "not finite", False)]
    assert [plane.shape for plane in found.planes] == [(96, 128), (48, 64), (48, 64)]


def test_untrained_networks_are_held_to_numbers_alone(
    make_frame: FrameMaker, caplog: pytest.LogCaptureFixture
) -> None:
    config = SpanConfig(channels=4, fused_channels=4, blocks=1, norm=False)
    network = Network(module=Span(config).eval(), name="span", scale=2, halo=config.halo)
    engine = engine_for(network, 96, 64)
    run(engine, [make_frame("yuv420p", 48, 32, pts=i) for i in range(3)])
    assert faults(engine) == []
    assert len(caplog.records) == 1  # said once


def test_results_are_written_where_they_are_wanted(make_frame: FrameMaker) -> None:
    frame = smooth(make_frame, "yuv420p")
    engine = engine_for(spoilt(lambda x: x * 0), 128, 96)
    (expected,) = run(engine_for(classical("lanczos", 2), 128, 96), [frame])
    into = [torch.zeros_like(plane) for plane in expected.planes]
    (pending,) = engine.submit_batch([frame])
    found = engine.collect(pending, into)
    assert_equal(found, expected)
    assert [plane.data_ptr() for plane in found.planes] == [plane.data_ptr() for plane in into]


def test_repeats_repeat_the_repaired_frame(make_frame: FrameMaker) -> None:
    frame = smooth(make_frame, "yuv420p")
    frames = [frame, replace(frame, pts=1, repeats=True), replace(frame, pts=2)]
    engine = engine_for(spoilt(lambda x: x * 0), 128, 96)
    found = run(engine, frames)
    assert faults(engine) == [(0, "black", True), (2, "black", True)]
    for one in found[1:]:
        assert_equal(one, found[0])


def without_memory(*args: object) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_a_repair_that_does_not_fit_is_left(
    make_frame: FrameMaker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a full GPU, where not even the weights in float32 find room."""
    engine = engine_for(spoilt(lambda x: x / 0), 128, 96)
    frame = smooth(make_frame, "yuv420p")
    with monkeypatch.context() as patch:
        patch.setattr("vsr.engine.engine.EagerRuntime", without_memory)
        run(engine, [frame])
    assert faults(engine) == [(0, "not finite", False)]
    assert "0.000 s) holds NaN or infinity: memory does not suffice to do it again" in caplog.text
    run(engine, [frame])  # by now there is room
    assert faults(engine)[1:] == [(1, "not finite", True)]


@pytest.mark.parametrize("fails", ["draw_chart", "measure"])
def test_without_memory_for_the_chart_the_strict_limits_hold(
    make_frame: FrameMaker, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    frame = smooth(make_frame, "yuv420p")
    engine = engine_for(spoilt(lambda x: x.flip(1)), 128, 96)
    monkeypatch.setattr(f"vsr.engine.engine.{fails}", without_memory)
    (found,) = run(engine, [frame])
    assert faults(engine) == [(0, "different", True)]
    assert_equal(found, run(engine_for(classical("lanczos", 2), 128, 96), [frame])[0])


def test_the_line_for_the_user() -> None:
    incident = Incident(frame=7, pts=7, time=Fraction(7, 25), fault="different", repaired=False)
    assert str(incident) == (
        "frame 7 (0.280 s) is wildly different from its source: in float32 too: kept, look at it"
    )


@pytest.mark.cuda
@pytest.mark.parametrize(("kind", "spoil"), SPOILS)
def test_gpu_repairs_too(
    make_frame: FrameMaker, kind: str, spoil: Callable[[Tensor], Tensor]
) -> None:
    gpu = torch.device("cuda", 0)
    frames = [replace(smooth(make_frame, "yuv420p"), pts=i) for i in range(9)]
    engine = engine_for(spoilt(spoil), 128, 96, dtype=torch.float16, device=gpu)
    found = run(engine, frames)
    assert faults(engine) == [(number, kind, True) for number in range(9)]
    expected = run(engine_for(classical("lanczos", 2), 128, 96, device=gpu), frames)
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs)


@pytest.mark.cuda
def test_gpu_overflow(make_frame: FrameMaker) -> None:
    gpu = torch.device("cuda", 0)
    frames = [make_frame("yuv420p", 48, 32, pts=i) for i in range(9)]
    engine = engine_for(overflowing(1e6), 96, 64, dtype=torch.float16, device=gpu)
    found = run(engine, frames)
    assert faults(engine) == [(number, "not finite", True) for number in range(9)]
    expected = run(engine_for(load_network("span-x2"), 96, 64, dtype=torch.float32), frames)
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs)

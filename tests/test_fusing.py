"""A runtime's fused end is used where it makes the whole result, and looked at like any other."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from vsr.colour import FromRgb
from vsr.engine import Engine, RenderTarget
from vsr.engine.fusing import FusedEnd
from vsr.frame import Colour, Frame, Matrix, Range, Siting, pixel_format
from vsr.judging import Measures
from vsr.networks import classical
from vsr.runtimes import EagerRuntime

FrameMaker = Callable[..., Frame]
CPU = torch.device("cpu")
BT709 = Colour(
    matrix=Matrix.BT709, range=Range.LIMITED, primaries=1, transfer=1, siting=Siting.LEFT
)
RGB = replace(BT709, matrix=Matrix.RGB, range=Range.FULL, siting=Siting.UNSPECIFIED)


class Fusing(EagerRuntime):
    """Makes planes in one call; ``spoil`` changes them, as a broken kernel would."""

    def __init__(self, spoil: Callable[[Tensor], Tensor] = lambda plane: plane) -> None:
        super().__init__(classical("lanczos", 2), CPU, torch.float32)
        self.calls, self.spoil = 0, spoil

    def delivers(self, from_rgb: FromRgb) -> Callable[[Tensor], list[tuple[Tensor, ...]]]:
        def deliver(pictures: Tensor) -> list[tuple[Tensor, ...]]:
            self.calls += 1
            if pictures.shape[-1] > 1000:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return [tuple(map(self.spoil, from_rgb(rgb[None]))) for rgb in self(pictures)]

        return deliver


def engine_for(
    runtime: EagerRuntime | None, name: str, size: tuple[int, int], tile: int | None = None
) -> Engine:
    colour = RGB if name.startswith("gbr") else BT709
    target = RenderTarget(width=size[0], height=size[1], format=pixel_format(name), colour=colour)
    return Engine(
        classical("lanczos", 2),
        target,
        device=CPU,
        dtype=torch.float32,
        runtimes=[runtime] if runtime else (),
        tile=tile,
    )


def one(engine: Engine, frame: Frame) -> Frame:
    (pending,) = engine.submit_batch([frame])
    return engine.collect(pending)


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le", "yuv444p16le", "gbrp"])
def test_the_result_is_the_same(make_frame: FrameMaker, name: str) -> None:
    runtime = Fusing()
    frame = make_frame(name, 70, 50, RGB if name == "gbrp" else BT709)
    found = one(engine_for(runtime, name, (140, 100)), frame)
    assert runtime.calls == 1
    expected = one(engine_for(None, name, (140, 100)), frame)
    assert all(map(torch.equal, found.planes, expected.planes))


@pytest.mark.parametrize(
    ("name", "size", "tile"),
    [
        ("yuv420p", (130, 100), None), ("yuv420p", (140, 100), 32), ("gray", (140, 100), None),
        ("yuva420p", (140, 100), None),
    ],
)  # fmt: skip
def test_it_is_not_used_for_what_it_cannot_make(
    make_frame: FrameMaker, name: str, size: tuple[int, int], tile: int | None
) -> None:
    runtime = Fusing()
    frame = make_frame(name, 70, 50)
    found = one(engine_for(runtime, name, size, tile), frame)
    assert runtime.calls == 0
    expected = one(engine_for(None, name, size, tile), frame)
    assert all(map(torch.equal, found.planes, expected.planes))


def test_without_memory_the_ordinary_way_goes_on(make_frame: FrameMaker) -> None:
    runtime = Fusing()
    engine = engine_for(runtime, "yuv420p", (2004, 20))
    frames = [make_frame("yuv420p", 1002, 10, pts=i) for i in range(2)]
    expected = engine_for(None, "yuv420p", (2004, 20))
    for frame in frames:
        planes = zip(one(engine, frame).planes, one(expected, frame).planes, strict=True)
        assert all(torch.equal(a, b) for a, b in planes)
    assert runtime.calls == 1


@pytest.mark.parametrize("name", ["yuv420p", "yuv444p10le", "gbrp"])
def test_its_measures_are_those_of_the_picture(make_frame: FrameMaker, name: str) -> None:
    """Up to the rounding of codes, by hundredths of what health allows."""
    form, colour = pixel_format(name), RGB if name == "gbrp" else BT709
    picture = torch.rand(1, 3, 9, 12).repeat_interleave(8, 2).repeat_interleave(8, 3)
    runtime = Fusing()
    from_rgb = FromRgb(form, colour, 192, 144, CPU)
    fused = FusedEnd(runtime.delivers(from_rgb), 2, form, colour, (144, 192))
    assert fused.takes((72, 96))
    ((components, found),) = fused(picture)
    for again, same in fused(picture.expand(2, -1, -1, -1)):  # a batch is one call
        assert all(map(torch.equal, again, components))
        assert torch.equal(same, found)
    assert runtime.calls == 2
    measures = Measures(*found[0].tolist())
    assert measures.worst < 0.02
    assert measures.mean < 0.005


@pytest.mark.parametrize(
    ("fault", "spoil"),
    [("black", lambda plane: torch.zeros_like(plane)),
     ("different", lambda plane: plane.flip(1)),
     ("different", lambda plane: 255 - plane)],
)  # fmt: skip
def test_a_wrong_frame_is_found_and_done_again(
    make_frame: FrameMaker, fault: str, spoil: Callable[[Tensor], Tensor]
) -> None:
    across = torch.linspace(20, 230, 96).to(torch.uint8)
    plane = across.expand(64, 96).contiguous()
    frame = replace(
        make_frame("gbrp", 96, 64, RGB), planes=(plane, plane, plane), time_base=Fraction(1, 25)
    )
    engine = engine_for(Fusing(spoil), "gbrp", (192, 128))
    found = one(engine, frame)
    expected = one(engine_for(None, "gbrp", (192, 128)), frame)
    assert all(map(torch.equal, found.planes, expected.planes))
    (incident,) = engine.watch.health.incidents
    assert (incident.fault, incident.repaired) == (fault, True)

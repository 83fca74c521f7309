"""Slots, graphs and batches, without a GPU; tests/test_engine.py runs the engine on one.

Streams, events and graphs alone are stood in for, by ones for which everything happens at once;
what surrounds them is real: buffers, order, what is captured when, what is handed out.
"""

import gc
import logging
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from vsr.colour import ToRgb
from vsr.constants import collected, constant
from vsr.engine import IN_FLIGHT, Engine, PendingFrame, RenderTarget, slots
from vsr.engine import graphs as graphs_module
from vsr.engine.graphs import Graphs
from vsr.engine.slots import Layout, Ring, Slot
from vsr.engine.tiles import Tiling
from vsr.frame import Colour, Frame, Matrix, Range, Siting, pixel_format
from vsr.networks import classical
from vsr.resample import Resampler

FrameMaker = Callable[..., Frame]
CPU = torch.device("cpu")
BT709 = Colour(
    matrix=Matrix.BT709, range=Range.LIMITED, primaries=1, transfer=1, siting=Siting.LEFT
)


class Stream:
    def __init__(self, device: object = None) -> None:
        self.waits = 0

    def wait_stream(self, other: object) -> None:
        self.waits += 1

    def wait_event(self, event: object) -> None:
        self.waits += 1


class Event:
    def __init__(self, **_: object) -> None: ...

    def record(self, stream: object = None) -> None: ...

    def synchronize(self) -> None: ...

    def elapsed_time(self, other: object) -> float:
        return 1.0


class Replay:
    """What was captured: the work itself."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work, self.times = work, 0

    def replay(self) -> None:
        self.times += 1
        self._work()


class FakeGraphs(Graphs):
    def __init__(self, *, error: Exception | None = None) -> None:
        super().__init__(Stream())  # type: ignore[arg-type]
        self.captured: list[Replay] = []
        self._error = error

    def _record(self, work: Callable[[], None]) -> Any:
        if self._error is not None:
            raise self._error
        self.captured.append(Replay(work))
        return self.captured[-1]


@contextmanager
def nothing(*_: object) -> Iterator[None]:
    yield


def garbage(size: int) -> Tensor:
    return torch.full((size,), 0xA5, dtype=torch.uint8)


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Ring:
    stand_ins = {
        "Stream": Stream, "Event": Event, "stream": nothing, "device": nothing,
        "current_stream": Stream,
    }  # fmt: skip
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(slots, "_pinned", garbage)
    return Ring(CPU)


def engine_for(ring: Ring | None, name: str = "yuv420p", graphs: Graphs | None = None) -> Engine:
    """Enlarges twice to 64x48; with a ring, as on a GPU."""
    target = RenderTarget(width=64, height=48, format=pixel_format(name), colour=BT709)
    engine = Engine(classical("lanczos", 2), target, device=CPU, dtype=torch.float32)
    if ring is not None:
        engine._ring, engine._graphs = ring, graphs or FakeGraphs()
    return engine


def run(engine: Engine, frames: list[Frame], late: int) -> list[Frame]:
    waiting: list[PendingFrame] = []
    done = []
    for pending in engine.submit(frames):
        waiting.append(pending)
        if len(waiting) > late:
            done.append(engine.collect(waiting.pop(0)))
    return done + [engine.collect(pending) for pending in waiting]


def assert_same(found: list[Frame], expected: list[Frame]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.pts, ours.corrupt) == (theirs.pts, theirs.corrupt)
        assert all(map(torch.equal, ours.planes, theirs.planes))


# One piece of memory.


def test_planes_lie_side_by_side() -> None:
    planes = [torch.zeros(5, 7, dtype=torch.uint8), torch.zeros(3, 9, dtype=torch.uint16),
              torch.zeros(2, 2)]  # fmt: skip
    layout = Layout.of(planes)
    memory = torch.zeros(layout.size, dtype=torch.uint8)
    views = layout.views(memory)
    assert [(v.shape, v.dtype) for v in views] == [(p.shape, p.dtype) for p in planes]
    for view in views:
        assert (view.data_ptr() - memory.data_ptr()) % 256 == 0
        view.fill_(1)
    assert int((memory != 0).sum()) == 5 * 7 + 3 * 9 + 2 * 2 * 2  # 1.0 has two bytes that are not 0
    assert Layout.of(views) == layout


# Slots.


def test_slots_are_used_again_once_collected(ring: Ring, make_frame: FrameMaker) -> None:
    engine = engine_for(ring)
    places = []
    for index in range(12):
        (pending,) = engine.submit_batch([make_frame("yuv420p", 32, 24, pts=index)])
        assert pending.place is not None
        places.append(pending.place[0])
        engine.collect(pending)
    assert len(set(map(id, places))) == 1


def test_slots_that_were_not_collected_are_left_alone(ring: Ring, make_frame: FrameMaker) -> None:
    engine = engine_for(ring)
    frames = [make_frame("yuv420p", 32, 24, pts=index) for index in range(6)]
    pending = [engine.submit_batch([frame])[0] for frame in frames]
    assert len({id(one.place[0]) for one in pending if one.place}) == 6
    assert_same([engine.collect(one) for one in pending], run(engine_for(None), frames, 0))


def test_handing_a_slot_back_is_the_last_thing(
    ring: Ring, make_frame: FrameMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that enqueues may take and fill it before collecting goes on."""
    engine, frame = engine_for(ring), make_frame("yuv420p", 32, 24)

    def hand_back(slot: Slot, waiting: int) -> None:
        vars(slot)["waiting"] = waiting
        if not waiting and "_downloads" in vars(slot):
            slot._downloads = [mark]

    mark = garbage(1)
    waiting = property(lambda slot: vars(slot)["waiting"], hand_back)
    monkeypatch.setattr(Slot, "waiting", waiting, raising=False)
    (pending,) = engine.submit_batch([frame])
    assert_same([engine.collect(pending)], run(engine_for(None), [frame], 0))
    assert pending.place is not None
    assert pending.place[0]._downloads == [mark]


@pytest.mark.parametrize(
    "other", [("yuv420p", 34, 24), ("nv12", 32, 24), ("gray", 32, 24), ("yuv420p10le", 32, 24)]
)
def test_each_geometry_has_slots_of_its_own(
    ring: Ring, make_frame: FrameMaker, other: tuple[str, int, int]
) -> None:
    layout = Layout(())
    one = ring.take([make_frame("yuv420p", 32, 24)], layout)
    assert ring.take([make_frame(*other)], layout) is not one
    assert ring.take([make_frame("yuv420p", 32, 24)], layout) is one


def test_old_geometries_are_forgotten(ring: Ring, make_frame: FrameMaker) -> None:
    layout = Layout(())
    first = ring.take([make_frame("gray", 32, 24)], layout)
    for width in range(33, 60):
        ring.take([make_frame("gray", width, 24)], layout)
    assert ring.take([make_frame("gray", 32, 24)], layout) is not first


def test_what_the_caller_made_is_waited_for(ring: Ring) -> None:
    """The network's weights were put on the GPU on another stream."""
    assert ring.computing.waits == 1  # type: ignore[attr-defined]


# Through the engine.


@pytest.mark.parametrize("late", [0, IN_FLIGHT, 11])
@pytest.mark.parametrize("name", ["yuv420p", "yuva444p10le", "nv12", "rgb24", "gray16le"])
def test_frames_are_kept_apart(ring: Ring, make_frame: FrameMaker, name: str, late: int) -> None:
    frames = [make_frame(name, 32, 24, pts=index) for index in range(21)]
    frames[7] = replace(frames[7], corrupt=True)
    target = "yuva444p10le" if "a" in name else "yuv420p"
    found = run(engine_for(ring, target), frames, late)
    assert_same(found, run(engine_for(None, target), frames, 0))


def test_geometries_may_alternate(ring: Ring, make_frame: FrameMaker) -> None:
    kinds = [("yuv420p", 32, 24), ("yuv444p10le", 20, 14), ("nv12", 32, 24), ("gray", 8, 8)]
    frames = [make_frame(*kinds[i // 3 % 4], pts=i) for i in range(40)]
    assert_same(run(engine_for(ring), frames, 5), run(engine_for(None), frames, 0))


def test_colours_may_alternate(ring: Ring, make_frame: FrameMaker) -> None:
    other = replace(BT709, matrix=Matrix.BT2020_NCL)
    frames = [make_frame("yuv420p", 32, 24, (BT709, other)[i // 3 % 2], pts=i) for i in range(40)]
    assert_same(run(engine_for(ring), frames, 5), run(engine_for(None), frames, 0))


def test_results_are_not_overwritten(ring: Ring, make_frame: FrameMaker) -> None:
    """Encoders keep what they are given."""
    frames = [make_frame("yuv420p", 32, 24, pts=index) for index in range(30)]
    found = run(engine_for(ring), frames, 4)
    assert len({plane.data_ptr() for frame in found for plane in frame.planes}) == 90


def test_the_time_of_each_batch_is_counted_once(ring: Ring, make_frame: FrameMaker) -> None:
    engine = engine_for(ring)
    assert engine_for(None).busy is None
    run(engine, [make_frame("yuv420p", 32, 24, pts=index) for index in range(10)], 3)
    assert engine.busy == pytest.approx(3e-3)  # 4, 4 and 2 frames, at the stand-in's millisecond


@pytest.mark.usefixtures("ring")
def test_an_engine_goes_with_the_last_reference(make_frame: FrameMaker) -> None:
    """Its buffers, too: they do not wait for the garbage collector."""
    own, frame = Ring(CPU), make_frame("yuv420p", 32, 24)
    engine = engine_for(own)
    for pending in engine.submit([frame] * 9):
        engine.collect(pending)
    assert pending.place is not None
    held = [weakref.ref(one) for one in (engine, own, pending.place[0])]
    gc.disable()
    try:
        del engine, own, pending
        assert [one() for one in held] == [None] * 3
    finally:
        gc.enable()


# Batches.


@pytest.mark.parametrize(
    ("size", "count"),
    [((320, 180), 4), ((640, 360), 4), ((720, 576), 2), ((960, 540), 2), ((1280, 720), 1),
     ((1920, 1080), 1)],
)  # fmt: skip
def test_small_pictures_go_together(ring: Ring, size: tuple[int, int], count: int) -> None:
    engine = engine_for(ring)
    assert engine.batch(size[::-1]) == count
    assert engine_for(None).batch(size[::-1]) == 1
    engine._renderer.tiling = Tiling(64)
    assert engine.batch(size[::-1]) == 1


def test_what_does_not_fit_does_not_go_together(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = engine_for(ring)._network.values_per_pixel * 4 * 640 * 360
    monkeypatch.setattr("vsr.device._free_memory", lambda _: 2.5 * need)
    assert engine_for(ring).batch((360, 640)) == 2
    monkeypatch.setattr("vsr.device._free_memory", lambda _: 1.5 * need)
    assert engine_for(ring).batch((360, 640)) == 1


def test_an_error_comes_after_the_frames_before_it(ring: Ring, make_frame: FrameMaker) -> None:
    """Though these wait for others to go with."""

    def frames() -> Iterator[Frame]:
        for index in range(6):
            yield make_frame("yuv420p", 32, 24, pts=index)
        raise OSError("gone")

    engine, found = engine_for(ring), list[int]()

    def collect_all() -> None:
        found.extend(engine.collect(pending).pts for pending in engine.submit(frames()))

    with pytest.raises(OSError, match="gone"):
        collect_all()
    assert found == list(range(6))


@pytest.mark.parametrize("on_gpu", [True, False])
def test_repeats_get_the_previous_result(ring: Ring, make_frame: FrameMaker, on_gpu: bool) -> None:
    """In a batch, between batches, more of them than a batch, and as the last."""
    engine = engine_for(ring if on_gpu else None)
    held = [1, 3, 1, 1, 12, 1, 1, 2]
    shown = [make_frame("yuv420p", 32, 24) for _ in held]
    frames = [
        replace(picture, repeats=turn > 0, pts=100 * number + turn, corrupt=turn == 2)
        for number, (picture, count) in enumerate(zip(shown, held, strict=True))
        for turn in range(count)
    ]
    fresh = [replace(frame, repeats=False) for frame in frames]
    found = run(engine, frames, 3)
    assert_same(found, run(engine_for(None), fresh, 0))
    assert [f.repeats for f in found] == [f.repeats for f in frames]


def test_nothing_can_be_repeated_before_the_first_frame(make_frame: FrameMaker) -> None:
    engine = engine_for(None)
    (pending,) = engine.submit([replace(make_frame("yuv420p", 32, 24), repeats=True)])
    with pytest.raises(ValueError, match="no frame before"):
        engine.collect(pending)


# Graphs.


def test_graphs_are_captured_after_warm_ups(ring: Ring, make_frame: FrameMaker) -> None:
    graphs = FakeGraphs()
    frames = [make_frame("yuv420p", 32, 24, pts=index) for index in range(42)]  # 10 batches and 2
    found = run(engine_for(ring, graphs=graphs), frames, 6)
    assert_same(found, run(engine_for(None), frames, 0))
    assert sum(graph.times for graph in graphs.captured) == 7
    assert 2 <= len(graphs.captured) <= 3  # one for each slot, as many as are alive


def test_each_kind_of_batch_has_its_own(ring: Ring, make_frame: FrameMaker) -> None:
    graphs = FakeGraphs()
    kinds = ["yuv420p"] * 5 + ["yuv444p"] * 5
    frames = [make_frame(name, 32, 24) for name in kinds for _ in range(4)]
    run(engine_for(ring, graphs=graphs), frames, 0)
    assert [graph.times for graph in graphs.captured] == [2, 2]


def test_many_kinds_run_without(ring: Ring, make_frame: FrameMaker) -> None:
    # Constants that the first graphs read may have left the caches by then.
    graphs = FakeGraphs()
    engine = engine_for(ring, graphs=graphs)
    few = [make_frame("yuv420p", 32, 16 + 2 * index) for index in range(8) for _ in range(16)]
    run(engine, few, 0)
    assert [graph.times for graph in graphs.captured] == [1] * 8
    again = [make_frame("yuv420p", 32, height) for height in (34, 16) for _ in range(16)]
    found = run(engine, again, 0)
    assert_same(found, run(engine_for(None), again, 0))
    assert [graph.times for graph in graphs.captured] == [1] * 8


def test_many_kinds_are_told_of_once(
    ring: Ring, make_frame: FrameMaker, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [make_frame("yuv420p", 32, 16 + 2 * index) for index in range(12)]
    with caplog.at_level(logging.INFO, "vsr.engine"):
        run(engine_for(ring), frames, 0)
    assert caplog.messages == ["CUDA graphs are given up: more than 8 kinds of batches"]


class CaptureEndError(RuntimeError):
    """What ends a capture that CUDA has not ended well."""


class FakeCuda:
    """What is said to PyTorch in a capture, which fails if the work does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[object] = []
        for name, value in {"CUDAGraph": object, "graph_pool_handle": lambda: (0, 7),
                            "graph": self.graph}.items():  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, value)
        for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
            monkeypatch.setattr(torch._C, name, partial(self._say, name), raising=False)
        self.stream: Any = SimpleNamespace(device_index=3)

    def _say(self, *words: object) -> None:
        if words[0] == "_cuda_endAllocateToPool" and "failed" not in self.said:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.said.append(words)

    @contextmanager
    def graph(self, *_: object, **__: object) -> Iterator[None]:
        self.said.append(gc.isenabled())
        try:
            yield
        except BaseException as error:
            if isinstance(error, CaptureEndError):
                self.said.append("failed")
            raise


def _ignore(ask: Callable[[str], object], name: str) -> None:
    ask(name)


def test_a_graph_keeps_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, thing = FakeCuda(monkeypatch), constant(1)(lambda name: {name})
    first = thing("a")
    captured = Graphs(cuda.stream)._record(partial(_ignore, thing, "a"))
    thing("b")
    assert captured.constants == [first]
    assert cuda.said == [False]  # garbage is collected when it is over
    assert gc.isenabled()


def test_what_an_engine_asks_for_is_kept_with_a_graph(make_frame: FrameMaker) -> None:
    """Also what is kept for the whole process, where other engines may push it out."""
    engine = engine_for(None)
    frame = make_frame("yuv420p", 30, 22)  # and to be resized
    engine._on_host([frame], engine._renderer)
    with collected() as found:
        engine._on_host([frame], engine._renderer)
    kinds = Counter(type(value) for value in found)
    # two axes each: Cb and Cr to RGB, the network (Lanczos), to the target's size, Cb and Cr back
    assert kinds == {ToRgb: 1, Resampler: 2 * (2 + 1 + 1 + 2)}


@pytest.mark.parametrize("ended", [False, True])
def test_the_allocator_is_told_of_a_capture_that_fails(
    monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    cuda, error = FakeCuda(monkeypatch), RuntimeError("ours") if ended else CaptureEndError()
    monkeypatch.setattr(graphs_module, "_failed", [])

    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        Graphs(cuda.stream)._record(fail)
    told = [(name, 3, (0, 7)) for name in ("_cuda_endAllocateToPool", "_cuda_releasePool")]
    assert cuda.said == ([False] if ended else [False, "failed", *told])
    assert len(graphs_module._failed) == (not ended)
    assert gc.isenabled()


@pytest.mark.parametrize(
    "error", [RuntimeError("operation not permitted\nwhen stream is capturing"), RuntimeError()]
)
def test_what_cannot_be_captured_runs_as_it_is(
    ring: Ring, make_frame: FrameMaker, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    graphs = FakeGraphs(error=error)
    frames = [make_frame("yuv420p", 32, 24, pts=index) for index in range(40)]
    with caplog.at_level(logging.WARNING, "vsr"):
        found = run(engine_for(ring, graphs=graphs), frames, 6)
    assert_same(found, run(engine_for(None), frames, 0))
    (line,) = caplog.messages
    assert "CUDA graphs are not used" in line
    assert "\n" not in line

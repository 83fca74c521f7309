"""Fixtures that several files use, and the one place where tests are skipped."""

import gc
import hashlib
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.warm import serve
from vsr.frame import Colour, Frame, Matrix, Range, Siting, pixel_format
from vsr.weights import load_network

os.environ.pop("PYTHONUNBUFFERED", None)  # commands shall hold output back as they do for users
torch.set_num_threads(1)  # pictures are small here: more threads would only wait for each other
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # nor shall those of commands spin meanwhile
if os.name == "posix":  # who starts tests in the background has these ignored, also by commands
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

_ROOT = Path(__file__).resolve().parent.parent
_SHARED = _ROOT.parent / "shared"

BT709 = Colour(
    matrix=Matrix.BT709, range=Range.LIMITED, primaries=1, transfer=1, siting=Siting.LEFT
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take long, too")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """PyTorch's profiler, its watch for synchronisations and Inductor warn of what they are."""
    for item in items:
        if item.get_closest_marker("cuda") is not None:
            item.add_marker(pytest.mark.filterwarnings("default"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what takes long, and what needs a GPU where there is none.

    With VSR_REQUIRE=cuda a missing GPU is a failure.
    """
    if item.get_closest_marker("slow") is not None and not item.config.getoption("--slow"):
        pytest.skip("takes long: runs with --slow")
    if item.get_closest_marker("cuda") is None or torch.cuda.is_available():
        return
    if "cuda" in os.environ.get("VSR_REQUIRE", "").split(","):
        pytest.fail("VSR_REQUIRE=cuda, but PyTorch finds no CUDA device", pytrace=False)
    pytest.skip("needs a CUDA device")


@pytest.fixture(scope="module", autouse=True)
def _settled() -> None:
    """Take modules and collected tests, which stay, out of what is searched for garbage.

    VapourSynth collects after every clip. What other files' tests had imported and collected made
    that most of a second each.
    """
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Libraries that look for leaks at the end are to see that all is freed."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _warm() -> Iterator[None]:
    """One server for each process of a long run; a few tests are faster without."""
    if "PYTEST_XDIST_WORKER" not in os.environ or "VSR_WARM_PYTHON" in os.environ:
        yield
        return
    with serve():
        yield


@pytest.fixture(autouse=True)
def _own_timings(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What tests measure on a GPU is not what a run should choose by."""
    if request.node.get_closest_marker("cuda") is not None:
        monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Every test starts from the same random state and leaves the process's as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(autouse=True)
def _scheduled_as_before() -> Iterator[None]:
    """Fail what leaves this process above all others: they and its own threads would starve.

    See note [SVT-AV1 takes the processor] of vsr/encoding/scheduling.py.
    """
    yield
    if sys.platform.startswith("linux") and os.sched_getscheduler(0) == os.SCHED_FIFO:
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError):  # it has ended
                os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))
        pytest.fail("an encoder was opened that asks for real-time priority", pytrace=False)


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return _ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference weights, pictures and videos, which lie beside the checkout if anywhere."""
    if not _SHARED.is_dir():
        pytest.skip(f"reference data is not here ({_SHARED})")
    return _SHARED


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden_fill(shared: Path) -> ModuleType:
    """Weights and inputs made from names alone, as the reference outputs were."""
    return _load(shared / "golden" / "golden_fill.py")


@pytest.fixture(scope="session")
def scripts() -> Iterator[Callable[[str], ModuleType]]:
    """Loads a module of scripts/, which is no package."""
    folder = str(_ROOT / "scripts")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)


Scripts = Callable[[str], ModuleType]
TrainingShapes = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def _training_shapes(folded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Empty tensors of the published training layout, stale ``eval_conv`` included."""
    state = dict(folded)
    for name in [n for n in folded if n.endswith(".eval_conv.weight")]:
        site = name.removesuffix(".eval_conv.weight")
        outputs, inputs = folded[name].shape[:2]
        shapes = {
            "sk": (outputs, inputs, 1, 1), "conv.0": (2 * inputs, inputs, 1, 1),
            "conv.1": (2 * outputs, 2 * inputs, 3, 3), "conv.2": (outputs, 2 * outputs, 1, 1),
        }  # fmt: skip
        for layer, shape in shapes.items():
            state[f"{site}.{layer}.weight"] = torch.empty(shape)
            state[f"{site}.{layer}.bias"] = torch.empty(shape[0])
    return state


@pytest.fixture
def training_shapes() -> TrainingShapes:
    """Turns a folded state into one of the training layout (shapes only)."""
    return _training_shapes


@pytest.fixture
def assert_receptive_radius() -> Callable[[nn.Module, int], None]:
    """Checks that a network sees exactly ``halo`` pixels around a place, in float64."""

    def check(module: nn.Module, halo: int) -> None:
        module = module.double().eval()
        side = 2 * halo + 5
        centre = side // 2
        picture = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
        out = module(picture)
        scale = out.shape[-1] // side
        inner = slice(centre * scale, (centre + 1) * scale)
        (slope,) = torch.autograd.grad(out[..., inner, inner].square().sum(), picture)
        seen = slope[0].abs().amax(0) > 0
        rows, columns = (seen.any(axis).nonzero().flatten() for axis in (1, 0))
        for found in (rows, columns):
            assert (int(found[0]), int(found[-1])) == (centre - halo, centre + halo)
        keep = slice(centre - halo, centre + halo + 1)
        changed = torch.rand_like(picture)
        changed[..., keep, keep] = picture.detach()[..., keep, keep]
        with torch.no_grad():
            again = module(changed)
        assert torch.equal(again[..., inner, inner], out.detach()[..., inner, inner])
        assert not torch.equal(again, out)

    return check


@pytest.fixture
def assert_golden(shared: Path, scripts: Scripts, golden_fill: ModuleType) -> Callable[[str], None]:
    """Compares one of the reference weight files with what its authors' code gave."""
    evaluate = scripts("evaluate")

    def check(name: str) -> None:
        path = shared / "weights" / f"{name}.safetensors"
        golden = json.loads((shared / "golden" / "span_real_weights.json").read_text())[name]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == golden["weights_sha256"]
        low_path = shared / "data" / golden["lr"]
        network = load_network(path)
        assert network.scale == golden["scale"]
        with torch.no_grad():
            out = network.module(evaluate.load(low_path)[None].float() / 255)
        expected, found = golden["fp32"], golden_fill.digest(out)
        assert found["shape"] == expected["shape"]
        tolerance = 1e-4 * expected["std"]
        for key in ("mean", "std", "l1", "samples"):
            assert found[key] == pytest.approx(expected[key], rel=0, abs=tolerance), key
        high = evaluate.load(shared / "data" / "Set5" / "HR" / low_path.name)
        s = network.scale
        a, b = (
            evaluate.luma(p)[s:-s, s:-s]
            for p in (evaluate.to_uint8(out[0] * 255), high[:, : out.shape[2], : out.shape[3]])
        )
        assert evaluate.psnr(a, b) == pytest.approx(golden["psnr_y"], abs=1e-3)

    return check


FrameMaker = Callable[..., Frame]


@pytest.fixture
def make_frame(rng: np.random.Generator) -> FrameMaker:
    """Makes a frame of random code values: ``make_frame("yuv420p", 17, 12, colour)``."""

    def make(
        name: str,
        width: int,
        height: int,
        colour: Colour = BT709,
        *,
        pts: int = 0,
        duration: int = 1,
        low: int = 0,
        high: int | None = None,
    ) -> Frame:
        format = pixel_format(name)
        high = (1 << format.depth) - 1 if high is None else high
        shapes: dict[int, tuple[int, int]] = {}
        for index, component in enumerate(format.components):
            rows, columns = format.component_shape(index, width, height)
            samples = max(columns * component.step, shapes.get(component.plane, (0, 0))[1])
            shapes[component.plane] = rows, samples
        dtype = np.uint8 if format.depth == 8 else np.uint16
        planes = [
            rng.integers(low, high, shapes[plane], dtype=dtype, endpoint=True) << format.shift
            for plane in sorted(shapes)
        ]
        return Frame(
            planes=tuple(map(torch.from_numpy, planes)), format=format, width=width, height=height,
            colour=colour, pts=pts, time_base=Fraction(1, 25), duration=duration,
        )  # fmt: skip

    return make


def _draw(width: int, height: int, index: int) -> NDArray[np.uint8]:
    """A picture that moves, (height, width, 3), with fine and coarse detail in every colour."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    waves = [
        127 + 100 * np.sin((x * (k + 1) + index * 3) / 9 + k) * np.cos((y + index) / (5 + k))
        for k in range(3)
    ]
    return np.stack(waves, axis=-1).clip(0, 255).astype(np.uint8)


@pytest.fixture
def make_clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a small clip with sound: ``make_clip("in.mp4", codec=…, size=…, frames=…)``."""
    folder = tmp_path_factory.mktemp("clips")

    def make(
        name: str,
        *,
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        size: tuple[int, int] = (64, 48),
        frames: int = 12,
        rate: int = 24,
        audio: bool = True,
        options: dict[str, str] | None = None,
    ) -> Path:
        path = folder / name
        with av.open(str(path), "w") as container:
            quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
            video = container.add_stream(codec, rate=rate, options=quiet | (options or {}))
            assert isinstance(video, av.VideoStream)
            video.width, video.height, video.pix_fmt = *size, pix_fmt
            sound = container.add_stream("aac", rate=48_000, layout="mono") if audio else None
            for index in range(frames):
                frame = av.VideoFrame.from_ndarray(_draw(*size, index), format="rgb24")
                container.mux(video.encode(frame.reformat(format=pix_fmt)))
            container.mux(video.encode(None))
            if sound is not None:
                time = np.arange(48_000 * frames // rate) / 48_000
                wave = np.sin(2 * np.pi * 440 * time).astype(np.float32)[None] / 4
                samples = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
                samples.sample_rate = 48_000
                container.mux(sound.encode(samples))
                container.mux(sound.encode(None))
        return path

    return make

"""Fixtures that several files use, and the one place where tests are skipped."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vsr.frame import Colour, Frame, Matrix, Range, Siting, pixel_format

torch.set_num_threads(1)  # pictures are small here: more threads would only wait for each other

_ROOT = Path(__file__).resolve().parent.parent
_SHARED = _ROOT.parent / "shared"

BT709 = Colour(
    matrix=Matrix.BT709, range=Range.LIMITED, primaries=1, transfer=1, siting=Siting.LEFT
)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none; with VSR_REQUIRE=cuda, fail instead."""
    if item.get_closest_marker("cuda") is None or torch.cuda.is_available():
        return
    if "cuda" in os.environ.get("VSR_REQUIRE", "").split(","):
        pytest.fail("VSR_REQUIRE=cuda, but PyTorch finds no CUDA device", pytrace=False)
    pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Every test starts from the same random state and leaves the process's as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


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
            rows, columns = format.component_size(index, width, height)
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
    ) -> Path:
        path = folder / name
        with av.open(str(path), "w") as container:
            options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
            video = container.add_stream(codec, rate=rate, options=options)
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

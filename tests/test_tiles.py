from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.networks import classical
from vsr.runtimes import EagerRuntime
from vsr.tiles import run_tiled, split
from vsr.weights import load_network

CPU = torch.device("cpu")


@pytest.mark.parametrize("halo", [0, 3, 40])
@pytest.mark.parametrize("tile", [1, 16, 17, 64])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 16), (33, 50), (64, 17), (5, 129)])
def test_tiles_cover_the_picture_exactly_once(
    height: int, width: int, tile: int, halo: int
) -> None:
    covered = torch.zeros(height, width, dtype=torch.int32)
    for part in split(height, width, tile, halo):
        covered[part.rows.keep, part.columns.keep] += 1
        for span, length in ((part.rows, height), (part.columns, width)):
            assert 0 < span.keep.stop - span.keep.start <= tile
            assert span.read.start == max(0, span.keep.start - halo)
            assert span.read.stop == min(length, span.keep.stop + halo)
    assert bool((covered == 1).all())


def test_tiles_are_of_nearly_equal_size() -> None:
    """No sliver at the end: 65 columns in tiles of 64 are 32 and 33."""
    sides = {p.columns.keep.stop - p.columns.keep.start for p in split(8, 65, 64, 4)}
    assert sides == {32, 33}


def test_a_picture_that_fits_is_not_split() -> None:
    seen = []

    def run(x: Tensor) -> Tensor:
        seen.append(x.shape)
        return x

    picture = torch.rand(1, 3, 20, 30)
    assert torch.equal(run_tiled(run, picture, tile=30, halo=8, scale=1), picture)
    assert seen == [(1, 3, 20, 30)]


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_nothing_is_misplaced(scale: int) -> None:
    """Nearest-neighbour enlargement needs no halo and shows every pixel."""

    def run(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=scale, mode="nearest")

    picture = torch.rand(2, 3, 37, 50)
    for halo in (0, 5):
        assert torch.equal(run_tiled(run, picture, tile=16, halo=halo, scale=scale), run(picture))


def test_a_halo_that_is_too_small_shows() -> None:
    """The test below would notice: one pixel less than the radius and a seam appears."""
    kernel = torch.ones(1, 1, 5, 5)

    def run(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel, padding=2)

    picture = torch.rand(1, 1, 40, 40)
    whole = run(picture)
    torch.testing.assert_close(run_tiled(run, picture, tile=16, halo=2, scale=1), whole)
    assert (run_tiled(run, picture, tile=16, halo=1, scale=1) - whole).abs().max() > 0.1


def _codes(picture: Tensor) -> Tensor:
    return picture.float().clamp(0, 1).mul(255).round()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["spanx2_ch48", "span_ntire24_x4_ch28", "spanv2_ntire26_x4_ch32"])
def test_tiling_is_invisible(
    shared: Path, scripts: Callable[[str], ModuleType], name: str, dtype: torch.dtype
) -> None:
    path = shared / "data" / "Set5" / "LRx4" / "img_002.png"
    picture = scripts("pictures").load(path)[None, :, :61, :70].float() / 255
    network = load_network(shared / "weights" / f"{name}.safetensors")
    run = EagerRuntime(network, CPU, dtype)
    tiled = run_tiled(run, picture, tile=32, halo=network.halo, scale=network.scale)
    difference = (_codes(tiled) - _codes(run(picture))).abs()
    assert difference.max() <= 1
    if dtype == torch.float32:
        assert (tiled - run(picture)).abs().max() < 1e-4


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_tiling_lanczos_is_invisible(scale: int) -> None:
    network = classical("lanczos", scale)
    run = EagerRuntime(network, CPU, torch.float32)
    picture = torch.rand(1, 3, 50, 83)
    tiled = run_tiled(run, picture, tile=16, halo=network.halo, scale=scale)
    torch.testing.assert_close(tiled, run(picture), rtol=0, atol=1e-5)

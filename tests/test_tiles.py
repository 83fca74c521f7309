from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.engine import Engine, RenderTarget
from vsr.engine.tiles import run_tiled, split
from vsr.errors import OutOfMemoryError
from vsr.frame import Colour, Frame, Matrix, Range, Siting, pixel_format
from vsr.networks import Network, classical, describe
from vsr.networks.spanf import SpanF, SpanFConfig
from vsr.networks.sst import Sst, SstConfig
from vsr.runtimes import EagerRuntime
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
    whole = run(picture)
    if dtype == torch.float32:
        assert (_codes(tiled) - _codes(whole)).abs().max() <= 1
        assert (tiled - whole).abs().max() < 1e-4
        return
    # The order of sums, and so bf16's rounding, depends on the size where oneDNN has AMX: tiles
    # may differ from the whole by much less than either does from float32.
    exact = EagerRuntime(network, CPU, torch.float32)(picture)
    rounding = (whole.float() - exact).abs()
    assert (tiled.float() - whole.float()).abs().mean() < rounding.mean() / 4
    assert (tiled.float() - exact).abs().max() < 1.5 * rounding.max()


@pytest.mark.parametrize("multiple", [2, 3, 4])
@pytest.mark.parametrize(("height", "width", "tile"), [(33, 50, 16), (64, 17, 7), (5, 130, 2)])
def test_tiles_begin_where_cells_do(height: int, width: int, tile: int, multiple: int) -> None:
    covered = torch.zeros(height, width, dtype=torch.int32)
    for part in split(height, width, tile, 2 * multiple, multiple):
        covered[part.rows.keep, part.columns.keep] += 1
        for span in (part.rows, part.columns):
            assert span.read.start % multiple == span.keep.start % multiple == 0
            assert span.keep.stop - span.keep.start <= max(tile, multiple)
    assert bool((covered == 1).all())


def test_tiling_a_network_of_cells_is_invisible() -> None:
    config = SpanFConfig(scale=2, channels=16, blocks=2, unshuffle=2)
    network = describe("spanf", SpanF(config).eval(), config)
    run = EagerRuntime(network, CPU, torch.float32)
    picture = torch.rand(1, 3, 61, 75)
    tile = {"tile": 21, "halo": network.halo, "scale": 2}
    tiled = run_tiled(run, picture, **tile, multiple=network.multiple)
    torch.testing.assert_close(tiled, run(picture), rtol=0, atol=1e-5)
    careless = run_tiled(run, picture, **tile)
    assert (careless - run(picture)).abs().max() > 1e-3


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_tiling_lanczos_is_invisible(scale: int) -> None:
    network = classical("lanczos", scale)
    run = EagerRuntime(network, CPU, torch.float32)
    picture = torch.rand(1, 3, 50, 83)
    tiled = run_tiled(run, picture, tile=16, halo=network.halo, scale=scale)
    torch.testing.assert_close(tiled, run(picture), rtol=0, atol=1e-5)


# Tiles of networks that see too far: on a grid, and blended.

BLENDED = [  # height, width, tile, overlap, grid
    (33, 50, 16, 8, 8), (64, 64, 32, 32, 32), (65, 40, 32, 32, 32), (70, 61, 24, 8, 8),
    (97, 33, 50, 16, 16),  # a tile that is no multiple of the grid
    (40, 100, 5, 16, 16), (40, 33, 1, 32, 32), (3, 70, 32, 32, 32),  # a tile within the grid
    (9, 7, 8, 32, 32), (5, 40, 4, 16, 16), (1, 2, 1, 8, 8),  # a picture within the grid
    (48, 80, 16, 16, 16), (49, 81, 16, 1, 16),
]  # fmt: skip


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize(("height", "width", "tile", "overlap", "grid"), BLENDED)
def test_blending_gives_back_the_picture(
    height: int, width: int, tile: int, overlap: int, grid: int, scale: int
) -> None:
    """The weights of tiles add up to one everywhere, and nothing is misplaced."""

    def run(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=scale, mode="nearest")

    for picture in (torch.ones(1, 1, height, width), torch.rand(2, 3, height, width)):
        found = run_tiled(run, picture, tile=tile, halo=overlap, scale=scale, grid=grid)
        torch.testing.assert_close(found, run(picture), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width", "tile", "overlap", "grid"), BLENDED)
def test_blended_tiles_begin_on_the_grid(
    height: int, width: int, tile: int, overlap: int, grid: int
) -> None:
    places = torch.stack(
        torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ).float()
    corners: list[tuple[int, ...]] = []

    def run(x: Tensor) -> Tensor:
        top, left = (int(v) for v in x[0, :, 0, 0])
        bottom, right = (int(v) + 1 for v in x[0, :, -1, -1])
        corners.append((top, left, bottom, right))
        return x

    run_tiled(run, places[None], tile=tile, halo=overlap, scale=1, grid=grid)
    assert len(set(corners)) == len(corners)
    step = max(grid, tile // grid * grid)
    for top, left, bottom, right in corners:
        assert top % grid == left % grid == 0
        assert bottom == min(height, top + step + overlap)
        assert right == min(width, left + step + overlap)
    for length, axis in ((height, 0), (width, 1)):
        starts = sorted({corner[axis] for corner in corners})
        ends = sorted({corner[axis + 2] for corner in corners})
        assert starts[0] == 0
        assert ends[-1] == length
        for end, following in zip(ends[:-1], starts[1:], strict=True):
            assert end - following == overlap


def test_blending_fades_from_one_tile_to_the_next() -> None:
    """Tiles that differ show no step: each is shifted by a value of its own."""
    shifts = iter(range(10))

    def run(x: Tensor) -> Tensor:
        return x + next(shifts)

    out = run_tiled(run, torch.zeros(1, 1, 8, 64), tile=16, halo=16, scale=1, grid=16)
    row = out[0, 0, 4]
    assert row[0] == 0
    assert row[-1] == 2
    steps = row.diff()
    assert steps.max() <= 1 / 16 + 1e-6
    assert steps.min() >= 0


RGB = Colour(
    matrix=Matrix.RGB, range=Range.FULL, primaries=1, transfer=1, siting=Siting.UNSPECIFIED
)


class Greedy(nn.Module):
    """Runs out of memory on pictures of more than ``limit`` pixels."""

    def __init__(
        self, inner: nn.Module, limit: int, log: Callable[[tuple[int, ...]], None]
    ) -> None:
        super().__init__()
        self.inner, self.limit, self.log = inner, limit, log

    def forward(self, x: Tensor) -> Tensor:
        self.log(tuple(x.shape[-2:]))
        if x.shape[-2] * x.shape[-1] > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        out: Tensor = self.inner(x)
        return out


def sst_network(windows: tuple[int, ...]) -> Network:
    config = SstConfig(
        channels=8, blocks=1, windows=windows, heads=1, ranks=(8,) * len(windows), inner=12
    )
    module = Sst(config).eval()
    for name, value in module.named_parameters():
        if name.endswith(("to_q", "to_k", "to_hidden")):
            nn.init.normal_(value, std=0.5)  # so that a window's place matters
    return describe("sst", module, config)


def enlarge(network: Network, frame: Frame, tile: int | None) -> tuple[Frame, int | None]:
    target = RenderTarget(
        width=2 * frame.width, height=2 * frame.height, format=pixel_format("gbrp"), colour=RGB
    )
    engine = Engine(network, target, device=CPU, dtype=torch.float32, tile=tile)
    (found,) = [engine.collect(pending) for pending in engine.submit([frame])]
    return found, engine.tile


def psnr(a: Frame, b: Frame) -> float:
    both = zip(a.planes, b.planes, strict=True)
    error = torch.stack([(x.float() - y.float()).square().mean() for x, y in both]).mean()
    return float(10 * torch.log10(255**2 / error))


def test_tiles_of_a_transformer_are_close_to_the_whole(make_frame: Callable[..., Frame]) -> None:
    network, frame = sst_network((8, 16)), make_frame("gbrp", 72, 56, RGB)
    whole, _ = enlarge(network, frame, None)
    tiled, tile = enlarge(network, frame, 32)
    assert tile == 32
    close = psnr(tiled, whole)
    off_grid, _ = enlarge(replace(network, grid=5), frame, 32)  # windows elsewhere
    assert 36 < close < float("inf")  # 40.0 here
    assert psnr(off_grid, whole) < close - 10  # 22.9


def test_out_of_memory_leads_to_tiles_on_the_grid(make_frame: Callable[..., Frame]) -> None:
    network, frame = sst_network((16, 48)), make_frame("gbrp", 192, 90, RGB)
    whole, tile = enlarge(network, frame, None)
    assert tile is None
    log: list[tuple[int, ...]] = []
    hungry = replace(network, module=Greedy(network.module, 96 * 96, log.append), body=())
    found, tile = enlarge(hungry, frame, None)
    assert tile == 48
    assert log == [(90, 192), (90, 144), (90, 96), (90, 96), (90, 96)]
    assert psnr(found, whole) > 40  # 48.3 here


def test_tiles_are_never_smaller_than_the_grid(make_frame: Callable[..., Frame]) -> None:
    network, frame = sst_network((16, 48)), make_frame("gbrp", 192, 90, RGB)
    log: list[tuple[int, ...]] = []
    hungry = replace(network, module=Greedy(network.module, 0, log.append), body=())
    with pytest.raises(OutOfMemoryError, match="even with tiles of 48 pixels"):
        enlarge(hungry, frame, None)
    assert log == [(90, 192), (90, 144), (90, 96)]

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vsr.resample import Kernel, Resampler, least_squares_inverse, resize, resize_matrix

KERNELS: list[Kernel] = ["bicubic", "lanczos"]
Scripts = Callable[[str], ModuleType]


def _positions(count: int, outputs: int) -> NDArray[np.float64]:
    return (np.arange(outputs) + 0.5) * count / outputs - 0.5


@pytest.mark.parametrize("scale", [2, 4])
def test_reduction_is_matlabs_to_the_bit(shared: Path, scripts: Scripts, scale: int) -> None:
    pictures = scripts("pictures")
    paths = sorted((shared / "data" / "Set5" / f"LRx{scale}").glob("*.png"))
    assert len(paths) == 5
    for path in paths:
        low = pictures.load(path)
        high = pictures.load(shared / "data" / "Set5" / "HR" / path.name)
        high = high[:, : low.shape[1] * scale, : low.shape[2] * scale]
        assert torch.equal(pictures.reduce_bicubic(high, scale), low), path.name


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("count", "outputs"), [(1, 7), (7, 1), (5, 13), (90, 31), (64, 128)])
def test_rows_sum_to_one(kernel: Kernel, count: int, outputs: int) -> None:
    matrix = resize_matrix(
        _positions(count, outputs), count, kernel, stretch=max(1, count / outputs)
    )
    assert matrix.shape == (outputs, count)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("count", "outputs"), [(1, 1), (1, 9), (3, 200), (64, 64), (65, 129), (130, 63), (200, 3)]
)
def test_blocks_equal_the_dense_matrix(
    kernel: Kernel, count: int, outputs: int, at_once: bool
) -> None:
    matrix = resize_matrix(
        _positions(count, outputs), count, kernel, stretch=max(1, count / outputs)
    )
    resampler = Resampler.from_matrix(matrix, at_once=at_once)
    picture = torch.rand(2, 5, count)
    flat = resampler.columns(picture[0].mT)
    torch.testing.assert_close(resampler.rows(picture[0]), flat.mT, rtol=0, atol=1e-6)
    dense = picture.double() @ torch.from_numpy(matrix).T
    torch.testing.assert_close(resampler.rows(picture).double(), dense, rtol=0, atol=1e-6)
    across = resampler.columns(picture.mT)
    torch.testing.assert_close(across.double(), dense.mT, rtol=0, atol=1e-6)


def test_blocks_of_an_inverse_equal_the_dense_matrix() -> None:
    enlarging = resize_matrix(np.arange(181) / 2, 91, "bicubic")
    inverse = least_squares_inverse(enlarging)
    line = torch.rand(1, 181)
    dense = line.double() @ torch.from_numpy(inverse).T
    torch.testing.assert_close(
        Resampler.from_matrix(inverse).rows(line).double(), dense, rtol=0, atol=1e-6
    )


def _sinc(x: float) -> float:
    return 1.0 if x == 0 else math.sin(math.pi * x) / (math.pi * x)


@pytest.mark.parametrize(("count", "outputs"), [(11, 22), (11, 33), (11, 29), (20, 20)])
def test_lanczos_equals_its_definition(count: int, outputs: int) -> None:
    line = torch.rand(count, dtype=torch.float64)
    expected = []
    for out in range(outputs):
        x = (out + 0.5) * count / outputs - 0.5
        total = weight = 0.0
        for tap in range(math.floor(x) - 5, math.floor(x) + 7):
            if abs(x - tap) < 3:
                value = _sinc(x - tap) * _sinc((x - tap) / 3)
                total += value * float(line[min(max(tap, 0), count - 1)])
                weight += value
        expected.append(total / weight)
    found = resize(line[None].float(), 1, outputs, "lanczos")[0]
    torch.testing.assert_close(
        found.double(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_reducing_antialiases(kernel: Kernel) -> None:
    """A checkerboard becomes gray; a kernel that is not widened would pick out one colour."""
    board = (torch.arange(96)[:, None] + torch.arange(96)) % 2
    gray = resize(board, 24, 24, kernel)[4:-4, 4:-4]
    torch.testing.assert_close(gray, torch.full_like(gray, 0.5), rtol=0, atol=0.02)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("height", "width"), [(80, 71), (33, 27), (120, 60)])
def test_a_ramp_stays_a_ramp(kernel: Kernel, height: int, width: int) -> None:
    """Positions are right on both axes: a linear picture is sampled at pixel centres."""
    rows, columns = 40, 50
    picture = torch.arange(rows)[:, None] * 100.0 + torch.arange(columns)
    found = resize(picture, height, width, kernel)
    y, x = (torch.from_numpy(_positions(*p)) for p in ((rows, height), (columns, width)))
    expected = y[:, None] * 100 + x
    inner = slice(height // 4, -height // 4), slice(width // 4, -width // 4)
    # Lanczos, and any kernel that antialiases, reproduces a line only nearly: 1/40 of a pixel.
    assert (found - expected)[inner].abs().max() < 2.5


def test_inverse_recovers_what_was_enlarged() -> None:
    for luma in (1, 2, 3, 17, 64, 101):
        for offset in (0.0, 0.5):
            count = -(-luma // 2)
            enlarging = resize_matrix((np.arange(luma) - offset) / 2, count, "bicubic")
            product = least_squares_inverse(enlarging) @ enlarging
            np.testing.assert_allclose(product, np.eye(count), atol=1e-5)


@pytest.mark.parametrize("luma", [127, 513, 769, 1923])
@pytest.mark.parametrize(("factor", "offset"), [(2, 0.0), (2, 0.5), (2, 1.0), (4, 1.5)])
def test_inverse_in_windows_is_that_of_the_whole(luma: int, factor: int, offset: float) -> None:
    positions = (np.arange(luma) - offset) / factor
    enlarging = resize_matrix(positions, -(-luma // factor), "bicubic")
    whole = np.linalg.solve(enlarging.T @ enlarging, enlarging.T)
    whole[np.abs(whole) < 1e-7] = 0
    np.testing.assert_allclose(least_squares_inverse(enlarging), whole, rtol=0, atol=2e-7)


def test_same_size_is_left_alone() -> None:
    picture = torch.rand(2, 8, 9)
    assert torch.equal(resize(picture, 8, 9), picture)


def test_any_type_becomes_float32() -> None:
    for dtype in (torch.uint8, torch.float16, torch.float64):
        assert resize(torch.ones(4, 4, dtype=dtype), 8, 8).dtype == torch.float32

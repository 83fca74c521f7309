"""The size of an output, and the shape of its pixels."""

from fractions import Fraction

import pytest

from vsr.sizes import enlarged_size, resized_sar, scale_to_reach, squared_size

DVD = Fraction(16, 15)


@pytest.mark.parametrize(
    ("scale", "wanted", "size"),
    [
        (2, None, (1438, 962)),
        (2, 2, (1438, 962)),
        (0, None, (1438, 962)),
        (0, 3, (2157, 1443)),
        (0, Fraction(3, 2), (1078, 722)),
        (0, Fraction(27, 10), (1942, 1298)),
    ],
)
def test_a_scale_leads_to_a_size(
    scale: int, wanted: Fraction | int | None, size: tuple[int, int]
) -> None:
    assert enlarged_size(719, 481, scale, wanted) == size


def test_both_sides_are_reached() -> None:
    assert scale_to_reach((1920, 1080), 720, 576) == pytest.approx(1920 / 720)
    assert scale_to_reach((1440, 1080), 720, 480) == pytest.approx(1080 / 480)


@pytest.mark.parametrize("sar", [DVD, Fraction(8, 9), Fraction(64, 45), Fraction(1, 2)])
@pytest.mark.parametrize("size", [(1440, 1152), (718, 480)])
def test_square_pixels_keep_the_shape_and_every_sample(
    sar: Fraction, size: tuple[int, int]
) -> None:
    width, height = squared_size(*size, sar)
    assert width / height == pytest.approx(size[0] * float(sar) / size[1], rel=2 / min(size))
    assert width >= size[0]
    assert height >= size[1]
    assert (width % 2, height % 2) == (0, 0)


@pytest.mark.parametrize("sar", [None, Fraction(1)])
def test_square_pixels_stay_as_they_are(sar: Fraction | None) -> None:
    assert squared_size(719, 481, sar) == (719, 481)


@pytest.mark.parametrize("after", [(1440, 1080), (720, 1152), (99, 1001)])
@pytest.mark.parametrize("sar", [None, Fraction(1), DVD])
def test_another_shape_changes_the_pixels(sar: Fraction | None, after: tuple[int, int]) -> None:
    found = resized_sar(sar, (720, 576), after)
    assert found is not None
    assert found * after[0] / after[1] == (sar or 1) * Fraction(720, 576)


@pytest.mark.parametrize("after", [(1440, 1152), (1943, 1554)])
@pytest.mark.parametrize("sar", [None, DVD])
def test_rounding_to_whole_pixels_changes_nothing(
    sar: Fraction | None, after: tuple[int, int]
) -> None:
    assert resized_sar(sar, (720, 576), after) == sar

"""How pictures lie, by FFmpeg's display matrix."""

import math
import struct

import pytest

from vsr.orientation import Orientation, enlarged_matrix, is_turn


def packed(a: float, b: float, c: float, d: float, x: float = 0, y: float = 0) -> bytes:
    values = (a, b, 0, c, d, 0, x, y)
    return struct.pack("<9i", *(round(value * 65536) for value in values), 1 << 30)


def moved(matrix: bytes) -> tuple[float, float]:
    return tuple(value / 65536 for value in struct.unpack("<9i", matrix)[6:8])


@pytest.mark.parametrize("unit", [1, 0.99998, 2])
def test_rounding_and_size_do_not_count(unit):
    quarter = Orientation.parse(packed(0, unit, -unit, 0))
    assert quarter == Orientation.parse(packed(0, 1, -1, 0))
    assert quarter is not None
    assert quarter.size(60, 40) == (40, 60)
    half = Orientation.parse(packed(-unit, 0, 0.00001, -unit))
    assert half == Orientation(reversed_rows=True, reversed_columns=True)


@pytest.mark.parametrize(
    "numbers", [(1, 0.5, 0, 1), (0.7, 0.7, -0.7, 0.7), (1, 0, 0, 0.5), (0, 0, 0, 0)]
)
def test_what_is_no_quarter(numbers):
    assert Orientation.parse(packed(*numbers)) is None


def test_what_is_a_turn_at_all():
    for angle in range(0, 360, 15):
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        assert is_turn(packed(c, s, -s, c))
        assert is_turn(packed(-c, s, s, c))
    assert not is_turn(packed(1, 0.5, 0, 1))
    assert not is_turn(packed(2, 0, 0, 1))


def test_a_turned_picture_is_moved_back_by_all_its_pixels():
    """As cameras write it: MOV turns about the corner, and what is left of it would be unseen."""
    quarter = packed(0, 1, -1, 0, x=180)  # of 320x180
    assert moved(enlarged_matrix(quarter, (320, 180), (640, 360))) == (360, 0)
    assert moved(enlarged_matrix(quarter, (320, 180), (1280, 180))) == (180, 0)
    half = packed(-1, 0, 0, -1, x=320, y=180)
    assert moved(enlarged_matrix(half, (320, 180), (640, 270))) == (640, 270)
    plain = packed(0, 1, -1, 0)
    assert enlarged_matrix(plain, (320, 180), (640, 360)) == plain

"""Whether two ways do the same."""

import math

import torch

from vsr.comparing import difference, draw, why_unlike


def test_rounding_is_no_difference() -> None:
    right = draw(3, 60, 40)
    assert why_unlike(right.bfloat16(), right) is None
    assert why_unlike(right + 0.01 * torch.randn_like(right), right) is None
    assert why_unlike(right, right) is None


def test_what_is_wrong_somewhere_or_everywhere_is() -> None:
    right = draw(3, 60, 40)
    wrong = right.clone()
    wrong[..., 7:9, 11] = 0
    assert why_unlike(wrong, right)
    assert why_unlike(right.roll(1, -1), right)
    assert why_unlike(0.95 * right, right)
    assert why_unlike(torch.full_like(right, math.nan), right)
    wrong[0, 0, 0, 0] = math.inf
    assert why_unlike(wrong, right)


def test_differences_count_in_deviations() -> None:
    right = torch.tensor([0.0, 2.0, 0.0, 2.0], dtype=torch.float64)
    assert difference(right, right) == 0
    assert math.isclose(difference(right + 0.5, right), 0.5 / right.std())
    assert math.isnan(difference(right * math.nan, right))

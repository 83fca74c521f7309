from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

Scripts = Callable[[str], ModuleType]


@pytest.mark.parametrize(
    ("name", "scale", "psnr", "ssim"),
    [
        ("bicubic", 2, 33.6786, None),
        ("spanx2_ch48", 2, 38.0726, 0.9607),
        ("spanx4_ch48", 4, 32.2040, 0.8952),
    ],
)
def test_known_figures_on_set5(
    shared: Path, scripts: Scripts, name: str, scale: int, psnr: float, ssim: float | None
) -> None:
    evaluate = scripts("evaluate")
    if name == "bicubic":
        upscale = evaluate._classical(name, scale)
    else:
        upscale = evaluate._network(str(shared / "weights" / f"{name}.safetensors"), scale, "cpu")
    found = evaluate.evaluate(upscale, shared / "data" / "Set5", scale)
    assert found[0] == pytest.approx(psnr, abs=0.005 + 1e-4)
    if ssim is not None:
        assert found[1] == pytest.approx(ssim, abs=1e-4)


def test_scores_known_by_heart(scripts: Scripts) -> None:
    evaluate = scripts("evaluate")
    picture = torch.randint(0, 256, (3, 32, 32)).to(torch.uint8)
    a = evaluate.luma(picture)
    assert a.min() >= 16
    assert a.max() <= 235
    assert evaluate.psnr(a, a + 1) == pytest.approx(48.1308, abs=1e-4)  # 20 log10 255
    assert evaluate.ssim(a, a) == pytest.approx(1)
    assert evaluate.ssim(a, a.flip(0)) < 0.5


def test_rounding_is_half_up(scripts: Scripts) -> None:
    to_uint8 = scripts("pictures").to_uint8
    values = torch.tensor([-3.0, 0.49, 0.5, 1.5, 2.5, 254.5, 300.0])
    assert to_uint8(values).tolist() == [0, 0, 1, 2, 3, 255, 255]

"""What is hidden under alpha: it must not show, and must come back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from vsr.cli import main
from vsr.engine.cutouts import Cutout
from vsr.upscaler import Upscaler

_HEIGHT, _WIDTH = 37, 52


def cut_out(hidden: int | None) -> NDArray[np.uint8]:
    """A disc of (H, W, 4), cut out of a texture, with one colour around it, or with the texture."""
    rng = np.random.default_rng(1)
    picture = rng.integers(60, 200, (_HEIGHT, _WIDTH, 4), np.uint8)
    y, x = np.ogrid[:_HEIGHT, :_WIDTH]
    distance = np.hypot(y - _HEIGHT / 2, x - _WIDTH / 2)
    picture[..., 3] = np.clip(255 * (15 - distance), 0, 255)
    if hidden is not None:
        picture[picture[..., 3] == 0, :3] = hidden
    return picture


def tensors(picture: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
    samples = torch.from_numpy(picture).movedim(-1, 0)[None] / 255
    return samples[:, :3], samples[:, 3:]


@pytest.mark.parametrize("hidden", [0, 255])
def test_what_is_hidden_is_continued_from_what_is_seen(hidden: int) -> None:
    picture, alpha = tensors(cut_out(hidden))
    cutout = Cutout.of(picture, alpha)
    seen = (alpha > 0).expand_as(picture)
    assert torch.equal(cutout.picture[seen], picture[seen])
    assert cutout.picture[~seen].min() >= 60 / 255
    assert cutout.picture[~seen].max() <= 200 / 255
    assert torch.equal(cutout.put_back(cutout.picture, alpha, 0.5 / 255), picture)


def test_hidden_colours_that_somebody_painted_stay() -> None:
    picture, alpha = tensors(cut_out(None))
    cutout = Cutout.of(picture, alpha)
    assert torch.equal(cutout.picture, picture)
    assert torch.equal(cutout.put_back(picture * 2, alpha, 0.5), picture * 2)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_pictures_that_are_seen_or_hidden_as_a_whole(alpha: float) -> None:
    picture = torch.full((1, 3, 5, 7), 0.25)
    cutout = Cutout.of(picture, torch.full((1, 1, 5, 7), alpha))
    out = cutout.put_back(cutout.picture, torch.full((1, 1, 5, 7), alpha), 0.5 / 255)
    assert torch.equal(out, picture)


def test_the_hidden_colour_does_not_show() -> None:
    upscaler = Upscaler("span-fast", device="cpu", precision="fp32", runtime="torch")
    black, white = upscaler(cut_out(0)), upscaler(cut_out(255))
    shown = black[..., 3] > 0
    np.testing.assert_array_equal(black[shown], white[shown])
    assert not black[~shown][:, :3].any()
    assert (white[~shown][:, :3] == 255).all()


def test_the_command_makes_the_same_of_it(tmp_path: Path) -> None:
    options = ["--model", "span-fast", "--device", "cpu", "--precision", "fp32"]
    made = []
    for hidden in (0, 255):
        source, output = tmp_path / f"{hidden}.png", tmp_path / f"{hidden}-x2.png"
        Image.fromarray(cut_out(hidden)).save(source)
        assert main([str(source), str(output), *options, "--runtime", "torch"]) == 0
        with Image.open(output) as picture:
            made.append(np.asarray(picture))
    shown = made[0][..., 3] > 0
    np.testing.assert_array_equal(made[0][shown], made[1][shown])
    assert (made[1][~shown][:, :3] == 255).all()


def test_what_is_only_passed_through_stays_to_the_bit(tmp_path: Path) -> None:
    Image.fromarray(cut_out(0)).save(tmp_path / "in.png")
    command = [str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--model", "identity"]
    assert main(command) == 0
    with Image.open(tmp_path / "out.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), cut_out(0))

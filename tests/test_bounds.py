"""Values beyond black and white; see note [Beyond white] of the engine."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vsr.engine import Engine, RenderTarget
from vsr.frame import Colour, Frame, Matrix, Range, pixel_format
from vsr.index import list_models, locate
from vsr.networks import Network, classical
from vsr.weights import load_network

CPU = torch.device("cpu")
LIMITED = Colour(matrix=Matrix.BT709, range=Range.LIMITED, primaries=1, transfer=1)
SHIPPED = [model.name for model in list_models() if model.file is not None]


class Wild(nn.Module):
    """Enlarges what it was trained on, and makes anything of the rest."""

    def forward(self, picture: Tensor) -> Tensor:
        beyond = (picture - 1).clamp(min=0) + (-picture).clamp(min=0)
        return interpolate(picture + 100 * beyond, scale_factor=2, mode="nearest")


WILD = Network(module=Wild(), name="wild", scale=2, halo=1)


def enlarged(network: Network, picture: Tensor) -> Tensor:
    """Codes of a gray picture, enlarged twice by the engine."""
    height, width = picture.shape
    gray = pixel_format("gray")
    target = RenderTarget(width=2 * width, height=2 * height, format=gray, colour=LIMITED)
    engine = Engine(network, target, device=CPU, dtype=torch.float32)
    frame = Frame(planes=(picture,), format=gray, width=width, height=height, colour=LIMITED,
        pts=0, time_base=Fraction(1, 25), duration=1,
    )  # fmt: skip
    (pending,) = engine.submit([frame])
    return engine.collect(pending).planes[0]


def test_what_is_whiter_than_white_survives_a_network_that_must_not_see_it() -> None:
    codes = torch.tensor([4, 16, 126, 235, 250], dtype=torch.uint8).repeat_interleave(8)
    picture = codes.expand(16, -1).contiguous()
    found = enlarged(WILD, picture)
    # in the middle of each patch: at their borders the filters differ
    middles = found[16, 8::16].tolist()
    assert middles == [4, 16, 126, 235, 250]
    wild = enlarged(replace(WILD, bounded=False), picture)[16, 8::16].tolist()
    assert wild == [255, 16, 126, 235, 255]


def test_what_lies_between_is_not_touched(rng: np.random.Generator) -> None:
    picture = torch.from_numpy(rng.integers(16, 236, (12, 20), dtype=np.uint8))
    assert torch.equal(
        enlarged(WILD, picture), picture.repeat_interleave(2, 0).repeat_interleave(2, 1)
    )


def test_filters_see_everything() -> None:
    assert not classical("lanczos", 2).bounded


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_keeps_its_head_beyond_white(name: str) -> None:
    model = next(model for model in list_models() if model.name == name)
    network = load_network(name, scale=model.scale)
    assert not network.bounded
    ramp = torch.linspace(-0.6, 1.45, 48).expand(1, 3, 32, 48)
    checks = (torch.arange(32)[:, None] // 4 + torch.arange(48) // 4) % 2 * 0.3
    picture = torch.cat([ramp, ramp.flip(3) + checks - 0.15], dim=2)
    with torch.inference_mode():
        made = network.module(picture)
    plain = interpolate(picture, scale_factor=model.scale, mode="bilinear")
    # An edge as high as those here, drawn sharp, is 1.1 off; the published weights' result is 645.
    assert (made - plain).abs().max() < 1.5


def test_a_checkpoint_of_someone_else_is_bounded(tmp_path: Path) -> None:
    model = next(model for model in list_models() if model.name == SHIPPED[0])
    assert load_network(locate(model)).bounded


def test_published_weights_go_wild_beyond_white(shared: Path) -> None:
    """Why there are bounds at all."""
    network = load_network(shared / "weights" / "spanx2_ch48.safetensors")
    picture = torch.full((1, 3, 24, 24), 0.5)
    picture[..., 6:18, 6:18] = 1.12
    with torch.inference_mode():
        seen, bounded = network.module(picture), network.module(picture.clamp(0, 1))
    assert network.bounded
    assert (seen - 1).abs().max() > 2 * (bounded - 1).abs().max()

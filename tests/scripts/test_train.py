"""Training: resuming is exact, the start is a bilinear enlargement, recipes are complete."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vsr.networks.blocks import branches, fold
from vsr.networks.span import Span, SpanConfig
from vsr.networks.sst import Sst, SstConfig
from vsr.weights import load_network

RECIPE = """
network = "{network}"
scale = {scale}
channels = 8
photographs = "photos"
rendered = 3
rendered_share = 0.25
validation = "check"
patch = 16
batch = 2
choices = 2
steps = {steps}
warmup = 2
rate = 1e-3
final_rate = 1e-6
clip = 1.0
ema = 0.9
seed = 1
{extra}
"""


@pytest.fixture(scope="module")
def train(scripts):
    return scripts("train")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two photographs and a picture to validate on, all of them noise with some shape."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, size in (("photos/a.jpg", 96), ("photos/b.jpg", 128), ("check/HR/c.png", 48)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        waves = np.sin(np.mgrid[0:size, 0:size].sum(0) / 5)[..., None] * 60 + 128
        picture = (waves + rng.normal(0, 20, (size, size, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(picture).save(path)
        for scale in (2, 4) if "check" in name else ():
            small = folder / f"check/LRx{scale}/c.png"
            small.parent.mkdir(parents=True)
            Image.fromarray(picture).resize((size // scale, size // scale)).save(small)
    return folder


@pytest.fixture
def run(train, data, tmp_path, monkeypatch):
    """Train by a recipe in float32; returns the weights."""

    def run(out, *, steps, scale=2, network="span", extra=""):
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(RECIPE.format(network=network, steps=steps, scale=scale, extra=extra))
        arguments = [str(recipe), "--data", str(data), "--out", str(tmp_path / out)]
        monkeypatch.setattr("sys.argv", ["train.py", *arguments, "--every", "3", "--dtype=float32"])
        assert train.main() == 0
        return load_file(tmp_path / out / "model.safetensors")

    return run


SST = """
[shape]
blocks = 1
windows = [8, 16]
ranks = [8, 8]
heads = 1
inner = 12
"""


@pytest.mark.parametrize(("network", "extra"), [("span", ""), ("sst", SST)])
def test_resuming_is_exact(train, run, tmp_path, monkeypatch, network, extra):
    run_it = partial(run, steps=6, network=network, extra=extra)
    whole = run_it("whole")
    advance = train.Trainer.advance

    def stop_after_three(trainer):
        if trainer.step == 3:
            raise KeyboardInterrupt
        return advance(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "advance", stop_after_three)
        with pytest.raises(KeyboardInterrupt):
            run_it("halves")
    halves = run_it("halves")
    assert whole.keys() == halves.keys()
    for name, value in whole.items():
        assert torch.equal(value, halves[name]), name
    rows = (tmp_path / "halves" / "log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "3", "6"]


def test_the_result_is_a_plain_folded_span(run, tmp_path):
    run("out", steps=3)
    network = load_network(tmp_path / "out" / "model.safetensors")
    assert (network.name, network.scale) == ("span", 2)
    assert isinstance(network.module, Span)
    assert network.module.config == SpanConfig(scale=2, channels=8, fused_channels=8, norm=False)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_training_starts_from_a_bilinear_enlargement(train, scale):
    config = SpanConfig(scale=scale, channels=8, fused_channels=8, norm=False)
    network, picture = Span(config), torch.rand(1, 3, 9, 11)
    state = train.initial_state(network, picture)
    # with everything but the picture's path silenced
    state["upsampler.0.weight"][:, 3:] = 0
    network.load_state_dict(state)
    with torch.no_grad():
        out = network(picture)
    expected = torch.nn.functional.interpolate(picture, scale_factor=scale, mode="bilinear")
    inner = (..., slice(scale, -scale), slice(scale, -scale))  # zero padding shows at the edge
    assert torch.allclose(out[inner], expected[inner], atol=1e-5)


def test_the_pictures_path_is_held_and_the_rest_learns(train, run):
    before = run("short", steps=1)
    after = run("long", steps=6)
    path = train.picture_path(SpanConfig(scale=2, channels=8, fused_channels=8, norm=False))
    for name, (rows, values) in path.items():
        assert torch.equal(after[name][rows], values)
    assert not torch.equal(before["block_3.c2_r.eval_conv.weight"],
                           after["block_3.c2_r.eval_conv.weight"])  # fmt: skip


def test_a_network_of_another_scale_gives_its_body(train, run, tmp_path):
    donor = run("donor", steps=3)
    state = Span(SpanConfig(scale=4, channels=8, fused_channels=8, norm=False)).state_dict()
    taken = train.transplant(state, donor)
    assert torch.equal(
        taken["block_2.c1_r.eval_conv.weight"], donor["block_2.c1_r.eval_conv.weight"]
    )
    assert taken["upsampler.0.weight"].shape[0] == 48
    start = tmp_path / "donor" / "model.safetensors"
    assert (
        run("heir", steps=2, scale=4, extra=f'start = "{start}"')["upsampler.0.weight"]
        .isfinite()
        .all()
    )


def test_folding_is_differentiable_into_every_branch():
    folded = Span(SpanConfig(channels=8, fused_channels=8)).state_dict()
    state = {name: value.clone().requires_grad_() for name, value in branches(folded).items()}
    torch.stack([value.square().sum() for value in fold(state).values()]).sum().backward()
    assert all(value.grad is not None for value in state.values())


def test_an_sst_starts_from_a_bilinear_enlargement_and_learns(train, run, tmp_path):
    run("sst", steps=3, network="sst", extra=SST)
    network = load_network(tmp_path / "sst" / "model.safetensors")
    assert network.name == "sst"
    config = SstConfig(
        channels=8, blocks=1, windows=(8, 16), ranks=(8, 8), heads=1, inner=12, scale=2
    )
    assert network.module.config == config
    recipe = train.Recipe.read(tmp_path / "recipe.toml")
    state = train.SstSubject(recipe, torch.float32).initial(torch.zeros(0))
    state["upsampler.up_conv.weight"][:, 3:] = 0
    state["upsampler.up_conv.bias"].zero_()
    state["body.2.weight"].zero_()
    state["body.2.bias"].zero_()
    module = Sst(config)
    module.load_state_dict(state)
    picture = torch.rand(1, 3, 9, 11)
    with torch.no_grad():
        out = module(picture)
    expected = torch.nn.functional.interpolate(picture, scale_factor=2, mode="bilinear")
    inner = (..., slice(2, -2), slice(2, -2))  # zero padding shows at the edge
    assert torch.allclose(out[inner], expected[inner], atol=1e-5)


def test_a_network_that_cannot_be_trained_is_an_error(train, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(network="esc", steps=1, scale=2, extra=""))
    with pytest.raises(SystemExit, match="network must be one of span, sst"):
        train.Recipe.read(recipe)


def test_unknown_fields_of_a_recipe_are_errors(train, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(network="span", steps=1, scale=2, extra="moment = 0.9"))
    with pytest.raises(SystemExit, match="moment"):
        train.Recipe.read(recipe)


def test_the_shipped_recipes_are_complete(train, root):
    for path in (root / "scripts" / "recipes").glob("*.toml"):
        recipe = train.Recipe.read(path)
        assert recipe.learning_rate(recipe.steps) == pytest.approx(recipe.final_rate)
        assert recipe.learning_rate(recipe.warmup) == pytest.approx(recipe.rate)


def test_detailed_patches_are_preferred_within_their_pool(scripts):
    pictures = scripts("pictures")
    flat = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    busy = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    pool = pictures.Pool([pictures.make_pair(p, 2, 16) for p in (flat, busy)], 1.0)
    sampler = pictures.PatchSampler([pool], 2, 16, 4)
    low, high = sampler.batch(200, np.random.default_rng(0))
    assert low.shape == (200, 3, 16, 16)
    assert high.shape == (200, 3, 32, 32)
    detailed = (high.std((1, 2, 3)) > 0.1).float().mean()
    assert 0.88 < detailed < 0.98  # 1 - (1/2)**4

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.networks.blocks import branches, fold
from vsr.networks.spanplus import (
    PRESETS,
    SpanPlus,
    SpanPlusConfig,
    Upsampler,
    detect,
    infer_config,
)
from vsr.runtimes import EagerRuntime
from vsr.weights import load_network

TrainingShapes = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
Errors = Callable[[Tensor, Mapping[str, Any]], float]

VARIANTS = [
    SpanPlusConfig(channels=8, blocks=(1,), scale=2),
    SpanPlusConfig(channels=8, blocks=(2, 0, 1), scale=3, in_channels=1, out_channels=1),
    SpanPlusConfig(channels=6, blocks=(0,), scale=4, upsampler="ps"),
    SpanPlusConfig(channels=6, blocks=(1, 1), scale=1, upsampler="conv", out_channels=1),
]


def empty_state(config: SpanPlusConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        return SpanPlus(config).state_dict()


def random_training_state(config: SpanPlusConfig, shapes: TrainingShapes) -> dict[str, Tensor]:
    """Weights of every branch, float64, of a size that keeps signals alive; sample places kept."""
    state = {
        name: torch.randn(v.shape, dtype=torch.float64) * (0.5 / max(1, v[0].numel()) ** 0.5)
        for name, v in shapes(empty_state(config)).items()
    }
    if config.upsampler == "dys":
        state["upsampler.init_pos"] = SpanPlus(config).upsampler.get_buffer("init_pos").double()
    return state


# The configuration.


@pytest.mark.parametrize("upsampler", ["dys", "ps", "conv"])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_config_is_inferred(upsampler: Upsampler, scale: int) -> None:
    if upsampler == "conv" and scale != 1:
        return
    grid = product((32, 48), (1, 3, 4), ((4,), (0,), (2, 1, 3), (11,)))
    for channels, colours, blocks in grid:
        config = SpanPlusConfig(
            scale=scale, channels=channels, in_channels=colours, out_channels=colours,
            blocks=blocks, upsampler=upsampler,
        )  # fmt: skip
        assert infer_config(empty_state(config), {}) == config


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_inferred(preset: str, scale: int) -> None:
    config = replace(PRESETS[preset], scale=scale)
    assert infer_config(empty_state(config), {}) == config


def test_other_output_channels_are_inferred() -> None:
    config = SpanPlusConfig(in_channels=1, out_channels=3)
    assert infer_config(empty_state(config), {}) == config


@pytest.mark.parametrize(
    ("upsampler", "name", "shape"),
    [
        ("dys", "upsampler.offset.weight", (40, 48, 1, 1)),
        ("ps", "upsampler.0.weight", (7, 48, 3, 3)),
    ],
)
def test_no_scale_fits(upsampler: Upsampler, name: str, shape: tuple[int, ...]) -> None:
    state = empty_state(SpanPlusConfig(upsampler=upsampler))
    state[name] = torch.empty(shape)
    with pytest.raises(ValueError, match="no integer scale"):
        infer_config(state, {})


@pytest.mark.parametrize(
    ("preset", "scale", "count"),
    [("spanplus", 4, 418_067), ("spanplus", 2, 408_755), ("spanplus_s", 4, 133_667),
     ("spanplus_sts", 4, 139_120)],
)  # fmt: skip
def test_parameter_counts(preset: str, scale: int, count: int) -> None:
    with torch.device("meta"):
        network = SpanPlus(replace(PRESETS[preset], scale=scale))
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(
    ("preset", "stored"),
    [("spanplus", 2_228_507), ("spanplus_s", 687_707), ("spanplus_sts", 693_160)],
)
def test_parameter_counts_in_training(
    training_shapes: TrainingShapes, preset: str, stored: int
) -> None:
    state = training_shapes(empty_state(PRESETS[preset]))
    assert sum(v.numel() for k, v in state.items() if not k.endswith("init_pos")) == stored


# The network.


def three_branches(x: Tensor, state: Mapping[str, Tensor], site: str) -> Tensor:
    """Pad, 1x1, 3x3, 1x1 in a row, a 1x1 of the unpadded input beside them."""
    y = F.pad(x, (1, 1, 1, 1))
    for layer in ("conv.0", "conv.1", "conv.2"):
        y = F.conv2d(y, state[f"{site}.{layer}.weight"], state[f"{site}.{layer}.bias"])
    return y + F.conv2d(x, state[f"{site}.sk.weight"], state[f"{site}.sk.bias"])


def block(h: Tensor, state: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    a = F.mish(three_branches(h, state, f"{name}.c1_r"))
    m = three_branches(F.mish(three_branches(a, state, f"{name}.c2_r")), state, f"{name}.c3_r")
    return (m + h) * (torch.sigmoid(m) - 0.5), a


def bilinear(plane: Tensor, y: float, x: float) -> Tensor:
    """The value of (H, W) at a place in pixels, pixel centres at integers; the edge repeats."""
    height, width = plane.shape
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = plane[top, left] * (1 - x + left) + plane[top, right] * (x - left)
    lower = plane[bottom, left] * (1 - x + left) + plane[bottom, right] * (x - left)
    return upper * (1 - y + top) + lower * (y - top)


def dysample(x: Tensor, state: Mapping[str, Tensor], scale: int) -> Tensor:
    """One sample at a time: sample all channels at their group's place, then mix them."""
    offset = F.conv2d(x, state["upsampler.offset.weight"], state["upsampler.offset.bias"])
    scope = torch.sigmoid(F.conv2d(x, state["upsampler.scope.weight"]))
    offset = offset * scope * 0.5 + state["upsampler.init_pos"]
    n, c, height, width = x.shape
    out = x.new_empty(n, c, scale * height, scale * width)
    for i, channel, y, z in product(range(n), range(c), *map(range, out.shape[2:])):
        group, (row, dy), (column, dx) = channel // (c // 4), divmod(y, scale), divmod(z, scale)
        part = (group * scale + dy) * scale + dx
        across, down = (offset[i, k * 4 * scale**2 + part, row, column].item() for k in (0, 1))
        out[i, channel, y, z] = bilinear(x[i, channel], row + down, column + across)
    return F.conv2d(out, state["upsampler.end_conv.weight"], state["upsampler.end_conv.bias"])


def reference(x: Tensor, state: Mapping[str, Tensor], config: SpanPlusConfig) -> Tensor:
    """SPANPlus in its training form, written from its description."""
    h = three_branches(x, state, "feats.0")
    for stage, count in enumerate(config.blocks, 1):
        start, name = h, f"feats.{stage}"
        first, _ = block(h, state, f"{name}.block_1")
        h = first
        for index in range(count):
            h, _ = block(h, state, f"{name}.block_n.{index}")
        h, a = block(h, state, f"{name}.block_end")
        joined = torch.cat([start, three_branches(h, state, f"{name}.conv_2"), first, a], dim=1)
        h = F.conv2d(joined, state[f"{name}.conv_cat.weight"], state[f"{name}.conv_cat.bias"])
    if config.upsampler == "dys":
        return dysample(h, state, config.scale)
    end = "upsampler" if config.upsampler == "conv" else "upsampler.0"
    h = F.conv2d(h, state[f"{end}.weight"], state[f"{end}.bias"], padding=1)
    return F.pixel_shuffle(h, config.scale)


@pytest.mark.parametrize("config", VARIANTS, ids=lambda c: f"{c.upsampler}{c.scale}")
def test_network_equals_its_description(
    training_shapes: TrainingShapes, config: SpanPlusConfig
) -> None:
    state = random_training_state(config, training_shapes)
    if config.upsampler == "dys":  # far enough to leave the pixel, and at the edges the picture
        state["upsampler.offset.bias"] *= 4
    network = SpanPlus(config).double().eval()
    network.load_state_dict(fold(state))
    x = torch.rand(2, config.in_channels, 6, 5, dtype=torch.float64)
    with torch.no_grad():
        found, expected = network(x), reference(x, state, config)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


GOLDEN = {
    "dys x4 ch48 [4]": PRESETS["spanplus"],
    "dys x2 ch48 [4]": replace(PRESETS["spanplus"], scale=2),
    "ps x4 ch48 [4] (spanplus_st)": PRESETS["spanplus_st"],
    "ps x2 ch48 [4]": replace(PRESETS["spanplus_st"], scale=2),
    "dys x4 ch32 [2] (spanplus_s)": PRESETS["spanplus_s"],
    "ps x4 ch32 [2] (spanplus_sts)": PRESETS["spanplus_sts"],
}


@pytest.mark.parametrize("name", GOLDEN)
def test_network_equals_the_original(
    goldens: dict[str, Any], golden_fill: ModuleType, training_shapes: TrainingShapes,
    error: Errors, name: str,
) -> None:  # fmt: skip
    entries = goldens["spanplus"]
    assert set(entries) == set(GOLDEN)
    golden, config = entries[name], GOLDEN[name]
    network = SpanPlus(config).eval()
    state = golden_fill.fill_state(training_shapes(network.state_dict()))
    if config.upsampler == "dys":
        state["upsampler.init_pos"] = network.upsampler.get_buffer("init_pos")
    folded = fold({k: v.double() for k, v in state.items()})
    network.load_state_dict({k: v.float() for k, v in folded.items()})
    height, width = (side // config.scale for side in golden["shape"][2:])
    with torch.no_grad():
        assert error(network(golden_fill.image(height, width)), golden) < 1e-4


# Files.


@pytest.mark.parametrize("config", VARIANTS, ids=lambda c: f"{c.upsampler}{c.scale}")
@pytest.mark.parametrize("layout", ["folded", "training", "training with a stale kernel"])
def test_files_of_every_layout_load(tmp_path: Path, config: SpanPlusConfig, layout: str) -> None:
    if config.out_channels != config.in_channels:
        config = replace(config, out_channels=config.in_channels)
    network = SpanPlus(config).eval()
    folded = network.state_dict()
    stored = folded if layout == "folded" else branches(folded)
    if "stale" in layout:
        stored |= {k: v * 0 for k, v in folded.items() if "eval_conv" in k}
    path = tmp_path / "model.pth"
    torch.save({"params_ema": stored}, path)
    found = load_network(path)
    assert (found.name, found.scale, found.halo) == ("spanplus", config.scale, config.halo)
    assert found.in_channels == found.out_channels == config.in_channels
    x = torch.rand(1, config.in_channels, 7, 6)
    with torch.no_grad():
        torch.testing.assert_close(found.module(x), network(x), rtol=1e-4, atol=1e-5)


def test_the_stored_sample_places_are_kept(tmp_path: Path) -> None:
    state = SpanPlus(VARIANTS[0]).state_dict()
    state["upsampler.init_pos"] = state["upsampler.init_pos"] + 0.125
    save_file(state, tmp_path / "model.safetensors")
    module = load_network(tmp_path / "model.safetensors").module
    assert torch.equal(module.get_buffer("upsampler.init_pos"), state["upsampler.init_pos"])


def test_sample_places_are_the_centres_of_the_parts() -> None:
    places = SpanPlus(replace(VARIANTS[0], scale=4)).upsampler.get_buffer("init_pos")
    assert places.shape == (1, 2 * 4 * 16, 1, 1)
    across, down = places.view(2, 4, 4, 4)
    row = torch.tensor([-0.375, -0.125, 0.125, 0.375])
    assert torch.equal(across, row.expand(4, 4, 4))
    assert torch.equal(down, row[:, None].expand(4, 4, 4))


# What a runner needs to know.


@pytest.mark.parametrize("blocks", [(0,), (4,), (1, 2)])
@pytest.mark.parametrize(("upsampler", "scale"), [("ps", 2), ("conv", 1)])
def test_receptive_radius(
    assert_receptive_radius: Callable[[nn.Module, int], None],
    upsampler: Upsampler, scale: int, blocks: tuple[int, ...],
) -> None:  # fmt: skip
    config = SpanPlusConfig(channels=4, scale=scale, blocks=blocks, upsampler=upsampler)
    assert_receptive_radius(SpanPlus(config), config.halo)
    assert PRESETS["spanplus_st"].halo == 21


def test_receptive_radius_at_the_furthest_offset(
    assert_receptive_radius: Callable[[nn.Module, int], None],
) -> None:
    """Four pixels one way in one group, the other way in another; convolutions see the rest."""
    config = SpanPlusConfig(channels=8, scale=2, blocks=(0,))
    network = SpanPlus(config)
    state = network.state_dict()
    furthest = torch.tensor([-3.6, 3.6, 0, 0]).view(4, 1).expand(2, 4, 4).flatten()
    state["upsampler.offset.weight"] *= 0
    state["upsampler.scope.weight"] *= 0
    state["upsampler.offset.bias"] = 4 * furthest  # halved, and halved by the scope
    network.load_state_dict(state)
    assert_receptive_radius(network, config.halo)
    assert PRESETS["spanplus"].halo == 24


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_the_ends_stay_in_float32(config: SpanPlusConfig) -> None:
    """Only blocks are halved, and the whole runs and stays close to float32."""
    network = SpanPlus(config).eval()
    for name in config.body:
        network.get_submodule(name).half()
    kept = {k for k, v in network.state_dict().items() if v.dtype == torch.float32}
    assert {k.split(".")[0] for k in kept} == {"feats", "upsampler"}
    assert {k for k in kept if k.startswith("feats")} == {
        "feats.0.eval_conv.weight", "feats.0.eval_conv.bias",
        "feats.1.conv_cat.weight", "feats.1.conv_cat.bias",
    }  # fmt: skip


@pytest.mark.parametrize(("dtype", "floor"), [(torch.float16, 70), (torch.bfloat16, 50)])
@pytest.mark.parametrize("preset", ["spanplus_s", "spanplus_sts"])
def test_half_precision_stays_close(
    tmp_path: Path, preset: str, dtype: torch.dtype, floor: float
) -> None:
    save_file(SpanPlus(PRESETS[preset]).state_dict(), tmp_path / "model.safetensors")
    network = load_network(tmp_path / "model.safetensors")
    picture = torch.rand(1, 3, 24, 20)
    exact, found = (
        EagerRuntime(network, torch.device("cpu"), d)(picture) for d in (torch.float32, dtype)
    )
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    assert -10 * torch.log10((found - exact).square().mean()) > floor


# Detection.


@pytest.mark.parametrize("config", VARIANTS, ids=lambda c: f"{c.upsampler}{c.scale}")
def test_detects_both_layouts(training_shapes: TrainingShapes, config: SpanPlusConfig) -> None:
    folded = empty_state(config)
    training = training_shapes(folded)
    assert detect(folded)
    assert detect(training)
    assert detect(k for k in training if "eval_conv" not in k)


@pytest.mark.parametrize("missing", ["feats.0", "feats.1.block_1.c1_r", "upsampler"])
def test_detects_nothing_else(missing: str) -> None:
    assert not detect(k for k in empty_state(PRESETS["spanplus"]) if not k.startswith(missing))

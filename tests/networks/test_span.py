from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.networks.blocks import branches, fold
from vsr.networks.normalisation import DIV2K_MEAN
from vsr.networks.span import Span, SpanConfig, detect, infer_config
from vsr.runtimes import EagerRuntime
from vsr.weights import load_network

TrainingShapes = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
Errors = Callable[[Tensor, Mapping[str, Any]], float]


def empty_state(config: SpanConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        return Span(config).state_dict()


def random_training_state(config: SpanConfig, shapes: TrainingShapes) -> dict[str, Tensor]:
    """Weights of every branch, float64, of a size that keeps signals alive."""
    state = shapes(empty_state(config))
    return {
        name: torch.randn(v.shape, dtype=torch.float64) * (0.5 / max(1, v[0].numel()) ** 0.5)
        for name, v in state.items()
    }


# The configuration.


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [26, 28, 32, 48, 52, 64])
def test_config_is_inferred(channels: int, scale: int) -> None:
    for colours, fused, blocks in product((1, 3, 4), (20, channels), (1, 4, 6)):
        for norm in {colours == 3, False}:
            config = SpanConfig(
                scale=scale, channels=channels, fused_channels=fused, in_channels=colours,
                out_channels=colours, blocks=blocks, norm=norm,
            )  # fmt: skip
            assert infer_config(empty_state(config), {}) == config


@pytest.mark.parametrize(
    ("inputs", "outputs", "scale"), [(1, 3, 2), (1, 3, 4), (3, 4, 2), (3, 1, 3)]
)
def test_other_output_channels_are_inferred(inputs: int, outputs: int, scale: int) -> None:
    config = SpanConfig(in_channels=inputs, out_channels=outputs, scale=scale, norm=False)
    assert infer_config(empty_state(config), {}) == config


def test_metadata_settles_normalisation() -> None:
    state = empty_state(SpanConfig(norm=True))
    assert infer_config(state, {"norm": "none"}).norm is False
    found = infer_config(
        state, {"norm": "mean", "rgb_mean": "[0.5, 0.25, 0.125]", "img_range": "1"}
    )
    assert (found.norm, found.mean, found.img_range) == (True, (0.5, 0.25, 0.125), 1.0)
    assert infer_config(state, {"rgb_mean": "null"}).mean == DIV2K_MEAN


def test_normalisation_needs_three_channels() -> None:
    state = empty_state(SpanConfig(in_channels=1, out_channels=1, norm=False))
    del state["no_norm"]
    with pytest.raises(ValueError, match="3 input channels"):
        infer_config(state, {})


def test_no_scale_fits() -> None:
    state = empty_state(SpanConfig())
    state["upsampler.0.weight"] = torch.empty(7, 48, 3, 3)
    with pytest.raises(ValueError, match="no integer scale"):
        infer_config(state, {})


@pytest.mark.parametrize(
    ("channels", "fused", "scale", "count"),
    [(48, 48, 2, 410_700), (48, 48, 4, 426_288), (52, 52, 2, 481_324), (52, 52, 4, 498_208),
     (64, 64, 2, 726_796), (28, 28, 4, 150_688), (26, 26, 4, 130_828), (28, 20, 4, 146_328)],
)  # fmt: skip
def test_parameter_counts(channels: int, fused: int, scale: int, count: int) -> None:
    config = SpanConfig(channels=channels, fused_channels=fused, scale=scale)
    assert sum(v.numel() for v in empty_state(config).values()) == count


@pytest.mark.parametrize(
    ("channels", "scale", "trainable", "stored"),
    [(48, 2, 1_824_900, 2_221_140), (52, 4, 2_157_136, 2_621_964)],
)
def test_parameter_counts_in_training(
    training_shapes: TrainingShapes, channels: int, scale: int, trainable: int, stored: int
) -> None:
    config = SpanConfig(channels=channels, fused_channels=channels, scale=scale)
    full = training_shapes(empty_state(config))
    assert sum(v.numel() for v in full.values()) == stored
    assert sum(v.numel() for k, v in full.items() if "eval_conv" not in k) == trainable
    if channels == 48:
        assert sum(v.numel() for v in branches(Span(config).state_dict()).values()) == trainable


# The fold.


def three_branches(x: Tensor, state: Mapping[str, Tensor], site: str) -> Tensor:
    """Facts: pad, 1x1, 3x3, 1x1 in a row, a 1x1 of the unpadded input beside them."""
    y = F.pad(x, (1, 1, 1, 1))
    for layer in ("conv.0", "conv.1", "conv.2"):
        y = F.conv2d(y, state[f"{site}.{layer}.weight"], state[f"{site}.{layer}.bias"])
    return y + F.conv2d(x, state[f"{site}.sk.weight"], state[f"{site}.sk.bias"])


def reference(x: Tensor, state: Mapping[str, Tensor], config: SpanConfig) -> Tensor:
    """SPAN in its training form, written from its specification."""

    def conv(h: Tensor, name: str) -> Tensor:
        return three_branches(h, state, name)

    if config.norm:
        mean = torch.tensor(config.mean, dtype=x.dtype).view(1, 3, 1, 1)
        x = (x - mean) * config.img_range
    first = conv(x, "conv_1")
    outputs, activations, h = [], [], first
    for i in range(1, config.blocks + 1):
        a = F.silu(conv(h, f"block_{i}.c1_r"))
        m = conv(F.silu(conv(a, f"block_{i}.c2_r")), f"block_{i}.c3_r")
        h = (m + h) * (torch.sigmoid(m) - 0.5)
        outputs.append(h)
        activations.append(a)
    joined = torch.cat([first, conv(h, "conv_2"), outputs[0], activations[-1]], dim=1)
    fused = F.conv2d(joined, state["conv_cat.weight"], state["conv_cat.bias"])
    out = F.conv2d(fused, state["upsampler.0.weight"], state["upsampler.0.bias"], padding=1)
    n, _, height, width = out.shape
    s = config.scale
    out = out.view(n, config.out_channels, s, s, height, width)
    return out.permute(0, 1, 4, 2, 5, 3).reshape(n, config.out_channels, s * height, s * width)


def test_fold_equals_the_branches(training_shapes: TrainingShapes) -> None:
    """Borders included, and whatever a stale ``eval_conv`` says."""
    state = random_training_state(SpanConfig(channels=6, fused_channels=6), training_shapes)
    folded = fold(state)
    for site, inputs in (("conv_1", 3), ("block_3.c2_r", 6), ("conv_2", 6)):
        x = torch.randn(2, inputs, 7, 5, dtype=torch.float64)
        kernel, bias = (folded[f"{site}.eval_conv.{k}"] for k in ("weight", "bias"))
        found = F.conv2d(x, kernel, bias, padding=1)
        torch.testing.assert_close(found, three_branches(x, state, site), rtol=0, atol=1e-12)
        assert not torch.allclose(kernel, state[f"{site}.eval_conv.weight"])


def test_fold_leaves_the_deploy_layout(training_shapes: TrainingShapes) -> None:
    config = SpanConfig(channels=6, fused_channels=6)
    state = random_training_state(config, training_shapes)
    assert set(fold(state)) == set(empty_state(config))
    without = {k: v for k, v in state.items() if "eval_conv" not in k}
    for name, value in fold(without).items():
        assert torch.equal(value, fold(state)[name])
    once = fold(state)
    assert all(torch.equal(v, once[k]) for k, v in fold(once).items())


def test_branches_then_fold_is_the_identity() -> None:
    state = Span(SpanConfig(channels=16, fused_channels=12)).state_dict()
    again = fold({k: v.double() for k, v in branches(state).items()})
    assert set(again) == set(state)
    for name, value in state.items():
        torch.testing.assert_close(again[name].float(), value, rtol=0, atol=1e-5)


# The network.


@pytest.mark.parametrize(
    "config",
    [
        SpanConfig(channels=6, fused_channels=6),
        SpanConfig(channels=6, fused_channels=4, scale=3, norm=False),
        SpanConfig(channels=5, fused_channels=5, scale=1, blocks=1),
        SpanConfig(channels=5, fused_channels=5, scale=4, in_channels=1, out_channels=1, norm=False,
                   blocks=3),
        SpanConfig(channels=6, fused_channels=6, mean=(0.5, 0.25, 0.75), img_range=1.0),
    ],
)  # fmt: skip
def test_network_equals_its_specification(
    training_shapes: TrainingShapes, config: SpanConfig
) -> None:
    state = random_training_state(config, training_shapes)
    network = Span(config).double().eval()
    network.load_state_dict(fold(state))
    x = torch.rand(2, config.in_channels, 9, 11, dtype=torch.float64)
    if config.norm:  # the mean is kept in float32, as published checkpoints were trained with
        config = SpanConfig(**{f: getattr(config, f) for f in config.__slots__} | {
            "mean": tuple(torch.tensor(config.mean).double().tolist())})  # fmt: skip
    with torch.no_grad():
        found = network(x)
        expected = reference(x, state, config)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("span_ch48_x2_train", SpanConfig(scale=2)),
        ("span_ch48_x4_train", SpanConfig(scale=4)),
        ("span_ch52_x4_train", SpanConfig(scale=4, channels=52, fused_channels=52)),
    ],
)
def test_network_equals_the_authors(
    goldens: dict[str, Any], golden_fill: ModuleType, training_shapes: TrainingShapes,
    error: Errors, name: str, config: SpanConfig,
) -> None:  # fmt: skip
    golden = goldens["span"][name]
    state = golden_fill.fill_state(training_shapes(empty_state(config)))
    folded = fold({k: v.double() for k, v in state.items()})
    network = Span(config).eval()
    network.load_state_dict({k: v.float() for k, v in folded.items()})
    height, width = (side // config.scale for side in golden["shape"][2:])
    with torch.no_grad():
        assert error(network(golden_fill.image(height, width)), golden) < 1e-4


@pytest.mark.parametrize(
    "name", ["spanx2_ch48", "spanx4_ch48", "span_ntire24_x4_ch28", "2xHFA2kSPAN_27k"]
)
def test_reference_weights(assert_golden: Callable[[str], None], name: str) -> None:
    assert_golden(name)


@pytest.mark.parametrize("blocks", [1, 2, 6])
def test_receptive_radius(
    assert_receptive_radius: Callable[[nn.Module, int], None], blocks: int
) -> None:
    config = SpanConfig(channels=4, fused_channels=4, blocks=blocks, norm=False)
    assert config.halo == 3 * blocks + 3
    assert_receptive_radius(Span(config), config.halo)


@pytest.mark.parametrize(("dtype", "floor"), [(torch.float16, 60), (torch.bfloat16, 45)])
@pytest.mark.parametrize("name", ["spanx2_ch48", "spanx4_ch48", "span_ntire24_x4_ch28"])
def test_half_precision_stays_close(
    shared: Path, scripts: Callable[[str], ModuleType], name: str, dtype: torch.dtype, floor: float
) -> None:
    """PSNR against float32: fp16 is invisible, bf16 nearly so."""
    picture = scripts("pictures").load(shared / "data" / "Set5" / "LRx4" / "img_002.png")
    picture = picture[None, :, 16:56, 16:56].float() / 255
    network = load_network(shared / "weights" / f"{name}.safetensors")
    exact, found = (
        EagerRuntime(network, torch.device("cpu"), d)(picture).float()
        for d in (torch.float32, dtype)
    )
    assert -10 * torch.log10((found - exact).square().mean()) > floor


# Detection.


def test_detects_both_layouts(training_shapes: TrainingShapes) -> None:
    folded = empty_state(SpanConfig())
    training = training_shapes(folded)
    assert detect(folded)
    assert detect(training)
    assert detect(k for k in training if "eval_conv" not in k)


@pytest.mark.parametrize(
    "missing", ["conv_1", "block_1.c1_r", "conv_cat.weight", "upsampler.0.weight"]
)
def test_detects_nothing_else(missing: str) -> None:
    assert not detect(k for k in empty_state(SpanConfig()) if not k.startswith(missing))

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vsr.errors import CorruptWeightsError
from vsr.networks import describe, esc_lte
from vsr.networks.attention import fold_attention
from vsr.networks.conv_attention import average_large_kernel
from vsr.networks.esc import VARIANTS, Esc, EscConfig, detect, infer_config
from vsr.networks.esc_lte import EscLte
from vsr.runtimes import EagerRuntime
from vsr.weights import build_network, load_network

CPU = torch.device("cpu")
PATH = Path("model.safetensors")
ONE_SCALE = [name for name in VARIANTS if name != "esc-lte"]


def build(config: EscConfig) -> nn.Module:
    return EscLte(config) if config.ending == "features" else Esc(config)


def empty_state(config: EscConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        return build(config).state_dict()


def small(variant: str, **options: Any) -> EscConfig:
    """A variant with one block of one convolution and windows of 8."""
    return replace(VARIANTS[variant], **{"blocks": 1, "convolutions": 1, "window": 8} | options)


def random_network(config: EscConfig) -> nn.Module:
    """Untrained, but with a small kernel and positions that matter."""
    module = build(config).eval().requires_grad_(False)
    for name, value in module.named_parameters():
        if "relative_position_bias" in name or ".plk." in name:
            nn.init.normal_(value, std=0.5)
        if name.endswith(("plk_filter", "lk_spatial")):
            value.mul_(0.05)
    return module


def runtime(config: EscConfig, module: nn.Module) -> EagerRuntime:
    return EagerRuntime(describe("esc", module, config), CPU, torch.float32)


# The authors' outputs.


Errors = Callable[[Tensor, Mapping[str, Any]], float]

GOLDEN = {
    "esc_x4_24x40": ("esc", 4),
    "esc_x2_24x40": ("esc", 2),
    "esc_light_x3_24x40": ("esc-light", 3),
    "esc_fp_x4_24x40": ("esc-fp", 4),
    "esc_real_x4_24x40": ("esc-real", 4),
}
FLOAT, AS_SHIPPED = 1e-4, 1e-2


def original(golden_fill: ModuleType, config: EscConfig) -> nn.Module:
    network = build(config).eval().requires_grad_(False)
    network.load_state_dict(average_large_kernel(golden_fill.fill_state(network.state_dict())))
    return network


def test_every_reference_is_looked_at(goldens: dict[str, Any]) -> None:
    assert set(goldens["esc"]) == set(GOLDEN)
    assert set(goldens["rib"]) == {"esc_rib_x4_40x56_fp32", "esc_rib_x4_40x56_bf16"}
    assert set(goldens["lte"]) == {"esc_lte_24x40_to_59x97"}


@pytest.mark.parametrize("name", GOLDEN)
def test_network_equals_the_original(
    goldens: dict[str, Any], golden_fill: ModuleType, error: Errors, name: str
) -> None:
    variant, scale = GOLDEN[name]
    network = original(golden_fill, replace(VARIANTS[variant], scale=scale))
    x, golden = golden_fill.image(24, 40), goldens["esc"][name]
    assert error(network(x), golden) < FLOAT
    fold_attention(network)
    for _ in range(2):
        assert error(network(x), golden) < FLOAT


def test_the_large_kernel_is_averaged(
    goldens: dict[str, Any], golden_fill: ModuleType, error: Errors
) -> None:
    """Without that the test above would fail; and a kernel so averaged stays as it is."""
    network = Esc(replace(VARIANTS["esc-light"], scale=3)).eval().requires_grad_(False)
    state = golden_fill.fill_state(network.state_dict())
    network.load_state_dict(state)
    assert error(network(golden_fill.image(24, 40)), goldens["esc"]["esc_light_x3_24x40"]) > 0.01
    kernel = average_large_kernel(state)["plk_filter"]
    assert not torch.equal(kernel, state["plk_filter"])
    for same in (kernel.flip(2), kernel.flip(3), kernel.mT, kernel.rot90(1, (2, 3))):
        torch.testing.assert_close(same, kernel)
    torch.testing.assert_close(average_large_kernel({"plk_filter": kernel})["plk_filter"], kernel)


def test_rib_equals_the_original(
    goldens: dict[str, Any], golden_fill: ModuleType, error: Errors
) -> None:
    network = original(golden_fill, replace(VARIANTS["esc-rib"], scale=4))
    x, golden = golden_fill.image(40, 56), goldens["rib"]
    shipped = copy.deepcopy(network)
    assert error(network(x), golden["esc_rib_x4_40x56_fp32"]) < FLOAT
    fold_attention(network)
    assert error(network(x), golden["esc_rib_x4_40x56_fp32"]) < FLOAT
    fold_attention(shipped, torch.bfloat16)
    out = shipped(x)
    assert error(out, golden["esc_rib_x4_40x56_bf16"]) < AS_SHIPPED
    assert 2 * error(out, golden["esc_rib_x4_40x56_bf16"]) < error(
        out, golden["esc_rib_x4_40x56_fp32"]
    )


def test_lte_equals_the_original(
    goldens: dict[str, Any], golden_fill: ModuleType, error: Errors
) -> None:
    network = original(golden_fill, VARIANTS["esc-lte"])
    x, golden = golden_fill.image(24, 40), goldens["lte"]["esc_lte_24x40_to_59x97"]
    assert error(network(x, (59, 97)) * 2 - 1, golden) < FLOAT  # it was taken in [-1, 1]
    fold_attention(network)
    assert error(network(x, (59, 97)) * 2 - 1, golden) < FLOAT


# Sizes.

COUNTS = {
    "esc": {2: 946_728, 3: 955_383, 4: 967_500},
    "esc-light": {2: 603_600, 3: 612_255, 4: 624_372},
    "esc-fp": {2: 523_675, 3: 530_170, 4: 539_263},
    "esc-xl": {2: 12_455_916, 3: 12_481_851, 4: 12_518_160},
    "esc-real": {4: 2_265_307},
    "esc-rib": {2: 1_007_796, 3: 1_016_451, 4: 1_028_568},
    "esc-lte": {0: 1_433_631},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameter_counts(variant: str) -> None:
    found = {
        scale: sum(v.numel() for v in empty_state(replace(VARIANTS[variant], scale=scale)).values())
        for scale in COUNTS[variant]
    }
    assert found == COUNTS[variant]


def test_parameter_count_of_the_encoder() -> None:
    state = empty_state(VARIANTS["esc-lte"])
    assert sum(v.numel() for k, v in state.items() if k.startswith("encoder.")) == 939_804


@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_of_the_body_exist(variant: str) -> None:
    with torch.device("meta"):
        module = build(VARIANTS[variant])
    for name in VARIANTS[variant].body:
        module.get_submodule(name)


# Which one a checkpoint is.


@pytest.mark.parametrize("variant", VARIANTS)
def test_config_is_inferred(variant: str) -> None:
    for scale in COUNTS[variant]:
        config = replace(VARIANTS[variant], scale=scale)
        state = empty_state(config)
        infer = esc_lte.infer_config if variant == "esc-lte" else infer_config
        assert infer(state, {}) == config
        assert detect(state) == (variant != "esc-lte")
        assert esc_lte.detect(state) == (variant == "esc-lte")


@pytest.mark.parametrize(
    "options",
    [{"channels": 24, "heads": 3, "large_channels": 8, "kernel_hidden": 6, "inner": 20},
     {"kernel": 9, "window": 12, "projection_inner": 70, "blocks": 4, "convolutions": 2},
     {"normalised": True, "scale": 5}],
)  # fmt: skip
def test_other_configs_are_inferred(options: dict[str, Any]) -> None:
    config = replace(VARIANTS["esc"], **options)
    assert infer_config(empty_state(config), {}) == config


def test_only_the_windows_of_rib_leave_no_trace(tmp_path: Path) -> None:
    config = small("esc-rib", window=16, hidden=8, frequencies=4, rank=8)
    state = empty_state(config)
    assert infer_config(state, {}) == replace(config, window=64)
    assert infer_config(state, {"windows": "16"}) == config
    assert infer_config(empty_state(VARIANTS["esc"]), {"windows": "16"}).window == 32
    module = random_network(config)
    save_file(module.state_dict(), tmp_path / PATH, {"windows": "16"})
    network = load_network(tmp_path / PATH)
    assert (network.grid, network.halo, network.multiple) == (16, 16, 16)
    for windows in ("0", "16,32", "wide"):
        with pytest.raises(CorruptWeightsError, match="damaged esc checkpoint"):
            build_network(module.state_dict(), {"windows": windows}, PATH)


# Pictures of any number and size.


@pytest.mark.parametrize("variant", VARIANTS)
def test_pictures_of_a_batch_are_apart(variant: str) -> None:
    """Each makes its own small kernel; three of one kind would not show a mixture."""
    config = small(variant)
    run = runtime(config, random_network(config))
    x = torch.rand(3, 3, 13, 11) * torch.tensor([0.2, 1.0, 0.6]).view(3, 1, 1, 1)
    singles = torch.cat([run(part) for part in x.split(1)])
    torch.testing.assert_close(run(x), singles, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ["esc", "esc-fp"])
def test_the_small_kernel_is_the_pictures_own(variant: str) -> None:
    """It is made from the mean: another corner far away changes what is here."""
    config = small(variant, kernel=5)
    run = runtime(config, random_network(config))
    x = torch.rand(1, 3, 48, 48)
    far = x.clone()
    far[..., 40:, 40:] += 1
    assert (run(far) - run(x))[..., :8, :8].abs().max() > 1e-5


@pytest.mark.parametrize("window", [8, 32])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 9), (1, 1), (3, 33), (8, 2)])
@pytest.mark.parametrize("variant", ONE_SCALE)
def test_any_size_runs(variant: str, height: int, width: int, window: int) -> None:
    config = small(variant, window=window)
    module = random_network(config)
    x = torch.rand(1, 3, height, width)
    out = runtime(config, module)(x)
    assert out.shape == (1, 3, config.scale * height, config.scale * width)
    assert out.isfinite().all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_published_networks_run_on_small_pictures(variant: str) -> None:
    config = replace(VARIANTS[variant], blocks=1)
    out = runtime(config, random_network(config))(torch.rand(1, 3, 17, 9))
    features = (64, 17, 9)
    assert out.shape[1:] == (
        features if config.scale == 0 else (3, 17 * config.scale, 9 * config.scale)
    )
    assert out.isfinite().all()


# Any scale.


@pytest.fixture(scope="module")
def lte() -> EscLte:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = random_network(small("esc-lte"))
    assert isinstance(module, EscLte)
    return module


@pytest.mark.parametrize("scale", [1.0, 1.5, 2.7, 4.0, 6.3])
def test_any_scale_runs(lte: EscLte, scale: float) -> None:
    x = torch.rand(2, 3, 13, 11)
    size = (round(13 * scale), round(11 * scale))
    run = runtime(lte.config, lte)
    features = run(x)
    out = run.render(features, x, size)
    assert out.shape == (2, 3, *size)
    assert out.isfinite().all()
    single = torch.cat([run.render(run(part), part, size) for part in x.split(1)])
    torch.testing.assert_close(out, single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pixels", [1, 29, 100])
def test_strips_are_invisible(lte: EscLte, pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, size = torch.rand(1, 3, 13, 11), (35, 30)
    features = lte.encode(x)
    strips = []
    real = EscLte._strip

    def counting(self: EscLte, *args: Any) -> Tensor:
        strips.append(args)
        return real(self, *args)

    monkeypatch.setattr(EscLte, "_strip", counting)
    whole = lte.render(features, x, size)
    assert len(strips) == 1
    monkeypatch.setattr(EscLte, "_PIXELS", pixels)
    torch.testing.assert_close(lte.render(features, x, size), whole, rtol=1e-5, atol=1e-5)
    assert len(strips) == 1 + -(-35 // max(1, pixels // 30))

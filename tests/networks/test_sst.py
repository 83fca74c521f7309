import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.engine import Engine, RenderTarget
from vsr.engine.tiles import run_tiled
from vsr.errors import ConfigError, CorruptWeightsError
from vsr.frame import Colour, Frame, Matrix, Range, Siting, pixel_format
from vsr.networks import describe, sst_real
from vsr.networks.attention import fold_attention
from vsr.networks.sst import (
    VARIANTS,
    Sst,
    SstConfig,
    detect,
    infer_config,
)
from vsr.networks.sst_real import SstReal, SstRealConfig
from vsr.runtimes import EagerRuntime
from vsr.weights import build_network, load_network

FrameMaker = Callable[..., Frame]
CPU = torch.device("cpu")
PATH = Path("model.safetensors")
SCALES = (2, 3, 4)


def small(**options: Any) -> SstConfig:
    """A network of SST's form that runs in a moment."""
    defaults: dict[str, Any] = {
        "channels": 8, "blocks": 2, "heads": 2, "windows": (4, 8), "ranks": (2, 4), "inner": 12,
        "frequencies": 4, "hidden": 8,
    }  # fmt: skip
    return SstConfig(**defaults | options)


def small_real(**options: Any) -> SstRealConfig:
    """The same of SSTReal's form."""
    defaults: dict[str, Any] = {
        "channels": 8, "blocks": 2, "heads": 2, "windows": (4, 8), "ranks": (2, 6), "inner": 6,
        "embedding": 10, "noise_channels": 8, "middle": 4, "fused": 1,
    }  # fmt: skip
    return SstRealConfig(**defaults | options)


def empty_state(config: SstConfig | SstRealConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        module = Sst(config) if isinstance(config, SstConfig) else SstReal(config)
    return module.state_dict()


# The authors' outputs.


Errors = Callable[[Tensor, Mapping[str, Any]], float]

LIGHT = {
    "sst_light_x4_40x56": ("sst-light", 4, 40, 56),
    "sst_light_x2_64x64": ("sst-light", 2, 64, 64),
}
HEAVY = {
    "sst_light_plus_x4_60x72": ("sst-light+", 4, 60, 72),
    "sst_base_x4_40x56": ("sst", 4, 40, 56),
    "sst_base_x3_40x56": ("sst", 3, 40, 56),
    "sst_large_plus_x4_56x64": ("sst-l+", 4, 56, 64),
}
QUICK = {("sst_light_plus_x4_60x72", "fp32")}
"""The others take up to half a minute each."""
FLOAT, AS_SHIPPED, HALF = 1e-4, 1e-2, 2.5e-2
"""In the output's deviations. Measured: 2e-6, 8e-4 and 1.5e-2."""


def original(golden_fill: ModuleType, variant: str, scale: int) -> Sst:
    network = Sst(replace(VARIANTS[variant], scale=scale)).eval().requires_grad_(False)
    network.load_state_dict(golden_fill.fill_state(network.state_dict()))
    return network


def assert_as_shipped(out: Tensor, name: str, entries: Mapping[str, Any], error: Errors) -> None:
    """Close to attention in bfloat16, and closer than to attention in float32."""
    shipped = error(out, entries[f"{name}_bf16"])
    assert shipped < AS_SHIPPED
    assert 2 * shipped < error(out, entries[f"{name}_fp32"])


def test_every_reference_is_looked_at(goldens: dict[str, Any]) -> None:
    names = {*LIGHT, *HEAVY}
    assert set(goldens["sst"]) == {f"{n}_{way}" for n in names for way in ("fp32", "bf16")}
    assert set(goldens["real"]) == {f"sstreal_x4_40x40_{way}" for way in ("fp32", "bf16")}


@pytest.mark.parametrize("name", LIGHT)
def test_network_equals_the_original(
    goldens: dict[str, Any], golden_fill: ModuleType, error: Errors, name: str
) -> None:
    variant, scale, *size = LIGHT[name]
    network, x = original(golden_fill, variant, scale), golden_fill.image(*size)
    golden = goldens["sst"][f"{name}_fp32"]
    assert error(network(x), golden) < FLOAT
    shipped = copy.deepcopy(network)
    fold_attention(network)
    assert error(network(x), golden) < FLOAT
    assert error(network(x), golden) < FLOAT  # another frame finds the first one's buffers
    fold_attention(shipped, torch.bfloat16)
    assert_as_shipped(shipped(x), name, goldens["sst"], error)


WAYS = [
    pytest.param(name, way, marks=() if (name, way) in QUICK else pytest.mark.slow)
    for name in HEAVY
    for way in ("fp32", "bf16")
]


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_large_network_equals_the_original(
    goldens: dict[str, Any], golden_fill: ModuleType, error: Errors, name: str, way: str
) -> None:
    """In float32, and as it was shipped."""
    variant, scale, *size = HEAVY[name]
    network, x = original(golden_fill, variant, scale), golden_fill.image(*size)
    if way == "fp32":
        fold_attention(network)
        assert error(network(x), goldens["sst"][f"{name}_fp32"]) < FLOAT
    else:
        fold_attention(network, torch.bfloat16)
        assert_as_shipped(network(x), name, goldens["sst"], error)


@pytest.mark.parametrize("name", LIGHT)
def test_half_precision_stays_close(
    goldens: dict[str, Any], golden_fill: ModuleType, error: Errors, name: str
) -> None:
    """All layers in bfloat16, which rounds far more than attention in it does."""
    variant, scale, *size = LIGHT[name]
    network, x = original(golden_fill, variant, scale), golden_fill.image(*size)
    fold_attention(network)
    for layer in network.config.body:
        network.get_submodule(layer).to(torch.bfloat16)
    kept = {k.split(".")[-2] for k, v in network.state_dict().items() if v.dtype == torch.float32}
    assert kept == {"proj", "norm_attn", "norm_ffn", "5", "6", "up_conv"}  # 5, 6: the body's end
    for way in ("fp32", "bf16"):
        assert 2e-3 < error(network(x), goldens["sst"][f"{name}_{way}"]) < HALF


@pytest.mark.slow
def test_real_equals_the_original(
    goldens: dict[str, Any], golden_fill: ModuleType, error: Errors
) -> None:
    name = "sstreal_x4_40x40"
    network = SstReal(SstRealConfig()).eval().requires_grad_(False)
    published = {f"model.{key}": value for key, value in network.state_dict().items()}
    network.load_state_dict(sst_real.prepare(golden_fill.fill_state(published)))
    low = golden_fill.image(40, 40, key="lq") * 2 - 1
    noisy = golden_fill.image(160, 160, key="noisy") * 4 - 2
    shipped = copy.deepcopy(network)
    fold_attention(network)
    assert error(network.denoise(low, noisy), goldens["real"][f"{name}_fp32"]) < FLOAT
    fold_attention(shipped, torch.bfloat16)
    assert_as_shipped(shipped.denoise(low, noisy), name, goldens["real"], error)


def test_a_runtime_leaves_the_network_as_published(
    goldens: dict[str, Any], golden_fill: ModuleType, error: Errors
) -> None:
    """It heats and casts a copy."""
    module = original(golden_fill, "sst-light", 4)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    run = EagerRuntime(describe("sst", module, module.config), CPU, torch.bfloat16)
    x = golden_fill.image(40, 56)
    golden = goldens["sst"]["sst_light_x4_40x56_fp32"]
    assert 1e-3 < error(run(x), golden) < HALF
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert error(module(x), golden) < FLOAT


# Sizes.

COUNTS = {
    "sst-light": (893_340, 899_835, 908_928),
    "sst-light+": (893_340, 899_835, 908_928),
    "sst": (11_676_707, 11_861_347, 12_119_843),
    "sst+": (11_676_707, 11_861_347, 12_119_843),
    "sst-l": (20_314_947, 20_730_147, 21_311_427),
    "sst-l+": (20_314_947, 20_730_147, 21_311_427),
    "sst-xl+": (33_892_195, 34_307_395, 34_888_675),
}


def parameters(config: SstConfig | SstRealConfig) -> int:
    return sum(value.numel() for value in empty_state(config).values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameter_counts(variant: str) -> None:
    found = tuple(parameters(replace(VARIANTS[variant], scale=scale)) for scale in SCALES)
    assert found == COUNTS[variant]


def test_parameter_count_of_real() -> None:
    assert parameters(SstRealConfig()) == 54_986_502


@pytest.mark.parametrize(
    ("variant", "grid", "halo"),
    [("sst-light", 64, 64), ("sst-light+", 96, 96), ("sst", 64, 64), ("sst-xl+", 96, 96)],
)
def test_tiles_are_on_the_windows(variant: str, grid: int, halo: int) -> None:
    config = VARIANTS[variant]
    assert (config.grid, config.halo) == (grid, halo)
    assert all(grid % side == 0 for side in config.windows)


@pytest.mark.parametrize("config", [*VARIANTS.values(), SstRealConfig()])
def test_layers_of_the_body_exist(config: SstConfig | SstRealConfig) -> None:
    with torch.device("meta"):
        module = Sst(config) if isinstance(config, SstConfig) else SstReal(config)
    attentions = [name for name in config.body if name.endswith(".attn")]
    assert len(attentions) == len(config.windows) * config.blocks
    for name in config.body:
        module.get_submodule(name)


# Which one a checkpoint is.


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_config_is_inferred(variant: str, scale: int) -> None:
    config = replace(VARIANTS[variant], scale=scale)
    state = empty_state(config)
    assert infer_config(state, {"variant": variant}) == config
    assert infer_config(state, {"requested_variant": variant.upper()}) == config


PUBLISHED = {
    "SSTlight_DF2K_X2": ("sst-light", 2), "SSTlight_Plus_DF2K_X2": ("sst-light+", 2),
    "SST_DF2K_X3": ("sst", 3), "SST_Plus_DFLIP_X4": ("sst+", 4),
    "SSTLarge_DFLIP_X4": ("sst-l", 4), "SSTLarge_Plus_DF2K_X3": ("sst-l+", 3),
    "SSTXL_Plus_DFLIP_X2": ("sst-xl+", 2),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_tell_the_variant(name: str, caplog: pytest.LogCaptureFixture) -> None:
    variant, scale = PUBLISHED[name]
    config = replace(VARIANTS[variant], scale=scale)
    with caplog.at_level(logging.INFO, logger="vsr"):
        assert infer_config(empty_state(config), {"file_name": name}) == config
    said = [record.getMessage() for record in caplog.records]
    alone = variant == "sst-xl+"  # no other has its shapes
    assert said == ([] if alone else [f"variant {variant}, according to the file's name"])


ORDER = [
    ({"variant": "sst+", "file_name": "SST_DF2K_X2", "requested_variant": "sst"}, "sst+",
     "the index or the file's metadata"),
    ({"variant": "sst", "file_name": "SST_Plus_DF2K_X2", "requested_variant": "sst+"}, "sst",
     "the index or the file's metadata"),
    ({"file_name": "SST_Plus_DF2K_X2", "requested_variant": "sst"}, "sst+", "the file's name"),
    ({"file_name": "SST_DF2K_X2", "requested_variant": "sst+"}, "sst", "the file's name"),
    ({"file_name": "weights", "requested_variant": "SST+"}, "sst+", "--variant"),
    ({"file_name": "weights", "requested_variant": "sst"}, "sst", "--variant"),
    ({"variant": "sst-light", "requested_variant": "sst+"}, "sst+", "--variant"),  # fits no shape
]  # fmt: skip


@pytest.mark.parametrize(("metadata", "variant", "words"), ORDER)
def test_origins_are_asked_in_order(
    metadata: dict[str, str], variant: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="vsr"):
        assert infer_config(empty_state(VARIANTS["sst"]), metadata) == VARIANTS[variant]
    (record,) = caplog.records
    said, asked = record.getMessage(), metadata["requested_variant"]
    if words == "--variant":
        assert said == f"variant {variant}, according to your choice"
    else:
        assert said == f"variant {variant}, according to {words}; your choice of {asked} is ignored"
        assert record.levelno == logging.WARNING


@pytest.mark.parametrize("variant", ["sst-light", "sst", "sst-l"])
@pytest.mark.parametrize("hints", [{}, {"file_name": "model"}, {"requested_variant": "sst-xl+"}])
def test_without_a_hint_the_user_is_asked(variant: str, hints: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="say which variant it is") as caught:
        build_network(empty_state(VARIANTS[variant]), hints, PATH)
    assert f"{PATH}: its shapes fit {variant} and {variant}+" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_windows_of_ones_own(tmp_path: Path) -> None:
    config = small(scale=3, windows=(6, 10))
    module = Sst(config).eval()
    path = tmp_path / "mine.safetensors"
    save_file(module.state_dict(), path, {"windows": "6,10"})
    network = load_network(path)
    assert (network.scale, network.grid, network.halo) == (3, 30, 10)
    x = torch.rand(1, 3, 13, 7)
    with torch.no_grad():
        assert torch.equal(network.module(x), module(x))
    save_file(module.state_dict(), path, {"windows": "6,12"})
    with torch.no_grad():
        assert not torch.equal(load_network(path).module(x), module(x))


def test_windows_go_before_the_variant() -> None:
    own = (8, 8, 8, 8, 8, 8)
    metadata = {"windows": "8, 8, 8, 8, 8, 8", "variant": "sst-light+"}
    assert infer_config(empty_state(SstConfig()), metadata).windows == own


@pytest.mark.parametrize("windows", ["", "8", "8,x", "8,16,32,16,32", "0,16,32,16,32,64",
                                     "-8,16,32,16,32,64"])  # fmt: skip
def test_wrong_windows_are_refused(windows: str) -> None:
    state = {key: torch.zeros(v.shape) for key, v in empty_state(SstConfig(blocks=1)).items()}
    with pytest.raises(CorruptWeightsError) as caught:
        build_network(state, {"windows": windows}, PATH)
    assert "\n" not in str(caught.value)


def test_other_shapes_need_windows() -> None:
    with pytest.raises(CorruptWeightsError, match="no published SST has these shapes"):
        build_network(empty_state(small()), {"variant": "sst-light"}, PATH)


def test_detection() -> None:
    keys, real = empty_state(SstConfig()), empty_state(small_real())
    assert detect(keys)
    assert not sst_real.detect(keys)
    assert sst_real.detect(real)
    assert sst_real.detect(f"model.{key}" for key in real)
    assert not detect(real)


@pytest.mark.parametrize("config", [SstRealConfig(), small_real(ranks=(2, 6)), small_real(fused=2)])
def test_config_of_real_is_inferred(config: SstRealConfig) -> None:
    state = sst_real.prepare({f"model.{key}": value for key, value in empty_state(config).items()})
    windows = ",".join(map(str, config.windows))
    assert sst_real.infer_config(state, {"windows": windows}) == config
    if config == SstRealConfig():
        assert sst_real.infer_config(state, {}) == config


# Pictures of any size.


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (1, 9), (8, 8), (17, 5)])
def test_any_size_runs(height: int, width: int, scale: int) -> None:
    for upsampling in ("pixelshuffle_direct", "pixelshuffle"):
        config = small(scale=scale, upsampling=upsampling, middle=4)
        run = EagerRuntime(describe("sst", Sst(config).eval(), config), CPU, torch.float32)
        out = run(torch.rand(2, 3, height, width))
        assert out.shape == (2, 3, scale * height, scale * width)
        assert out.isfinite().all()


def test_pictures_of_a_batch_are_apart() -> None:
    config = small()
    run = EagerRuntime(describe("sst", Sst(config).eval(), config), CPU, torch.float32)
    x = torch.rand(3, 3, 11, 9)
    single = torch.cat([run(part) for part in x.split(1)])
    torch.testing.assert_close(run(x), single, rtol=1e-5, atol=1e-6)


# SSTReal's noise.


@pytest.fixture
def real() -> SstReal:
    module = SstReal(small_real()).eval().requires_grad_(False)
    for block in module.proj_body:
        nn.init.constant_(block.get_parameter("gamma"), 0.5)  # or the layers would not matter
    return module


@pytest.mark.parametrize(("height", "width"), [(3, 5), (5, 3), (1, 1), (8, 16), (9, 2)])
def test_real_enlarges_four_times(real: SstReal, height: int, width: int) -> None:
    x = torch.rand(2, 3, height, width)
    run = EagerRuntime(describe("sst-real", real, real.config), CPU, torch.float32)
    out = run(x)
    assert out.shape == (2, 3, 4 * height, 4 * width)
    assert out.isfinite().all()
    torch.testing.assert_close(out, real(x), rtol=1e-4, atol=1e-4)


def test_every_frame_has_the_same_noise(real: SstReal) -> None:
    x = torch.rand(1, 3, 7, 6)
    torch.manual_seed(1)
    first = real(x)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert torch.equal(real(x), first)
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's numbers are drawn
    torch.testing.assert_close(real(x.expand(2, -1, -1, -1))[1:], first)


def test_noise_matters_and_may_be_given(real: SstReal) -> None:
    x = torch.rand(1, 3, 7, 6)
    noise = real.noise(7, 6, CPU)
    assert noise.shape == (1, 48, 7, 6)
    assert noise.std() == pytest.approx(1, abs=0.1)
    assert torch.equal(real(torch.cat([x, noise], 1)), real(x))
    assert (real(torch.cat([x, -noise], 1)) - real(x)).abs().max() > 1e-3


def test_tiles_see_the_noise_of_their_place(real: SstReal) -> None:
    """Cut with the picture; drawn for each tile, it would be the same in all."""
    picture = torch.rand(1, 3, 40, 26)
    noise = real.noise(40, 26, CPU)

    def run(x: Tensor) -> Tensor:
        assert x.shape[1] == 51
        return F.pixel_shuffle(x[:, 3:], 4)

    out = run_tiled(run, torch.cat([picture, noise], 1), tile=16, halo=8, scale=4, grid=8)
    seen = F.pixel_unshuffle(out, 4)
    torch.testing.assert_close(seen, noise, rtol=1e-5, atol=1e-5)


class Listener(nn.Module):
    """SSTReal, with a note of what it is fed."""

    def __init__(self, inner: SstReal) -> None:
        super().__init__()
        self.inner, self.noise = inner, inner.noise
        self.fed: list[Tensor]
        object.__setattr__(self, "fed", _Notes())

    def forward(self, x: Tensor) -> Tensor:
        self.fed.append(x.clone())
        out: Tensor = self.inner(x)
        return out


class _Notes(list[Tensor]):
    """Shared by copies of a module."""

    def __deepcopy__(self, memo: object) -> "_Notes":
        return self


RGB = Colour(
    matrix=Matrix.RGB, range=Range.FULL, primaries=1, transfer=1, siting=Siting.UNSPECIFIED
)


@pytest.mark.parametrize("tile", [None, 8])
def test_the_engine_gives_every_frame_and_tile_its_noise(
    real: SstReal, make_frame: FrameMaker, tile: int | None
) -> None:
    listener = Listener(real)
    network = replace(describe("sst-real", listener, real.config), body=())
    target = RenderTarget(width=56, height=80, format=pixel_format("gbrp"), colour=RGB)
    engine = Engine(network, target, device=CPU, dtype=torch.float32, tile=tile)
    frame = make_frame("gbrp", 14, 20, RGB)
    first, second = (engine.collect(pending) for pending in engine.submit([frame, frame]))
    assert all(torch.equal(a, b) for a, b in zip(first.planes, second.planes, strict=True))
    noise = SstReal.noise(20, 14, CPU)
    places = [(0, 0)] if tile is None else [(0, 0), (8, 0)]
    sizes = {None: (20, 14), 8: (16, 14)}
    assert len(listener.fed) == 2 * len(places)
    for fed, (top, left) in zip(listener.fed, places * 2, strict=True):
        height, width = fed.shape[-2:]
        assert (height, width) == ((12, 14) if top else sizes[tile])
        assert torch.equal(fed[:, 3:], noise[..., top : top + height, left : left + width])

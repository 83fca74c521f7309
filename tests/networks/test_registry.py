from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from vsr.errors import UnknownArchitectureError
from vsr.networks import (
    ARCHITECTURES,
    Architecture,
    classical,
    esc,
    esc_lte,
    identify,
    sst,
    sst_real,
)
from vsr.networks.span import Span, SpanConfig
from vsr.networks.spanf import SpanF, SpanFConfig
from vsr.networks.spanplus import SpanPlus, SpanPlusConfig
from vsr.networks.spanv2 import SpanV2, SpanV2Config
from vsr.resample import resize

TrainingShapes = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


@cache
def small_states() -> dict[str, dict[str, Tensor]]:
    """Checkpoints by the name of their architecture; what follows a blank tells them apart."""
    with torch.device("meta"):
        real = sst_real.SstReal(sst_real.SstRealConfig()).state_dict()
        transformers = {f"sst {name}": sst.Sst(c).state_dict() for name, c in sst.VARIANTS.items()}
        convolutions = {
            f"esc {name}": esc.Esc(config).state_dict()
            for name, config in esc.VARIANTS.items()
            if name != "esc-lte"
        }
        return {
            **transformers, **convolutions,
            "sst-real": real,
            "sst-real published": {f"model.{key}": value for key, value in real.items()},
            "esc-lte": esc_lte.EscLte(esc.VARIANTS["esc-lte"]).state_dict(),
            "span": Span(SpanConfig()).state_dict(),
            "span gray": Span(SpanConfig(norm=False, in_channels=1, out_channels=1)).state_dict(),
            "spanf": SpanF(SpanFConfig()).state_dict(),
            "spanplus": SpanPlus(SpanPlusConfig()).state_dict(),
            "spanplus ps": SpanPlus(SpanPlusConfig(upsampler="ps")).state_dict(),
            "spanplus conv": SpanPlus(SpanPlusConfig(upsampler="conv", scale=1)).state_dict(),
            "spanv2": SpanV2(SpanV2Config()).state_dict(),
        }  # fmt: skip


def layouts(folded: Mapping[str, Tensor], shapes: TrainingShapes) -> list[set[str]]:
    """The sets of names under which one network is published."""
    training = set(shapes(folded))
    return [set(folded), training, {k for k in training if "eval_conv" not in k}]


def test_states_cover_the_registry() -> None:
    assert {name.split()[0] for name in small_states()} == {a.name for a in ARCHITECTURES}


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_each_pair_of_architectures_and_checkpoints(
    training_shapes: TrainingShapes, architecture: Architecture
) -> None:
    for name, folded in small_states().items():
        for keys in layouts(folded, training_shapes):
            own = name.split()[0] == architecture.name
            if keys or own:
                assert architecture.detect(keys) == own, name
                assert (identify(keys) is architecture) == own, name


def test_each_reference_file_has_one_architecture(shared: Path) -> None:
    files = sorted((shared / "weights").glob("*.safetensors"))
    assert files
    for path in files:
        with safe_open(path, framework="pt") as file:
            keys, metadata = list(file.keys()), file.metadata()
        matches = [a.name for a in ARCHITECTURES if a.detect(keys)]
        assert matches == [metadata["arch"]]


@pytest.mark.parametrize(
    "keys",
    [
        [],
        ["weight"],
        ["model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"],  # ESRGAN
        ["feats.0.weight", "feats.1.conv1_3x3.weight", "upsampler.0.weight"],  # not SPANPlus
        ["conv_1.eval_conv.weight", "tea_conv_cat.weight"],  # ESPAN
        ["proj.weight", "body.0.0.norm_attn.weight", "up_conv.weight"],  # nearly SST
        ["proj.weight", "blocks.0.attn.to_qkv.weight", "plk_filter"],  # ESC that ends in nothing
    ],
)
def test_other_networks_are_unknown(keys: list[str]) -> None:
    with pytest.raises(UnknownArchitectureError, match="known network") as caught:
        identify(keys)
    assert "\n" not in str(caught.value)


def test_two_networks_in_one_file_are_refused() -> None:
    both = {**small_states()["span"], **small_states()["spanv2"]}
    with pytest.raises(UnknownArchitectureError, match=r"more than one .*\(span, .*spanv2\)"):
        identify(both)


def test_identity_gives_back_its_input() -> None:
    network = classical("identity", 1)
    x = torch.rand(1, 3, 5, 6)
    assert torch.equal(network.module(x), x)
    assert (network.scale, network.halo, network.body) == (1, 0, ())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lanczos_is_the_filter(scale: int) -> None:
    network = classical("lanczos", scale)
    x = torch.rand(1, 3, 5, 6)
    assert torch.equal(network.module(x), resize(x, 5 * scale, 6 * scale, "lanczos"))
    assert (network.scale, network.body) == (scale, ())

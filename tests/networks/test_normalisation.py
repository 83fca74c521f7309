from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vsr.checkpoints import read_checkpoint
from vsr.index import models_folder
from vsr.networks import ARCHITECTURES
from vsr.networks.blocks import fold
from vsr.networks.normalisation import (
    DIV2K_MEAN,
    IMAGENET_MEAN,
    KNOWN,
    Normalisation,
    choose,
    probe_picture,
)
from vsr.networks.span import Span, SpanConfig, infer_config, settle
from vsr.resample import resize

NONE = Normalisation()
OFFICIAL = Normalisation(DIV2K_MEAN, 255.0)
IMAGENET_255 = Normalisation(IMAGENET_MEAN, 255.0)
IMAGENET_1 = Normalisation(IMAGENET_MEAN, 1.0)

REFERENCE = ["spanx2_ch48", "spanx4_ch48", "span_ntire24_x4_ch28", "2xHFA2kSPAN_27k"]
OURS = ["span-x2", "span-x4"]
TRUTH = dict.fromkeys(REFERENCE, OFFICIAL) | dict.fromkeys(OURS, NONE)


def weights(request: pytest.FixtureRequest, name: str) -> Path:
    if name in OURS:
        return models_folder() / f"{name}.safetensors"
    shared: Path = request.getfixturevalue("shared")  # skips where there is none
    return shared / "weights" / f"{name}.safetensors"


def metadata_of(way: Normalisation) -> dict[str, str]:
    if way == NONE:
        return {"norm": "none"}
    return {"norm": "mean", "rgb_mean": str(list(way.mean)), "img_range": str(way.img_range)}


def build(state: dict[str, Tensor], metadata: dict[str, str]) -> Span:
    """A network as a loader builds it, before it is settled."""
    folded = fold({k: v.double() for k, v in state.items()})
    network = Span(infer_config(folded, metadata))
    network.load_state_dict({k: v.float() for k, v in folded.items()}, strict=False)
    return network.eval().requires_grad_(False)


def way_of(network: Span) -> Normalisation:
    config = network.config
    return Normalisation(config.mean, config.img_range) if config.norm else NONE


def same(a: Normalisation, b: Normalisation) -> bool:
    return a.mean == pytest.approx(b.mean, abs=1e-6) and a.img_range == b.img_range


def run(network: Span) -> Tensor:
    with torch.no_grad():
        out: Tensor = network(torch.rand(1, 3, 9, 8, generator=torch.manual_seed(1)))
    return out


# Weights of trained networks.


@pytest.mark.parametrize("name", TRUTH)
def test_the_right_normalisation_stays(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    network = build(*read_checkpoint(weights(request, name)))
    assert same(way_of(network), TRUTH[name])
    assert settle(network) is network
    assert not caplog.records


WRONG = [
    (name, wrong)
    for name, truth in TRUTH.items()
    for wrong in KNOWN
    if wrong != truth and (name, wrong) != ("2xHFA2kSPAN_27k", IMAGENET_255)
]


@pytest.mark.parametrize(("name", "wrong"), WRONG, ids=lambda v: str(v))
def test_a_wrong_one_is_corrected(
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    name: str,
    wrong: Normalisation,
) -> None:
    state, _ = read_checkpoint(weights(request, name))
    state.pop("no_norm", None)
    network = build(state, metadata_of(wrong))
    assert same(way_of(network), wrong)
    settled = settle(network)
    assert way_of(settled) == TRUTH[name]
    assert ("no_norm" in settled.state_dict()) == (TRUTH[name] == NONE)
    assert torch.equal(run(settled), run(build(state, metadata_of(TRUTH[name]))))
    assert not settled.training
    assert not any(p.requires_grad for p in settled.parameters())
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    line = record.getMessage()
    assert line.startswith("span: its normalisation looks wrong (")
    assert f"; using {TRUTH[name]} instead (" in line
    assert "\n" not in line


def test_a_small_shift_of_colour_is_no_proof(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """This model shifts colours by itself, by as much as the two means differ."""
    state, _ = read_checkpoint(weights(request, "2xHFA2kSPAN_27k"))
    network = build(state, metadata_of(IMAGENET_255))
    assert settle(network) is network
    assert not caplog.records


@pytest.mark.parametrize("truth", [way for way in KNOWN if way != OFFICIAL], ids=str)
def test_unlabelled_files_of_other_constants(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, truth: Normalisation
) -> None:
    """Official weights, rewritten for other constants as a file may hold them without a word."""
    state, _ = read_checkpoint(weights(request, "spanx2_ch48"))
    kernel = state["conv_1.eval_conv.weight"]
    shift = (torch.tensor(truth.mean) - torch.tensor(DIV2K_MEAN)) * 255
    state["conv_1.eval_conv.bias"] = (
        state["conv_1.eval_conv.bias"] + kernel.sum((2, 3)) @ shift
    )  # but at the border
    state["conv_1.eval_conv.weight"] = kernel * (255 / truth.img_range)
    network = build(state, {})
    assert way_of(network) == OFFICIAL
    assert way_of(settle(network)) == truth
    assert len(caplog.records) == 1


def test_a_stray_marker(request: pytest.FixtureRequest) -> None:
    state, _ = read_checkpoint(weights(request, "span_ntire24_x4_ch28"))
    network = build(state | {"no_norm": torch.zeros(1)}, {})
    assert way_of(network) == NONE
    settled = settle(network)
    assert way_of(settled) == OFFICIAL
    assert "no_norm" not in settled.state_dict()


@pytest.mark.parametrize(
    ("name", "pictures"), [("spanx2_ch48", 1), ("span-x4", 1), ("2xHFA2kSPAN_27k", 5)]
)
def test_a_faithful_network_is_tried_once(
    request: pytest.FixtureRequest, name: str, pictures: int
) -> None:
    network, seen = build(*read_checkpoint(weights(request, name))), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    settle(network)
    assert sum(seen) == pictures


# What is left alone.


@pytest.mark.parametrize("norm", [True, False])
def test_untrained_networks_are_left_alone(caplog: pytest.LogCaptureFixture, norm: bool) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        config = SpanConfig(channels=8, fused_channels=8, blocks=2, norm=norm, scale=1 + seed % 4)
        network = Span(config).eval()
        assert settle(network) is network
    assert not caplog.records


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_degenerate_weights_are_left_alone(caplog: pytest.LogCaptureFixture, value: float) -> None:
    network = Span(SpanConfig(channels=4, fused_channels=4, blocks=1)).eval()
    network.load_state_dict({k: torch.full_like(v, value) for k, v in network.state_dict().items()})
    assert settle(network) is network
    assert not caplog.records


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (4, 4), (3, 1)])
def test_other_channels_are_not_tried(inputs: int, outputs: int) -> None:
    network = Span(SpanConfig(channels=4, in_channels=inputs, out_channels=outputs, norm=False))
    network.register_forward_pre_hook(lambda *_: pytest.fail("tried"))
    assert settle(network) is network


def test_random_numbers_are_left_alone(request: pytest.FixtureRequest) -> None:
    state, _ = read_checkpoint(weights(request, "span-x2"))
    state.pop("no_norm")
    network, before = build(state, {}), torch.get_rng_state()
    assert settle(network) is not network
    assert torch.equal(torch.get_rng_state(), before)


def test_only_span_has_the_choice() -> None:
    assert [a.name for a in ARCHITECTURES if a.settle is not None] == ["span"]


# The choice itself, with filters in the place of networks.


def pretend(truth: Normalisation, inferred: Normalisation, scale: int, *, worse: float = 0.0):
    """A bicubic enlargement that wants ``truth`` and is given ``inferred``."""

    def network(x: Tensor) -> Tensor:
        seen = truth.undo(inferred.apply(x))
        return resize(seen, scale * x.shape[2], scale * x.shape[3], "bicubic") + worse

    return network


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize(("truth", "inferred"), list(permutations(KNOWN, 2)), ids=str)
def test_every_pair_is_told_apart(
    truth: Normalisation, inferred: Normalisation, scale: int
) -> None:
    assert choose(pretend(truth, inferred, scale), scale, inferred, "it") == truth
    assert choose(pretend(inferred, inferred, scale), scale, inferred, "it") is inferred


@pytest.mark.parametrize("way", KNOWN, ids=str)
def test_constants_of_its_own_stay(way: Normalisation) -> None:
    own = replace(way, mean=(0.4, 0.5, 0.6))
    assert choose(pretend(own, own, 2, worse=0.04), 2, own, "it") is own


def test_the_message(caplog: pytest.LogCaptureFixture) -> None:
    choose(pretend(IMAGENET_1, OFFICIAL, 2, worse=0.04), 2, OFFICIAL, "span")
    (record,) = caplog.records
    found = record.getMessage()
    assert found.startswith("span: its normalisation looks wrong (")
    assert found.endswith(
        "against a bicubic enlargement); "
        "using mean (0.485, 0.456, 0.406) and range 1 instead (28.0 dB)"
    )


def test_nothing_is_made_of_a_poor_best(caplog: pytest.LogCaptureFixture) -> None:
    assert choose(pretend(NONE, OFFICIAL, 2, worse=0.11), 2, OFFICIAL, "it") is OFFICIAL
    assert choose(pretend(NONE, OFFICIAL, 2, worse=0.09), 2, OFFICIAL, "it") == NONE
    assert len(caplog.records) == 1


@pytest.mark.parametrize("way", KNOWN, ids=str)
def test_undo_is_the_inverse(way: Normalisation) -> None:
    x = torch.rand(2, 3, 4, 5)
    assert torch.allclose(way.undo(way.apply(x)), x, atol=1e-6)


def test_the_probe_is_always_the_same() -> None:
    """Its colours are those of photographs, its content varies, and no generator is asked."""
    picture = probe_picture()
    torch.manual_seed(5)
    assert torch.equal(probe_picture(), picture)
    assert picture.shape == (1, 3, 24, 24)
    assert 0 <= float(picture.min()) < 0.05
    assert 0.95 < float(picture.max()) <= 1
    for mean in (DIV2K_MEAN, IMAGENET_MEAN):
        assert picture.mean((0, 2, 3)).tolist() == pytest.approx(mean, abs=0.03)
    assert float(picture.std((0, 2, 3)).min()) > 0.15

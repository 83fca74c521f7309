from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.networks.spanf import SpanF, SpanFConfig, detect, infer_config


def empty_state(config: SpanFConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        return SpanF(config).state_dict()


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [26, 28, 32, 48, 52, 64])
@pytest.mark.parametrize(("colours", "blocks"), [(3, 5), (1, 3), (4, 2)])
def test_config_is_inferred(channels: int, scale: int, colours: int, blocks: int) -> None:
    config = SpanFConfig(scale=scale, channels=channels, in_channels=colours, blocks=blocks)
    assert infer_config(empty_state(config), {}) == config


def test_no_scale_fits() -> None:
    state = empty_state(SpanFConfig())
    state["conv_near.weight"] = torch.empty(13, *state["conv_near.weight"].shape[1:])
    with pytest.raises(ValueError, match="no integer scale"):
        infer_config(state, {})


def test_parameter_count() -> None:
    assert sum(v.numel() for v in empty_state(SpanFConfig()).values()) == 148_288


def test_network_equals_its_specification() -> None:
    config = SpanFConfig(channels=6, scale=3, blocks=3)
    network = SpanF(config).double().eval()
    state = network.state_dict()
    x = torch.rand(2, 3, 8, 7, dtype=torch.float64)

    def conv(h: Tensor, name: str) -> Tensor:
        site = f"{name}.eval_conv"
        return F.conv2d(h, state[f"{site}.weight"], state[f"{site}.bias"], padding=1)

    near = F.conv2d(x, state["conv_near.weight"], padding=1, groups=3)
    first = conv(x, "block_1.c1_r")
    first = conv(F.silu(conv(F.silu(first), "block_1.c2_r")), "block_1.c3_r")
    h = first
    for i in (2, 3):
        m = conv(
            F.silu(conv(F.silu(conv(h, f"block_{i}.c1_r")), f"block_{i}.c2_r")), f"block_{i}.c3_r"
        )
        h = (m + h) * (torch.sigmoid(m) - 0.5)
    joined = torch.cat([near, h, first], dim=1)
    fused = F.conv2d(joined, state["conv_cat.weight"], state["conv_cat.bias"])
    expected = F.pixel_shuffle(conv(fused, "conv_2"), 3)
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected, rtol=1e-9, atol=1e-12)


def test_reference_weights(assert_golden: Callable[[str], None]) -> None:
    assert_golden("spanf_ntire25_x4_ch32")


@pytest.mark.parametrize("blocks", [2, 5])
def test_receptive_radius(
    assert_receptive_radius: Callable[[nn.Module, int], None], blocks: int
) -> None:
    config = SpanFConfig(channels=4, scale=2, blocks=blocks)
    assert_receptive_radius(SpanF(config), config.halo)
    assert SpanFConfig().halo == 16


# Cells of pixels as channels.


@pytest.mark.parametrize("fold", [2, 3])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_cells_are_inferred(fold: int, scale: int) -> None:
    config = SpanFConfig(scale=scale, channels=32, blocks=3, unshuffle=fold)
    assert infer_config(empty_state(config), {}) == config


def test_cells_are_a_network_on_the_coarse_grid() -> None:
    config = SpanFConfig(channels=16, scale=2, blocks=2, unshuffle=2)
    network = SpanF(config).double().eval()
    inner = SpanF(SpanFConfig(channels=16, scale=2, in_channels=12, blocks=2)).double().eval()
    inner.load_state_dict(network.state_dict())
    x = torch.rand(2, 3, 8, 12, dtype=torch.float64)
    with torch.no_grad():
        out = inner(F.pixel_unshuffle(x, 2))  # N 12 8 12: one shuffle of the two is still to come
        expected = F.pixel_shuffle(F.pixel_unshuffle(out, 2), 4)
        assert network(x).shape == (2, 3, 16, 24)
        torch.testing.assert_close(network(x), expected)


def test_cells_see_no_farther_than_they_say() -> None:
    config = SpanFConfig(channels=16, scale=1, blocks=2, unshuffle=2)
    network = SpanF(config).double().eval()
    side = 4 * config.halo
    x = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    middle = side // 2
    network(x)[..., middle : middle + 2, middle : middle + 2].square().sum().backward()
    assert x.grad is not None
    rows = (x.grad[0].abs().amax((0, 2)) > 0).nonzero()
    assert int(rows.min()) >= middle - config.halo
    assert int(rows.max()) <= middle + 1 + config.halo
    assert int(rows.max()) - int(rows.min()) > config.halo


def test_the_pictures_path_stays_in_full_precision() -> None:
    """A gray ramp finer than bfloat16 comes out as fine, when all but the skip is silent."""
    config = SpanFConfig(channels=16, scale=1, blocks=2)
    network = SpanF(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.conv_near.weight[:, 0, 1, 1] = 1
        network.conv_cat.weight[:3, :3, 0, 0] = torch.eye(3)
        network.conv_2.eval_conv.weight[:, :3, 1, 1] = torch.eye(3)
        for name in config.body:
            network.get_submodule(name).bfloat16()
        x = torch.linspace(0.9, 1, 4096).view(1, 1, 64, 64).expand(1, 3, 64, 64)
        assert torch.equal(network(x), x)


def test_detection() -> None:
    keys = list(empty_state(SpanFConfig()))
    assert detect(keys)
    assert detect(k.replace("eval_conv", "sk") for k in keys)
    assert not detect(k for k in keys if not k.startswith("conv_near"))
    assert not detect(k for k in keys if not k.startswith("block_1"))

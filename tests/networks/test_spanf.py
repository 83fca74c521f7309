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


def test_detection() -> None:
    keys = list(empty_state(SpanFConfig()))
    assert detect(keys)
    assert detect(k.replace("eval_conv", "sk") for k in keys)
    assert not detect(k for k in keys if not k.startswith("conv_near"))
    assert not detect(k for k in keys if not k.startswith("block_1"))

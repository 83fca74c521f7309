from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.networks.spanv2 import SpanV2, SpanV2Config, detect, infer_config


def empty_state(config: SpanV2Config) -> dict[str, Tensor]:
    with torch.device("meta"):
        return SpanV2(config).state_dict()


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [26, 28, 32, 48, 52, 64])
@pytest.mark.parametrize(("colours", "blocks"), [(3, 5), (1, 3), (4, 2)])
def test_config_is_inferred(channels: int, scale: int, colours: int, blocks: int) -> None:
    config = SpanV2Config(scale=scale, channels=channels, in_channels=colours, blocks=blocks)
    assert infer_config(empty_state(config), {}) == config


def test_no_scale_fits() -> None:
    state = empty_state(SpanV2Config())
    state["conv_near.weight"] = torch.empty(13, *state["conv_near.weight"].shape[1:])
    with pytest.raises(ValueError, match="no integer scale"):
        infer_config(state, {})


def test_parameter_count() -> None:
    assert sum(v.numel() for v in empty_state(SpanV2Config()).values()) == 139_104


def test_network_equals_its_specification() -> None:
    config = SpanV2Config(channels=6, scale=2, blocks=3)
    network = SpanV2(config).double().eval()
    state = network.state_dict()
    x = torch.rand(2, 3, 8, 7, dtype=torch.float64)

    def conv(h: Tensor, name: str) -> Tensor:
        return F.conv2d(h, state[f"{name}.conv.weight"], padding=1)

    h = x
    for i in (1, 2, 3):
        m = conv(F.relu(conv(F.relu(conv(h, f"block_{i}.c1")), f"block_{i}.c2")), f"block_{i}.c3")
        if i == 1:
            h = F.relu(m)
        else:
            guide = f"block_{i}.guidance_map_conv"
            h = (h + m) * F.conv2d(m, state[f"{guide}.weight"], state[f"{guide}.bias"])
    near = F.conv2d(x, state["conv_near.weight"], padding=1, groups=3)
    joined = torch.cat([near, h], dim=1)
    mixed = F.conv2d(joined, state["depthwise_conv.weight"], padding=1, groups=joined.shape[1])
    expected = F.pixel_shuffle(F.conv2d(mixed, state["pointwise_conv.weight"]), 2)
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected, rtol=1e-9, atol=1e-12)


def test_reference_weights(assert_golden: Callable[[str], None]) -> None:
    assert_golden("spanv2_ntire26_x4_ch32")


@pytest.mark.parametrize("blocks", [2, 5])
def test_receptive_radius(
    assert_receptive_radius: Callable[[nn.Module, int], None], blocks: int
) -> None:
    config = SpanV2Config(channels=12, scale=2, blocks=blocks)
    assert_receptive_radius(SpanV2(config), config.halo)
    assert SpanV2Config().halo == 16


def test_detection() -> None:
    keys = list(empty_state(SpanV2Config()))
    assert detect(keys)
    for missing in ("conv_near", "depthwise_conv", "block_2"):
        assert not detect(k for k in keys if not k.startswith(missing))

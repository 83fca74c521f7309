from dataclasses import replace

import pytest
import torch

from vsr.config import RUNTIMES, Runtime
from vsr.networks import Network, classical, describe
from vsr.networks.attention import WindowAttention
from vsr.networks.esc import VARIANTS, Esc
from vsr.networks.esc_lte import EscLte
from vsr.networks.span import Span, SpanConfig
from vsr.runtimes import RUNTIME_NAMES, EagerRuntime, make_runtime, runtime_called

CPU = torch.device("cpu")


@pytest.fixture
def network() -> Network:
    config = SpanConfig(channels=4, fused_channels=4, norm=False)
    return Network(module=Span(config).eval(), name="span", scale=2, halo=config.halo)


def test_runs_the_network(network: Network) -> None:
    picture = torch.rand(2, 3, 9, 7)
    with torch.no_grad():
        expected = network.module(picture)
    found = EagerRuntime(network, CPU, torch.float32)(picture)
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad


def test_names_lead_back_to_options(network: Network) -> None:
    """Work folders hold the names, those of earlier versions, too: they stay as they are."""
    assert RUNTIME_NAMES == {
        "winograd": "Winograd kernels", "triton": "Triton", "openvino": "OpenVINO",
        "compile": "torch.compile", "torch": "PyTorch",
    }  # fmt: skip
    assert {"auto", *map(runtime_called, RUNTIME_NAMES.values())} == set(RUNTIMES)
    assert runtime_called("abacus") == "auto"
    options: tuple[Runtime, ...] = ("torch", "compile")
    for wanted in options:
        runtime = make_runtime(network, CPU, torch.float32, wanted)
        assert (runtime.option, runtime_called(runtime.name)) == (wanted, wanted)


def test_result_has_the_runtimes_type(network: Network) -> None:
    picture = torch.rand(1, 3, 9, 7)
    assert EagerRuntime(network, CPU, torch.bfloat16)(picture).dtype == torch.bfloat16
    exact = EagerRuntime(classical("identity", 1), CPU, torch.bfloat16)
    assert exact.dtype == torch.float32
    assert torch.equal(exact(picture), picture)


def test_network_is_copied(network: Network) -> None:
    EagerRuntime(network, CPU, torch.bfloat16)
    assert {p.dtype for p in network.module.parameters()} == {torch.float32}


def test_one_channel_is_run_for_each_colour() -> None:
    config = SpanConfig(channels=4, fused_channels=4, in_channels=1, out_channels=1, norm=False)
    luma = Network(
        module=Span(config).eval(), name="span", scale=2, halo=21, in_channels=1, out_channels=1
    )
    picture = torch.rand(2, 3, 9, 7)
    with torch.no_grad():
        expected = torch.cat([luma.module(picture[:, i : i + 1]) for i in range(3)], dim=1)
    found = EagerRuntime(luma, CPU, torch.float32)(picture)
    torch.testing.assert_close(found, expected)
    gray = picture[:, :1].expand(2, 3, 9, 7)
    assert EagerRuntime(luma, CPU, torch.float32)(gray).shape == (2, 3, 18, 14)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_added_to_scores_lies_row_by_row(variant: str) -> None:
    """SDPA's kernels for a GPU refuse a mask in which a query's numbers are not side by side."""
    config = replace(VARIANTS[variant], blocks=1, convolutions=1, window=8)
    module = (EscLte if config.scale == 0 else Esc)(config).eval()
    runtime = EagerRuntime(describe(variant, module, config), CPU, torch.float32)
    runtime(torch.rand(1, 3, 9, 12))
    parts = [part for part in runtime._module.modules() if isinstance(part, WindowAttention)]
    assert parts
    for part in parts:
        assert part._workspace is not None
        bias = part._workspace.bias
        assert (bias is None) == (config.rank > 0)
        assert bias is None or bias.shape == (1, config.heads, 64, 64)
        assert bias is None or bias.stride(-1) == 1


def test_other_devices_are_refused(network: Network) -> None:
    with pytest.raises(ValueError, match="picture is on meta, the network on cpu"):
        EagerRuntime(network, CPU, torch.float32)(torch.empty(1, 3, 9, 7, device="meta"))


@pytest.mark.cuda
def test_float32_is_exact_on_a_gpu(network: Network) -> None:
    picture = torch.rand(1, 3, 64, 64)
    gpu = torch.device("cuda", 0)
    found = EagerRuntime(network, gpu, torch.float32)(picture.to(gpu)).cpu()
    expected = EagerRuntime(network, CPU, torch.float32)(picture)
    assert (found - expected).abs().max() < 1e-5

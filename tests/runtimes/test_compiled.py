import shutil

import pytest
import torch

from vsr.networks import describe
from vsr.networks.span import Span, SpanConfig
from vsr.runtimes import make_runtime

CPU = torch.device("cpu")


@pytest.mark.filterwarnings("default")  # of torch's own compiler
def test_compiled_equals_eager() -> None:
    if not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    config = SpanConfig(channels=4, fused_channels=4, norm=False, blocks=1)
    network = describe("span", Span(config).eval().requires_grad_(False), config)
    runtime = make_runtime(network, CPU, torch.float32, "compile")
    assert runtime.name == "torch.compile"
    picture = torch.rand(1, 3, 9, 7)
    expected = make_runtime(network, CPU, torch.float32, "torch")(picture)
    torch.testing.assert_close(runtime(picture), expected)

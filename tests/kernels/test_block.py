import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("triton")

from vsr.kernels.block import Strip, fused_block, pack_block
from vsr.kernels.convolution import stored
from vsr.networks.blocks import Spab


def _bias(conv):
    assert conv.bias is not None
    return conv.bias


@pytest.mark.parametrize(
    ("channels", "shape", "strip"),
    [
        (48, (1, 5, 13), Strip(16, 4, warps=4)),
        (28, (2, 6, 9), Strip(16, 64, warps=4)),
        (32, (1, 1, 1), Strip(16, 4, warps=4)),
    ],
)
def test_equals_float64(channels, shape, strip, kernel_device) -> None:
    width = stored(channels)
    block = Spab(channels).double().requires_grad_(False)
    convs = [conv.eval_conv for conv in (block.c1_r, block.c2_r, block.c3_r)]
    for conv in convs:
        conv.weight.copy_(conv.weight.half())
    missing = width - channels
    weights = pack_block([F.pad(c.weight, (0, 0, 0, 0, 0, missing, 0, missing)) for c in convs])
    bias = torch.stack([F.pad(_bias(conv), (0, missing)) for conv in convs]).float()
    x = torch.zeros(*shape, width, dtype=torch.float16)
    x[..., :channels] = torch.randn(*shape, channels)
    wanted, first_wanted = block(x[..., :channels].permute(0, 3, 1, 2).double())
    result = torch.full((*shape, 2 * width), 7.0, dtype=torch.float16, device=kernel_device)
    out, first = result[..., :width], result[..., width:]
    fused_block(
        x.to(kernel_device), weights.half().to(kernel_device), bias.to(kernel_device), out,
        first=first, strip=strip,
    )  # fmt: skip
    for found, expected in ((out, wanted), (first, first_wanted)):
        values = found[..., :channels].permute(0, 3, 1, 2).double().cpu()
        torch.testing.assert_close(values, expected, rtol=2e-3, atol=1e-3)
        assert (found[..., channels:] == 0).all()

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("triton")

from vsr.kernels import block as kernels
from vsr.kernels.block import Strip, fused_block, pack_block, rows_of_a_piece
from vsr.kernels.convolution import stored
from vsr.networks.blocks import Spab


def _bias(conv):
    assert conv.bias is not None
    return conv.bias


@pytest.mark.parametrize(
    ("channels", "shape", "processors", "rows"),
    [
        (48, (1, 5, 13), 4, 3),  # two strips, each in pieces of 3 and 2 rows
        (28, (2, 6, 9), 1, 6),
        (32, (1, 1, 1), 132, 1),
    ],
)
def test_equals_float64(monkeypatch, channels, shape, processors, rows, kernel_device) -> None:
    strip = Strip(16, warps=4)
    monkeypatch.setattr(kernels, "_facts", lambda device: (processors, False))
    assert rows_of_a_piece(shape[1], shape[0] * -(-shape[2] // 10), processors) == rows
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


@pytest.mark.parametrize(
    ("height", "strips", "processors", "rows"),
    [
        (1080, 16, 132, 135),  # 1080p in strips of 128: 128 programs, one round
        (720, 11, 132, 60),
        (2160, 32, 132, 540),
        (480, 6, 1, 480),
        (1080, 34, 108, 360),  # in strips of 64, on an A100
    ],
)
def test_pieces_fill_the_rounds(height, strips, processors, rows) -> None:
    assert rows_of_a_piece(height, strips, processors) == rows
    pieces = -(-height // rows)
    rounds = -(-strips * pieces // processors)
    assert strips * pieces > 0.94 * rounds * processors
    least = height * strips / processors  # if there were no rounds, and nothing to repeat
    assert rounds * (rows + 6) < 1.13 * least + 6

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("triton")

from vsr.kernels.convolution import ConvTile, Epilogue, conv3x3, pack, pieces, stored


def features(channels, shape, device):
    """Random features of a stored width, zero where there is no channel."""
    x = torch.zeros(*shape, stored(channels), dtype=torch.float16, device=device)
    x[..., :channels] = torch.randn(*shape, channels)
    return x


def expected(x, weight, bias, epilogue):
    """In float64, from the same rounded numbers; (N, H, W, C)."""
    channels = len(weight)
    picture = x[..., :channels].permute(0, 3, 1, 2).double()
    value = F.conv2d(picture, weight.double(), bias.double(), padding=1)
    if epilogue is Epilogue.SILU:
        value = F.silu(value)
    if epilogue is Epilogue.ATTENTION:
        value = (value + picture) * (value.sigmoid() - 0.5)
    return value.permute(0, 2, 3, 1)


def run(channels, shape, epilogue, tile, device):
    width = stored(channels)
    x = features(channels, shape, device)
    weight = (torch.randn(channels, channels, 3, 3) / channels).half().to(device)
    bias = torch.zeros(width, device=device)
    bias[:channels] = torch.randn(channels)
    buffer = torch.full((*shape, 2 * width), 7.0, dtype=torch.float16, device=device)
    packed = pack(weight, width, 1 << (width - 1).bit_length())
    result = buffer[..., width:]
    conv3x3(x, packed, bias, result, residual=x, epilogue=epilogue, tile=tile)
    return buffer, expected(x, weight, bias[:channels], epilogue)


@pytest.mark.parametrize("epilogue", Epilogue)
@pytest.mark.parametrize("channels", [28, 32, 48, 52, 64])
def test_equals_float64_and_stays_in_its_slice(channels, epilogue, kernel_device) -> None:
    buffer, wanted = run(channels, (2, 5, 19), epilogue, ConvTile(), kernel_device)
    width = stored(channels)
    found = buffer[..., width : width + channels]
    torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-3)
    assert (buffer[..., :width] == 7).all()
    assert (buffer[..., width + channels :] == 0).all()


@pytest.mark.parametrize(
    ("shape", "tile"),
    [
        ((1, 1, 1), ConvTile(4, 32)),
        ((1, 9, 33), ConvTile(8, 32)),
        ((3, 8, 8), ConvTile(8, 8)),
        ((1, 7, 17), ConvTile(whole=True)),
    ],
)
def test_ragged_sizes_and_tiles(shape, tile, kernel_device) -> None:
    buffer, wanted = run(48, shape, Epilogue.ATTENTION, tile, kernel_device)
    torch.testing.assert_close(buffer[..., 48:].double(), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("width", "low", "high"), [(16, 16, 0), (32, 32, 0), (48, 32, 16), (64, 64, 0), (96, 64, 32)]
)
def test_pieces_are_powers_of_two(width, low, high) -> None:
    assert stored(width) == width
    assert pieces(width) == (low, high)


def test_widths_that_are_no_two_powers_are_rounded_up() -> None:
    assert [stored(channels) for channels in (1, 28, 52, 100, 112)] == [16, 32, 64, 128, 128]
    assert pieces(48, whole=True) == (64, 0)

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("triton")

from vsr.kernels.convolution import pack, stored
from vsr.kernels.ends import EndTile, Head, head, tail

TILE = EndTile(4, 16)


@pytest.mark.parametrize(("channels", "shape"), [(48, (2, 5, 17)), (28, (1, 1, 3))])
def test_head_is_a_convolution_in_float32(channels, shape, kernel_device) -> None:
    batch, height, width = shape
    picture = torch.rand(batch, 3, height, width)
    weight, bias, mean = torch.randn(channels, 3, 3, 3), torch.randn(channels), torch.rand(3)
    outputs = stored(channels)
    weights = Head(
        mean.to(kernel_device), pack(weight, 3, outputs).to(kernel_device),
        F.pad(bias, (0, outputs - channels)).to(kernel_device),
    )  # fmt: skip
    result = torch.empty(*shape, outputs, device=kernel_device)
    head(picture.to(kernel_device), weights, result, tile=TILE)
    normal = picture.double() - mean.double().view(1, 3, 1, 1)
    wanted = F.conv2d(normal, weight.double(), bias.double(), padding=1).permute(0, 2, 3, 1)
    torch.testing.assert_close(result[..., :channels].cpu().double(), wanted, rtol=1e-5, atol=1e-5)
    assert (result[..., channels:] == 0).all()


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_tail_is_as_exact_as_float32_and_shuffles(scale, kernel_device) -> None:
    fused, weight = torch.randn(2, 5, 18, 48), torch.randn(3 * scale**2, 48, 3, 3) / 20
    bias = torch.randn(3 * scale**2)
    outputs = stored(len(bias))
    codes, planes = tail(
        fused.to(kernel_device), pack(weight, 48, outputs).to(kernel_device),
        F.pad(bias, (0, outputs - len(bias))).to(kernel_device), scale=scale, components=3,
        coded=0, dtype=torch.uint8, ceiling=0.0, tile=TILE,
    )  # fmt: skip
    wanted = F.conv2d(fused.permute(0, 3, 1, 2).double(), weight.double(), bias.double(), padding=1)
    assert codes.shape[1] == 0
    torch.testing.assert_close(
        planes.cpu().double(), F.pixel_shuffle(wanted, scale), rtol=1e-4, atol=5e-5
    )


@pytest.mark.parametrize(
    ("dtype", "ceiling"), [(torch.uint8, 255.0), (torch.uint16, 1023.0), (torch.uint16, 65535.0)]
)
def test_codes_are_rounded_down_between_black_and_white(dtype, ceiling, kernel_device) -> None:
    fused, weight = torch.zeros(1, 3, 5, 16), torch.zeros(12, 16, 3, 3)
    bias = torch.tensor([-3.0, 0.99, 7.5, ceiling + 9] * 3)
    codes, rest = tail(
        fused.to(kernel_device), pack(weight, 16, 16).to(kernel_device),
        F.pad(bias, (0, 4)).to(kernel_device), scale=2, components=3, coded=1, dtype=dtype,
        ceiling=ceiling, tile=TILE,
    )  # fmt: skip
    assert codes.dtype == dtype
    assert codes[0, 0].int().unique().tolist() == [0, 7, int(ceiling)]
    assert codes[0, 0, :2, :2].int().tolist() == [[0, 0], [7, int(ceiling)]]
    assert rest.shape == (1, 2, 6, 10)
    assert torch.equal(rest[0, 1].unique().cpu(), bias[:4].sort().values)

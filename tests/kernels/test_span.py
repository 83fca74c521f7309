import pytest
import torch

pytest.importorskip("triton")

from vsr.colour import FromRgb
from vsr.frame import Colour, Matrix, Range, Siting, pixel_format
from vsr.kernels.block import Strip
from vsr.kernels.span import Tiles
from vsr.networks import describe
from vsr.networks.span import Span, SpanConfig
from vsr.runtimes import EagerRuntime
from vsr.runtimes.triton import TritonRuntime


def network(**settings):
    config = SpanConfig(**{"blocks": 2, "norm": False, **settings})
    return describe("span", Span(config).eval().requires_grad_(False), config)


def psnr(found, wanted):
    return float(-10 * torch.log10((found.double().cpu() - wanted).square().mean()))


@pytest.mark.parametrize(
    ("settings", "strip", "batch"),
    [
        ({"channels": 48, "norm": True}, None, 1),
        ({"channels": 28, "fused_channels": 32, "scale": 4, "blocks": 1}, None, 2),
        ({"channels": 32, "scale": 3, "blocks": 3}, Strip(16, warps=4), 1),
    ],
)
def test_as_close_to_float64_as_pytorch(settings, strip, batch, kernel_device) -> None:
    span = network(**settings)
    runtime = TritonRuntime(span, kernel_device, torch.float16)
    if strip is not None:
        runtime.kernels.tiles = Tiles(strip=strip)
    picture = torch.rand(batch, 3, 5, 9)
    found = runtime(picture.to(kernel_device))
    half = EagerRuntime(span, kernel_device, torch.float16)(picture.to(kernel_device))
    with torch.no_grad():
        wanted = span.module.double()(picture.double())
    assert found.dtype == torch.float32
    assert found.shape == wanted.shape
    assert psnr(found, wanted) > psnr(half, wanted) - 1  # sums are float32 here: rather better
    assert psnr(found, wanted) > 50


FORMATS = (
    ("yuv420p", 2), ("yuv422p10le", 1), ("yuv444p", 1), ("yuv444p16le", 1), ("gbrp", 1),
    ("gray", 1),
)  # fmt: skip
"""With the pictures of a batch: each takes seconds in the interpreter."""


@pytest.mark.parametrize(("name", "batch"), FORMATS)
def test_delivers_what_the_conversion_makes(name, batch, kernel_device) -> None:
    span = network(channels=16, fused_channels=16, blocks=1)
    with torch.no_grad():  # around mid-gray, with values beyond black and white
        span.module.upsampler[0].weight.mul_(5)
        span.module.upsampler[0].bias.fill_(0.5)
    runtime = TritonRuntime(span, kernel_device, torch.float16)
    form = pixel_format(name)
    colour = Colour(
        matrix=Matrix.RGB if form.family == "rgb" else Matrix.BT709,
        range=Range.FULL if form.family == "rgb" else Range.LIMITED,
        primaries=1, transfer=1, siting=Siting.LEFT,
    )  # fmt: skip
    convert = FromRgb(form, colour, 22, 14, kernel_device)
    deliver = runtime.delivers(convert)
    assert deliver is not None
    pictures = torch.rand(batch, 3, 7, 11).to(kernel_device)
    for found, picture in zip(deliver(pictures), pictures.split(1), strict=True):
        wanted = convert(runtime(picture))
        assert len(found) == len(wanted)
        for own, other in zip(found, wanted, strict=True):
            assert own.dtype == other.dtype
            assert own.shape == other.shape
            assert (own.int() - other.int()).abs().max() <= 1
        assert len(found[0].int().unique()) > 20


@pytest.mark.parametrize(("name", "dither"), [("yuv420p", "ordered"), ("gbrpf32le", "none")])
def test_says_where_it_cannot_deliver(name, dither, kernel_device) -> None:
    runtime = TritonRuntime(network(channels=16, fused_channels=16), kernel_device, torch.float16)
    colour = Colour(
        matrix=Matrix.BT709, range=Range.LIMITED, primaries=1, transfer=1, siting=Siting.LEFT
    )
    convert = FromRgb(pixel_format(name), colour, 22, 14, kernel_device, dither=dither)
    assert runtime.delivers(convert) is None

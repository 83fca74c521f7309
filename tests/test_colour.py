"""Colour: what the standard says, written down a second time, against what vsr computes."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Interpolation
from numpy.typing import NDArray
from torch import Tensor

from vsr.colour import FromRgb, ToRgb, rgb_to_yuv_matrix, to_rgb
from vsr.errors import UnsupportedFormatError
from vsr.frame import Colour, Frame, Matrix, Range, Siting, pixel_format

FrameMaker = Callable[..., Frame]
CPU = torch.device("cpu")

MATRICES = [
    Matrix.BT709, Matrix.FCC, Matrix.BT470BG, Matrix.SMPTE170M, Matrix.SMPTE240M, Matrix.YCGCO,
    Matrix.BT2020_NCL,
]  # fmt: skip
RANGES = [Range.LIMITED, Range.FULL]
SITINGS = [Siting.LEFT, Siting.CENTRE, Siting.TOP_LEFT, Siting.TOP, Siting.BOTTOM_LEFT]
SIZES = [(130, 70), (34, 20), (33, 67), (5, 3)]


def colour(
    matrix: int = Matrix.BT709, range: Range = Range.LIMITED, siting: Siting = Siting.LEFT
) -> Colour:
    return Colour(matrix=matrix, range=range, siting=siting)


def from_rgb(rgb: Tensor, name: str, colour: Colour, **options: Any) -> tuple[Tensor, ...]:
    height, width = rgb.shape[-2:]
    return FromRgb(pixel_format(name), colour, width, height, CPU, **options)(rgb)


def code(name: str, colour: Colour, rgb: tuple[float, float, float]) -> list[int]:
    """The code values of one colour."""
    picture = torch.tensor(rgb).view(1, 3, 1, 1)
    return [int(c[0, 0]) for c in from_rgb(picture, name, colour)]


# Round trips.


def assert_round_trip(frame: Frame, tolerance: int) -> None:
    found = from_rgb(to_rgb(frame)[None], frame.format.name, frame.colour)
    for index, (ours, given) in enumerate(zip(found, frame.components, strict=True)):
        worst = (ours.int() - given.int()).abs().max()
        assert worst <= tolerance, f"component {index} of {frame.width}x{frame.height}"


@pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le", "yuv422p", "yuv422p10le"])
@pytest.mark.parametrize("range", RANGES)
@pytest.mark.parametrize("matrix", MATRICES)
def test_subsampled_codes_come_back_within_one(
    make_frame: FrameMaker, name: str, matrix: Matrix, range: Range
) -> None:
    for siting, (width, height) in product(SITINGS, SIZES):
        frame = make_frame(name, width, height, colour(matrix, range, siting))
        assert_round_trip(frame, 1)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (3, 1), (1, 4), (130, 5), (3, 131)])
def test_tiny_and_long_pictures_come_back_within_one(
    make_frame: FrameMaker, width: int, height: int
) -> None:
    for name, siting in product(["yuv420p10le", "yuv422p", "yuv411p", "yuv410p"], SITINGS):
        assert_round_trip(make_frame(name, width, height, colour(siting=siting)), 1)


@pytest.mark.parametrize("name", ["yuv440p", "yuv411p", "yuv410p", "yuv420p16le", "yuvj420p"])
def test_rarer_subsamplings_come_back_within_one(make_frame: FrameMaker, name: str) -> None:
    for siting, (width, height) in product([Siting.LEFT, Siting.CENTRE], SIZES):
        assert_round_trip(make_frame(name, width, height, colour(siting=siting)), 1)


@pytest.mark.parametrize("name", ["yuv444p", "yuv444p10le", "yuv444p12le", "yuv444p16le"])
@pytest.mark.parametrize("range", RANGES)
@pytest.mark.parametrize("matrix", [*MATRICES, Matrix.RGB])
def test_full_chroma_comes_back_exactly(
    make_frame: FrameMaker, name: str, matrix: Matrix, range: Range
) -> None:
    assert_round_trip(make_frame(name, 301, 97, colour(matrix, range)), 0)


@pytest.mark.parametrize("range", RANGES)
@pytest.mark.parametrize("name", ["gbrp", "gbrp10le", "gbrp12le", "gbrp16le"])
def test_rgb_comes_back_exactly(make_frame: FrameMaker, name: str, range: Range) -> None:
    assert_round_trip(make_frame(name, 301, 97, colour(Matrix.RGB, range)), 0)


@pytest.mark.parametrize("range", RANGES)
@pytest.mark.parametrize("name", ["gray", "gray10le", "gray16le"])
def test_gray_comes_back_exactly(make_frame: FrameMaker, name: str, range: Range) -> None:
    for matrix in (Matrix.BT709, Matrix.SMPTE170M, Matrix.UNSPECIFIED, Matrix.RGB):
        assert_round_trip(make_frame(name, 301, 97, colour(matrix, range)), 0)


def test_every_code_value_comes_back() -> None:
    """All 2^24 triples would take long; all values of each component do not."""
    codes = torch.arange(1024, dtype=torch.int32).to(torch.uint16).view(32, 32)
    middle = torch.full((32, 32), 512, dtype=torch.int32).to(torch.uint16)
    for index in range(3):
        planes = tuple(codes if i == index else middle for i in range(3))
        form, tags = pixel_format("yuv444p10le"), colour()
        rgb = ToRgb(form, tags, 32, 32, CPU)(planes)
        for found, given in zip(FromRgb(form, tags, 32, 32, CPU)(rgb), planes, strict=True):
            assert torch.equal(found.int(), given.int())


@pytest.mark.parametrize("name", ["yuva420p", "yuva444p10le", "gbrap", "gbrap16le"])
def test_alpha_comes_back_exactly(make_frame: FrameMaker, name: str) -> None:
    frame = make_frame(name, 33, 27)
    convert = ToRgb(frame.format, frame.colour, 33, 27, CPU)
    alpha = convert.alpha(frame.components[-1])
    assert alpha.shape == (1, 3, 27, 33)
    back = FromRgb(frame.format, frame.colour, 33, 27, CPU).alpha(alpha)
    assert torch.equal(back.int(), frame.components[-1].int())


# Floating point.

FLOATS = ["gbrpf32le", "gbrapf32le", "grayf32le", "gbrpf16le", "gbrapf16le", "grayf16le"]


def numbers(name: str, *size: int) -> list[Tensor]:
    """One component after the other of numbers far beyond black and white, tiny ones included."""
    form = pixel_format(name)
    count = len(form.components)
    values = torch.randn(count, *size) * torch.tensor([1e-6, 1.0, 50.0])[torch.randint(3, size)]
    return list(values.to(form.dtype))


@pytest.mark.parametrize("name", FLOATS)
def test_floats_are_left_as_they_are(name: str) -> None:
    form, given = pixel_format(name), numbers(name, 27, 33)
    convert = ToRgb(form, colour(), 33, 27, CPU)
    before = [component.clone() for component in given]
    rgb = convert(given)
    assert rgb.shape == (1, 3, 27, 33)
    assert rgb.dtype == torch.float32
    back = FromRgb(form, colour(), 33, 27, CPU)
    found = [*back(rgb), *([back.alpha(convert.alpha(given[-1]))] if form.alpha else [])]
    assert len(found) == len(given)
    for ours, theirs, untouched in zip(found, given, before, strict=True):
        assert ours.dtype == form.dtype
        assert torch.equal(ours, theirs)
        assert torch.equal(theirs, untouched)


def test_what_is_no_number_does_not_spread() -> None:
    odd = torch.tensor([[torch.nan, torch.inf, -torch.inf, 3.0]])
    rgb = ToRgb(pixel_format("grayf32le"), colour(), 4, 1, CPU)([odd])
    assert rgb[0, 1].tolist() == [[0.0, 65504.0, -65504.0, 3.0]]


@pytest.mark.parametrize(("name", "top"), [("gbrp", 255), ("gbrp10le", 1023), ("gbrp16le", 65535)])
def test_codes_are_fractions_of_white_in_float(name: str, top: int) -> None:
    full = colour(Matrix.RGB, Range.FULL)
    codes = torch.arange(top + 1, dtype=torch.int32).to(pixel_format(name).dtype)[None]
    rgb = ToRgb(pixel_format(name), full, top + 1, 1, CPU)([codes] * 3)
    exact = codes.double() / top
    for channel in from_rgb(rgb, "gbrpf32le", full):
        torch.testing.assert_close(channel.double(), exact, rtol=1e-6, atol=0)
    again = from_rgb(torch.stack(from_rgb(rgb, "gbrpf32le", full))[None], name, full)
    assert all(torch.equal(channel.int(), codes.int()) for channel in again)


def test_floats_beyond_white_are_cut_by_integers() -> None:
    bright = ToRgb(pixel_format("grayf32le"), colour(), 2, 1, CPU)([torch.tensor([[7.5, -2.0]])])
    for channel in from_rgb(bright, "gbrp16le", colour(Matrix.RGB, Range.FULL)):
        assert channel.tolist() == [[65535, 0]]


def test_float_gray_is_the_luma() -> None:
    rgb = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]])[None, :, None]
    (gray,) = from_rgb(rgb, "grayf32le", colour())
    torch.testing.assert_close(gray, torch.tensor([[0.2126, 2 * 0.7152, 0.0722]]))


# What the standard says.


LUMA = {  # H.273 table 4, K_R and K_B
    Matrix.BT709: (0.2126, 0.0722), Matrix.FCC: (0.30, 0.11), Matrix.BT470BG: (0.299, 0.114),
    Matrix.SMPTE170M: (0.299, 0.114), Matrix.SMPTE240M: (0.212, 0.087),
    Matrix.BT2020_NCL: (0.2627, 0.0593),
}  # fmt: skip


def standard_code(
    matrix: Matrix, range: Range, depth: int, rgb: tuple[float, float, float]
) -> list[float]:
    """H.273, section 8.3, in float64 and without the final rounding."""
    red, green, blue = rgb
    step, full = 1 << (depth - 8), (1 << depth) - 1
    limited = range == Range.LIMITED
    half = float(1 << (depth - 1))
    if matrix in (Matrix.RGB, Matrix.YCGCO):
        r, g, b = ((219 * v + 16) * step if limited else full * v for v in rgb)
        if matrix == Matrix.RGB:
            return [g, b, r]
        return [0.5 * g + 0.25 * (r + b), 0.5 * g - 0.25 * (r + b) + half, 0.5 * (r - b) + half]
    kr, kb = LUMA[matrix]
    y = kr * red + (1 - kr - kb) * green + kb * blue
    pb, pr = 0.5 * (blue - y) / (1 - kb), 0.5 * (red - y) / (1 - kr)
    if limited:
        return [step * (219 * y + 16), step * (224 * pb + 128), step * (224 * pr + 128)]
    return [full * y, full * pb + half, full * pr + half]


PRIMARIES = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1), (0.2, 0.7, 0.4)]


@pytest.mark.parametrize(("name", "depth"), [("yuv444p", 8), ("yuv444p10le", 10)])
@pytest.mark.parametrize("range", RANGES)
@pytest.mark.parametrize("matrix", [*MATRICES, Matrix.RGB])
def test_codes_are_the_standards(name: str, depth: int, matrix: Matrix, range: Range) -> None:
    top = (1 << depth) - 1
    for rgb in PRIMARIES:
        exact = standard_code(matrix, range, depth, rgb)
        found = code(name, colour(matrix, range), rgb)
        for ours, theirs in zip(found, exact, strict=True):
            assert abs(ours - min(max(theirs, 0), top)) <= 0.501, (rgb, found, exact)


@pytest.mark.parametrize("range", RANGES)
@pytest.mark.parametrize("matrix", [*MATRICES, Matrix.RGB])
def test_colours_are_the_standards(matrix: Matrix, range: Range) -> None:
    """The other direction: the exact codes of a colour, in 16 bits, give that colour."""
    form = pixel_format("yuv444p16le")
    convert = ToRgb(form, colour(matrix, range), 1, 1, CPU)
    for rgb in PRIMARIES:
        exact = [min(max(round(v), 0), 65535) for v in standard_code(matrix, range, 16, rgb)]
        planes = [torch.tensor([[v]], dtype=torch.int32).to(torch.uint16) for v in exact]
        found = convert(planes)
        torch.testing.assert_close(
            found.flatten(), torch.tensor([float(v) for v in rgb]), rtol=0, atol=5e-5
        )


def test_codes_known_by_heart() -> None:
    limited, full = colour(), colour(range=Range.FULL)
    assert code("yuv444p", limited, (1, 1, 1)) == [235, 128, 128]
    assert code("yuv444p", limited, (0, 0, 0)) == [16, 128, 128]
    assert code("yuv444p", limited, (1, 0, 0)) == [63, 102, 240]  # BT.709 colour bars
    assert code("yuv444p", limited, (0, 1, 0)) == [173, 42, 26]
    assert code("yuv444p", limited, (0, 0, 1)) == [32, 240, 118]
    assert code("yuv444p10le", limited, (1, 1, 1)) == [940, 512, 512]
    assert code("yuv444p", full, (1, 1, 1)) == [255, 128, 128]
    assert code("yuv444p", colour(Matrix.SMPTE170M), (1, 0, 0)) == [81, 90, 240]
    assert code("gray", limited, (1, 1, 1)) == [235]
    assert code("gray", full, (0, 1, 0)) == [182]
    assert code("gbrp", colour(Matrix.RGB, Range.FULL), (1, 0.5, 0)) == [255, 128, 0]
    assert code("gbrp", colour(Matrix.RGB), (1, 0.5, 0)) == [235, 126, 16]
    assert code("gbrp10le", colour(Matrix.RGB), (1, 0.5, 0)) == [940, 502, 64]


def test_gray_is_the_luma_alone() -> None:
    frame_codes = torch.tensor([[16, 126, 235]], dtype=torch.uint8)
    rgb = ToRgb(pixel_format("gray"), colour(), 3, 1, CPU)([frame_codes])
    assert rgb.shape == (1, 3, 1, 3)
    for channel in rgb[0]:
        torch.testing.assert_close(channel[0], torch.tensor([0, 110 / 219, 1.0]))


@pytest.mark.parametrize("matrix", [3, 10, 11, 12, 14, 15, 99])
def test_other_matrices_are_refused(matrix: int) -> None:
    with pytest.raises(UnsupportedFormatError, match=f"matrix {matrix}"):
        rgb_to_yuv_matrix(matrix)


def test_excess_is_clamped() -> None:
    for name, top in (("yuv444p", 255), ("yuv444p10le", 1023), ("gbrp16le", 65535)):
        assert max(code(name, colour(range=Range.FULL), (9, 9, 9))) == top
        assert min(code(name, colour(range=Range.FULL), (-9, -9, -9))) == 0
    assert code("yuv444p", colour(), (1.05, 1.05, 1.05))[0] == 246  # above white, not cut off


def test_half_precision_is_accepted() -> None:
    rgb = torch.rand(1, 3, 6, 6)
    expected = from_rgb(rgb.half().float(), "yuv420p", colour())
    found = from_rgb(rgb.half(), "yuv420p", colour())
    assert all(map(torch.equal, found, expected))


def test_input_is_left_alone(make_frame: FrameMaker) -> None:
    """Planes may be the decoder's reference pictures."""
    for name in ("gray", "yuv420p", "gbrp", "yuva420p"):
        frame = make_frame(name, 12, 10)
        before = [p.clone() for p in frame.planes]
        rgb = to_rgb(frame)
        kept = rgb.clone()
        from_rgb(rgb[None], name, frame.colour, dither="ordered")
        assert torch.equal(rgb, kept)
        assert all(map(torch.equal, frame.planes, before))


# Against FFmpeg.


def _swscale(frame: Frame, matrix: int) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of a yuv444p frame."""
    video = av.VideoFrame.from_ndarray(torch.stack(frame.components).numpy(), format="yuv444p")
    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    full = frame.colour.range == Range.FULL
    rgb = video.reformat(
        format="rgb24", src_colorspace=matrix, interpolation=int(flags),
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )  # fmt: skip
    return np.asarray(rgb.to_ndarray(), dtype=np.uint8)


@pytest.mark.parametrize("range", RANGES)
@pytest.mark.parametrize(
    "matrix", [Matrix.BT709, Matrix.FCC, Matrix.SMPTE170M, Matrix.SMPTE240M, Matrix.BT2020_NCL]
)
def test_agrees_with_swscale(make_frame: FrameMaker, matrix: Matrix, range: Range) -> None:
    frame = make_frame("yuv444p", 64, 48, colour(matrix, range), low=16, high=235)
    ours = to_rgb(frame).permute(1, 2, 0).mul(255).add(0.5).clamp(0, 255).to(torch.uint8)
    difference = ours.numpy().astype(int) - _swscale(frame, matrix)
    assert np.abs(difference).max() <= 1
    assert np.abs(difference).mean() < 0.2


# Chroma.


@pytest.mark.parametrize("siting", [s for s in Siting if s != Siting.UNSPECIFIED])
@pytest.mark.parametrize(
    ("name", "across", "down"),
    [("yuv420p16le", 2, 2), ("yuv422p16le", 2, 1), ("yuv440p10le", 1, 2), ("yuv411p", 4, 1)],
)
def test_chroma_lies_where_the_siting_says(
    name: str, across: int, down: int, siting: Siting
) -> None:
    """A chroma ramp comes out as the line through its samples' places, on both axes."""
    form = pixel_format(name)
    width, height = 16 * across, 16 * down
    left = {Siting.LEFT, Siting.TOP_LEFT, Siting.BOTTOM_LEFT}
    top, bottom = {Siting.TOP_LEFT, Siting.TOP}, {Siting.BOTTOM_LEFT, Siting.BOTTOM}
    x0 = 0.0 if siting in left else (across - 1) / 2
    y0 = 0.0 if siting in top else float(down - 1) if siting in bottom else (down - 1) / 2
    step = 1 << (form.depth - 8)
    chroma = (torch.arange(16)[:, None] * 3 + torch.arange(16) * 5 + 60) * step
    planes = [
        torch.full((height, width), 126 * step), torch.full((16, 16), 128 * step), chroma
    ]  # fmt: skip
    typed = [p.to(torch.int32).to(form.dtype) for p in planes]
    rgb = ToRgb(form, colour(siting=siting), width, height, CPU)(typed)[0]
    # Red is luma plus a multiple of Cr: 2 (1 - K_R) = 1.5748 in BT.709.
    cr = (rgb[0] - (126 - 16) / 219).double() / 1.5748 * 224 + 128
    y = (torch.arange(height, dtype=torch.float64)[:, None] - y0) / down
    x = (torch.arange(width, dtype=torch.float64) - x0) / across
    expected = 60 + 3 * y + 5 * x
    inner = slice(3 * down, -3 * down), slice(3 * across, -3 * across)
    torch.testing.assert_close(cr[inner], expected[inner], rtol=0, atol=1e-3)


@pytest.mark.parametrize("siting", SITINGS)
def test_chroma_is_reduced_to_where_the_siting_says(siting: Siting) -> None:
    """The ramp of the test above, from R'G'B' to samples."""
    form = pixel_format("yuv420p16le")
    left = siting in (Siting.LEFT, Siting.TOP_LEFT, Siting.BOTTOM_LEFT)
    x0 = 0.0 if left else 0.5
    y0 = {Siting.TOP_LEFT: 0.0, Siting.TOP: 0.0, Siting.BOTTOM_LEFT: 1.0}.get(siting, 0.5)
    y, x = torch.arange(48.0)[:, None], torch.arange(64.0)
    red = 0.2 + (y * 3 + x * 5) / 2000
    rgb = torch.stack([red, torch.zeros_like(red), torch.zeros_like(red)])[None]
    found = FromRgb(form, colour(siting=siting), 64, 48, CPU)(rgb)[2]
    at = (
        0.2
        + ((2 * torch.arange(24.0)[:, None] + y0) * 3 + (2 * torch.arange(32.0) + x0) * 5) / 2000
    )
    expected = (at * 0.5 * 224 + 128) * 256  # red gives Cr = R / 2 exactly
    inner = slice(4, -4), slice(4, -4)
    assert (found.int() - expected)[inner].abs().max() < 2


def test_enlarged_chroma_is_smooth() -> None:
    """One bright sample spreads over its neighbours: a nearest filter leaves a block."""
    chroma = torch.full((8, 8), 128, dtype=torch.uint8)
    chroma[4, 4] = 255
    planes = [torch.full((16, 16), 126, dtype=torch.uint8), torch.full_like(chroma, 128), chroma]
    red = ToRgb(pixel_format("yuv420p"), colour(), 16, 16, CPU)(planes)[0, 0]
    across = red[8] - red[8, 0]
    assert across.argmax() == 8
    assert 0.3 * across[8] < across[7] < 0.8 * across[8]
    torch.testing.assert_close(across[7], across[9])


@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize(("width", "height"), [(16, 16), (33, 27)])
def test_flat_chroma_stays_flat(value: int, width: int, height: int) -> None:
    form = pixel_format("yuv420p")
    sizes = [form.component_shape(i, width, height) for i in range(3)]
    planes = [torch.full(size, value, dtype=torch.uint8) for size in sizes]
    rgb = ToRgb(form, colour(), width, height, CPU)(planes)[0].flatten(1)
    assert (rgb.amax(1) - rgb.amin(1)).max() < 1e-5


# Layouts.


@pytest.mark.parametrize(
    ("name", "order"),
    [("nv12", "uv"), ("nv21", "vu"), ("nv16", "uv"), ("nv24", "uv"), ("p010le", "uv"),
     ("p210le", "uv"), ("p410le", "uv"), ("p012le", "uv")],
)  # fmt: skip
def test_semi_planar_equals_planar(make_frame: FrameMaker, name: str, order: str) -> None:
    for width, height in ((16, 12), (17, 11)):
        packed = make_frame(name, width, height)
        luma, chroma = packed.planes
        shift = packed.format.shift
        first, second = chroma[:, 0::2].int() >> shift, chroma[:, 1::2].int() >> shift
        u, v = (first, second) if order == "uv" else (second, first)
        planar = packed.format.as_planar()
        planes = tuple(p.to(planar.dtype) for p in (luma.int() >> shift, u, v))
        expected = to_rgb(replace(packed, planes=planes, format=planar))
        torch.testing.assert_close(to_rgb(packed), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "order"),
    [("rgb24", "rgb"), ("bgr24", "bgr"), ("rgba", "rgba"), ("bgra", "bgra"), ("argb", "argb"),
     ("abgr", "abgr"), ("rgb0", "rgbx"), ("bgr0", "bgrx"), ("0rgb", "xrgb"), ("0bgr", "xbgr"),
     ("rgb48le", "rgb"), ("bgr48le", "bgr"), ("rgba64le", "rgba"), ("bgra64le", "bgra")],
)  # fmt: skip
def test_packed_rgb_equals_planar(make_frame: FrameMaker, name: str, order: str) -> None:
    packed = make_frame(name, 9, 7)
    samples = packed.planes[0].view(7, 9, len(order))
    planes = tuple(samples[..., order.index(c)] for c in "gbr")
    planar = pixel_format("gbrp" if packed.format.depth == 8 else "gbrp16le")
    expected = to_rgb(replace(packed, planes=planes, format=planar))
    assert torch.equal(to_rgb(packed), expected)


@pytest.mark.parametrize(
    ("name", "order"), [("yuyv422", "yuyv"), ("uyvy422", "uyvy"), ("yvyu422", "yvyu")]
)
def test_packed_422_equals_planar(make_frame: FrameMaker, name: str, order: str) -> None:
    packed = make_frame(name, 10, 6)
    samples = packed.planes[0].view(6, 5, 4)
    luma = samples[..., [i for i, c in enumerate(order) if c == "y"]].reshape(6, 10)
    planes = (luma, samples[..., order.index("u")], samples[..., order.index("v")])
    expected = to_rgb(replace(packed, planes=planes, format=pixel_format("yuv422p")))
    assert torch.equal(to_rgb(packed), expected)


# Dither.


@pytest.mark.parametrize("name", ["yuv444p", "yuv420p10le", "gbrp"])
def test_dither_keeps_the_mean_and_moves_by_one_code(name: str) -> None:
    tags = colour(Matrix.RGB, Range.FULL) if name == "gbrp" else colour()
    ramp = torch.linspace(0.3, 0.32, 7)
    for value in ramp:
        rgb = torch.full((1, 3, 32, 32), float(value))
        rounded = from_rgb(rgb, name, tags)[0].double()
        dithered = from_rgb(rgb, name, tags, dither="ordered")[0].double()
        depth = pixel_format(name).depth
        top = 255.0 if name == "gbrp" else 219.0 * (1 << (depth - 8))
        exact = float(value) * top + (0 if name == "gbrp" else 16 << (depth - 8))
        assert abs(dithered.mean() - exact) < 0.02
        assert (dithered - rounded).abs().max() <= 1
        assert (dithered - exact).abs().max() < 1
        assert len(set(dithered.flatten().tolist())) <= 2


def test_dither_leaves_exact_codes_alone(make_frame: FrameMaker) -> None:
    frame = make_frame("yuv444p", 64, 64, low=16, high=235)
    found = from_rgb(to_rgb(frame)[None], "yuv444p", frame.colour, dither="ordered")
    for ours, given in zip(found, frame.components, strict=True):
        assert (ours.int() - given.int()).abs().max() <= 1
        assert (ours == given).float().mean() > 0.999


def test_dither_covers_ragged_sizes() -> None:
    for height, width in ((1, 1), (9, 17), (3, 40)):
        planes = from_rgb(
            torch.full((1, 3, height, width), 0.5), "yuv420p", colour(), dither="ordered"
        )
        assert planes[0].shape == (height, width)

from collections.abc import Callable

import av
import numpy as np
import pytest
import torch

from vsr.errors import UnsupportedFormatError
from vsr.frame import Component, Frame, Siting, pixel_format

FrameMaker = Callable[..., Frame]

PLANAR = [
    "yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "yuvj420p", "yuvj444p",
    "yuv420p9le", "yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv440p10le", "yuv420p14le",
    "yuv444p16le", "yuva420p", "yuva422p10le", "yuva444p16le", "gbrp", "gbrp10le", "gbrp16le",
    "gbrap", "gbrap12le", "gray", "gray9le", "gray10le", "gray12le", "gray14le", "gray16le",
    "gbrpf16le", "gbrpf32le", "gbrapf16le", "gbrapf32le", "grayf16le", "grayf32le",
]  # fmt: skip
INTERLEAVED = [
    "nv12", "nv21", "nv16", "nv24", "nv42", "p010le", "p012le", "p016le", "p210le", "p410le",
    "p416le", "rgb24", "bgr24", "rgba", "bgra", "argb", "abgr", "rgb0", "bgr0", "0rgb", "0bgr",
    "rgb48le", "bgr48le", "rgba64le", "bgra64le", "yuyv422", "uyvy422", "yvyu422", "ya8", "ya16le",
    "rgbf16le", "rgbaf16le", "rgbf32le", "rgbaf32le",
]  # fmt: skip


@pytest.mark.parametrize("name", PLANAR + INTERLEAVED)
def test_formats_agree_with_ffmpeg(name: str) -> None:
    """Depth, subsampling, alpha, and the plane of every component, by FFmpeg's own description."""
    ours, theirs = pixel_format(name), av.VideoFormat(name, 64, 64)
    assert ours.name == name
    assert ours.depth == theirs.components[0].bits
    assert len(ours.components) == len(theirs.components)
    assert ours.planar == (name in PLANAR)
    assert [c.plane for c in ours.components] == [c.plane for c in theirs.components]
    assert ours.alpha == any(c.is_alpha for c in theirs.components)
    if ours.family == "yuv":
        height, width = ours.component_shape(1, 64, 64)
        assert (width, height) == (theirs.components[1].width, theirs.components[1].height)
    assert (ours.family == "rgb") == theirs.is_rgb
    integers = torch.uint8 if ours.depth == 8 else torch.uint16
    floats = torch.float16 if ours.depth == 16 else torch.float32
    assert ours.floating == ("f16" in name or "f32" in name)
    assert ours.dtype == (floats if ours.floating else integers)


@pytest.mark.parametrize(
    "name",
    ["pal8", "monob", "rgb565le", "x2rgb10le", "xyz12le", "gbrpf32be", "rgbf32be", "cuda",
     "yuv420p10be", "gray16be", "v210", "yuv420p11le", "yuv420", "", "nonsense", "p010be"],
)  # fmt: skip
def test_other_formats_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedFormatError, match="not supported"):
        pixel_format(name)


@pytest.mark.parametrize(
    "name",
    ["nv12", "nv21", "nv16", "nv24", "nv42", "rgb24", "bgra", "argb", "0bgr", "rgb48le", "yuyv422",
     "uyvy422", "yvyu422"],  # p010: swscale's result depends on how its buffers are aligned
)  # fmt: skip
def test_components_lie_where_ffmpeg_puts_them(name: str) -> None:
    """FFmpeg's own conversion to a planar format takes the samples apart in the same way."""
    width, height = 16, 8
    ours = pixel_format(name)
    packed = av.VideoFrame(width, height, name)
    rng = np.random.default_rng(0)
    dtype = np.dtype(np.uint8 if ours.depth == 8 else np.uint16)
    planes = []
    for plane in packed.planes:
        samples = rng.integers(0, 1 << ours.depth, plane.buffer_size // dtype.itemsize, dtype)
        plane.update((samples << ours.shift).tobytes())
        planes.append(torch.from_numpy(np.frombuffer(plane, dtype).copy()).view(plane.height, -1))
    target = ours.as_planar()
    unpacked = packed.reformat(format=target.name)
    found = ours.views(tuple(planes), width, height)
    for index, component in enumerate(found):
        plane = unpacked.planes[target.components[index].plane]
        theirs = np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : component.shape[1]]
        assert np.array_equal(component.numpy() >> ours.shift, theirs), index


@pytest.mark.parametrize(("width", "height"), [(1, 1), (5, 3), (6, 4), (7, 6)])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv411p", "yuv410p", "nv12", "yuyv422"])
def test_chroma_of_odd_sizes_is_rounded_up(
    make_frame: FrameMaker, name: str, width: int, height: int
) -> None:
    frame = make_frame(name, width, height)
    luma, *chroma = frame.components
    assert luma.shape == (height, width)
    step = {"yuv420p": (2, 2), "nv12": (2, 2), "yuv422p": (1, 2), "yuyv422": (1, 2),
            "yuv411p": (1, 4), "yuv410p": (4, 4)}[name]  # fmt: skip
    for component in chroma:
        assert component.shape == (-(-height // step[0]), -(-width // step[1]))


def test_views_skip_padding_and_copy_nothing() -> None:
    planes = tuple(torch.zeros(12, 64, dtype=torch.uint8) for _ in range(3))
    luma, blue, _ = pixel_format("yuv420p").views(planes, 10, 6)
    assert luma.shape == (6, 10)
    assert blue.shape == (3, 5)
    luma.fill_(7)
    assert int(planes[0].sum()) == 7 * 60


def test_planes_are_in_ffmpegs_order() -> None:
    red, green, blue = (torch.full((1, 1), v) for v in (1, 2, 3))
    assert [int(p) for p in pixel_format("gbrp").planes((red, green, blue))] == [2, 3, 1]
    with pytest.raises(ValueError, match="packed"):
        pixel_format("nv12").planes((red, green, blue))


@pytest.mark.parametrize(
    ("packed", "planar"),
    [("nv12", "yuv420p"), ("p010le", "yuv420p10le"), ("p210le", "yuv422p10le"),
     ("p416le", "yuv444p16le"), ("rgb24", "gbrp"), ("bgra64le", "gbrap16le"), ("rgb0", "gbrp"),
     ("yuyv422", "yuv422p"), ("ya8", "yuva444p"), ("ya16le", "yuva444p16le"), ("gray", "gray")],
)  # fmt: skip
def test_every_format_has_a_planar_one(packed: str, planar: str) -> None:
    assert pixel_format(packed).as_planar() == pixel_format(planar)


def test_sitings() -> None:
    places = {s: (s.vertical, s.horizontally_centred) for s in Siting}
    assert places[Siting.LEFT] == (0.5, False)
    assert places[Siting.CENTRE] == (0.5, True)
    assert places[Siting.TOP_LEFT] == (0, False)
    assert places[Siting.TOP] == (0, True)
    assert places[Siting.BOTTOM_LEFT] == (1, False)
    assert places[Siting.BOTTOM] == (1, True)


def test_component_defaults_to_a_plane_of_its_own() -> None:
    assert Component(1) == Component(plane=1, offset=0, step=1)

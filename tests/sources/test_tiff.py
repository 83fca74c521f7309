"""TIFF that FFmpeg would make another picture of, without a word."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsr.cli import main
from vsr.errors import SourceError
from vsr.sources import tiff
from vsr.sources.images import ImageFrames
from vsr.sources.planes import native_format, planes_of

Tags = dict[int, int | tuple[int, ...]]

SIDE = 16
SAMPLES = bytes(range(256)) * 3
BOTH_ORDERS = pytest.mark.parametrize("order", ["<", ">"])


def tiff_of(order: str, tags: Tags, *, samples: bytes = SAMPLES, pages: int = 1) -> bytes:
    """16 x 16 pixels in 8-bit RGB, uncompressed, unless ``tags`` say otherwise; all pages alike."""
    plain: Tags = {
        256: SIDE, 257: SIDE, 258: (8, 8, 8), 259: 1, 262: 2, 273: 8, 277: 3, 278: SIDE,
        279: len(samples),
    }  # fmt: skip
    wanted = sorted((plain | tags).items())
    data = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4) + samples)
    link = 4
    for _ in range(pages):
        struct.pack_into(f"{order}I", data, link, len(data))
        link = len(data) + 2 + 12 * len(wanted)
        entries, beyond = b"", b""
        for tag, value in wanted:
            numbers = value if isinstance(value, tuple) else (value,)
            packed = struct.pack(f"{order}{len(numbers)}H", *numbers)
            if len(packed) > 4:
                packed, beyond = struct.pack(f"{order}I", link + 4 + len(beyond)), beyond + packed
            entries += struct.pack(f"{order}HHI", tag, 3, len(numbers)) + packed.ljust(4, b"\0")
        data += struct.pack(f"{order}H", len(wanted)) + entries + bytes(4) + beyond
    return bytes(data)


@BOTH_ORDERS
@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({322: 16, 323: 16}, "in tiles"), ({259: 7}, "compressed by JPEG"),
        ({259: 50000}, "compressed by Zstandard"), ({259: 12345}, "compression 12345"),
        ({339: (3, 3, 3), 258: (16, 16, 16)}, "floating-point numbers of 16 bits"),
        ({262: 5, 277: 4, 258: (8, 8, 8, 8)}, "CMYK"), ({262: 8}, r"CIE L\*a\*b\*"),
        ({339: (2, 2, 2)}, "signed integers"), ({339: (2, 2, 2), 258: (16, 16, 16)}, "signed"),
        ({258: (32, 32, 32)}, "integers of 32 bits"), ({258: (12, 12, 12)}, "of 12 bits"),
        ({339: (1, 1, 1), 258: (32, 32, 32)}, "integers of 32 bits"),
        ({262: 1, 277: 1, 258: 10}, "of 10 bits"), ({262: 1, 277: 1, 258: 32}, "integers of 32 b"),
        ({262: 1, 277: 1, 258: 32, 339: 3}, "of 32 bits"),
    ],
)  # fmt: skip
def test_what_does_not_decode_is_refused(
    tmp_path: Path, order: str, tags: Tags, reason: str
) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_of(order, tags))
    with pytest.raises(SourceError, match=f"a.tif: .*{reason}"):
        ImageFrames(path)


@BOTH_ORDERS
def test_pages_are_counted(tmp_path: Path, order: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_of(order, {}, pages=3))
    images = ImageFrames(path)
    assert "of TIFF with several pages (3) the first is taken" in images.notes
    expected = np.frombuffer(SAMPLES, np.uint8).reshape(SIDE, SIDE, 3)
    assert np.array_equal(images.first.to_ndarray(format="rgb24"), expected)


def test_pages_that_follow_themselves_are_counted_once() -> None:
    data = bytearray(tiff_of("<", {}, pages=3))
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    (second,) = struct.unpack_from("<I", data, first + 2 + 12 * entries)
    struct.pack_into("<I", data, second + 2 + 12 * entries, first)
    assert tiff.pages(bytes(data)) == 2


@BOTH_ORDERS
@pytest.mark.parametrize("tag", [254, 258, 259, 262, 273, 277, 279, 322, 338, 339])
def test_entries_without_a_value_are_none(order: str, tag: int) -> None:
    data = tiff_of(order, {tag: ()})
    assert (tiff.why_not(data), tiff.pages(data)) == (None, 1)
    assert tiff.is_complete(data)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "raw"])
def test_damage_is_refused(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.tif"
    Image.linear_gradient("L").rotate(30).save(path, compression=compression)
    assert ImageFrames(path).notes == []
    data = bytearray(path.read_bytes())
    if compression == "raw":
        del data[-40:]
    else:
        data[300:400] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"a\.tif: cannot be decoded"):
        ImageFrames(path)


def test_floats_stay_floats(tmp_path: Path) -> None:
    samples = np.linspace(-0.5, 2.5, SIDE * SIDE * 3, dtype="<f4").reshape(SIDE, SIDE, 3)
    source, output = tmp_path / "a.tif", tmp_path / "a.exr"
    tags: Tags = {258: (32, 32, 32), 339: (3, 3, 3)}
    source.write_bytes(tiff_of("<", tags, samples=samples.tobytes()))
    assert main([str(source), str(output), "--model", "identity"]) == 0
    written = ImageFrames(output).first
    assert native_format(written).name == "gbrpf32le"
    assert np.array_equal(written.to_ndarray(), samples)


def test_ycbcr_is_as_in_photographs(tmp_path: Path) -> None:
    picture = Image.effect_noise((64, 48), 90).convert("RGB")
    picture.convert("YCbCr").save(tmp_path / "a.tif")
    assert main([str(tmp_path / "a.tif"), str(tmp_path / "a.png"), "--model", "identity"]) == 0
    with Image.open(tmp_path / "a.png") as made, Image.open(tmp_path / "a.tif") as source:
        difference = np.abs(np.asarray(made, int) - np.asarray(source.convert("RGB"), int))
    assert difference.max() <= 2


def multiplied(order: str, samples: np.ndarray, *, planar: bool, kind: int = 1) -> bytes:
    """16 x 16 pixels whose last sample is alpha, the colours multiplied by it."""
    count, bits = samples.shape[2], samples.itemsize * 8
    tags: Tags = {258: (bits,) * count, 262: 2 if count > 2 else 1, 277: count, 338: kind}
    stored = samples.astype(f"{order}u{samples.itemsize}")
    if planar:
        size = SIDE * SIDE * samples.itemsize
        tags |= {284: 2, 273: tuple(8 + n * size for n in range(count)), 279: (size,) * count}
        stored = stored.transpose(2, 0, 1)
    return tiff_of(order, tags, samples=stored.tobytes())


@BOTH_ORDERS
@pytest.mark.parametrize(("planar", "count"), [(False, 2), (False, 4), (True, 4)])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_colours_multiplied_by_alpha_are_made_straight(
    tmp_path: Path, rng: np.random.Generator, order: str, planar: bool, count: int, dtype: str
) -> None:
    path, largest = tmp_path / "a.tif", int(np.iinfo(dtype).max)
    straight = rng.integers(0, largest, (SIDE, SIDE, count), dtype, endpoint=True)
    alpha = straight[..., -1:]
    alpha[:4], alpha[4:8] = 0, largest
    samples = np.rint(straight.astype(np.float64) * alpha / largest).astype(dtype)
    samples[:4, :, :-1] = straight[:4, :, :-1]  # hidden, and beyond what alpha allows
    samples[..., -1:] = alpha
    divided = samples * float(largest) / np.maximum(alpha, 1)
    expected = np.floor(divided + 0.5).clip(0, largest).astype(dtype)
    expected[:4], expected[..., -1:] = samples[:4], alpha
    path.write_bytes(multiplied(order, samples, planar=planar))
    images = ImageFrames(path)
    form = native_format(images.first)
    assert images.notes == ["the pictures' colours were multiplied by alpha: made straight"]
    stored = (">" if images.first.format.is_big_endian else "<") + dtype
    found = form.views(planes_of(images.first, form), SIDE, SIDE)
    made = np.stack([view.numpy().view(stored) for view in found], 2)
    assert np.array_equal(made, expected)
    path.write_bytes(multiplied(order, samples, planar=planar, kind=2))
    assert ImageFrames(path).notes == []


def test_floats_multiplied_by_alpha_are_left_alone(tmp_path: Path) -> None:
    """All floating-point pictures are taken as multiplied, as OpenEXR's are."""
    samples = np.linspace(0, 2, SIDE * SIDE * 4, dtype="<f4").reshape(SIDE, SIDE, 4)
    tags: Tags = {258: (32,) * 4, 277: 4, 338: 1, 339: (3,) * 4}
    (tmp_path / "a.tif").write_bytes(tiff_of("<", tags, samples=samples.tobytes()))
    images = ImageFrames(tmp_path / "a.tif")
    assert images.notes == []
    assert images.first.format.name == "rgbaf32le"
    assert memoryview(images.first.planes[0]).cast("B").tobytes() == samples.tobytes()

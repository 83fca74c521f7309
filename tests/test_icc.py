"""ICC profiles from file to file, as Pillow (littleCMS, libpng, libtiff) reads them."""

import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from vsr import icc
from vsr.config import EncoderConfig, UpscaleConfig
from vsr.frame import pixel_format
from vsr.pipeline import Report, upscale

Save = Callable[..., Path]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
OTHER = SRGB[:4] + b"none" + SRGB[8:]  # another preferred module: the same colours, other bytes
GRAY = SRGB[:16] + b"GRAY" + SRGB[20:]


def run(path: Path, output: Path, **settings: Any) -> Report:
    settings = {"model": "identity", "device": "cpu", **settings}
    return upscale(UpscaleConfig(input=path, output=output, **settings))


@pytest.fixture
def save(tmp_path: Path, rng: np.random.Generator) -> Save:
    """Makes a picture by Pillow: ``save("a.png", SRGB)``."""

    def make(name: str, profile: bytes | None, mode: str = "RGB", **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        picture = Image.fromarray(rng.integers(0, 255, (50, 71, 3), np.uint8)).convert(mode)
        picture.save(path, icc_profile=profile, **options)
        return path

    return make


def opened(path: Path) -> tuple[bytes | None, bytes]:
    """The profile and the samples that Pillow reads."""
    with Image.open(path) as picture:
        return picture.info.get("icc_profile"), picture.convert("RGB").tobytes()


def chunks(path: Path) -> list[bytes]:
    data, position, found = path.read_bytes(), 8, []
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        found.append(kind)
        content = data[position + 4 : position + 8 + length]
        assert data[position + 8 + length :][:4] == struct.pack(">I", zlib.crc32(content))
        position += 12 + length
    return found


@pytest.mark.parametrize("target", ["png", "tif"])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_a_profile_goes_from_file_to_file(name: str, target: str, save: Save) -> None:
    source = save(name, SRGB, lossless=True)
    output = source.parent / f"out.{target}"
    report = run(source, output)
    profile, samples = opened(output)
    assert profile == SRGB
    if not name.endswith("jpg"):  # whose chroma is enlarged by another filter
        assert samples == opened(source)[1]
    assert not any("ICC" in note for note in report.notes)
    if target == "png":
        assert chunks(output)[:2] == [b"IHDR", b"iCCP"]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("target", ["png", "tif"])
def test_ffmpeg_reads_the_same_samples(target: str, save: Save) -> None:
    source = save("a.png", SRGB)
    found = []
    for path, profile in ((source, True), (source.parent / "b.png", False)):
        if not profile:
            save("b.png", None)
            with Image.open(source) as picture:
                picture.info.pop("icc_profile", None)
                picture.save(path, icc_profile=None)
        output = source.parent / f"out-{profile}.{target}"
        run(path, output)
        command = ["ffmpeg", "-v", "error", "-i", str(output), "-f", "rawvideo", "-"]
        done = subprocess.run(command, check=True, capture_output=True, timeout=60)
        assert done.stderr == b""
        found.append(done.stdout)
    assert found[0] == found[1]
    assert len(found[0]) == 3 * 71 * 50


@pytest.mark.parametrize("frame_by_frame", [True, False])
def test_each_picture_has_its_own(frame_by_frame: bool, save: Save, tmp_path: Path) -> None:
    profiles = [SRGB, OTHER, None, SRGB, *[OTHER] * 8]
    for index, profile in enumerate(profiles):
        save(f"in/{index:03}.png", profile)
    seconds = 10 if frame_by_frame else 0
    (tmp_path / "out").mkdir()
    report = run(tmp_path / "in", tmp_path / "out", segment_seconds=seconds)
    found = [opened(path)[0] for path in sorted((tmp_path / "out").iterdir())]
    assert found == profiles
    assert "not all pictures have the ICC profile of the first" in report.notes


def test_gray_pictures_have_gray_profiles(save: Save, tmp_path: Path) -> None:
    source = save("a.png", GRAY, "L")
    run(source, tmp_path / "out.png")
    assert opened(tmp_path / "out.png")[0] == GRAY
    report = run(source, tmp_path / "rgb.png", encoder=EncoderConfig(pix_fmt="rgb24"))
    assert "the ICC profile is dropped: it is for GRAY, not for rgb pictures" in report.notes
    assert opened(tmp_path / "rgb.png")[0] is None


@pytest.mark.parametrize(
    ("output", "note"),
    [
        ("out.dpx", "the ICC profile is dropped: dpx pictures hold none"),
        ("out.exr", "the ICC profile is dropped: exr pictures hold none"),
        ("out.mkv", "the ICC profile of the pictures is dropped: colours are not converted"),
    ],
)
def test_what_holds_none_is_said(output: str, note: str, save: Save, tmp_path: Path) -> None:
    report = run(save("a.png", SRGB), tmp_path / output)
    assert note in report.notes


def test_what_a_later_picture_loses_is_said(save: Save, tmp_path: Path) -> None:
    for index, profile in enumerate([None, SRGB, SRGB, GRAY]):
        save(f"in/{index}.png", profile)
    (tmp_path / "out").mkdir()
    report = run(tmp_path / "in", tmp_path / "out" / "%d.dpx")
    dropped = "the ICC profile of some pictures is dropped: dpx pictures hold none"
    assert report.notes.count(dropped) == 1
    report = run(tmp_path / "in", tmp_path / "out" / "%d.png", segment_seconds=0)
    dropped = "the ICC profile of some pictures is dropped: it is for GRAY, not for rgb pictures"
    assert report.notes.count(dropped) == 1


def test_filters_exchange_no_profiles(save: Save, tmp_path: Path) -> None:
    """Those that hold a picture back until the next has come."""
    for index, profile in enumerate([None, SRGB, OTHER, None]):
        save(f"in/{index}.png", profile)
    (tmp_path / "out").mkdir()
    run(tmp_path / "in", tmp_path / "out", filters="fps=50")
    found = [opened(path)[0] for path in sorted((tmp_path / "out").iterdir())]
    assert found == [None, None, SRGB, SRGB, OTHER, OTHER, None, None]


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def test_what_is_less_exact_gives_way(save: Save, tmp_path: Path) -> None:
    """Of a PNG with gAMA FFmpeg makes a tag, of which its encoder makes chunks."""
    source = save("a.png", SRGB)
    data = source.read_bytes()
    gamma = chunk(b"gAMA", struct.pack(">I", 45455))
    primaries = [31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000]
    described = gamma + chunk(b"cHRM", struct.pack(">8I", *primaries))
    source.write_bytes(data[:33] + described + data[33:])
    run(source, tmp_path / "out.png")
    assert not {b"gAMA", b"cHRM", b"cICP", b"sRGB"} & set(chunks(tmp_path / "out.png"))
    plain = save("b.png", None)
    data = plain.read_bytes()
    plain.write_bytes(data[:33] + described + data[33:])
    run(plain, tmp_path / "plain.png")
    assert {b"gAMA", b"cHRM"} <= set(chunks(tmp_path / "plain.png"))


def test_of_two_profiles_the_first_counts(save: Save, tmp_path: Path) -> None:
    """There must be one at most; PyAV would crash at the second."""
    source = save("a.png", SRGB)
    data, samples = source.read_bytes(), opened(source)[1]
    second = chunk(b"iCCP", b"other\0\0" + zlib.compress(b"no profile"))
    end = data.index(b"IDAT") - 4
    source.write_bytes(data[:end] + second + data[end:])
    assert chunks(source).count(b"iCCP") == 2
    run(source, tmp_path / "out.png")
    assert opened(tmp_path / "out.png") == (SRGB, samples)


def test_cicp_counts_before_a_profile(save: Save, tmp_path: Path) -> None:
    source = save("a.png", SRGB)
    data = source.read_bytes()
    source.write_bytes(data[:33] + chunk(b"cICP", bytes([12, 13, 0, 1])) + data[33:])
    report = run(source, tmp_path / "out.png")
    found = chunks(tmp_path / "out.png")
    assert b"cICP" in found
    assert b"iCCP" not in found
    note = "the ICC profile of the pictures is dropped: their cICP counts before it"
    assert note in report.notes


@pytest.mark.parametrize(
    "content", [b"name\0\0garbage", b"name", b"", b"n\0\0" + zlib.compress(SRGB)[:-9],
                b"n\0\0" + zlib.compress(b"\0" * (17 << 20))],
)  # fmt: skip
def test_a_damaged_profile_is_dropped(content: bytes, save: Save, tmp_path: Path) -> None:
    source = save("a.png", None)
    data = source.read_bytes()
    source.write_bytes(data[:33] + chunk(b"iCCP", content) + data[33:])
    report = run(source, tmp_path / "out.png")
    assert "the ICC profile is dropped: it is damaged" in report.notes
    source.write_bytes(data)  # Pillow does not open the other
    assert opened(tmp_path / "out.png") == (None, opened(source)[1])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("odd", [0, 1])
def test_tiff_of_either_byte_order(order: str, odd: int) -> None:
    """A directory by hand: width, height and a strip, with a later tag behind the profile's."""
    samples = bytes(range(6 + odd))
    entries = [(256, 4, 1, 6 + odd), (257, 4, 1, 1), (258, 4, 1, 8), (259, 4, 1, 1),
               (262, 4, 1, 1), (273, 4, 1, 8), (277, 4, 1, 1), (278, 4, 1, 1),
               (279, 4, 1, 6 + odd), (50000, 4, 1, 7)]  # fmt: skip
    mark = b"II*\0" if order == "<" else b"MM\0*"
    place = 8 + len(samples)
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(
        struct.pack(f"{order}HHII", *entry) for entry in entries
    )
    file = mark + struct.pack(f"{order}I", place) + samples + directory + b"\0" * 4
    found = icc.embed(GRAY, "tiff", file)
    (begin,) = struct.unpack_from(f"{order}I", found, 4)
    assert begin % 2 == 0
    (count,) = struct.unpack_from(f"{order}H", found, begin)
    rows = [struct.unpack_from(f"{order}HHII", found, begin + 2 + 12 * i) for i in range(count)]
    assert [row for row in rows if row[0] != 34675] == entries
    assert rows == sorted(rows)
    (profile,) = (row for row in rows if row[0] == 34675)
    assert found[profile[3] : profile[3] + profile[2]] == GRAY
    assert found[begin + 2 + 12 * count :][:4] == b"\0" * 4


def test_profiles_are_judged_by_their_header() -> None:
    rgb, gray = pixel_format("gbrp"), pixel_format("gray")
    assert icc.why_not(SRGB, "png", rgb) is None
    assert icc.why_not(SRGB, "png", gray) == "it is for RGB, not for gray pictures"
    assert icc.why_not(SRGB[:100], "png", rgb) == "it is damaged"
    assert icc.why_not(b"\0" * 200, "tiff", rgb) == "it is damaged"

"""JPEG 2000: pictures as ffmpeg and Pillow (OpenJPEG) make them, and what their boxes say."""

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsr.errors import SourceError
from vsr.frame import Matrix, Range
from vsr.sources import jp2
from vsr.sources.images import ImageFrames

FFMPEG = shutil.which("ffmpeg")


@pytest.fixture
def picture(tmp_path: Path, rng: np.random.Generator) -> Path:
    """As OpenJPEG makes it, without loss."""
    path = tmp_path / "a.jp2"
    Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(path)
    return path


def described(path: Path, method: int, content: bytes) -> bytes:
    """The file with a description of colour in place of its own."""
    data = path.read_bytes()
    begin = data.index(b"jp2h") - 4
    (length,) = struct.unpack_from(">I", data, begin)
    inside = data[begin + 8 : begin + length]
    own = inside.index(b"colr") - 4
    (size,) = struct.unpack_from(">I", inside, own)
    box = b"colr" + bytes([method, 0, 0]) + content
    changed = inside[:own] + struct.pack(">I", len(box) + 4) + box + inside[own + size :]
    header = struct.pack(">I", len(changed) + 8) + b"jp2h" + changed
    return data[:begin] + header + data[begin + length :]


@pytest.mark.parametrize("suffix", [".jp2", ".j2k", ".jpc"])
def test_what_openjpeg_wrote(picture: Path, suffix: str) -> None:
    path = picture.with_suffix(suffix)
    with Image.open(picture) as original:
        expected = np.asarray(original)
        original.save(path, no_jp2=suffix != ".jp2")
    images = ImageFrames(path)
    assert images.codec == "jpeg2000"
    assert np.array_equal(images.first.to_ndarray(format="rgb24"), expected)
    assert (images.tags.matrix, images.tags.range, images.icc) == (Matrix.RGB, Range.FULL, None)
    assert images.notes == []


@pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("name", ["rgb48le", "gray16le", "yuv444p"])
def test_what_ffmpeg_wrote(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.jp2"
    assert FFMPEG is not None
    source = ["-f", "lavfi", "-i", "testsrc2=s=64x48", "-frames:v", "1"]
    command = [FFMPEG, "-v", "error", *source, "-pix_fmt", name, "-pred", "1", str(path)]
    subprocess.run(command, check=True, timeout=60)
    command = [FFMPEG, "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", name, "-"]
    done = subprocess.run(command, check=True, capture_output=True, timeout=60)
    images = ImageFrames(path)
    assert images.first.format.name == name
    assert images.first.to_ndarray().tobytes() == done.stdout
    if name == "yuv444p":
        assert (images.tags.matrix, images.tags.range) == (Matrix.SMPTE170M, Range.FULL)


@pytest.mark.parametrize(("mode", "name"), [("RGBA", "rgba"), ("LA", "ya8"), ("L", "gray")])
def test_alpha_and_gray(tmp_path: Path, rng: np.random.Generator, mode: str, name: str) -> None:
    path = tmp_path / "a.jp2"
    Image.fromarray(rng.integers(0, 255, (48, 64, 4), np.uint8)).convert(mode).save(path)
    assert ImageFrames(path).first.format.name == name


def test_profiles_and_spaces_are_read(picture: Path) -> None:
    assert not jp2.is_sycc(picture.read_bytes())
    for method in (2, 3):
        data = described(picture, method, b"profile")
        assert jp2.profile(data) == b"profile"
        assert not jp2.is_sycc(data)
    assert jp2.is_sycc(described(picture, 1, struct.pack(">I", 18)))
    picture.write_bytes(described(picture, 2, b"profile"))
    assert ImageFrames(picture).icc == b"profile"


@pytest.mark.parametrize("length", [0, 1, 3, 7, 1 << 31])
def test_boxes_that_lie_are_no_boxes(picture: Path, length: int) -> None:
    data = described(picture, 2, b"profile")
    begin = data.index(b"jp2h") - 4
    broken = data[:begin] + struct.pack(">I", length) + data[begin + 4 :]
    assert jp2.profile(broken) in (None, b"profile")
    assert jp2.profile(data[: begin + 20]) is None


def test_a_picture_that_is_cut_short_is_refused(picture: Path) -> None:
    data = picture.read_bytes()
    for end in (len(data) // 2, len(data) - 2):
        picture.write_bytes(data[:end])
        with pytest.raises(SourceError, match=r"a\.jp2: cannot be decoded"):
            ImageFrames(picture)


def test_damage_is_refused_each_time(picture: Path) -> None:
    data = bytearray(picture.read_bytes())
    half = len(data) // 2
    data[half : half + 8] = bytes(8)
    picture.write_bytes(data)
    for _ in range(2):  # what is said again is heard again
        with pytest.raises(SourceError, match=r"a\.jp2: cannot be decoded: End mismatch"):
            ImageFrames(picture)


def test_damage_in_one_of_many_tiles_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    """Tiles are decoded on threads, if they may be, whose messages are lost."""
    path = tmp_path / "a.jp2"
    Image.fromarray(rng.integers(0, 255, (96, 96, 3), np.uint8)).save(path, tile_size=(32, 32))
    data = path.read_bytes()
    ImageFrames(path)
    for place in range(2000, len(data), len(data) // 9):
        path.write_bytes(data[:place] + b"\xff" * 8 + data[place + 8 :])
        with pytest.raises(SourceError, match=r"a\.jp2: cannot be decoded"):
            ImageFrames(path)


@pytest.mark.skipif(shutil.which("opj_compress") is None, reason="OpenJPEG is not installed")
def test_healthy_files_of_every_mode_are_read(tmp_path: Path, rng: np.random.Generator) -> None:
    """In some modes a byte is left over in each block, which FFmpeg tells of."""
    Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(tmp_path / "a.ppm")
    for mode in (0, 1, 2, 4, 5, 8, 16, 32, 36):
        path = tmp_path / f"{mode}.jp2"
        command = ["opj_compress", "-i", str(tmp_path / "a.ppm"), "-o", str(path), "-M", str(mode)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        assert ImageFrames(path).notes == []


@pytest.mark.parametrize(
    ("level", "text", "damage"),
    [
        (24, "End mismatch 1\n", False), (24, "Mid mismatch -1 in pass 3 of 19\n", False),
        (24, "End mismatch 602\n", True), (24, "Mid mismatch -80 in pass 3 of 19\n", True),
        (24, "extra cblk styles 20\n", False), (16, "Segmentation symbol value incorrect\n", True),
        (16, "unsupported marker 0xFF59 at pos 0x90\n", False),
    ],
)  # fmt: skip
def test_what_messages_mean(level: int, text: str, damage: bool) -> None:
    assert jp2.tells_damage(level, text) is damage

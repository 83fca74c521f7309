"""OpenEXR: what FFmpeg leaves out, or black, without an error."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vsr.errors import SourceError
from vsr.sources import exr
from vsr.sources.images import ImageFrames

WIDTH, HEIGHT = 32, 8
NONE, RLE, ZIP1, ZIP16 = 0, 1, 2, 3


def attribute(name: str, kind: str, value: bytes) -> bytes:
    return f"{name}\0{kind}\0".encode() + struct.pack("<I", len(value)) + value


def exr_of(
    channels: str = "R G B", *beside: bytes, compression: int = NONE, damaged: int | None = None
) -> bytes:
    """32 x 8 pixels in half precision; ``beside`` are more attributes, ``damaged`` is a block."""
    names = sorted(channels.split())
    listed = b"".join(f"{n}\0".encode() + struct.pack("<iIii", 1, 0, 1, 1) for n in names) + b"\0"
    window = struct.pack("<4i", 0, 0, WIDTH - 1, HEIGHT - 1)
    header = b"v/1\x01\x02\0\0\0" + b"".join([
        attribute("channels", "chlist", listed),
        attribute("compression", "compression", bytes([compression])),
        attribute("dataWindow", "box2i", window), attribute("displayWindow", "box2i", window),
        attribute("lineOrder", "lineOrder", b"\0"),
        attribute("pixelAspectRatio", "float", struct.pack("<f", 1)),
        attribute("screenWindowCenter", "v2f", bytes(8)),
        attribute("screenWindowWidth", "float", struct.pack("<f", 1)), *beside, b"\0",
    ])  # fmt: skip
    lines = HEIGHT if compression == ZIP16 else 1  # in a block
    samples = np.linspace(0, 1, WIDTH * lines * len(names), dtype="<f2").tobytes()
    chunks = []
    for index in range(HEIGHT // lines):
        data = packed(samples, compression)
        if index == damaged:
            data = data[:2] + b"\x99" * (len(data) - 2)
        chunks.append(struct.pack("<ii", index * lines, len(data)) + data)
    table = len(header) + 8 * len(chunks)
    places = [table + sum(map(len, chunks[:index])) for index in range(len(chunks))]
    return header + struct.pack(f"<{len(places)}Q", *places) + b"".join(chunks)


def packed(samples: bytes, compression: int) -> bytes:
    if compression == NONE:
        return samples
    if compression == RLE:
        flat = bytes(len(samples))
        return b"".join(struct.pack("bB", min(128, len(flat) - at) - 1, 0)
                        for at in range(0, len(flat), 128))  # fmt: skip
    return zlib.compress(bytes(len(samples)))


@pytest.mark.parametrize("compression", [RLE, ZIP1, ZIP16])
@pytest.mark.parametrize("block", [0, -1])
def test_damage_is_refused_each_time(tmp_path: Path, compression: int, block: int) -> None:
    path = tmp_path / "a.exr"
    path.write_bytes(exr_of(compression=compression))
    ImageFrames(path)
    block %= 1 if compression == ZIP16 else HEIGHT
    path.write_bytes(exr_of(compression=compression, damaged=block))
    for _ in range(2):  # what is said again is heard again
        with pytest.raises(SourceError, match=r"a\.exr: cannot be decoded: decode_block"):
            ImageFrames(path)


def test_blocks_beyond_the_file_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    data = exr_of()
    path.write_bytes(data)
    ImageFrames(path)
    size = struct.pack("<I", WIDTH * 3 * 2)
    path.write_bytes(data.replace(size, struct.pack("<I", 1 << 20), 3))
    with pytest.raises(SourceError, match=r"a\.exr: cannot be decoded: it is cut short"):
        ImageFrames(path)


LINEAR = "the pictures are tagged linear light: the network sees it as it is"
NOT_CARRIED = "are not carried on"


def notes_of(tmp_path: Path, channels: str, *beside: bytes) -> list[str]:
    (tmp_path / "a.exr").write_bytes(exr_of(channels, *beside))
    first, *others = ImageFrames(tmp_path / "a.exr").notes
    assert first == LINEAR
    return others


@pytest.mark.parametrize(
    ("channels", "lost"),
    [
        ("R G B", ""), ("R G B A", ""), ("Y", ""), ("r g b a", ""), ("X Y Z", ""),
        ("R G B Z", "Z"), ("R G B spec.R spec.G spec.B", "spec.B, spec.G, spec.R"),
        ("Y RY BY", "BY, RY"), ("B G R X Z id", "X, Z, id"),
    ],
)  # fmt: skip
def test_channels_that_are_lost_are_named(tmp_path: Path, channels: str, lost: str) -> None:
    line = f"the pictures' other channels {NOT_CARRIED}: {lost}"
    assert notes_of(tmp_path, channels) == ([line] if lost else [])


def test_a_picture_beside_other_channels_is_read_as_without(tmp_path: Path) -> None:
    (tmp_path / "a.exr").write_bytes(exr_of("R G B Z"))
    frame = ImageFrames(tmp_path / "a.exr").first
    samples = np.linspace(0, 1, WIDTH * 4, dtype="<f2").reshape(4, WIDTH)  # B, G, R, Z
    planes = [np.frombuffer(plane, "<f2").reshape(HEIGHT, -1)[:, :WIDTH] for plane in frame.planes]
    for plane, line in zip(planes, (1, 0, 2), strict=True):  # G, B, R
        assert (plane == samples[line]).all()


@pytest.mark.parametrize(
    "channels", ["diffuse.R diffuse.G diffuse.B", "Red Green Blue", "Z", "A G"]
)
def test_channels_of_other_names_are_refused(tmp_path: Path, channels: str) -> None:
    (tmp_path / "a.exr").write_bytes(exr_of(channels))
    named = ", ".join(sorted(channels.split()))
    with pytest.raises(SourceError, match=f"a.exr: its channels are {named}: it needs R, G and B"):
        ImageFrames(tmp_path / "a.exr")


def test_attributes_that_are_lost_are_named(tmp_path: Path) -> None:
    beside = [
        attribute("owner", "string", b"the archive"), attribute("comments", "string", b""),
        attribute("timeCode", "timecode", struct.pack("<II", 0x01020304, 0)),
        attribute("nuke/node", "string", b"a"), attribute("nuke/version", "string", b"b"),
        attribute("exif:Make", "string", b"c"), attribute("writer", "string", b"d"),
    ]  # fmt: skip
    line = f"the pictures' headers {NOT_CARRIED}: owner, timeCode, nuke, exif"
    assert notes_of(tmp_path, "R G B", *beside) == [line]


def test_primaries_that_are_lost_are_told_of(tmp_path: Path) -> None:
    def chromaticities(*values: float) -> bytes:
        return attribute("chromaticities", "chromaticities", struct.pack("<8f", *values))

    bt709 = chromaticities(0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)
    aces = chromaticities(0.7347, 0.2653, 0, 1, 0.0001, -0.077, 0.32168, 0.33767)
    assert notes_of(tmp_path, "R G B", bt709) == []
    line = f"the pictures' chromaticities {NOT_CARRIED}: readers take their colours for BT.709's"
    assert notes_of(tmp_path, "R G B", aces) == [line]


@pytest.mark.parametrize(
    ("said", "rate"),
    [((18, 1), 18), ((24000, 1001), Fraction(24000, 1001)), ((0, 0), None), ((-1, 1), None)],
)
def test_the_rate_is_taken(
    tmp_path: Path, said: tuple[int, int], rate: Fraction | int | None
) -> None:
    for number in (1, 2):
        data = exr_of("R G B", attribute("framesPerSecond", "rational", struct.pack("<iI", *said)))
        (tmp_path / f"{number}.exr").write_bytes(data)
    images = ImageFrames(tmp_path)
    assert images.rate == (rate or 25)
    why = "as their headers say" if rate else "-r"
    assert images.notes == [
        f"2 OpenEXR pictures are taken as {rate or 25} a second ({why})", LINEAR
    ]  # fmt: skip


def test_headers_that_are_cut_short_say_nothing() -> None:
    data = exr_of("R G B Z", attribute("owner", "string", b"the archive"))
    for end in range(0, data.index(b"the archive"), 7):
        cut = data[:end]
        assert exr.headers(cut) == []
        assert exr.rate(cut) is None
        assert not exr.is_complete(cut)
        assert all(
            "channels" in line for line in (*exr.losses(cut), exr.why_not(cut) or "channels")
        )

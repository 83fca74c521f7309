"""OpenEXR: what FFmpeg leaves out, or black, without an error."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from vsr.errors import SourceError
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

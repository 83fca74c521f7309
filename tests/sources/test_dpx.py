"""DPX: what its headers say that FFmpeg passes over."""

import struct
from pathlib import Path

import numpy as np
import pytest

from vsr.errors import SourceError
from vsr.sources import dpx
from vsr.sources.images import ImageFrames

WIDTH, HEIGHT, OFFSET = 33, 8, 2048
BOTH_ORDERS = pytest.mark.parametrize("order", ["<", ">"])
NONE = 0xFFFFFFFF

Fields = dict[int, tuple[str, int | float] | bytes]


def dpx_of(
    order: str = ">", fields: Fields | None = None, *, behind_line: bytes = b"", behind: bytes = b""
) -> bytes:
    """33 x 8 pixels in 10-bit RGB; ``fields`` by their places, all others undefined."""
    plain: Fields = {
        0: b"SDPX" if order == ">" else b"XPDS", 4: ("I", OFFSET), 8: b"V2.0\0\0\0\0",
        24: ("I", 1664), 28: ("I", 384), 768: ("H", 0), 770: ("H", 1), 772: ("I", WIDTH),
        776: ("I", HEIGHT), 800: b"\x32\x06\x06\x0a", 804: ("H", 1), 806: ("H", 0),
        808: ("I", OFFSET), 812: ("I", 0), 1628: ("I", 1), 1632: ("I", 1),
    }  # fmt: skip
    data = bytearray(b"\xff" * OFFSET)
    for place, value in (plain | (fields or {})).items():
        packed = value if isinstance(value, bytes) else struct.pack(order + value[0], value[1])
        data[place : place + len(packed)] = packed
    for line in pixels():
        words = line[:, 0] << 22 | line[:, 1] << 12 | line[:, 2] << 2
        data += words.astype(f"{order}u4").tobytes() + behind_line
    data += behind
    struct.pack_into(f"{order}I", data, 16, len(data))
    return bytes(data)


def pixels() -> np.ndarray:
    return np.arange(HEIGHT * WIDTH * 3, dtype=np.uint32).reshape(HEIGHT, WIDTH, 3)


def images_of(tmp_path: Path, *files: bytes) -> ImageFrames:
    for number, data in enumerate(files, 1):
        (tmp_path / f"{number}.dpx").write_bytes(data)
    return ImageFrames(tmp_path if len(files) > 1 else tmp_path / "1.dpx")


def assert_whole(images: ImageFrames) -> None:
    assert np.array_equal(images.first.to_ndarray(), pixels())


@BOTH_ORDERS
@pytest.mark.parametrize("padding", [4, 8])
def test_padded_lines_are_refused(tmp_path: Path, order: str, padding: int) -> None:
    data = dpx_of(order, {812: ("I", padding)}, behind_line=bytes(padding))
    reason = rf"1\.dpx: each line is followed by {padding} bytes of padding"
    for end in (None, -padding):  # behind the last line it may be missing
        with pytest.raises(SourceError, match=reason):
            images_of(tmp_path, data[:end])


@BOTH_ORDERS
@pytest.mark.parametrize("padding", [0, 1, 4, 8, 4096, NONE - 1, NONE])
def test_padding_that_is_not_there_is_none(tmp_path: Path, order: str, padding: int) -> None:
    for behind in (b"", bytes(5)):
        assert_whole(images_of(tmp_path, dpx_of(order, {812: ("I", padding)}, behind=behind)))


def test_padding_to_whole_words_is_read(tmp_path: Path) -> None:
    """33 pixels of 8-bit RGB are 99 bytes, and FFmpeg knows that lines are of whole words."""
    lines = (np.arange(HEIGHT * WIDTH * 3) % 251).astype(np.uint8).reshape(HEIGHT, WIDTH * 3)
    padded = np.pad(lines, ((0, 0), (0, 1))).tobytes()
    head = dpx_of(">", {803: b"\x08", 804: ("H", 0), 812: ("I", 1)})[:OFFSET]
    images = images_of(tmp_path, head + padded)
    assert np.array_equal(images.first.to_ndarray().reshape(HEIGHT, -1), lines)


def test_run_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"1\.dpx: it is compressed by run lengths"):
        images_of(tmp_path, dpx_of(">", {806: ("H", 1)}))


@pytest.mark.parametrize(
    ("descriptor", "bits", "packing", "length"),
    [
        (50, 10, 1, 132), (50, 10, 0, 124), (50, 12, 0, 152), (50, 12, 1, 198), (50, 16, 0, 198),
        (50, 8, 0, 99), (6, 10, 2, 44), (51, 8, 0, 132), (100, 8, 0, 66), (50, 9, 0, 0),
        (77, 8, 0, 0),
    ],
)  # fmt: skip
def test_padding_is_found_at_every_depth(
    descriptor: int, bits: int, packing: int, length: int
) -> None:
    fields: Fields = {800: bytes([descriptor]), 803: bytes([bits]), 804: ("H", packing)}
    head = dpx_of(">", fields | {812: ("I", 12)})[:OFFSET]
    reason = dpx.why_not(head + bytes((length + 12) * HEIGHT))
    assert (reason is None) == (length == 0)
    assert dpx.why_not(head + bytes(-(-length // 4) * 4 * HEIGHT)) is None


def test_headers_that_are_cut_short_say_nothing() -> None:
    for end in (0, 3, 4, 700, 810, 814, 1000, 2048):
        assert dpx.why_not(dpx_of(">", {812: ("I", 8)})[:end]) is None

"""DPX: what its headers say that FFmpeg passes over."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vsr.errors import SourceError
from vsr.sources import SourceConfig, dpx, open_source
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


@BOTH_ORDERS
@pytest.mark.parametrize(
    ("fields", "rate"),
    [
        ({1724: ("f", 18.0)}, Fraction(18)), ({1940: ("f", 16.0)}, Fraction(16)),
        ({1724: ("f", 23.976), 1940: ("f", 25.0)}, Fraction(24000, 1001)),
        ({1724: ("f", 23.98)}, Fraction(24000, 1001)), ({1724: ("f", 24.0)}, Fraction(24)),
        ({1724: ("f", 50 / 3)}, Fraction(50, 3)), ({1724: ("I", 0), 1940: ("f", 29.97)},
        Fraction(30000, 1001)),
    ],
)  # fmt: skip
def test_rates_of_headers_are_taken(
    tmp_path: Path, order: str, fields: Fields, rate: Fraction
) -> None:
    images = images_of(tmp_path, dpx_of(order, fields), dpx_of(order))
    assert images.rate == rate
    assert images.notes == [f"2 DPX pictures are taken as {rate} a second (as their headers say)"]
    assert ImageFrames(tmp_path, Fraction(20)).rate == 20


@pytest.mark.parametrize("value", [0.0, -18.0, 0.5, 241.0, float("inf"), float("nan")])
def test_rates_that_are_none_are_not_taken(tmp_path: Path, value: float) -> None:
    one = dpx_of(">", {1724: ("f", value)})
    images = images_of(tmp_path, one, one)
    assert images.rate == 25
    assert images.notes == ["2 DPX pictures are taken as 25 a second (-r)"]


def test_samples_are_no_headers(tmp_path: Path) -> None:
    """A file may leave out the headers of film and television."""
    short = dpx_of(">", {4: ("I", 1664), 808: ("I", 1664), 1664: struct.pack(">f", 18) * 96})
    assert dpx.rate(short) is None
    assert dpx.headers(short) == []
    assert images_of(tmp_path, short).notes == []


NOT_CARRIED = "the pictures' headers are not carried on"


@BOTH_ORDERS
def test_headers_that_are_there_are_named(tmp_path: Path, order: str) -> None:
    assert images_of(tmp_path, dpx_of(order)).notes == []
    blank: Fields = {160: bytes(100), 1556: b" " * 32, 1664: bytes(16), 1920: bytes(4)}
    assert images_of(tmp_path, dpx_of(order, blank)).notes == []
    there: Fields = {
        136: b"2020:01:02:03:04:05\0", 160: b"the lab\0", 1664: b"012305123456" + b"0012",
        1920: ("I", 0x10203004),
    }  # fmt: skip
    expected = [f"{NOT_CARRIED}: date, Creator, key code, timecode"]
    assert images_of(tmp_path, dpx_of(order, there)).notes == expected
    more = there | {1556: b"a scanner\0"}
    images = images_of(tmp_path, dpx_of(order, there), dpx_of(order, more))
    images.read(1)
    assert images.notes[1:] == [*expected, f"{NOT_CARRIED}: Input Device (from 2.dpx on)"]


@BOTH_ORDERS
@pytest.mark.parametrize(("code", "meaning"), [(1, "printing density"), (3, "logarithmic")])
def test_samples_of_film_are_told_of(tmp_path: Path, order: str, code: int, meaning: str) -> None:
    assert images_of(tmp_path, dpx_of(order, {801: bytes([code])})).notes == [
        f"the pictures are tagged {meaning}: the network sees it as it is, "
        "and the result does not say it"
    ]


SCANNED = np.arange(3 * 4, dtype=np.uint32).reshape(3, 4, 1)


@pytest.mark.parametrize(
    ("code", "filters", "upright"),
    [
        (1, "hflip", SCANNED[:, ::-1]), (2, "vflip", SCANNED[::-1]),
        (3, "hflip,vflip", SCANNED[::-1, ::-1]), (4, "transpose=0", SCANNED.transpose(1, 0, 2)),
        (5, "transpose=1", np.rot90(SCANNED, -1)), (6, "transpose=2", np.rot90(SCANNED)),
        (7, "transpose=3", np.rot90(SCANNED.transpose(1, 0, 2), 2)),
    ],
)  # fmt: skip
def test_pictures_that_lie_otherwise_are_told_of(
    tmp_path: Path, code: int, filters: str, upright: np.ndarray
) -> None:
    """``upright`` is where lines and their pixels lie that come in the order of the file."""
    images = images_of(tmp_path, dpx_of(">", {768: ("H", code)}))
    (note,) = images.notes
    assert note.startswith("the pictures' headers say that ")
    assert note.endswith(f": they are taken as they lie (--vf {filters} turns them)")
    fields: Fields = {772: ("I", 4), 776: ("I", 3), 800: b"\x06", 803: b"\x10", 804: ("H", 0)}
    samples = SCANNED.astype(">u2").tobytes()
    (tmp_path / "1.dpx").write_bytes(dpx_of(">", fields)[:OFFSET] + samples)
    with open_source(tmp_path / "1.dpx", SourceConfig(filters=filters)) as source:
        (frame,) = source
    assert np.array_equal(frame.components[0].numpy(), upright[..., 0])


@pytest.mark.parametrize("code", [0, 8, 0xFFFF])
def test_pictures_that_lie_upright_are_not(tmp_path: Path, code: int) -> None:
    assert images_of(tmp_path, dpx_of(">", {768: ("H", code)})).notes == []

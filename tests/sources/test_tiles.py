"""HEIF and AVIF: one tile (ISO/IEC 23008-12, 6.6.2.3) is not the picture; colour without tags."""

import io
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from vsr.cli import main
from vsr.config import InputConfig
from vsr.encoding.scheduling import usual_scheduling
from vsr.frame import Matrix
from vsr.sources import SourceConfig, open_source

SIDE = 64


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def avif(picture: NDArray[np.uint8]) -> bytes:
    """A file of one picture, (rows, columns, 3) R'G'B'."""
    memory, (height, width, _) = io.BytesIO(), picture.shape
    with usual_scheduling("libsvtav1"), av.open(memory, "w", format="avif") as out:
        video: Any = out.add_stream("libsvtav1", rate=1, width=width, height=height)
        video.options = {"preset": "12"}
        frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
        out.mux([*video.encode(frame), *video.encode(None)])
    return memory.getvalue()


def tile(shade: int) -> tuple[bytes, bytes]:
    """The coded picture, and the box that describes its codec."""
    data = avif(np.full((SIDE, SIDE, 3), shade, np.uint8))

    def whole(kind: bytes) -> bytes:
        start = data.index(kind) - 4
        return data[start : start + int.from_bytes(data[start : start + 4])]

    return whole(b"mdat")[8:], whole(b"av1C")


@pytest.fixture
def tiled(tmp_path: Path) -> Path:
    """Four tiles, two by two."""
    coded = [tile(shade) for shade in (40, 90, 140, 190)]
    grid, count = struct.pack(">BBBBHH", 0, 0, 1, 1, 2 * SIDE, 2 * SIDE), len(coded)
    whole = count + 1
    kinds = [(number, 1, b"av01") for number in range(1, whole)] + [(whole, 0, b"grid")]
    entries = [full(b"infe", 2, hidden, struct.pack(">HH", number, 0), kind, b"\0")
               for number, hidden, kind in kinds]  # fmt: skip
    properties = box(
        b"ipco", full(b"ispe", 0, 0, struct.pack(">II", SIDE, SIDE)),
        full(b"pixi", 0, 0, bytes([3, 8, 8, 8])), coded[0][1],
        full(b"ispe", 0, 0, struct.pack(">II", 2 * SIDE, 2 * SIDE)),
    )  # fmt: skip
    uses = b"".join(struct.pack(">HB3B", n, 3, 1, 2, 0x83) for n in range(1, whole))
    uses += struct.pack(">HB2B", whole, 2, 4, 2)

    def meta(first: int) -> bytes:
        places, at = b"", first
        for number, (data, _) in enumerate(coded, 1):
            places += struct.pack(">HHHHII", number, 0, 0, 1, at, len(data))
            at += len(data)
        places += struct.pack(">HHHHII", whole, 1, 0, 1, 0, len(grid))
        return full(
            b"meta", 0, 0,
            full(b"hdlr", 0, 0, bytes(4), b"pict", bytes(13)),
            full(b"pitm", 0, 0, struct.pack(">H", whole)),
            full(b"iloc", 1, 0, struct.pack(">BBH", 0x44, 0, whole), places),
            full(b"iinf", 0, 0, struct.pack(">H", whole), *entries),
            full(b"iref", 0, 0, box(b"dimg", struct.pack(">HH4H", whole, count, *range(1, whole)))),
            box(b"iprp", properties, full(b"ipma", 0, 0, struct.pack(">I", whole), uses)),
            box(b"idat", grid),
        )  # fmt: skip

    kind = box(b"ftyp", b"avif", bytes(4), b"avifmif1miaf")
    path = tmp_path / "tiled.avif"
    first = len(kind) + len(meta(0)) + 8
    path.write_bytes(kind + meta(first) + box(b"mdat", *(data for data, _ in coded)))
    return path


def test_a_tile_does_not_go_for_the_picture(tiled, tmp_path, capsys):
    assert main([str(tiled), str(tmp_path / "out.png"), "--model", "identity"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"vsr-upscale: error: {tiled}: one picture in 4 tiles, as HEIF and AVIF have it, which are"
        " not put together here: convert it first (heif-convert; ffmpeg from 7.1 on)"
    )
    assert not (tmp_path / "out.png").exists()


def test_who_asks_for_a_tile_gets_it(tiled):
    config = SourceConfig(input=InputConfig(video_stream=2))
    with open_source(tiled, config) as source:
        (frame,) = source
    assert (frame.width, frame.height) == (SIDE, SIDE)


def test_pictures_without_tags_have_the_colours_of_photographs(tmp_path: Path) -> None:
    """MIAF (ISO/IEC 23000-22), 7.3.6.4; of a video of this size one would think BT.709."""
    path = tmp_path / "a.avif"
    data = avif(np.zeros((720, 1280, 3), np.uint8))
    path.write_bytes(data)
    assert b"nclx\0\2\0\2\0\2" in data  # nothing is said
    with open_source(path) as source:
        colour = source.info.colour
    assert (colour.matrix, colour.primaries, colour.transfer) == (Matrix.SMPTE170M, 1, 13)

"""What streams leave open of their colour, and what tags become in another format."""

from dataclasses import replace

import pytest

from vsr.errors import UnsupportedFormatError
from vsr.frame import Colour, Matrix, Range, Siting, pixel_format
from vsr.tagging import complete_colour, convert_colour

UNTAGGED = Colour()


def guess(
    tags: Colour, width: int, height: int, name: str = "yuv420p", codec: str = "h264"
) -> Colour:
    found, _ = complete_colour(
        tags, width=width, height=height, format=pixel_format(name), codec=codec
    )
    return found


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (1920, 1080, (1, 1, 1)), (1280, 720, (1, 1, 1)), (1280, 544, (1, 1, 1)),
        (960, 720, (1, 1, 1)), (720, 576, (5, 5, 6)), (720, 608, (5, 5, 6)), (352, 288, (5, 5, 6)),
        (720, 480, (6, 6, 6)), (320, 240, (6, 6, 6)), (3840, 2160, (1, 1, 1)),
    ],
)  # fmt: skip
def test_untagged_video(width: int, height: int, expected: tuple[int, int, int]) -> None:
    found = guess(UNTAGGED, width, height)
    assert (found.matrix, found.primaries, found.transfer) == expected
    assert found.range == Range.LIMITED
    assert found.siting == Siting.LEFT


@pytest.mark.parametrize(("primaries", "matrix"), [(1, 1), (4, 4), (5, 5), (6, 6), (7, 7), (9, 9)])
def test_primaries_settle_the_matrix(primaries: int, matrix: int) -> None:
    found = guess(Colour(primaries=primaries, transfer=16), 720, 480)
    assert (found.matrix, found.primaries, found.transfer) == (matrix, primaries, 16)


def test_what_is_tagged_is_kept() -> None:
    tagged = Colour(
        matrix=Matrix.SMPTE170M, range=Range.FULL, primaries=1, transfer=13, siting=Siting.TOP
    )
    assert guess(tagged, 1920, 1080) == tagged
    partly = guess(Colour(primaries=12, transfer=13), 1920, 1080)
    assert (partly.matrix, partly.primaries, partly.transfer) == (1, 12, 13)


def test_range_is_full_where_the_format_or_codec_says_so() -> None:
    assert guess(UNTAGGED, 64, 64, "yuvj420p").range == Range.FULL
    assert guess(UNTAGGED, 64, 64, "yuv420p", "mjpeg").range == Range.FULL
    assert guess(replace(UNTAGGED, range=Range.LIMITED), 64, 64, "yuvj420p").range == Range.LIMITED


@pytest.mark.parametrize(
    ("name", "codec", "range"),
    [
        ("gray", "rawvideo", Range.FULL), ("gray10le", "rawvideo", Range.FULL),
        ("gray", "ffvhuff", Range.FULL), ("gray", "h264", Range.LIMITED),
        ("gray10le", "hevc", Range.LIMITED), ("gray", "vapoursynth", Range.LIMITED),
    ],
)  # fmt: skip
def test_gray_is_full_but_where_a_standard_says_otherwise(
    name: str, codec: str, range: Range
) -> None:
    assert guess(UNTAGGED, 64, 64, name, codec).range == range
    assert guess(replace(UNTAGGED, range=Range.LIMITED), 64, 64, name).range == Range.LIMITED


def test_siting_follows_the_codec_and_the_matrix() -> None:
    assert guess(UNTAGGED, 64, 64, codec="mpeg1video").siting == Siting.CENTRE
    assert guess(UNTAGGED, 64, 64, codec="mjpeg").siting == Siting.CENTRE
    assert guess(UNTAGGED, 64, 64, "yuvj422p", codec="mjpeg").siting == Siting.CENTRE
    assert guess(UNTAGGED, 64, 64, codec="mpeg2video").siting == Siting.LEFT
    assert guess(Colour(matrix=9), 3840, 2160).siting == Siting.TOP_LEFT
    assert guess(Colour(matrix=9), 3840, 2160, "yuv422p10le").siting == Siting.LEFT
    assert guess(UNTAGGED, 64, 64, "yuv444p").siting == Siting.UNSPECIFIED


@pytest.mark.parametrize(
    ("name", "said", "range"),
    [
        ("gbrp", Range.UNSPECIFIED, Range.FULL), ("gbrp", Range.LIMITED, Range.LIMITED),
        ("gbrpf32le", Range.LIMITED, Range.FULL),
    ],
)  # fmt: skip
def test_rgb_has_no_matrix(name: str, said: Range, range: Range) -> None:
    found, notes = complete_colour(
        Colour(range=said), width=64, height=64, format=pixel_format(name), codec="png"
    )
    assert (found.matrix, found.range, notes) == (Matrix.RGB, range, [])


def test_rgb_matrix_on_subsampled_video_is_a_mistake() -> None:
    assert guess(Colour(matrix=Matrix.RGB), 1920, 1080).matrix == Matrix.BT709
    assert guess(Colour(matrix=Matrix.RGB), 1920, 1080, "yuv444p").matrix == Matrix.RGB


def test_every_guess_is_told() -> None:
    def notes(tags: Colour) -> list[str]:
        form = pixel_format("yuv420p")
        return complete_colour(tags, width=720, height=576, format=form, codec="h264")[1]

    assert notes(Colour(matrix=1, range=Range.LIMITED, siting=Siting.LEFT)) == []
    lines = notes(UNTAGGED)
    assert any("BT.601 (625)" in line for line in lines)
    assert any("range" in line and "limited" in line for line in lines)
    assert all("\n" not in line for line in lines)


def test_unknown_matrix_of_a_stream_is_refused() -> None:
    with pytest.raises(UnsupportedFormatError, match="matrix 10"):
        guess(Colour(matrix=10), 1920, 1080)


def test_floats_have_no_range_to_guess() -> None:
    for name in ("grayf32le", "gbrpf32le"):
        found, notes = complete_colour(
            Colour(transfer=8), width=64, height=48, format=pixel_format(name), codec="exr"
        )
        assert (found.range, found.transfer, found.primaries, notes) == (Range.FULL, 8, 2, [])


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("yuv420p", "yuv420p10le", (1, Range.LIMITED, Siting.TOP)),
        ("yuv420p", "yuv422p", (1, Range.LIMITED, Siting.LEFT)),
        ("yuv420p", "yuv444p", (1, Range.LIMITED, Siting.UNSPECIFIED)),
        ("yuv420p", "gbrp", (Matrix.RGB, Range.FULL, Siting.UNSPECIFIED)),
        ("gbrp", "yuv420p", (1, Range.LIMITED, Siting.LEFT)),
    ],
)
def test_colour_follows_the_format(
    source: str, target: str, expected: tuple[int, Range, Siting]
) -> None:
    rgb = source == "gbrp"
    given = Colour(
        matrix=Matrix.RGB if rgb else Matrix.BT709, range=Range.FULL if rgb else Range.LIMITED,
        primaries=9, transfer=16, siting=Siting.UNSPECIFIED if rgb else Siting.TOP,
    )  # fmt: skip
    found = convert_colour(given, pixel_format(source), pixel_format(target))
    assert (found.matrix, found.range, found.siting) == expected
    assert (found.primaries, found.transfer) == (9, 16)

"""Names that carry numbers."""

import pytest

from vsr.numbering import Hole, Pattern, find_hole, first_number, natural_key


@pytest.mark.parametrize(
    ("pattern", "number", "name"),
    [
        ("%06d.png", 1, "000001.png"),
        ("shot_%d.tif", 12, "shot_12.tif"),
        ("%4d.dpx", 86400, "86400.dpx"),  # FFmpeg pads with zeros, with or without the 0
        ("%4d.dpx", 7, "0007.dpx"),
        ("100%% %03d.exr", 5, "100% 005.exr"),
        ("50% off %02d.png", 3, "50% off 03.png"),
        ("a%02db2c.png", 3, "a03b2c.png"),
        ("a.%d.dpx", -2, "a.-2.dpx"),
        ("a.%04d.dpx", -1, "a.-001.dpx"),
        ("a.%02d.dpx", -100, "a.-100.dpx"),
        ("a-%d.dpx", -1, "a--1.dpx"),
    ],
)
def test_patterns_are_printfs(pattern: str, number: int, name: str) -> None:
    parsed = Pattern.parse(pattern)
    assert parsed is not None
    assert parsed.name(number) == name
    assert parsed.number(name) == number


@pytest.mark.parametrize("name", ["a.png", "%%06d.png", "%s.png", "%d_%d.png", "100%.png", "",
                                  "%9999999999d.png"])  # fmt: skip
def test_other_names_are_no_patterns(name: str) -> None:
    assert Pattern.parse(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "1.png",
        "00001.png",
        "0001.tif",
        "-01.png",
        "-0001.png",
        "-000.png",
        "--01.png",
        "+001.png",
        "x0001.png",
        "\u0660\u0660\u0660\u0661.png",
    ],
)
def test_names_that_a_pattern_does_not_make(name: str) -> None:
    parsed = Pattern.parse("%04d.png")
    assert parsed is not None
    assert parsed.number(name) is None


def test_people_count_nine_before_ten() -> None:
    names = ["a10.png", "a9.png", "a09.png", "b1.png", "a.png", "A1.png", "1a.png"]
    expected = ["1a.png", "A1.png", "a09.png", "a9.png", "a10.png", "a.png", "b1.png"]
    assert sorted(names, key=natural_key) == expected


def test_a_hyphen_that_follows_no_word_is_a_minus() -> None:
    names = ["a.1.png", "a.0.png", "a.-1.png", "a.-10.png", "b_-2.png", "b_-3.png", "-1.png"]
    expected = ["-1.png", "a.-10.png", "a.-1.png", "a.0.png", "a.1.png", "b_-3.png", "b_-2.png"]
    assert sorted(names, key=natural_key) == expected
    words = ["shot-1.png", "shot-2.png", "2024-01-02.png", "2024-02-01.png"]
    assert sorted(words, key=natural_key) == [*words[2:], *words[:2]]


def test_digits_of_other_scripts_are_text() -> None:
    names = ["\u06631.png", "a1.png", "\u0663.png", "a\u06632.png"]
    expected = ["a1.png", "a\u06632.png", "\u06631.png", "\u0663.png"]
    assert sorted(names, key=natural_key) == expected


def names(pattern: str, *numbers: int) -> list[str]:
    parsed = Pattern.parse(pattern)
    assert parsed is not None
    return [parsed.name(number) for number in numbers]


@pytest.mark.parametrize(
    ("found", "hole"),
    [
        (names("%04d.png", 1, 2, 4), Hole("0003.png", "0004.png")),
        (names("%d.png", 8, 9, 11, 12), Hole("10.png", "11.png")),
        (names("r2_%04d_v3.dpx", 99, 102, 100), Hole("r2_0101_v3.dpx", "r2_0102_v3.dpx")),
        ([*names("a%d.png", 1, 2, 3), *names("b%d.png", 1, 2, 5, 6)], Hole("b3.png", "b5.png")),
        ([*names("1_%d.png", 1, 2, 3), *names("2_%d.png", 1, 2, 4)], Hole("2_3.png", "2_4.png")),
        (names("a.%04d.png", -3, -1, 0), Hole("a.-002.png", "a.-001.png")),
        (names("a.%d.png", -2, -1, 1), Hole("a.0.png", "a.1.png")),
        (names("a.%d.png", -2, -1, 0, 1), None),
        (names("%04d.png", 1, 2, 3), None),
        (names("x2_%d.png", 98, 99, 100, 101), None),
        (["a.png", "b.png"], None),
        (["7.png"], None),
        ([], None),
    ],
)  # fmt: skip
def test_the_first_hole_is_found(found: list[str], hole: Hole | None) -> None:
    assert find_hole(found) == (hole, True)
    assert find_hole(found[::-1]) == (hole, True)


@pytest.mark.parametrize(
    "found",
    [
        ["IMG_20240101_120001.jpg", "IMG_20240101_120105.jpg", "IMG_20240102_090000.jpg"],
        names("%04d.png", 10, 20, 30, 40),
        [*names("%04d.png", 1, 2, 3, 4), *names("%d.png", 1, 2, 4)],
    ],
)
def test_times_and_every_tenth_frame_are_no_holes(found: list[str]) -> None:
    assert find_hole(found) == (None, False)


@pytest.mark.parametrize(
    ("found", "number"),
    [
        (names("x2_%d.png", 99, 100, 101), 99),
        (names("%04d.png", 0, 1), 0),
        (names("a.%04d.png", -2, -1, 0), -2),
        (names("a-%d.png", 1, 2), 1),
        (names("%04d.png", 1, 2, 4), None),
        ([*names("a%d.png", 1, 2), *names("b%d.png", 1, 2)], None),
        ([*names("a%d.png", 1, 2), "cover.png"], None),
        (["a.png"], None),
    ],
)  # fmt: skip
def test_where_names_begin_to_count(found: list[str], number: int | None) -> None:
    assert first_number(found) == number

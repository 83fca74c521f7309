"""Which outputs are pictures, and how they are encoded."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from vsr.cli.configuration import make_config
from vsr.cli.options import build_parser
from vsr.config import BITEXACT, EncoderConfig
from vsr.encoding.stills import choose_still_encoding, coded_format, find_stills
from vsr.errors import ConfigError
from vsr.frame import Colour, Matrix, Range, Siting, VideoInfo, pixel_format
from vsr.hdr import ContentLight, HdrMetadata

BT709 = Colour(
    matrix=Matrix.BT709, range=Range.LIMITED, primaries=1, transfer=1, siting=Siting.LEFT
)


def info(name: str, colour: Colour = BT709, **changes: object) -> VideoInfo:
    plain = VideoInfo(
        width=64, height=48, format=pixel_format(name), colour=colour, rate=Fraction(25),
        time_base=Fraction(1, 25),
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def encoding(path: str, source: VideoInfo, **config: object):
    return choose_still_encoding(Path(path), source, 64, 48, EncoderConfig(**config))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "muxer", "codec", "files"),
    [
        ("a/b%03d.png", None, "png", ["b001.png", "b1000.png"]),
        ("a/b.TIFF", None, "tiff", ["b.TIFF", "b.TIFF"]),
        ("100%.dpx", None, "dpx", ["100%.dpx", "100%.dpx"]),
        ("%d.exr", "image2", "exr", ["1.exr", "1000.exr"]),
        ("frames", "image2", "png", ["000001.png", "001000.png"]),
        ("reel 1.5", "image2", "png", ["000001.png", "001000.png"]),
    ],
)
def test_pictures_by_name(path: str, muxer: str | None, codec: str, files: list[str]) -> None:
    found = find_stills(Path(path), muxer)
    assert found is not None
    assert found.codec == codec
    assert [found.file(1), found.file(1000)] == files
    assert found.number(files[0]) == 1
    assert found.number("other.png") is None


@pytest.mark.parametrize(
    ("path", "muxer"),
    [("a.mkv", None), ("-", "image2"), ("a.png", "matroska"), ("frames", None), ("a%d.mkv", None)],
)
def test_other_outputs_are_no_pictures(path: str, muxer: str | None) -> None:
    assert find_stills(Path(path), muxer) is None


def test_a_folder_is_filled_with_pictures(tmp_path: Path) -> None:
    for codec, name in ((None, "000007.png"), ("tiff", "000007.tif"), ("dpx", "000007.dpx")):
        found = find_stills(tmp_path, None, codec)
        assert found is not None
        assert (found.folder, found.file(7)) == (tmp_path, name)
        assert found.overlap([tmp_path / "x" / ".." / "000123.png"]) == (codec is None)
        assert not found.overlap([tmp_path / "x" / "000123.png", tmp_path / "a.png"])


@pytest.mark.parametrize("name", ["a.jpg", "%04d.webp", "%04d.gif"])
def test_kinds_that_are_not_written(name: str) -> None:
    with pytest.raises(ConfigError, match=r": pictures are written as png, tif, tiff, dpx, exr$"):
        find_stills(Path(name), None)


@pytest.mark.parametrize("name", ["a.gif", "a.APNG", "a.webp"])
def test_animations_are_not_called_pictures(name: str) -> None:
    told = r": animations are not written, but a video is .*: ffmpeg -i out\.mkv out\.\w+"
    with pytest.raises(ConfigError, match=told) as raised:
        find_stills(Path(name), None)
    assert ("pictures are written" in str(raised.value)) == (name == "a.webp")


def test_a_webp_of_a_picture_is_a_picture() -> None:
    with pytest.raises(ConfigError, match=r"^a\.webp: pictures are written as"):
        find_stills(Path("a.webp"), None, stems=("in",))


@pytest.mark.parametrize(
    ("name", "source", "form", "coded"),
    [
        ("%d.png", "yuv420p", "gbrp", "rgb24"),
        ("%d.png", "yuv420p10le", "gbrp16le", "rgb48be"),
        ("%d.png", "gbrpf32le", "gbrp16le", "rgb48be"),
        ("%d.png", "yuva444p", "gbrap", "rgba"),
        ("%d.png", "ya16le", "gbrap16le", "rgba64be"),
        ("%d.png", "gray", "gray", "gray"),
        ("%d.png", "gray10le", "gray16le", "gray16be"),
        ("%d.tif", "rgb48le", "gbrp16le", "rgb48le"),
        ("%d.tif", "grayf32le", "gray16le", "gray16le"),
        ("%d.dpx", "yuv422p10le", "gbrp10le", "gbrp10be"),
        ("%d.dpx", "gbrp12le", "gbrp12le", "gbrp12be"),
        ("%d.dpx", "gbrp14le", "gbrp16le", "rgb48be"),
        ("%d.dpx", "gbrap10le", "gbrap16le", "rgba64be"),
        ("%d.exr", "yuv420p", "gbrpf32le", "gbrpf32le"),
        ("%d.exr", "gbrapf16le", "gbrapf32le", "gbrapf32le"),
        ("%d.exr", "gray", "grayf32le", "grayf32le"),
    ],
)
def test_format_that_loses_least(name: str, source: str, form: str, coded: str) -> None:
    found = encoding(name, info(source))
    assert found.muxer == "image2"
    assert (found.format.name, coded_format(found)) == (form, coded)
    assert found.colour.range == Range.FULL
    assert found.colour.matrix == (Matrix.RGB if form.startswith("gb") else Matrix.BT709)
    assert f"pictures, {coded}" in found.notes[0]


@pytest.mark.parametrize(
    ("name", "wanted", "coded"),
    [
        ("a.png", "rgb48be", "rgb48be"),
        ("a.png", "rgb48", "rgb48be"),
        ("a.png", "gbrp16le", "rgb48be"),
        ("a.png", "rgb24", "rgb24"),
        ("a.png", "gray16", "gray16be"),
        ("a.tif", "rgb48be", "rgb48le"),
        ("a.dpx", "gbrp10", "gbrp10be"),
        ("a.exr", "gbrapf32", "gbrapf32le"),
    ],
)
def test_depth_by_request(name: str, wanted: str, coded: str) -> None:
    assert coded_format(encoding(name, info("yuv420p"), pix_fmt=wanted)) == coded


@pytest.mark.parametrize(
    ("name", "config", "reason"),
    [
        ("a.png", {"pix_fmt": "yuv420p"}, "png does not take pixel format yuv420p: it takes gray"),
        ("a.dpx", {"pix_fmt": "gbrpf32le"}, "dpx does not take"),
        ("a.png", {"codec": "libx264"}, "libx264 does not write such pictures"),
        ("a.png", {"codec": "tiff"}, "tiff does not write such pictures"),
        ("a.png", {"range": 1}, "pictures have full range, leave out --range"),
        ("a.png", {"crf": 17.0}, "png has no option crf"),
        ("a.png", {"options": {"prred": "up"}}, "no option prred: did you mean pred"),
        ("a.png", {"options": {"pred": "sideways"}}, "cannot write png pictures of 64x48"),
    ],
)
def test_what_does_not_go_together(name: str, config: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        encoding(name, info("yuv420p"), **config)


def test_one_picture_takes_one_frame() -> None:
    encoding("a.png", info("yuv420p", frames=1))
    encoding("a.png", info("yuv420p"))
    encoding("a%d.png", info("yuv420p", frames=250))
    with pytest.raises(ConfigError, match=r"one picture, .* 250 frames: call .* a%06d\.png"):
        encoding("a.png", info("yuv420p", frames=250))


def test_numbers_are_held_as_ffmpegs_option() -> None:
    """Work folders of earlier versions hold them as that, and are still compared with."""
    for path, number, held in (
        ("%d.png", None, {"start_number": "1"}), ("%d.png", 0, {"start_number": "0"}),
        ("o.png", None, {}),
    ):  # fmt: skip
        chosen = encoding(path, info("rgb24"), first_number=number)
        assert chosen.container_options == held
        assert chosen.muxer_options == {}


def test_half_precision_stays_half() -> None:
    found = encoding("a.exr", info("gbrpf16le"))
    assert found.options["format"] == "half"
    assert found.notes[0] == "output: exr pictures, gbrpf32le in half precision"
    assert "format" not in encoding("a.exr", info("gbrpf32le")).options
    forced = encoding("a.exr", info("gbrpf16le"), options={"format": "float"})
    assert forced.options["format"] == "float"


def notes(name: str, source: VideoInfo, **config: object) -> str:
    return "; ".join(encoding(name, source, **config).notes[1:])


def test_every_loss_is_said() -> None:
    linear = Colour(matrix=Matrix.RGB, range=Range.FULL, transfer=8)
    assert notes("a.exr", info("gbrpf32le", linear)) == ""
    assert notes("a.png", info("rgb24", Colour(matrix=Matrix.RGB, range=Range.FULL))) == ""
    cut = "what lies below 0 or above 1 is cut: rgb48be holds whole numbers"
    assert notes("a.png", info("gbrpf32le", linear)) == cut
    assert "12 bits become" not in notes("a.dpx", info("gbrp12le"))
    assert "16 bits become 8: rgb24" in notes("a.png", info("gbrp16le"), pix_fmt="rgb24")
    assert "alpha is dropped: rgb24" in notes("a.png", info("rgba"), pix_fmt="rgb24")
    assert "yuv420p becomes rgb24" in notes("a.png", info("yuv420p"))
    assert "gbrp10le is stored as rgb48le" in notes("a.tif", info("gbrp10le"))
    assert "range becomes full" in notes("a.png", info("gray"))
    limited = Colour(matrix=Matrix.RGB, range=Range.LIMITED)
    assert notes("a.png", info("rgb24", limited)) == "range becomes full"
    assert "tiff pictures have none (primaries bt709, transfer bt709)" in notes(
        "a.tif", info("yuv420p")
    )
    assert "colour tags" not in notes("a.dpx", info("yuv420p"))
    wide = Colour(matrix=Matrix.RGB, range=Range.FULL, primaries=9, transfer=8)
    assert "dpx pictures do not know (primaries bt2020)" in notes("a.dpx", info("gbrp12le", wide))
    assert "colour tags" not in notes("a.png", info("yuv420p"))
    assert "programs take those in exr for linear light" in notes("a.exr", info("yuv420p"))
    bright = HdrMetadata(light=ContentLight(max_cll=1000, max_fall=400))
    assert "HDR metadata is dropped" in notes("a.png", info("yuv420p10le", hdr=bright))


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        (["out/"], "out/000001.png"),
        (["out.d/", "-c:v", "dpx"], "out.d/000001.dpx"),
        (["out", "-f", "image2", "-c:v", "tiff"], "out/000001.tif"),
        (["out.mkv"], None),
        (["out.png", "-f", "null"], None),
    ],
)
def test_a_slash_asks_for_a_folder(arguments: list[str], files: str | None) -> None:
    options = build_parser().parse_intermixed_args(["in.mkv", *arguments])
    config = make_config(options)
    found = config.output and find_stills(config.output, config.muxer, config.encoder.codec)
    assert (found and str(found.folder / found.file(1))) == files


def test_pictures_have_no_options_of_containers() -> None:
    with pytest.raises(ConfigError, match="pictures are in no container: leave out movflags"):
        encoding("a%d.png", info("rgb24"), muxer_options={"movflags": "+faststart"})
    bitexact = {"fflags": BITEXACT}
    assert encoding("a%d.png", info("rgb24"), muxer_options=bitexact).muxer_options == bitexact

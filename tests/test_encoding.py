"""What is chosen for which output, and what is refused before any frame is made."""

import itertools
import subprocess
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from vsr.cli import main
from vsr.config import PIPE, EncoderConfig, UpscaleConfig
from vsr.encoding import Encoding, choose_encoding, discarding
from vsr.encoding.formats import stored_as
from vsr.errors import ConfigError
from vsr.frame import Colour, Matrix, Range, Siting, VideoInfo, pixel_format
from vsr.pipeline import upscale

DISPLAY_IN_UNITS = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
DISPLAY_IN_DECIMALS = "G(0.265,0.69)B(0.15,0.06)R(0.68,0.32)WP(0.3127,0.329)L(1000,0.0001)"


def source(pix_fmt="yuv420p", *, width=64, height=48, **colour) -> VideoInfo:
    rgb = pix_fmt.startswith(("gbr", "rgb", "bgr"))
    given = {
        "matrix": Matrix.RGB if rgb else Matrix.SMPTE170M,
        "range": Range.FULL if rgb else Range.LIMITED,
        "primaries": 6,
        "transfer": 6,
        "siting": Siting.LEFT,
    }
    return VideoInfo(
        width=width,
        height=height,
        format=pixel_format(pix_fmt),
        colour=Colour(**(given | colour)),
        time_base=Fraction(1, 1000),
        rate=Fraction(25),
    )


def choose(name: str, info: VideoInfo, *, scale=2, size=None, **config) -> Encoding:
    width, height = size or (info.width * scale, info.height * scale)
    return choose_encoding(Path(name), info, width, height, EncoderConfig(**config))


@pytest.mark.parametrize(
    ("name", "pix_fmt", "codec", "chosen"),
    [
        ("a.mp4", "yuv420p", "libx264", "yuv420p"),
        ("a.MP4", "yuv422p", "libx264", "yuv422p"),
        ("a.mkv", "nv12", "libx264", "yuv420p"),
        ("a.mov", "yuv420p10le", "libx265", "yuv420p10le"),
        ("a.mkv", "p010le", "libx265", "yuv420p10le"),
        ("a.mkv", "yuv422p12le", "libx265", "yuv422p12le"),
        ("a.mkv", "yuv420p9le", "libx265", "yuv420p10le"),
        ("a.mkv", "yuv422p16le", "ffv1", "yuv422p16le"),
        ("a.mp4", "yuv422p16le", "libx265", "yuv422p12le"),
        ("a.mkv", "yuva444p", "ffv1", "yuva444p"),
        ("a.mp4", "yuva420p10le", "libx265", "yuv420p10le"),
        ("a.mkv", "gbrp16le", "ffv1", "gbrp16le"),
        ("a.mkv", "bgra", "ffv1", "gbrap"),
        ("a.mp4", "rgb24", "libx264", "yuv444p"),
        ("a.mp4", "gbrp10le", "libx265", "yuv444p10le"),
        ("a.mp4", "gray", "libx264", "gray"),
        ("a.mkv", "gray16le", "ffv1", "gray16le"),
        ("a.webm", "gray", "libvpx-vp9", "yuv420p"),
        ("a.webm", "yuv444p", "libvpx-vp9", "yuv444p"),
        ("a.webm", "yuva420p", "libvpx-vp9", "yuva420p"),
        ("a.webm", "rgba", "libvpx-vp9", "yuva420p"),
        ("a.webm", "yuv420p10le", "libsvtav1", "yuv420p10le"),
        ("a.avi", "yuv420p10le", "ffv1", "yuv420p10le"),
        ("a.nut", "yuv420p", "libx264", "yuv420p"),
        ("a.ts", "yuv420p10le", "libx265", "yuv420p10le"),
    ],
)
def test_default_codec_and_format(name, pix_fmt, codec, chosen):
    encoding = choose(name, source(pix_fmt))
    assert (encoding.codec, encoding.format.name) == (codec, chosen)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "chosen", "stored"),
    [
        ("a.mov", "png", "yuv420p", "gbrp", "rgb24"), ("a.mov", "png", "gray", "gray", "gray"),
        ("a.mov", "png", "yuv420p10le", "gbrp16le", "rgb48be"),
        ("a.mov", "png", "rgba64le", "gbrap16le", "rgba64be"),
        ("a.mov", "png", "gray16le", "gray16le", "gray16be"),
        ("a.mov", "qtrle", "rgba", "gbrap", "argb"), ("a.avi", "zmbv", "gray", "gbrp", "bgr0"),
        ("a.mp4", "libx264rgb", "yuv420p10le", "gbrp", "rgb24"),
        ("a.mkv", "ffv1", "rgb24", "gbrp", "bgr0"), ("a.mkv", "ffv1", "rgba", "gbrap", "bgra"),
        ("a.mkv", "ffv1", "gbrp10le", "gbrp10le", "gbrp10le"),
    ],
)  # fmt: skip
def test_colours_in_pixels_are_as_good_as_in_planes(name, codec, pix_fmt, chosen, stored):
    encoding = choose(name, source(pix_fmt), codec=codec)
    assert encoding.format.name == chosen
    assert stored_as(codec, encoding.format) == stored


@pytest.mark.parametrize(
    ("pix_fmt", "size", "slices"),
    [
        ("bgra", (64, 1), "2"), ("bgra", (1, 64), "1"), ("bgra", (1, 1), "1"),
        ("bgra", (2, 2), "4"), ("yuv420p", (64, 6), "15"), ("yuv420p", (1, 64), "1"),
        ("yuv420p", (3, 3), "1"),
        ("yuv420p", (64, 8), "16"), ("yuv420p", (63, 48), None), ("gbrap16le", (7680, 4320), "18"),
    ],
)  # fmt: skip
def test_ffv1_is_cut_into_as_many_slices_as_fit(pix_fmt, size, slices):
    encoding = choose("a.mkv", source(pix_fmt), size=size, codec="ffv1")
    assert encoding.options.get("slices") == slices
    told = [note for note in encoding.notes if "slices" in note]
    assert len(told) == (slices != "16")
    assert slices in (None, "16") or f"with slices={slices}:" in told[0]


def test_slices_that_are_asked_for_are_no_others():
    with pytest.raises(ConfigError, match="Unsupported number 12 of slices"):
        choose("a.mkv", source("bgra"), size=(64, 1), codec="ffv1", options={"slices": "12"})


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "options", "chosen"),
    [
        ("dnxhd", "gbrp10le", {"profile": "dnxhr_444"}, "gbrp10le"),
        ("dnxhd", "gbrp16le", {"profile": "5"}, "gbrp10le"),
        ("dnxhd", "rgb24", {}, "gbrp10le"),
        ("dnxhd", "gbrp10le", {"profile": "dnxhr_hqx"}, "yuv422p10le"),
        ("dnxhd", "yuv444p10le", {"profile": "dnxhr_444"}, "yuv444p10le"),
        ("dnxhd", "yuv422p10le", {}, "yuv422p10le"),
        ("cfhd", "gbrp10le", {}, "gbrp12le"),
        ("libx265", "gbrp10le", {}, "yuv444p10le"),
    ],
)
def test_codecs_for_editing_keep_rgb(codec, pix_fmt, options, chosen):
    encoding = choose("a.mov", source(pix_fmt, width=256, height=128), codec=codec, options=options)
    assert encoding.format.name == chosen


@pytest.mark.parametrize(("wanted", "chosen"), [("bgr0", "gbrp"), ("bgra", "gbrap")])
def test_rgb_of_8_bits_is_asked_for_as_ffv1_holds_it(wanted, chosen):
    assert choose("a.mkv", source(), codec="ffv1", pix_fmt=wanted).format.name == chosen


@pytest.mark.parametrize(("codec", "wanted"), [("ffv1", "rgb48"), ("libx264", "nv21")])
def test_what_is_not_written_is_not_said_to_be_refused_by_the_encoder(codec, wanted):
    message = f"^vsr does not write {wanted}, which {codec} takes: it writes yuv420p, "
    with pytest.raises(ConfigError, match=message):
        choose("a.mkv", source(), codec=codec, pix_fmt=wanted)


@pytest.mark.parametrize(
    ("codec", "name"), [("png", "a.mov"), ("qtrle", "a.mov"), ("ffv1", "a.mkv")]
)
def test_rgb_of_a_lossless_encoder_comes_back(tmp_path, codec, name):
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    still, path = tmp_path / "in.png", tmp_path / name
    encode_png(still, picture)
    upscale(UpscaleConfig(input=still, output=path, model="identity",
                          encoder=EncoderConfig(codec=codec)))  # fmt: skip
    with av.open(str(path)) as container:
        (frame,) = container.decode(video=0)
        assert np.array_equal(frame.to_ndarray(format="rgb24"), picture)


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize(("stored", "channels"), [("rgb48be", 3), ("rgba64be", 4), ("gray16be", 1)])
def test_png_keeps_16_bits_in_a_video(tmp_path, stored, channels, asked):
    picture = np.random.default_rng(0).integers(0, 1 << 16, (48, 64, channels), np.uint16)
    still, path = tmp_path / "in.png", tmp_path / "a.mov"
    encode_png(still, picture.squeeze(), stored)
    wanted = EncoderConfig(codec="png", pix_fmt=stored if asked else None)
    upscale(UpscaleConfig(input=still, output=path, model="identity", encoder=wanted))
    with av.open(str(path)) as container:
        (frame,) = container.decode(video=0)
        assert frame.format.name == stored
        assert np.array_equal(frame.to_ndarray(), picture.squeeze())
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", stored, "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    assert raw == picture.astype(">u2").tobytes()


def encode_png(path, picture, pix_fmt="rgb24"):
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=25, width=64, height=48, pix_fmt=pix_fmt)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, pix_fmt)))
        container.mux(stream.encode(None))


SOURCES = [
    f"yuv{alpha}{chroma}p{depth}"
    for alpha, chroma, depth in itertools.product(
        ("", "a"), ("420", "422", "444"), ("", "10le", "12le", "16le")
    )
] + ["yuv411p", "yuv410p", "yuv440p", "gray", "gray10le", "ya8", "rgb24", "rgba", "gbrp", "gbrap"]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "avi", "nut", "ts"])
def test_every_source_finds_an_encoding(suffix):
    for pix_fmt in SOURCES:  # choose_encoding opens the encoder, so a bad choice would raise
        encoding = choose(f"a.{suffix}", source(pix_fmt))
        assert encoding.format.planar
        assert not encoding.format.name.startswith("yuvj")
        lost = pixel_format(pix_fmt).alpha and not encoding.format.alpha
        assert lost == any("alpha is dropped" in note for note in encoding.notes)
        shallower = encoding.format.depth < pixel_format(pix_fmt).depth
        assert shallower == any("bits become" in note for note in encoding.notes)


@pytest.mark.parametrize("pix_fmt", ["gbrpf16le", "gbrapf32le", "grayf32le"])
def test_floating_point_becomes_whole_numbers(pix_fmt):
    for suffix in ("mp4", "mov", "mkv", "webm", "avi", "nut"):
        encoding = choose(f"a.{suffix}", source(pix_fmt))
        assert not encoding.format.floating
        cut = f"what lies below 0 or above 1 is cut: {encoding.format.name} holds whole numbers"
        assert cut in encoding.notes
    assert choose("a.mkv", source("grayf32le")).format.name == "gray16le"


@pytest.mark.parametrize(("scale", "chosen"), [(1, "yuv422p"), (2, "yuv420p"), (4, "yuv420p")])
def test_4_1_1_becomes_the_smallest_that_holds_its_chroma(scale, chosen):
    encoding = choose("a.mp4", source("yuv411p"), scale=scale)
    assert encoding.format.name == chosen
    assert any("yuv411p" in note for note in encoding.notes)


def test_prores_holds_alpha_on_request():
    encoding = choose("a.mov", source("yuva420p"), codec="prores_ks")
    assert encoding.format.name == "yuva444p10le"
    assert encoding.options["profile"] == "4444"


def test_encoder_is_found_by_the_name_of_its_codec():
    assert choose("a.mp4", source(), codec="hevc").codec == "libx265"


def test_colour_stays_the_sources():
    info = source("yuv420p", range=Range.FULL, siting=Siting.CENTRE)
    assert choose("a.mp4", info).colour == info.colour


@pytest.mark.parametrize(
    ("pix_fmt", "wanted", "siting"),
    [
        ("yuv420p", None, Siting.TOP_LEFT),
        ("yuv411p", None, Siting.LEFT),
        ("yuv420p", "yuv422p", Siting.LEFT),
        ("yuv420p", "yuv444p", Siting.UNSPECIFIED),
        ("gray", "yuv420p", Siting.LEFT),
    ],
)
def test_siting_is_kept_with_the_subsampling_only(pix_fmt, wanted, siting):
    info = source(pix_fmt, siting=Siting.TOP_LEFT)
    assert choose("a.mp4", info, pix_fmt=wanted).colour.siting == siting


def test_chroma_is_moved_where_the_bitstream_names_no_siting():
    info = source("yuv422p", siting=Siting.CENTRE)
    moved = choose("a.mp4", info)
    assert moved.colour.siting == Siting.LEFT
    assert any("moves to siting left" in note for note in moved.notes)
    kept = choose("a.mkv", info, codec="ffv1")
    assert kept.colour.siting == Siting.CENTRE
    assert not any("siting" in note for note in kept.notes)


def test_rgb_becomes_limited_bt709():
    colour = choose("a.mp4", source("gbrp", primaries=9)).colour
    assert (colour.matrix, colour.range, colour.primaries) == (Matrix.BT709, Range.LIMITED, 9)


def test_rgb_stays_rgb_without_loss():
    colour = choose("a.mkv", source("gbrp16le")).colour
    assert (colour.matrix, colour.range) == (Matrix.RGB, Range.FULL)


def test_rgb_is_written_in_full_range():
    limited = source("gbrp16le", range=Range.LIMITED)
    kept = choose("a.mkv", limited)
    assert (kept.colour.range, "range becomes full" in kept.notes) == (Range.FULL, True)
    other = choose("a.mkv", limited, codec="libx265", pix_fmt="yuv444p10le")
    assert other.colour.range == Range.LIMITED
    assert not any(note.startswith("range") for note in other.notes)


def test_range_follows_the_bitstream_that_has_only_one():
    encoding = choose("a.mov", source(range=Range.FULL), codec="prores_ks")
    assert encoding.colour.range == Range.LIMITED
    assert "range becomes limited" in encoding.notes
    assert choose("a.avi", source(), codec="mjpeg").colour.range == Range.FULL


@pytest.mark.parametrize("wanted", [Range.LIMITED, Range.FULL])
def test_range_is_what_is_asked_for_where_there_is_a_choice(wanted):
    found = Range.FULL if wanted == Range.LIMITED else Range.LIMITED
    info = source(range=found)
    encoding = choose("a.mp4", info, range=wanted)
    assert encoding.colour.range == discarding(info, EncoderConfig(range=wanted)).colour.range
    assert encoding.colour.range == wanted
    assert f"range becomes {wanted.name.lower()}" in encoding.notes
    one = choose("a.avi", info, codec="mjpeg" if wanted == Range.LIMITED else "mpeg4", range=wanted)
    assert one.colour.range == found
    assert any(note.startswith(f"range is {found.name.lower()} all the same") for note in one.notes)


def test_range_and_pixel_format_do_not_contradict_each_other():
    with pytest.raises(ConfigError, match="yuvj420p has full range: leave out the j, or --range"):
        EncoderConfig(pix_fmt="yuvj420p", range=Range.LIMITED)
    with pytest.raises(ConfigError, match="sound must be one of copy, web"):
        EncoderConfig(sound="browsers")  # type: ignore[arg-type]


def test_requested_pixel_format():
    encoding = choose("a.mkv", source(), codec="libx265", pix_fmt="yuv444p12")
    assert encoding.format.name == "yuv444p12le"
    full = choose("a.mkv", source(), pix_fmt="yuvj420p")
    assert (full.format.name, full.colour.range) == ("yuv420p", Range.FULL)


def test_options_of_the_user_win():
    plain = choose("a.mp4", source())
    assert plain.options["crf"] == "17"
    assert plain.options["preset"] == "medium"
    mine = choose("a.mp4", source(), crf=20.5, preset="fast", options={"tune": "film"})
    assert mine.options == {"crf": "20.5", "preset": "fast", "tune": "film"}
    rate = choose("a.mp4", source(), options={"b": "5M"})
    assert "crf" not in rate.options


def test_rgb_says_by_which_matrix_it_becomes_yuv():
    assert "gbrp becomes yuv444p, by the matrix bt709" in choose("a.mp4", source("gbrp")).notes


def test_linear_light_is_said_to_stay_so():
    info = source("yuv420p10le", matrix=Matrix.BT709, primaries=1, transfer=8)
    assert any(note.startswith("linear light stays so") for note in choose("a.mp4", info).notes)


@pytest.mark.parametrize(
    ("name", "chosen"), [("yuva444p12le", "yuva444p16le"), ("gray14le", "gray16le")]
)
def test_what_ffmpeg_of_today_reads_of_ffv1(name, chosen):
    """Debian's FFmpeg 5.1 has no such FFV1."""
    assert choose("a.mkv", source(name), codec="ffv1").format.name == chosen
    assert choose("a.mkv", source(name), codec="ffv1", pix_fmt=name).format.name == name


def test_x265_params_are_joined():
    encoding = choose("a.mkv", source("yuv420p10le"), options={"x265-params": "aq-mode=1"})
    assert encoding.options["x265-params"] == "log-level=none:aq-mode=1"


@pytest.mark.parametrize(
    ("codec", "options", "ours"),
    [
        ("libx265", {"x265-params": "lossless=1"}, False),
        ("libx265", {"x265-params": "aq-mode=1:qp=0"}, False),
        ("libx265", {"x265-params": "lossless=0"}, True),
        ("libx265", {"x265-params": "aq-mode=1"}, True),
        ("libx264", {"x264-params": "crf=30"}, False),
        ("libx264", {"qp": "0"}, False),
    ],
)
def test_a_crf_that_does_not_count_is_neither_given_nor_said(codec, options, ours):
    encoding = choose("a.mkv", source(), codec=codec, options=options)
    said = {"libx264": "crf 17", "libx265": "crf 18"}[codec] in encoding.notes[0]
    assert ("crf" in encoding.options) == said == ours


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        # x265 and FFmpeg warn of this, too, but do what they are told
        ("libx265", {"x265-params": "vbv-maxrate=5:hrd=1:hdr10-opt=1"}),
        ("libx265", {"x265-params": f"master-display={DISPLAY_IN_UNITS}:max-cll=1000,400"}),
        ("libx264", {"x264-params": f"mastering-display={DISPLAY_IN_UNITS}:cll=1000,400"}),
        ("libsvtav1", {"svtav1-params": "tune=0:mastering-display=" + DISPLAY_IN_DECIMALS}),
    ],
)
def test_parameters_that_encoders_take(codec, options):
    encoding = choose("a.mkv", source(), codec=codec, options=options)
    assert all(encoding.options[key].endswith(words) for key, words in options.items())


@pytest.mark.parametrize(
    ("name", "pix_fmt", "advice"),
    [
        ("a.mp4", "yuv444p", "yuv420p"), ("a.mp4", "yuv422p10le", "yuv420p10le"),
        ("a.mp4", "yuv420p", None), ("a.mp4", "gray", None), ("a.mkv", "yuv444p", None),
    ],
)  # fmt: skip
def test_chroma_that_few_play_is_said(name, pix_fmt, advice):
    notes = choose(name, source(pix_fmt)).notes
    told = [note for note in notes if "seldom play" in note]
    assert bool(told) == (advice is not None)
    assert all(note.endswith(f"--pix-fmt {advice} is for them") for note in told)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "why"),
    [
        ("a.webm", "libvpx-vp9", None, "libvpx-vp9 takes no more here; libsvtav1 keeps 10"),
        ("a.mkv", "libvpx-vp9", None, "libvpx-vp9 takes no more here; libsvtav1 keeps 10"),
        ("a.avi", "mpeg4", None, "mpeg4 takes no more here; ffv1 keeps 12"),
        ("a.mkv", "libx264", "yuv420p", "yuv420p holds no more"),
    ],
)
def test_why_bits_are_lost(name, codec, pix_fmt, why):
    notes = choose(name, source("yuv420p12le"), codec=codec, pix_fmt=pix_fmt).notes
    assert f"12 bits become 8: {why}" in notes


def test_first_note_sums_up_the_choice():
    note = choose("a.mp4", source("yuv420p10le")).notes[0]
    assert note == "output: libx265 in mp4, yuv420p10le, crf 18, preset medium"


@pytest.mark.parametrize(
    ("codec", "words", "said"),
    [
        ("libx265", "crf=40", "crf 40"),
        ("libx265", "crf=40:bitrate=500", "bitrate 500"),
        ("libx265", "lossless=0:qp=20:aq-mode=1:qp=21", "qp 21"),
        ("libx265", "lossless=1:crf=40", "lossless"),
        ("libx264", "crf=30", "crf 30"),
        ("libsvtav1", "crf=40", "crf 40"),
        ("libsvtav1", "rc=1:tbr=500", "rc 1, tbr 500"),
    ],
)
def test_crf_that_the_encoders_own_parameters_overrule(codec, words, said):
    key = f"{codec.removeprefix('lib')}-params"
    encoding = choose("a.mkv", source(), codec=codec, crf=22, options={key: words})
    assert encoding.notes[0].split(", ", 2)[2].startswith(f"{said}, preset ")
    assert "crf" not in encoding.options


def test_crf_that_x264opts_overrule():
    encoding = choose("a.mkv", source(), codec="libx264", options={"x264opts": "qp=0"})
    assert ", qp 0, preset medium" in encoding.notes[0]
    assert "crf" not in encoding.options


def test_crf_that_the_encoders_own_parameters_leave_alone():
    words = {"x265-params": "aq-mode=1:crf-max=30:lossless=0"}
    encoding = choose("a.mkv", source(), codec="libx265", options=words)
    assert encoding.options["crf"] == "18"
    assert ", crf 18, " in encoding.notes[0]


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("a.xyz", {}, r"unknown output extension \.xyz: use one of mp4, .*mkv.*png"),
        ("a", {}, "file without extension"),
        ("a.mp4", {"codec": "libx246"}, "unknown encoder libx246: did you mean .*libx264"),
        ("a.mp4", {"codec": "aac"}, "aac encodes audio, not video"),
        ("a.mov", {"codec": "ffv1"}, "PyAV does not write ffv1 in mov: mp4 and matroska"),
        ("a.webm", {"codec": "libx264"}, "PyAV does not write libx264 in webm: mp4 and"),
        (
            "a.mkv",
            {"codec": "utvideo"},
            "^PyAV does not write utvideo in matroska: avi and nut hold it, and matroska "
            "takes ffv1, which is lossless, too$",
        ),
        ("a.mp4", {"pix_fmt": "yuv420p12le"}, "libx264 does not take .*: it takes yuv420p, .*gray"),
        ("a.mp4", {"pix_fmt": "nonsense"}, "does not take pixel format nonsense"),
        ("a.mov", {"codec": "gif"}, "gif takes colours in no format that can be written here"),
        ("a.mp4", {"options": {"color_range": "pc"}}, "-e color_range: the output is tagged"),
        ("a.mp4", {"options": {"pix_fmt": "yuv420p"}}, "-e pix_fmt: is --pix-fmt here"),
        ("a.mp4", {"options": {"crg": "3"}}, "libx264 has no option crg: did you mean crf"),
        ("a.mp4", {"crf": 99.0}, "crf of libx264 is from 0 to 51, not 99"),
        ("a.mp4", {"options": {"crf": "99"}}, "crf of libx264 is from 0 to 51, not 99"),
        ("a.mkv", {"codec": "libx265", "options": {"crf": "-2"}}, "crf of libx265 is from 0 to 51"),
        ("a.mkv", {"codec": "libx265", "crf": -1.0}, "crf of libx265 is from 0 to 51, not -1"),
        ("a.webm", {"crf": 99.0}, "crf of libvpx-vp9 is from 0 to 63, not 99"),
        ("a.webm", {"crf": -1.0}, "crf of libvpx-vp9 is from 0 to 63, not -1"),
        ("a.mkv", {"codec": "ffv1", "crf": 3.0}, "ffv1 has no option crf: it is lossless$"),
        ("a.mp4", {"options": {"zzzzz": "3"}}, "libx264 has no option zzzzz$"),
        (
            "a.mov",
            {"codec": "prores_ks", "crf": 3.0},
            "prores_ks has no option crf: -e b=5M sets a bit rate",
        ),
        ("a.mkv", {"muxer_options": {"nosuch": "y"}}, "matroska has no option nosuch$"),
        ("a.mp4", {"muxer_options": {"brand": "mp42", "brnad": "mp42"}}, "mp4 has no option brnad"),
        ("a.y4m", {"muxer_options": {"nosuch": "y"}}, "yuv4mpegpipe has no option nosuch"),
        ("a.mp4", {"preset": "warp"}, "no preset warp: use one of ultrafast"),
        *(
            ("a.mkv", {"codec": codec, "options": {key: words}}, message)
            for codec, key, words, message in [
                ("libx265", "x265-params", "nosuch=3", "x265-params: .* has no parameter nosuch$"),
                ("libx265", "x265-params", "crf=abc", "x265-params: .* does not take crf=abc$"),
                ("libx265", "x265-params", "sar=foo", "x265-params: .* does not take sar=foo$"),
                ("libx265", "x265-params", "master-display=foo", "foo is no mastering display: "),
                ("libx264", "x264-params", "nosuch=3", "x264-params: .* does not take nosuch=3$"),
                ("libx264", "x264-params", "aq-mode=1:crf=abc", "does not take crf=abc$"),
                ("libx264", "x264-params", "mastering-display=foo", "take mastering-display=foo$"),
                ("libsvtav1", "svtav1-params", "mastering-display=foo", "foo is no mastering disp"),
            ]
        ),
        ("a.mp4", {"options": {"crf": "high"}}, 'Unable to parse "crf" option value "high"'),
    ],
)
def test_refused_in_one_line(name, config, message, capfd):
    with pytest.raises(ConfigError, match=message) as error:
        choose(name, source(), **config)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_parameter_that_svt_av1_refuses():
    """It prints lines of its own meanwhile."""
    with pytest.raises(ConfigError, match=r"libsvtav1 does not take nosuch=3$"):
        choose("a.mkv", source(), codec="libsvtav1", options={"svtav1-params": "nosuch=3"})


def choose_for_pipe(muxer: str, info: VideoInfo, **config) -> Encoding:
    return choose_encoding(PIPE, info, 128, 96, EncoderConfig(**config), muxer=muxer)


@pytest.mark.parametrize(
    ("muxer", "pix_fmt", "codec", "chosen"),
    [
        ("yuv4mpegpipe", "yuv420p", "rawvideo", "yuv420p"),
        ("yuv4mpegpipe", "p010le", "rawvideo", "yuv420p10le"),
        ("nut", "yuv422p10le", "rawvideo", "yuv422p10le"),
        ("nut", "rgba", "rawvideo", "gbrap"),
        ("nut", "gbrap16le", "rawvideo", "gbrap16le"),
        ("matroska", "yuv420p", "rawvideo", "yuv420p"),
        ("matroska", "yuyv422", "rawvideo", "yuv422p"),
        ("matroska", "yuv444p", "ffv1", "yuv444p"),
        ("matroska", "yuv420p10le", "ffv1", "yuv420p10le"),
        ("mpegts", "yuv420p", "libx264", "yuv420p"),
        ("mp4", "yuv420p10le", "libx265", "yuv420p10le"),
    ],
)
def test_codec_and_format_in_a_pipe(muxer, pix_fmt, codec, chosen):
    encoding = choose_for_pipe(muxer, source(pix_fmt))
    assert (encoding.codec, encoding.format.name) == (codec, chosen)
    lossless = codec in ("rawvideo", "ffv1")
    assert ("lossless" in encoding.notes[0]) == lossless
    assert f"{codec} in {muxer} to standard output" in encoding.notes[0]


def test_requested_format_decides_whether_matroska_holds_it_raw():
    assert choose_for_pipe("matroska", source(), pix_fmt="yuv420p10le").codec == "ffv1"
    assert choose_for_pipe("matroska", source("yuv420p10le"), pix_fmt="yuv420p").codec == "rawvideo"


@pytest.mark.parametrize("muxer", ["mp4", "mov"])
def test_piped_mp4_is_in_fragments(muxer):
    piped = choose_for_pipe(muxer, source(), muxer_options={"movflags": "+faststart+prefer_icc"})
    flags = "frag_keyframe+delay_moov+default_base_moof+prefer_icc"
    assert piped.muxer_options == {"movflags": flags}
    file = choose("a.mp4", source(), muxer_options={"movflags": "+faststart"})
    assert file.muxer_options == {"movflags": "+faststart"}


@pytest.mark.parametrize(
    ("given", "more"),
    [
        ("-faststart", ""),
        ("faststart-prefer_icc", "-prefer_icc"),
        ("prefer_icc+write_colr-faststart", "+prefer_icc+write_colr"),
        ("-frag_keyframe+frag_every_frame", "-frag_keyframe+frag_every_frame"),
    ],
)
def test_flags_that_are_switched_off_are_taken_on_a_pipe(given, more):
    piped = choose_for_pipe("mp4", source(), muxer_options={"movflags": given})
    assert piped.muxer_options["movflags"] == f"frag_keyframe+delay_moov+default_base_moof{more}"
    assert piped.fragmented


def test_a_pipe_keeps_its_fragments():
    message = "mp4 to standard output needs fragments: leave out -frag_keyframe"
    with pytest.raises(ConfigError, match=message):
        choose_for_pipe("mp4", source(), muxer_options={"movflags": "-frag_keyframe"})


def test_what_is_switched_off_is_off():
    def chosen(**given: str) -> Encoding:
        return choose("a.mp4", source(), muxer_options=given)

    assert chosen(fflags="+bitexact").bitexact
    assert not chosen(fflags="-bitexact").bitexact
    assert not chosen(fflags="+bitexact-bitexact").bitexact
    assert chosen(movflags="frag_keyframe").fragmented
    assert not chosen(movflags="faststart-frag_keyframe").fragmented


@pytest.mark.parametrize(
    ("path", "muxer", "message"),
    [
        (PIPE, None, "standard output needs a format: add -f with one of yuv4mpegpipe, nut"),
        (PIPE, "avi", "avi cannot be piped: use one of yuv4mpegpipe"),
        (PIPE, "y4m", "unknown output format y4m: did you mean yuv4mpegpipe"),
        (Path("a.mp4"), "mkv", "unknown output format mkv: did you mean matroska"),
        (Path("a.mp4"), "zzzzzzz", "unknown output format zzzzzzz: use one of mp4, mov"),
    ],
)
def test_formats_that_are_not_written(path, muxer, message):
    with pytest.raises(ConfigError, match=message):
        choose_encoding(path, source(), 128, 96, EncoderConfig(), muxer=muxer)


def test_named_format_wins_over_the_extension():
    named = choose_encoding(Path("a.mp4"), source(), 64, 48, EncoderConfig(), muxer="matroska")
    assert (named.muxer, named.codec) == ("matroska", "libx264")  # a file: not lossless


@pytest.mark.parametrize(
    ("name", "pix_fmt", "message"),
    [
        ("a.mov", "yuv420p", "raw video is not written in mov: mkv takes ffv1, which is lossless"),
        ("a.mov", "yuv422p10le", "not written in mov: v210 is lossless there, and ffv1 in mkv"),
        ("a.mov", "gbrp10le", "not written in mov: r210 is lossless there, and ffv1 in mkv"),
        ("a.mov", "rgba", "not written in mov: qtrle is lossless there, and ffv1 in mkv"),
        ("a.mov", "rgba64le", "not written in mov: png is lossless there, and ffv1 in mkv"),
        ("a.ts", "yuv422p", "raw video is not written in mpegts: mkv takes ffv1"),
    ],
)
def test_raw_video_that_nobody_would_read_is_refused(name, pix_fmt, message):
    with pytest.raises(ConfigError, match=message):
        choose(name, source(pix_fmt), codec="rawvideo")


@pytest.mark.parametrize(
    ("name", "pix_fmt", "chosen"),
    [
        ("a.mkv", "yuv420p10le", "yuv420p"),
        ("a.mkv", "yuv444p", "yuv422p"),
        ("a.avi", "yuv410p", "yuv410p"),
        ("a.nut", "yuv440p10le", "yuv444p10le"),
    ],
)
def test_raw_video_takes_formats_that_are_read_back(name, pix_fmt, chosen):
    encoding = choose(name, source(pix_fmt), codec="rawvideo", scale=1)
    assert encoding.format.name == chosen


@pytest.mark.parametrize("size", [(65, 48), (64, 49)])
def test_odd_size_is_refused_with_the_two_ways_out(size):
    with pytest.raises(ConfigError, match=f"{size[0]}x{size[1]} .*even") as error:
        choose("a.mp4", source(), size=size)
    assert "--pix-fmt yuv444p" in str(error.value)
    even = str(error.value).partition("--size ")[2].split()[0]
    choose("a.mp4", source(), size=tuple(map(int, even.split("x"))))  # the advice works
    choose("a.mp4", source(), size=size, pix_fmt="yuv444p")


@pytest.mark.parametrize("size", [(99999999, 2), (99999998, 2), (32769, 32769), (2**31 + 1, 2)])
def test_size_that_is_impossible_is_not_advised_to_be_even(size):
    for name in ("a.mp4", "a.mkv"):
        with pytest.raises(ConfigError, match=f"^{size[0]}x{size[1]} is larger than any picture"):
            choose(name, source(), size=size)


def test_odd_height_is_no_matter_for_4_2_2_and_for_other_codecs():
    choose("a.mp4", source("yuv422p"), size=(64, 49))
    choose("a.mkv", source(), size=(65, 49), codec="ffv1")


def test_size_that_the_encoder_refuses():
    with pytest.raises(ConfigError, match="too small"):
        choose("a.mkv", source("yuv420p10le"), size=(2, 2))


def test_trying_out_leaves_the_log_level_alone():
    import av.logging

    before = av.logging.get_level()
    av.logging.set_level(av.logging.FATAL)
    try:
        choose("a.mp4", source())
        assert av.logging.get_level() == av.logging.FATAL
    finally:
        av.logging.set_level(before)


def test_discarding_keeps_the_format():
    info = source("nv12")
    assert discarding(info, EncoderConfig()).format.name == "yuv420p"
    assert discarding(info, EncoderConfig()).colour == info.colour
    deep = discarding(info, EncoderConfig(pix_fmt="yuv444p16le"))
    assert deep.format.name == "yuv444p16le"
    rgb = discarding(replace(info, format=pixel_format("rgba")), EncoderConfig())
    assert (rgb.format.name, rgb.colour.matrix) == ("gbrap", Matrix.RGB)


def test_discarding_takes_and_refuses_formats_as_raw_video():
    info = source()
    deep = discarding(info, EncoderConfig(pix_fmt="yuv420p10"))
    assert deep.format.name == "yuv420p10le"
    full = discarding(info, EncoderConfig(pix_fmt="yuvj420p"))
    assert full.format.name == "yuv420p"
    with pytest.raises(ConfigError, match="vsr does not write nv12, which rawvideo takes: "):
        discarding(info, EncoderConfig(pix_fmt="nv12"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("codec", ["h264_nvenc", "hevc_nvenc", "av1_nvenc"])
def test_nvenc_says_what_it_needs(
    make_clip: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], codec: str
) -> None:
    output = tmp_path / "out.mkv"
    assert main([str(make_clip("in.mp4", frames=2)), str(output), "-c:v", codec]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot write {codec} (" in line
    assert "needs an NVIDIA GPU with an encoder" in line
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("name", "config", "remedy"),
    [
        ("a.mov", {}, "; -c:v prores_ks --pix-fmt yuva444p10le keeps it"),
        ("a.mp4", {}, "; mov and mkv can hold it"),
        ("a.webm", {}, "; -c:v libvpx-vp9 --pix-fmt yuva420p keeps it, in 8 bits"),
        ("a.mkv", {"codec": "libx265"}, "cannot hold it"),
    ],
)
def test_what_keeps_alpha_is_named(name, config, remedy):
    notes = choose(name, source("yuva444p10le"), **config).notes
    assert any(note.startswith("alpha is dropped") and note.endswith(remedy) for note in notes)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("a.mov", {"codec": "prores_ks", "pix_fmt": "yuva444p10le"}),
        ("a.webm", {"codec": "libvpx-vp9", "pix_fmt": "yuva420p"}),
    ],
)
def test_what_is_named_keeps_alpha(name, config):
    encoding = choose(name, source("yuva444p12le"), **config)
    assert encoding.format.alpha
    lost = [note for note in encoding.notes if "takes no more here" in note]
    assert len(lost) == 1
    assert lost[0].endswith("takes no more here")  # what holds more bits holds no alpha


def test_cineform_names_a_width_that_it_takes():
    with pytest.raises(ConfigError, match=r"no multiple of 16: use --size 64x46$"):
        choose("a.mov", source("yuv422p10le"), size=(62, 46), codec="cfhd")
    choose("a.mov", source("yuv422p10le"), size=(64, 46), codec="cfhd")


def test_all_matrices_of_an_encoder_are_named():
    notes = choose("a.avi", source(matrix=Matrix.BT2020_NCL), codec="utvideo").notes
    assert "matrix becomes bt709: utvideo has bt709, bt470bg and smpte170m alone" in notes

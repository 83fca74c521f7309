"""What is written and what a reader takes it for agree, or a line says which of it does not."""

import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vsr.config import PIPE, EncoderConfig, UpscaleConfig
from vsr.encoding import Encoding, add_video, choose_encoding
from vsr.encoding.carried import same_place
from vsr.encoding.formats import stored_as
from vsr.encoding.scheduling import usual_scheduling
from vsr.ffmpeg import write_tags
from vsr.frame import Colour, Matrix, Range, Siting, VideoInfo, pixel_format
from vsr.pipeline import upscale
from vsr.sources import open_source
from vsr.tags import SITINGS, word_for

WIDTH, HEIGHT = 352, 288  # what H.263 has
COLOURS = (
    Colour(matrix=6, range=Range.LIMITED, primaries=6, transfer=6, siting=Siting.LEFT),
    Colour(matrix=9, range=Range.FULL, primaries=9, transfer=16, siting=Siting.CENTRE),
    Colour(matrix=1, range=Range.LIMITED, primaries=1, transfer=1, siting=Siting.TOP_LEFT),
    Colour(matrix=7, range=Range.FULL, primaries=7, transfer=7, siting=Siting.BOTTOM_LEFT),
)
OUTPUTS = [
    *(("libx264", name, form) for name in ("mp4", "mkv", "nut") for form in ("420", "422")),
    *(("libx265", name, form) for name in ("mp4", "ts") for form in ("420", "422")),
    ("libsvtav1", "mp4", "420"), ("libsvtav1", "mkv", "420"), ("libsvtav1", "nut", "420"),
    *(("libvpx-vp9", name, form) for name in ("mp4", "webm", "avi") for form in ("420", "422")),
    ("libvpx", "webm", "420"), ("libvpx", "avi", "420"),
    *(("mjpeg", name, form) for name in ("mp4", "mov", "mkv", "avi", "nut") for form in ("420",)),
    ("mjpeg", "mov", "422"), ("mpeg1video", "mkv", "420"), ("mpeg1video", "ts", "420"),
    ("mpeg2video", "ts", "420"), ("mpeg2video", "mkv", "422"), ("mpeg4", "mp4", "420"),
    ("mpeg4", "mov", "420"), ("mpeg4", "ts", "420"), ("prores_ks", "mov", "422"),
    ("prores_ks", "mkv", "422"), ("dnxhd", "mov", "422"), ("cfhd", "mov", "422"),
    ("v210", "mov", "422"), ("v210", "avi", "422"), ("jpeg2000", "mov", "420"),
    ("jpeg2000", "mp4", "420"), ("jpeg2000", "avi", "420"), ("svq1", "mov", "410"),
    ("h263", "mov", "420"), ("msmpeg4", "avi", "420"), ("wmv2", "avi", "420"),
    ("magicyuv", "avi", "420"), ("utvideo", "avi", "420"), ("speedhq", "nut", "422"),
    *(("ffv1", name, form) for name in ("mkv", "mp4", "avi", "nut") for form in ("420", "422")),
    ("rawvideo", "mkv", "420"), ("rawvideo", "nut", "422"), ("rawvideo", "avi", "422"),
]  # fmt: skip

OPTIONS = {
    "dnxhd": {"profile": "dnxhr_hq"},
    "libvpx": {"deadline": "realtime"},
    "libx265": {"x265-params": "bframes=0"},  # two frames are less than it reorders
}


def source(chroma: str, colour: Colour) -> VideoInfo:
    return VideoInfo(
        width=WIDTH, height=HEIGHT, format=pixel_format(f"yuv{chroma}p"), colour=colour,
        time_base=Fraction(1, 25), rate=Fraction(25),
    )  # fmt: skip


def written(path: Path, encoding: Encoding, info: VideoInfo) -> Path:
    options = dict(encoding.muxer_options)
    with (
        usual_scheduling(encoding.codec),
        av.open(str(path), "w", format=encoding.muxer, options=options) as container,
    ):
        stream = add_video(container, encoding, info)
        for pts in range(2):
            frame = av.VideoFrame(WIDTH, HEIGHT, stored_as(encoding.codec, encoding.format))
            for plane in frame.planes:
                plane.update(bytes([2 + pts]) * plane.buffer_size)
            frame.pts, frame.time_base = pts, Fraction(1, 25)
            write_tags(frame, encoding.colour)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def coefficients(matrix: int) -> int:
    return Matrix.SMPTE170M if matrix == Matrix.BT470BG else matrix


def choose(codec: str, name: str, info: VideoInfo, **config) -> Encoding:
    options = OPTIONS.get(codec, {})
    given = EncoderConfig(codec=codec, options={**options, "strict": "-2"}, **config)
    return choose_encoding(Path(f"a.{name}"), info, WIDTH, HEIGHT, given)


@pytest.mark.parametrize(("codec", "name", "chroma"), OUTPUTS)
def test_readers_take_it_for_what_it_is_or_are_told(tmp_path, codec, name, chroma):
    for number, colour in enumerate(COLOURS):
        info = source(chroma, colour)
        encoding = choose(codec, name, info)
        path = written(tmp_path / f"{number}.{name}", encoding, info)
        with open_source(path) as found:
            read, form = found.info.colour, found.info.format
        notes, own = "\n".join(encoding.notes), encoding.colour
        if coefficients(read.matrix) != coefficients(own.matrix):
            assert "-colorspace" in notes
        if read.range != own.range:
            assert "-color_range" in notes
        # Of BT.2020 without a tag some say left, some top left.
        undecided = read.matrix == Matrix.BT2020_NCL and own.siting == Siting.LEFT
        if not same_place(form, read.siting, own.siting) and not undecided:
            assert f"-chroma_sample_location {word_for(SITINGS, own.siting)}" in notes
        for tag, option in (("primaries", "-color_primaries"), ("transfer", "-color_trc")):
            if getattr(read, tag) != getattr(own, tag):
                assert option in notes
        changed = {
            "matrix becomes": coefficients(own.matrix) != coefficients(colour.matrix),
            "range becomes": own.range != colour.range,
            "chroma moves": not same_place(form, own.siting, colour.siting),
        }
        said = {line: line in notes for line in changed}
        assert said == changed or "subsampling changes" in notes


@pytest.mark.parametrize(
    ("codec", "name", "chroma"),
    [("v210", "mov", "422"), ("mpeg4", "mp4", "420"), ("mpeg4", "mov", "420"),
     ("jpeg2000", "mp4", "420"), ("jpeg2000", "mov", "420"), ("ffv1", "mp4", "420"),
     ("libx264", "mp4", "420")],
)  # fmt: skip
@pytest.mark.parametrize(("primaries", "transfer"), [(2, 2), (1, 2), (2, 16)])
def test_the_matrix_is_told_without_primaries_or_transfer(
    tmp_path, codec, name, chroma, primaries, transfer
):
    colour = Colour(
        matrix=1, range=Range.LIMITED, primaries=primaries, transfer=transfer, siting=Siting.LEFT
    )
    info = source(chroma, colour)  # of a size that is taken for BT.601
    path = written(tmp_path / f"a.{name}", choose(codec, name, info), info)
    with open_source(path) as found:
        read = found.info.colour
    assert (read.matrix, read.primaries, read.transfer) == (1, primaries, transfer)
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "stream=color_space", "-of", "csv=p=0",
         str(path)], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.strip() == "bt709"


def test_colour_tags_leave_other_flags_alone():
    info = source("420", Colour(matrix=1, range=Range.LIMITED, siting=Siting.LEFT))
    given = {"movflags": "+faststart"}
    found = choose("mpeg4", "mp4", info, muxer_options=given).muxer_options
    assert found == {"movflags": "+faststart+write_colr"}
    piped = choose_encoding(PIPE, info, WIDTH, HEIGHT, EncoderConfig(codec="mpeg4"), muxer="mp4")
    assert piped.fragmented
    assert choose("libx264", "mp4", info, muxer_options=given).muxer_options == given


@pytest.mark.parametrize("codec", ["libx264", "libx264rgb", "libx265", "ffv1"])
def test_numbers_that_an_encoder_lacks(codec):
    """It is opened with each, which libx265 refuses of those that it does not have."""
    base = replace(COLOURS[0], siting=Siting.UNSPECIFIED)
    tried = {("primaries", number): replace(base, primaries=number) for number in range(24)}
    tried |= {("transfer", number): replace(base, transfer=number) for number in range(20)}
    lacked = set()
    for tag, colour in tried.items():
        notes = choose(codec, "mkv", source("444", colour)).notes
        lacked |= {tag for note in notes if "has no number for that" in note}
    all_of_them = {("primaries", number) for number in (3, *range(13, 24))}
    all_of_them |= {("transfer", 3), ("transfer", 19)}
    assert lacked == (set() if codec == "ffv1" else all_of_them)


@pytest.mark.parametrize(
    ("codec", "name", "said", "read"),
    [
        ("libx265", "mkv", "colour tags are lost (primaries ebu3213)", 2),
        ("libx264", "nut", "colour tags are lost (primaries ebu3213)", 2),
        ("libx264", "mp4", "only the container's colour tags say primaries ebu3213", 22),
        ("libx264", "mkv", "only the container's colour tags say primaries ebu3213", 22),
    ],
)
def test_primaries_without_a_number_are_said(tmp_path, codec, name, said, read):
    info = source("420", replace(COLOURS[0], primaries=22))
    encoding = choose(codec, name, info)
    assert f"{said}: {codec} has no number for that" in encoding.notes
    with open_source(written(tmp_path / f"a.{name}", encoding, info)) as found:
        assert (found.info.colour.primaries, found.info.colour.transfer) == (read, 6)


@pytest.mark.parametrize("codec", ["ffv1", "rawvideo"])
@pytest.mark.parametrize("name", ["mkv", "avi", "nut", "mp4"])
def test_archives_stay_exact(codec, name):
    if (codec, name) == ("rawvideo", "mp4"):
        codec = "ffv1"
    for colour in COLOURS:
        for chroma in ("420", "422"):
            assert choose(codec, name, source(chroma, colour)).colour == colour


def test_part_of_the_tags_is_told():
    info = source("420", replace(COLOURS[0], siting=Siting.CENTRE))
    assert any(note.endswith("tell its reader -color_primaries smpte170m -color_trc smpte170m")
               for note in choose("libvpx-vp9", "avi", info).notes)  # fmt: skip
    told = [note for note in choose("ffv1", "mp4", info).notes if "lost" in note]
    assert told == ["chroma siting center is lost: ffv1 in mp4 has no tag for it; "
                    "tell its reader -chroma_sample_location center"]  # fmt: skip
    whole = choose("libsvtav1", "nut", source("420", COLOURS[0])).notes
    assert not any("lost" in note for note in whole)


def clip(path: Path, form: str, planes: list[np.ndarray], *tags: str) -> Path:
    height, width = planes[0].shape
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", form, "-s", f"{width}x{height}",
         "-i", "-", "-c:v", "ffv1", *tags, str(path)],
        input=b"".join(plane.tobytes() for plane in planes), check=True,
    )  # fmt: skip
    return path


def converted(path: Path, output: Path, codec: str, **config) -> Path:
    encoder = EncoderConfig(codec=codec, **config)
    upscale(UpscaleConfig(input=path, output=output, model="identity", encoder=encoder))
    return output


def decoded(path: Path, form: str) -> bytes:
    """As Debian's FFmpeg reads it."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-sws_flags", "accurate_rnd+bitexact",
               "-f", "rawvideo", "-pix_fmt", form, "-"]  # fmt: skip
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.mark.parametrize("name", ["mkv", "mov", "avi", "nut"])
def test_ffmpeg_shows_the_colours_of_jpeg(tmp_path, name):
    colours = ((0, 255, 0), (200, 60, 40), (30, 60, 220))
    bars = np.repeat(np.array(colours, np.uint8), 32, axis=0)[None].repeat(64, axis=0)
    picture = clip(tmp_path / "in.mkv", "gbrp", [bars[:, :, index] for index in (1, 2, 0)])
    found = decoded(converted(picture, tmp_path / f"out.{name}", "mjpeg"), "rgb24")
    shown = np.frombuffer(found, np.uint8).reshape(bars.shape).astype(int)
    assert np.abs(shown - bars)[:, 12::32].max() <= 4


@pytest.mark.parametrize(("source_matrix", "codec"), [("bt709", "mjpeg"), ("bt2020nc", "mjpeg"),
                                                      ("smpte170m", "dnxhd")])  # fmt: skip
def test_yuv_gets_the_matrix_that_readers_take(tmp_path, source_matrix, codec):
    size = (128, 256)
    planes = [np.full(size, 120, np.uint8), np.full((128, 128), 90, np.uint8),
              np.full((128, 128), 170, np.uint8)]  # fmt: skip
    tags = ("-colorspace", source_matrix, "-color_range", "tv")
    path = clip(tmp_path / "in.mkv", "yuv422p", planes, *tags)
    options = {"profile": "dnxhr_hq"} if codec == "dnxhd" else {}
    output = converted(path, tmp_path / "out.mov", codec, options=options)
    expected, found = (np.frombuffer(decoded(file, "rgb24"), np.uint8) for file in (path, output))
    assert np.abs(expected.astype(int) - found).max() <= 3


@pytest.mark.parametrize(
    ("codec", "name", "chroma", "siting", "target"),
    [
        ("mjpeg", "mkv", "420", "left", Siting.CENTRE),
        ("mjpeg", "mov", "422", "left", Siting.CENTRE),
        ("mpeg1video", "mkv", "420", "left", Siting.CENTRE),
        ("mpeg2video", "ts", "420", "center", Siting.LEFT),
        ("mpeg4", "mp4", "420", "center", Siting.LEFT),
        ("libvpx-vp9", "mp4", "420", "center", Siting.LEFT),
        ("prores_ks", "mov", "422", "center", Siting.LEFT),
        ("v210", "mov", "422", "center", Siting.LEFT),
    ],
)
def test_chroma_is_where_readers_look_for_it(tmp_path, codec, name, chroma, siting, target):
    """A ramp of two codes a luma column: half a column is one code."""
    offset = 0.5 if siting == "center" else 0.0
    rows = 96 if chroma == "422" else 48
    ramp = np.rint(2 * (2 * np.arange(48) + offset) + 30).astype(np.uint8)[None].repeat(rows, 0)
    planes = [np.full((96, 96), 120, np.uint8), ramp, ramp]
    tags = ("-chroma_sample_location", siting, "-colorspace", "smpte170m", "-color_primaries",
            "smpte170m", "-color_trc", "smpte170m", "-color_range", "tv")  # fmt: skip
    path = clip(tmp_path / "in.mkv", f"yuv{chroma}p", planes, *tags)
    output = converted(path, tmp_path / f"out.{name}", codec)
    with av.open(str(output)) as container:
        frame = next(container.decode(video=0))
    deep = frame.format.components[0].bits > 8
    codes = np.frombuffer(bytes(frame.planes[1]), np.dtype("uint16" if deep else "uint8"))
    found = codes.reshape(rows, -1)[:, :48].astype(float) / (4 if deep else 1)
    if codec == "mjpeg":  # full range
        found = (found - 128) * 224 / 255 + 128
    across = 0.5 if target == Siting.CENTRE else 0.0
    expected = 2 * (2 * np.arange(48) + across) + 30
    assert abs((found - expected)[:, 8:-8].mean()) < 0.3
    quiet = choose(codec, name, source(chroma, replace(COLOURS[0], siting=target)))
    assert not any("siting" in note for note in quiet.notes)

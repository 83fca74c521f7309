"""What changes in mid-stream, and tags that contradict each other."""

from fractions import Fraction

import pytest

from vsr.config import FieldsConfig, InputConfig
from vsr.frame import Matrix, Range
from vsr.sources import SourceConfig, open_source

SIZE = (160, 120)
BT601 = "setparams=colorspace=smpte170m:color_primaries=smpte170m:color_trc=smpte170m:range=tv"
BT709 = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
TO_BT601 = "scale=in_color_matrix=bt709:out_color_matrix=smpte170m"
FULL = f"{BT601},scale=in_range=tv:out_range=pc"
LOSSLESS = ("-c:v", "libx264", "-qp", "2", "-preset", "ultrafast", "-bf", "0")


@pytest.fixture
def reference(ffmpeg):
    """Sixteen frames as if nothing changed."""
    path = ffmpeg.from_film("even.mkv", "scale=160:120,setsar=1", "-c:v", "ffv1", count=16)
    return ffmpeg.frames(path, "yuv420p", SIZE)


@pytest.fixture
def changing(ffmpeg):
    """Eight frames of the film, and eight more through other filters, in one stream."""

    def make(name, vf, pix_fmt="yuv420p"):
        def part(which, first, vf, pix_fmt):
            vf = f"trim=start_frame={first},setpts=PTS-STARTPTS,{vf}"
            options = (*LOSSLESS, "-pix_fmt", pix_fmt)
            return ffmpeg.from_film(f"{name}.{which}.h264", vf, *options, count=first + 8)

        one = part(1, 0, f"scale=160:120,setsar=1,{BT601}", "yuv420p")
        two = part(2, 8, vf, pix_fmt)
        joined = ffmpeg.folder / f"{name}.h264"
        joined.write_bytes(one.read_bytes() + two.read_bytes())
        return ffmpeg.make(f"{name}.ts", "-i", joined, "-c", "copy")

    return make


CHANGES = {
    "size": (f"scale=240:180,setsar=1,{BT601}", "yuv420p"),
    "smaller": (f"scale=120:90,setsar=1,{BT601}", "yuv420p"),
    "chroma": (f"scale=160:120,setsar=1,{BT601}", "yuv422p"),
    "depth": (f"scale=160:120,setsar=1,{BT601}", "yuv420p10le"),
    "both": (f"scale=200:120,setsar=1,{BT601}", "yuv444p"),
    "pixels": (f"scale=200:120,setsar=4/5,{BT601}", "yuv420p"),
}
REFORMATTED = (
    "8 frames of 16 changed size or pixel format in mid-stream:"
    " converted to that of the first frame"
)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("chain", [None, "hflip,hflip", "format=yuv444p,format=yuv420p"])
def test_size_and_format(tools, reference, changing, name, chain):
    source = open_source(changing(name, *CHANGES[name]), SourceConfig(filters=chain))
    frames, times = tools.read(source)
    assert {len(frame) for frame in frames} == {160 * 120 * 3 // 2}
    quality = [tools.psnr(*pair) for pair in zip(frames, reference, strict=True)]
    assert min(quality) > (27 if name == "smaller" else 37), quality
    assert len(times) == len(set(times)) == 16
    lost = {"depth": "the depth (10 bits)", "both": "the shape (stretched)"}.get(name)
    said, *other = source.report.lines()
    assert said == REFORMATTED + (f"; lost: {lost} of 8" if lost else "")
    assert len(other) == (name == "pixels")  # which are others there, so that the shape is not


@pytest.mark.parametrize("name", ["size", "chroma"])
def test_deinterlacing_goes_on(tools, reference, changing, name):
    fields = FieldsConfig(deinterlace="yadif")
    source = open_source(changing(name, *CHANGES[name]), SourceConfig(fields=fields))
    frames, _ = tools.read(source)
    quality = [tools.psnr(*pair) for pair in zip(frames, reference, strict=True)]
    assert min(quality) > 35, quality


def test_size_of_a_filtered_picture_stays(changing):
    path = changing("size", *CHANGES["size"])
    with open_source(path, SourceConfig(filters="scale=iw/2:ih/2")) as source:
        assert {(f.width, f.height, *f.planes[0].shape) for f in source} == {(80, 60, 60, 80)}


@pytest.mark.parametrize("chain", [(), ("--vf", "hflip,hflip")])
@pytest.mark.parametrize(
    ("name", "vf", "undone"),
    [
        ("matrix", f"scale=160:120,setsar=1,{BT709}", TO_BT601),
        ("range", f"scale=160:120,setsar=1,{FULL}", "null"),
        ("rangesize", f"scale=240:180,setsar=1,{FULL}", "null"),
    ],
)  # fmt: skip
def test_colour(ffmpeg, tools, command, changing, tmp_path, reference, name, vf, undone, chain):
    pix_fmt = "yuv420p" if name == "matrix" else "yuvj420p"
    out = tmp_path / "out.mkv"
    code, lines = command(changing(name, vf, pix_fmt), out, "-c:v", "ffv1", *chain)
    assert code == 0
    expected = "8 frames of 16 with other colour tags than the first: converted to its matrix"
    assert any(expected in line for line in lines), lines
    frames = ffmpeg.frames(out, "yuv420p", SIZE)
    whole = b"".join(reference)
    raw = ("-f", "rawvideo", "-video_size", "160x120", "-pixel_format", "yuv420p")
    told = tools.split(
        ffmpeg.run(*raw, "-i", "-", "-vf", undone, "-f", "rawvideo", "-", stdin=whole),
        "yuv420p", SIZE,
    )  # fmt: skip
    for number in range(16):
        wanted = (reference if number < 8 else told)[number]
        assert tools.psnr(frames[number], wanted) > 40, number
    if name == "matrix":
        assert tools.psnr(frames[12], reference[12]) < 45


def tagged(ffmpeg, name, vf, matrix, primaries, transfer, range_):
    """Half a second of H.264 with these numbers in its headers; 2 says nothing."""
    numbers = f"matrix_coefficients={matrix}:colour_primaries={primaries}"
    numbers += f":transfer_characteristics={transfer}:video_full_range_flag={range_}"
    source = ("-f", "lavfi", "-i", "color=c=0x00ff00:s=64x48:r=25:d=0.4")
    coded = ("-vf", f"{vf},format=yuv420p", "-c:v", "libx264", "-qp", 0)
    return ffmpeg.make(name, *source, *coded, "-bsf:v", f"h264_metadata={numbers}")


def test_primaries_and_transfer_are_not_converted_and_that_is_said(ffmpeg, tmp_path):
    first = tagged(ffmpeg, "pq.ts", "scale=out_color_matrix=bt709", 1, 9, 16, 0)
    second = tagged(ffmpeg, "sdr.ts", "scale=out_color_matrix=bt709", 1, 1, 1, 0)
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    with open_source(path) as source:
        assert {frame.colour.transfer for frame in source} == {16, 1}
    (line,) = [line for line in source.report.lines() if "primaries" in line]
    assert line.startswith(
        "10 frames of 20 with other primaries or another transfer than the first: not converted"
    )


def test_a_later_part_does_not_tell_the_colour_of_the_first(ffmpeg, tmp_path):
    """FFmpeg's probing finds its headers, which are no tags of the container."""
    first = tagged(ffmpeg, "silent.ts", "scale=out_color_matrix=bt601", 2, 2, 2, 0)
    second = tagged(ffmpeg, "full.ts", "scale=out_color_matrix=bt709:out_range=pc", 1, 1, 1, 1)
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    with open_source(path) as source:
        assert source.info.colour.matrix == Matrix.SMPTE170M
        assert "colour matrix not tagged: taken as BT.601 (525) (64x48)" in source.notes
        assert not any("the container's colour tags" in note for note in source.notes)


@pytest.mark.parametrize("fields", [None, FieldsConfig()])  # to look for fields, 100 are decoded
def test_aspect_ratio(changing, fields):
    path = changing("shape", f"scale=160:120,setsar=4/3,{BT601}")
    with open_source(path, SourceConfig(fields=fields)) as source:
        assert source.info.sar == 1
        assert len(list(source)) == 16
    (line,) = source.report.lines()
    assert line.startswith("the sample aspect ratio changes in mid-stream, from 1:1 to 4:3: the")


def test_nothing_is_said_where_nothing_changes(changing):
    with open_source(changing("same", f"scale=160:120,setsar=1,{BT601}")) as source:
        assert len(list(source)) == 16
    assert source.report.lines() == []


# Container against stream.


@pytest.fixture
def contradicting(ffmpeg):
    """H.264 of BT.709 in full range, in a container that says BT.601 and limited range."""

    def make(name):
        vf = f"scale=160:120,setsar=1,{BT601}"
        tags = ("-colorspace", "smpte170m", "-color_primaries", "smpte170m", "-color_trc",
                "smpte170m", "-color_range", "tv")  # fmt: skip
        plain = ffmpeg.from_film(f"plain.{name}", vf, *LOSSLESS, *tags, count=4)
        metadata = "matrix_coefficients=1:colour_primaries=1:video_full_range_flag=1"
        return ffmpeg.make(name, "-i", plain, "-c", "copy", "-bsf:v", f"h264_metadata={metadata}")

    return make


@pytest.mark.parametrize("name", ["contra.mp4", "contra.mkv"])
def test_the_stream_wins_as_in_ffmpeg(ffmpeg, contradicting, caplog, name):
    path = contradicting(name)
    probed = ffmpeg.probe(path, "frame=color_space,color_primaries,color_range")["frames"][0]
    assert (probed["color_space"], probed["color_primaries"], probed["color_range"]) == (
        "bt709", "bt709", "pc",
    )  # fmt: skip
    with open_source(path) as source:
        colour = source.info.colour
    assert (colour.matrix, colour.primaries, colour.range) == (1, 1, Range.FULL)
    line = (
        "the container's colour tags say smpte170m, tv, smpte170m, the stream's bt709, pc, bt709:"
        " the stream's are used (to overrule: -colorspace, -color_range, -color_primaries)"
    )
    assert line in source.notes
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warned == [f"{name}: {line}"]


def test_the_user_wins(contradicting):
    stated = InputConfig(matrix=6, primaries=6)
    with open_source(contradicting("contra.mp4"), SourceConfig(input=stated)) as source:
        colour = source.info.colour
        assert (colour.matrix, colour.primaries, colour.range) == (6, 6, Range.FULL)
        expected = "tags say tv, the stream's pc: the stream's are used (to overrule: -color_range)"
        assert any(expected in note for note in source.notes)
    stated = InputConfig(matrix=6, primaries=6, range=Range.LIMITED, sar=Fraction(1))
    with open_source(contradicting("contra.mp4"), SourceConfig(input=stated)) as source:
        assert not any("container" in note for note in source.notes)


@pytest.mark.parametrize("name", ["mdn/flower.mp4", "androidx/bt601.mov", "mdn/friday.mp4"])
def test_no_false_alarm(shared, name):
    with open_source(shared / "media" / name) as source:
        assert not any("the container's colour tags say" in note for note in source.notes)

"""Chains of filters and the container's cropping, against what ffmpeg makes of them."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from vsr.config import FieldsConfig, InputConfig
from vsr.errors import ConfigError, SourceError
from vsr.frame import Range
from vsr.sources import SourceConfig, open_source
from vsr.sources.filters import parse_chain
from vsr.tags import MATRICES, PRIMARIES, RANGES, TRANSFERS

SIZE = (160, 120)


@pytest.fixture
def clip(ffmpeg):
    tags = ("-colorspace", "smpte170m", "-color_primaries", "smpte170m", "-color_trc", "smpte170m",
            "-color_range", "tv")  # fmt: skip
    vf = "scale=160:120,setsar=8/9"
    return ffmpeg.from_film("filtered.mkv", vf, "-c:v", "ffv1", *tags, rate=25, count=10)


def filtered(path, chain, **changes):
    return open_source(path, SourceConfig(filters=chain, **changes))


# Chains.


@pytest.mark.parametrize(
    "chain",
    [
        "crop=100:80:20:10",
        "crop=101:81",
        "nlmeans=s=2:r=5",
        "deband",
        "deflicker=s=5",
        "hflip",
        "transpose=clock,vflip",
        "scale=200:100",
        "scale=320:240:flags=lanczos,setsar=1",
        "setsar=4/3",
        "setsar=4/3,showinfo,fps=50",
        "setdar=16/9",
        "fps=20",
        "format=yuv422p10le",
        "format=yuv444p",
        "format=gray",
        "pad=200:160:20:20",
        "select=not(mod(n\\,3))",
        "select='not(mod(n\\,3))'",
        "select='gte(n, 4)',crop='min(100,iw)':80",
        " crop = 100:80 , hflip@mirrored ",
        "setpts=2*PTS",
        "setpts=PTS+1/TB",
        "tblend=all_mode=average",
        "reverse",
        "trim=start_frame=3",
        "unsharp=3:3:0.5,deband,noise=alls=10",
        "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709",
        "colorspace=all=bt709",
    ],
)
def test_chains_do_what_ffmpegs_do(ffmpeg, tools, clip, tmp_path, chain):
    out = tmp_path / "out.mkv"
    passthrough = ("-vsync", "passthrough", "-enc_time_base", -1)
    ffmpeg.run("-i", clip, "-vf", chain, *passthrough, "-c:v", "ffv1", out)
    expected = ffmpeg.stream(out)
    source = filtered(clip, chain)
    info = source.info
    assert (info.width, info.height) == (expected["width"], expected["height"])
    assert info.format.name == expected["pix_fmt"]
    assert info.sar == Fraction(expected["sample_aspect_ratio"].replace(":", "/"))
    assert info.rate == Fraction(expected["r_frame_rate"])
    assert info.colour.matrix == MATRICES[expected["color_space"]]
    assert info.colour.range == RANGES[expected["color_range"]]
    assert info.colour.primaries == PRIMARIES[expected["color_primaries"]]
    assert info.colour.transfer == TRANSFERS[expected["color_transfer"]]
    frames, times = tools.read(source)
    assert frames == ffmpeg.frames(out, expected["pix_fmt"], (info.width, info.height))
    assert [round(time, 3) for time in times] == ffmpeg.times(out)  # Matroska holds milliseconds


def test_range_that_a_chain_changes(ffmpeg, tools, clip):
    """Not bit by bit: ffmpeg 5.1 rounds otherwise here than the FFmpeg inside PyAV."""
    source = filtered(clip, "scale=out_range=pc")
    assert source.info.colour.range == Range.FULL
    frames, _ = tools.read(source)
    expected = ffmpeg.frames(clip, "yuv420p", SIZE, "-vf", "scale=out_range=pc")
    assert min(map(tools.psnr, frames, expected)) > 50
    assert max(map(tools.psnr, frames, ffmpeg.frames(clip, "yuv420p", SIZE))) < 35


def test_what_is_stated_holds_in_front_of_the_chain_only(clip):
    stated = InputConfig(range=Range.FULL, matrix=1)
    with filtered(clip, "scale=out_range=tv", input=stated) as source:
        assert (source.info.colour.range, source.info.colour.matrix) == (Range.LIMITED, 1)
        assert {frame.colour for frame in source} == {source.info.colour}
    with filtered(clip, "hflip", input=stated) as source:
        assert (source.info.colour.range, source.info.colour.matrix) == (Range.FULL, 1)


def test_stated_aspect_ratio_goes_through(clip):
    with filtered(clip, "scale=80:120", input=InputConfig(sar=Fraction(1))) as source:
        assert source.info.sar == 2


@pytest.mark.parametrize("native", ["yuv420p10le", "yuv422p10le"])
def test_formats_that_are_not_handed_on_are_converted(ffmpeg, tools, clip, native):
    source = filtered(clip, f"format={native.removesuffix('le')}be")
    assert source.info.format.name == native
    frames, _ = tools.read(source)
    assert frames == ffmpeg.frames(clip, native, SIZE, "-vf", f"format={native}")


def test_irregular_timestamps_stay(ffmpeg, tools, shared):
    path = shared / "media/generated/vfr_irregular.mkv"
    plain, expected = tools.read(open_source(path))
    frames, times = tools.read(filtered(path, "hflip,hflip"))
    assert frames == plain
    theirs = ffmpeg.times(path)
    assert times == expected == [time - theirs[0] for time in theirs]
    with open_source(path) as one, filtered(path, "null") as other:
        assert [f.duration for f in one][:-1] == [f.duration for f in other][:-1]


def test_trim_comes_first(ffmpeg, tools, clip):
    source = filtered(clip, "reverse", start=Fraction(1, 5), end=Fraction(2, 5))
    frames, times = tools.read(source)
    assert frames == ffmpeg.frames(clip, "yuv420p", SIZE)[5:10][::-1]
    assert times == [Fraction(n, 25) for n in range(5)]


def test_through_the_command(ffmpeg, command, clip, tmp_path):
    out = tmp_path / "out.mkv"
    code, _ = command(clip, out, "--vf", "transpose=1,scale=60:80", "-c:v", "ffv1")
    assert code == 0
    expected = ffmpeg.frames(clip, "yuv420p", (60, 80), "-vf", "transpose=1,scale=60:80")
    assert ffmpeg.frames(out, "yuv420p", (60, 80)) == expected
    assert ffmpeg.stream(out)["sample_aspect_ratio"] == "9:8"


# Mistakes.


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ("nlmens=s=2", "there is no filter 'nlmens': did you mean nlmeans"),
        ("hflip,,vflip", "there is no filter ''"),
        ("crop=wid=100", "No such option: wid"),
        ("crop=1000:80", "Invalid too big or non positive size for width '1000'"),
        ("nlmeans=s=1000", "out of range [1 - 30]"),
        ("yadif=mode=banana", 'Unable to parse "mode" option value "banana"'),
        ("format=nope", "Invalid pixel format 'nope'"),
        ("lut3d=no.cube", "filter lut3d=no.cube is refused: No such file"),
        ("[in]hflip[out]", "takes one chain of filters, without '['"),
        ("split;hflip", "takes one chain of filters, without ';'"),
        ("overlay", "overlay does not fit in a chain"),
        ("color=red", "color does not fit in a chain"),
        ("nullsink", "nullsink does not fit in a chain"),
        ("volume=2", "volume does not fit in a chain"),
        ("hstack", "not connected to any source"),
        ("split", "not connected to any destination"),
        ("select='eq(n,0)", "a quote or an escape is left open"),
        ("hflip\\", "a quote or an escape is left open"),
    ],
)
def test_refused(command, clip, tmp_path, chain, words):
    code, lines = command(clip, tmp_path / "out.mkv", "--vf", chain)
    assert code == 2
    assert len(lines) == 1
    assert words in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_no_frame_comes_out(command, clip, tmp_path):
    code, lines = command(clip, tmp_path / "out.mkv", "--vf", "select=0")
    assert code == 1
    expected = f"vsr-upscale: error: {clip}: no frame comes out of the filters select=0"
    assert lines == [expected]
    assert list(tmp_path.iterdir()) == []


def test_size_that_changes_on_the_way(clip):
    with filtered(clip, "scale=w=100+2*n:h=100:eval=frame") as source:
        frames = iter(source)
        assert next(frames).width == source.info.width
        with pytest.raises(
            SourceError, match="changes the size in mid-stream, from 102x100 to 104"
        ):
            list(frames)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("crop=704:576,nlmeans=s=2", [("crop", "704:576"), ("nlmeans", "s=2")]),
        ("select='eq(n,0)'", [("select", "eq(n,0)")]),
        ("select=eq(n\\,0)", [("select", "eq(n,0)")]),
        ("hflip , vflip", [("hflip", ""), ("vflip", "")]),
        ("crop@a=1:2", [("crop", "1:2")]),
    ],
)
def test_chains_are_split(text, steps):
    assert parse_chain(text) == steps


# Cropping by the container.


@pytest.fixture
def clapped(shared, tmp_path):
    """The DV of Apple's with another clean aperture (ISO/IEC 14496-12, 12.1.4)."""
    data = (shared / "media/format-corpus/dv-pal-interlaced.mov").read_bytes()
    assert data.count(b"clap") == 1
    at = data.index(b"clap") + 4

    def make(width, height, right=0, down=0):
        """``right`` and ``down`` move the middle, in halves of a pixel."""
        box = struct.pack(">8i", width, 1, height, 1, right, 2, down, 2)
        path = tmp_path / f"{width}x{height}{right:+}{down:+}.mov"
        path.write_bytes(data[:at] + box + data[at + 32 :])
        return path

    return make


GO_ON = FieldsConfig(progressive=True)


def test_clean_aperture_is_applied(ffmpeg, tools, shared):
    path = shared / "media/format-corpus/dv-pal-interlaced.mov"
    source = open_source(path, SourceConfig(fields=GO_ON))
    assert (source.info.width, source.info.height, source.info.sar) == (704, 576, Fraction(59, 54))
    assert any("720x576 becomes 704x576 (--no-crop keeps all)" in note for note in source.notes)
    frames, _ = tools.read(source)
    expected = ffmpeg.frames(path, "yuv420p", (704, 576), "-vf", "crop=704:576:8:0")
    assert frames == expected


def test_lines_above_the_picture_are_cut_with_the_aperture(ffmpeg, tools, shared):
    """IMX: 512 lines coded, 486 of them the picture, 480 of these in the aperture."""
    path = shared / "media/format-corpus/mpeg-imx-525-60.mov"
    raw = path.read_bytes()
    assert struct.unpack_from(">3i", raw, raw.index(b"clap") + 4) == (704, 1, 480)
    (whole, *_) = ffmpeg.frames(path, "gray", (720, 512))
    means = [sum(whole[y * 720 : (y + 1) * 720]) / 720 for y in range(512)]
    assert max(means[:26]) < 1 < 100 < min(means[28:])
    source = open_source(path, SourceConfig(fields=GO_ON))
    frames, _ = tools.read(source)
    expected = ffmpeg.frames(path, "yuv422p", (704, 482), "-vf", "crop=704:482:8:28:exact=1")
    assert frames == expected


def test_cropping_of_matroska(ffmpeg, tools, shared, tmp_path):
    """PixelCrop counts from the edges of what is coded (RFC 9559, 11.1); here 3, 3, 8 and 8."""
    path = tmp_path / "cropped.mkv"
    mov = shared / "media/format-corpus/mpeg-imx-525-60.mov"
    with av.open(str(mov)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    head = path.read_bytes()[:4096]
    for name, value in ((b"\x54\xaa", 3), (b"\x54\xbb", 3), (b"\x54\xcc", 8), (b"\x54\xdd", 8)):
        assert name + bytes((0x81, value)) in head
    frames, _ = tools.read(open_source(path, SourceConfig(fields=GO_ON)))
    expected = ffmpeg.frames(path, "yuv422p", (704, 508), "-vf", "crop=704:508:8:2:exact=1")
    assert frames == expected


def test_clean_aperture_is_kept(ffmpeg, tools, shared):
    path = shared / "media/format-corpus/dv-pal-interlaced.mov"
    source = open_source(path, SourceConfig(fields=GO_ON, crop=False))
    assert source.filters == ""
    frames, _ = tools.read(source)
    assert frames == ffmpeg.frames(path, "yuv420p", (720, 576))


@pytest.mark.parametrize(
    ("aperture", "crop"),
    [
        # Outwards to whole chroma samples of both fields: 2 columns, 4 rows.
        ((700, 572), "700:576:10:0"),
        ((701, 568, 1, 0), "702:568:10:4"),
        ((702, 570, 0, 2), "704:572:8:4"),
        ((600, 400, 8, 16), "600:400:64:96"),
    ],
)
def test_odd_apertures(ffmpeg, tools, clapped, aperture, crop):
    path = clapped(*aperture)
    width, height = map(int, crop.split(":")[:2])
    source = open_source(path, SourceConfig(fields=GO_ON))
    assert (source.info.width, source.info.height) == (width, height)
    frames, _ = tools.read(source)
    assert frames == ffmpeg.frames(path, "yuv420p", (width, height), "-vf", f"crop={crop}:exact=1")


def test_fields_stay_where_they_are(ffmpeg, tools, clapped):
    """Cropped after deinterlacing, which needs the lines around."""
    path = clapped(702, 570)
    source = open_source(path, SourceConfig(fields=FieldsConfig(deinterlace="bwdif")))
    vf = "bwdif=send_frame:parity=bff,crop=704:572:8:2:exact=1"
    frames, _ = tools.read(source)
    assert frames == ffmpeg.frames(path, "yuv420p", (704, 572), "-vf", vf)


@pytest.mark.parametrize("aperture", [(0, 576), (1000, 576), (704, -4)])
def test_nonsense_is_ignored(clapped, aperture):
    with open_source(clapped(*aperture), SourceConfig(fields=GO_ON)) as source:
        assert (source.info.width, source.info.height) == (720, 576)


def test_crop_and_chain(ffmpeg, tools, shared):
    path = shared / "media/format-corpus/dv-pal-interlaced.mov"
    source = open_source(path, SourceConfig(fields=GO_ON, filters="crop=iw-4:ih"))
    assert source.info.width == 700
    frames, _ = tools.read(source)
    assert frames == ffmpeg.frames(path, "yuv420p", (700, 576), "-vf", "crop=700:576:10:0")


def test_the_library_says_the_same(clip):
    with pytest.raises(ConfigError, match="there is no filter 'x'"):
        filtered(clip, "x")


def test_filters_get_a_turned_picture_upright(tmp_path):
    """As ffmpeg's do. Stored, its upper left corner is the lower left one."""
    path = tmp_path / "phone.mp4"
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25, width=64, height=48, pix_fmt="yuv420p")
        stream.set_display_matrix((0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30))
        pixels = np.full((48, 64, 3), 40, np.uint8)
        pixels[24:, :32] = 200
        picture = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")
        picture.pts = 0
        out.mux([*stream.encode(picture), *stream.encode(None)])

    def luma(filters: str | None) -> tuple[tuple[int, ...], float, bytes | None]:
        with open_source(path, SourceConfig(filters=filters)) as source:
            (frame,) = source
        plane = frame.planes[0].float()
        return tuple(plane.shape), float(plane.mean()), source.info.display_matrix

    (_, whole, matrix), (shape, corner, left) = luma(None), luma("crop=16:24:0:0")
    assert shape == (16, 24)  # rows and columns as they are stored
    assert corner > 2 * whole > 0
    assert luma("hflip,crop=16:24:0:0")[1] < whole
    assert matrix is not None
    assert left is not None
    assert left[:24] == matrix[:24]
    assert struct.unpack("<9i", left)[6] == 16 << 16  # the picture is that wide now, upright

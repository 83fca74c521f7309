"""YUV4MPEG2 as FFmpeg's own writer makes it, byte for byte, and what it cannot hold."""

import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch.utils.dlpack

from vsr.config import EncoderConfig
from vsr.encoding import choose_encoding
from vsr.encoding.muxers import Y4M_CHROMA
from vsr.errors import ConfigError, SinkError
from vsr.frame import FieldOrder, Frame, Range, Siting, pixel_format
from vsr.sinks import Y4MSink, open_sink
from vsr.sinks.y4m import y4m_header

WIDTH, HEIGHT = 34, 18
RATES = [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001)]
ORDERS = {"t": FieldOrder.TT, "b": FieldOrder.BB}


def write(path, info, frames, **config) -> Y4MSink:
    encoding = choose_encoding(path, info, info.width, info.height, EncoderConfig(**config))
    output = replace(info, format=encoding.format, colour=encoding.colour)
    with open_sink(path, encoding, output, overwrite=True) as sink:
        for frame in frames:
            sink.write(frame)
    assert isinstance(sink, Y4MSink)
    return sink


def header_of(info, name: str = "a.y4m") -> str:
    encoding = choose_encoding(Path(name), info, info.width, info.height, EncoderConfig())
    return y4m_header(encoding, replace(info, format=encoding.format))


def raw_bytes(frame: Frame) -> bytes:
    return b"".join(plane.numpy().tobytes() for plane in frame.components)


def by_ffmpeg(info, frames, *options: str, filters: str = "null") -> bytes:
    """The same frames through FFmpeg's command."""
    source = ["-f", "rawvideo", "-pix_fmt", info.format.name, "-framerate", str(info.rate)]
    source += ["-s", f"{info.width}x{info.height}", "-i", "-"]
    target = ["-vf", filters, *options, "-strict", "-1", "-f", "yuv4mpegpipe", "-"]
    result = subprocess.run(
        ["ffmpeg", "-v", "error", *source, *target],
        input=b"".join(map(raw_bytes, frames)), capture_output=True, check=True,
    )  # fmt: skip
    return result.stdout


def clip(tools, info, count=3) -> list[Frame]:
    step = 1 / (info.rate * info.time_base)
    return [
        tools.frame(info, round(n * step), round(step), seed=n) for n in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("name", sorted(Y4M_CHROMA))
@pytest.mark.parametrize("range_", [Range.LIMITED, Range.FULL])
def test_same_bytes_as_ffmpegs(tools, tmp_path, name, range_):
    info = tools.info(name, width=WIDTH, height=HEIGHT, sar=Fraction(16, 15))
    info = replace(info, colour=replace(info.colour, range=range_, siting=Siting.CENTRE))
    frames = clip(tools, info)
    write(tmp_path / "a.y4m", info, frames, pix_fmt=name)
    word = {Range.LIMITED: "tv", Range.FULL: "pc"}[range_]
    # as parameters of the picture, lest FFmpeg convert the range
    filters = f"setparams=range={word},setsar=16/15"
    expected = by_ffmpeg(info, frames, "-color_range", word, filters=filters)
    assert (tmp_path / "a.y4m").read_bytes() == expected


@pytest.mark.parametrize("siting", ["left", "center", "topleft"])
def test_siting(tools, tmp_path, siting):
    named = {"left": Siting.LEFT, "center": Siting.CENTRE, "topleft": Siting.TOP_LEFT}
    info = tools.info(width=WIDTH, height=HEIGHT, sar=Fraction(1))
    info = replace(info, colour=replace(info.colour, siting=named[siting]))
    frames = clip(tools, info, 1)
    write(tmp_path / "a.y4m", info, frames)
    options = ("-chroma_sample_location", siting, "-color_range", "tv")
    expected = by_ffmpeg(info, frames, *options, filters="setparams=range=tv,setsar=1")
    assert (tmp_path / "a.y4m").read_bytes() == expected


@pytest.mark.parametrize("letter", ["t", "b"])
def test_field_order(tools, tmp_path, letter):
    info = tools.info(width=WIDTH, height=HEIGHT, sar=Fraction(1), field_order=ORDERS[letter])
    info = replace(info, colour=replace(info.colour, siting=Siting.CENTRE))
    frames = clip(tools, info, 1)
    write(tmp_path / "a.y4m", info, frames)
    filters = f"setparams=range=tv,setsar=1,setfield={letter}ff"
    expected = by_ffmpeg(info, frames, "-flags", "+ildct", "-color_range", "tv", filters=filters)
    assert (tmp_path / "a.y4m").read_bytes() == expected
    found = tools.probe(tmp_path / "a.y4m").video[0]
    assert found["field_order"] == {"t": "tt", "b": "bb"}[letter]


@pytest.mark.parametrize("order", list(FieldOrder))
def test_every_field_order_has_a_letter(tools, order):
    expected = {1: "p", 2: "t", 4: "t", 3: "b", 5: "b"}.get(order, "?")
    assert f" I{expected} " in header_of(tools.info(field_order=order))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("sar", "shown"), [(Fraction(1216, 1215), "1216:1215"), (None, "0:1")])
def test_rate_and_aspect_ratio_are_read_exactly(tools, tmp_path, rate, sar, shown):
    info = tools.info(rate=rate, time_base=1 / rate, sar=sar)
    write(tmp_path / "a.y4m", info, clip(tools, info))
    found = tools.probe(tmp_path / "a.y4m").video[0]
    assert Fraction(found["r_frame_rate"]) == rate
    assert found.get("sample_aspect_ratio", "0:1") == shown
    assert found["color_range"] == "tv"
    assert len(found["packets"]) == 3


def test_numbers_that_readers_cannot_take_are_shortened(tools):
    info = tools.info(rate=Fraction(25 * (1 << 33) + 1, 1 << 33))
    assert " F25:1 " in header_of(info)


def test_padded_rows_are_left_out(tools, tmp_path):
    info = tools.info("yuv422p10le", width=WIDTH, height=HEIGHT)
    frame = tools.frame(info, 0)
    padded = tuple(torch.nn.functional.pad(p.int(), (0, 30)).to(p.dtype) for p in frame.planes)
    assert padded[0].stride(0) == WIDTH + 30
    write(tmp_path / "a.y4m", info, [frame])
    write(tmp_path / "b.y4m", info, [replace(frame, planes=padded)])
    assert (tmp_path / "b.y4m").read_bytes() == (tmp_path / "a.y4m").read_bytes()


def test_pyav_reads_it_back(tools, tmp_path):
    info = tools.info("yuv420p14le", width=WIDTH, height=HEIGHT)
    frame = tools.frame(info, 0)
    write(tmp_path / "a.y4m", info, [frame])
    with av.open(str(tmp_path / "a.y4m")) as container:
        picture = next(container.decode(video=0))
        luma = torch.utils.dlpack.from_dlpack(picture.planes[0])
        assert torch.equal(luma[:, :WIDTH].int(), frame.planes[0].int())


def test_uneven_frames_are_warned_of_once(tools, tmp_path, caplog):
    info = tools.info(rate=Fraction(25))
    frames = [tools.frame(info, pts) for pts in (0, 40, 80, 200, 210, 400)]
    sink = write(tmp_path / "a.y4m", info, frames)
    assert sink.notes == [
        "frames are not evenly spaced (the first that is not: 3), but Y4M has no timestamps: its "
        "reader sees 25 frames a second"
    ]
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert len(tools.probe(tmp_path / "a.y4m").video[0]["packets"]) == 6


def test_rounded_times_are_even(tools, tmp_path):
    info = tools.info(rate=Fraction(24000, 1001))  # in milliseconds, as Matroska has it
    times = [round(n * 1001 / 24) for n in range(50)]
    sink = write(tmp_path / "a.y4m", info, [tools.frame(info, t + 500) for t in times])
    assert sink.notes == []


@pytest.mark.parametrize(
    ("source", "chosen", "note"),
    [
        ("rgba", "yuv444p", "alpha is dropped"),
        ("gbrp10le", "yuv444p10le", "gbrp10le becomes yuv444p10le"),
        ("yuva420p10le", "yuv420p10le", "alpha is dropped"),
        ("yuv440p", "yuv444p", "chroma subsampling changes from yuv440p to yuv444p"),
        ("gray14le", "gray16le", None),
        ("nv12", "yuv420p", None),
    ],
)
def test_other_formats_become_the_nearest(tools, source, chosen, note):
    info = tools.info(source)
    encoding = choose_encoding(Path("a.y4m"), info, 64, 48, EncoderConfig())
    assert encoding.format == pixel_format(chosen)
    assert encoding.notes[0] == f"output: rawvideo in yuv4mpegpipe, {chosen}"
    if note is not None:
        assert any(note in line for line in encoding.notes), encoding.notes


def test_what_the_header_cannot_say_is_noted(tools):
    info = tools.info("yuv420p10le")
    info = replace(info, colour=replace(info.colour, siting=Siting.TOP_LEFT))
    notes = choose_encoding(Path("a.y4m"), info, 64, 48, EncoderConfig()).notes
    assert "tell its reader -colorspace smpte170m -color_primaries smpte170m" in notes[1]
    assert notes[2] == "chroma siting top_left is lost: yuv4mpegpipe has none in yuv420p10le"
    left = replace(info, colour=replace(info.colour, siting=Siting.LEFT))
    assert len(choose_encoding(Path("a.y4m"), left, 64, 48, EncoderConfig()).notes) == 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"codec": "libx264"}, "yuv4mpegpipe holds raw video only: leave out libx264"),
        ({"pix_fmt": "rgba"}, "does not write rgba, which rawvideo takes: it writes gray"),
        ({"preset": "fast"}, "rawvideo has no option preset"),
    ],
)
def test_what_y4m_is_not_is_refused(tools, config, message):
    with pytest.raises(ConfigError, match=message):
        choose_encoding(Path("a.y4m"), tools.info(), 64, 48, EncoderConfig(**config))


def test_complete_or_not_there(tools, tmp_path):
    info, path = tools.info(), tmp_path / "a.y4m"
    with pytest.raises(ZeroDivisionError):
        write(path, info, (tools.frame(info, 40 // (1 - n)) for n in range(2)))
    assert list(tmp_path.iterdir()) == []
    encoding = choose_encoding(path, info, 64, 48, EncoderConfig())
    with open_sink(path, encoding, info) as sink:
        sink.write(tools.frame(info, 0))
        assert not path.exists()
        assert sink.keep_partial() == tmp_path / "a.partial.y4m"
    assert len(tools.probe(tmp_path / "a.partial.y4m").video[0]["packets"]) == 1
    with pytest.raises(SinkError, match="there is no directory"):
        write(tmp_path / "none" / "a.y4m", info, [])


def test_frames_that_were_not_announced(tools, tmp_path):
    info = tools.info()
    for wrong in (tools.info("yuv422p"), tools.info(width=66)):
        with pytest.raises(ValueError, match="the sink was opened for yuv420p 64x48"):
            write(tmp_path / "a.y4m", info, [tools.frame(wrong, 0)])
    assert list(tmp_path.iterdir()) == []

"""Standard input, fed by the real ffmpeg: what it says and cannot say, and how it breaks off."""

import io
import os
import pty
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests.warm import PYTHON
from vsr.cli import main
from vsr.config import FieldsConfig, InputConfig
from vsr.frame import FieldOrder, Range, Siting
from vsr.sources import SourceConfig, open_source
from vsr.sources.breaks import PieceCounter
from vsr.sources.ts_packets import TS_TAIL, missing_of_ts

SIZE = (96, 64)
SAR = Fraction(16, 15)
TAGS = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709",
        "-color_range", "tv")  # fmt: skip


@pytest.fixture
def clip(ffmpeg):
    """Twelve frames with sound and subtitles."""
    text = ffmpeg.folder / "words.srt"
    text.write_text("1\n00:00:00,100 --> 00:00:00,300\nHello\n")
    tone = ("-f", "lavfi", "-i", "sine=440:sample_rate=48000:duration=0.5")
    video = ffmpeg.from_film(
        "silent.mkv", "scale=96:64,setsar=16/15", "-c:v", "ffv1", *TAGS, rate=25, count=12
    )
    streams = ("-map", 0, "-map", 1, "-map", 2, "-c:v", "copy", "-c:a", "aac", "-c:s", "srt")
    return ffmpeg.make("piped.mkv", "-i", video, *tone, "-i", text, *streams)


@pytest.fixture
def feed(ffmpeg, monkeypatch):
    """Make standard input the reading end of a pipe that ``ffmpeg arguments`` writes to."""
    running = []

    def start(*arguments):
        line = ["ffmpeg", "-v", "error", *map(str, arguments), "-vsync", "passthrough", "-"]
        process: Any = subprocess.Popen(line, stdout=subprocess.PIPE, cwd=ffmpeg.folder)
        running.append(process)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(process.stdout))

    yield start
    for process in running:
        process.stdout.close()
        process.wait()


def test_what_lies_before_the_start_is_not_kept(ffmpeg, clip, feed):
    """An hour of sound would fill the memory."""
    feed("-i", clip, "-map", 0, "-c", "copy", "-f", "matroska")
    with open_source(Path("-"), start=Fraction(2, 5)) as source:
        kept = source._reader.relay.early_times()
    assert kept
    assert not [time for time in kept if Fraction(1, 10) < time < Fraction(2, 5)]


def test_a_subtitle_that_is_shown_at_the_start_stays(ffmpeg, clip, feed, tmp_path):
    feed("-i", clip, "-map", 0, "-c", "copy", "-f", "matroska")
    output = tmp_path / "out.mkv"
    assert main(["-", str(output), "-ss", "0.2", "--model", "identity"]) == 0
    with av.open(str(output)) as container:
        (found,) = (p for p in container.demux(subtitles=0) if p.size)
    assert (found.pts, bytes(found)) == (0, b"Hello")
    assert found.duration == pytest.approx(100, abs=22)  # the sound begins that much earlier


@pytest.fixture
def give(monkeypatch, tmp_path):
    """Make ``data`` standard input."""
    files = []

    def start(data):
        (tmp_path / "stdin").write_bytes(data)
        cat: Any = subprocess.Popen(["cat", tmp_path / "stdin"], stdout=subprocess.PIPE)
        files.append(cat)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(cat.stdout))

    yield start
    for cat in files:
        cat.stdout.close()
        cat.wait()


def raw(pix_fmt):
    return InputConfig(raw_size=SIZE, raw_format=pix_fmt, rate=Fraction(25))


# What comes through.


@pytest.mark.parametrize(
    "pix_fmt",
    ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "gray"],
)
def test_y4m(ffmpeg, tools, clip, feed, pix_fmt):
    feed("-i", clip, "-pix_fmt", pix_fmt, "-strict", "-1", "-f", "yuv4mpegpipe")
    source = open_source("-")
    assert (source.info.format.name, source.info.rate) == (pix_fmt, Fraction(25))
    assert source.info.sar == SAR
    frames, times = tools.read(source)
    assert frames == ffmpeg.frames(clip, pix_fmt, SIZE)
    assert times == [Fraction(n, 25) for n in range(12)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c:v", "rawvideo", "-f", "nut"),
        ("-c:v", "ffv1", "-f", "nut"),
        ("-c:v", "ffv1", "-f", "matroska"),
        ("-c:v", "rawvideo", "-f", "matroska"),
        ("-c:v", "libx264", "-qp", "0", "-f", "matroska"),
        ("-c:v", "libx264", "-qp", "0", "-f", "mpegts"),
        ("-c:v", "libx264", "-qp", "0", "-f", "mp4", "-movflags", "frag_keyframe+empty_moov"),
        ("-c:v", "rawvideo", "-pix_fmt", "yuv422p10le", "-f", "nut"),
        ("-c:v", "ffv1", "-pix_fmt", "yuv422p10le", "-f", "matroska"),
    ],
)
def test_containers(ffmpeg, tools, clip, feed, arguments):
    feed("-i", clip, "-map", "0:v", *arguments)
    source = open_source("-")
    assert source.info.rate == 25
    assert source.info.sar == SAR
    pix_fmt = source.info.format.name
    if "nut" not in arguments:  # which holds no colour
        colour = source.info.colour
        assert (colour.matrix, colour.primaries, colour.transfer) == (1, 1, 1)
        assert source.tags.range == Range.LIMITED
    frames, times = tools.read(source)
    assert frames == ffmpeg.frames(clip, pix_fmt, SIZE)
    assert times == [Fraction(n, 25) for n in range(12)]


def test_raw_video(ffmpeg, tools, clip, feed):
    feed("-i", clip, "-pix_fmt", "yuv422p10le", "-f", "rawvideo")
    source = open_source("-", SourceConfig(input=raw("yuv422p10le")))
    frames, times = tools.read(source)
    assert frames == ffmpeg.frames(clip, "yuv422p10le", SIZE)
    assert times == [Fraction(n, 25) for n in range(12)]


def test_irregular_timestamps(ffmpeg, tools, shared, feed):
    path = shared / "media/generated/vfr_irregular.mkv"
    feed("-i", path, "-c", "copy", "-f", "matroska")
    frames, times = tools.read(open_source("-"))
    expected = ffmpeg.times(path)
    assert times == [time - expected[0] for time in expected]
    assert len(frames) == 60


@pytest.mark.parametrize("container", ["matroska", "yuv4mpegpipe"])
def test_part_of_a_pipe(ffmpeg, tools, clip, feed, container):
    codec = () if container == "yuv4mpegpipe" else ("-c:v", "ffv1")
    feed("-i", clip, "-map", "0:v", *codec, "-f", container)
    part = SourceConfig(start=Fraction(1, 5), end=Fraction(2, 5))
    frames, times = tools.read(open_source("-", part))
    assert frames == ffmpeg.frames(clip, "yuv420p", SIZE)[5:10]
    assert times == [Fraction(n, 25) for n in range(5)]


def test_first_frames_of_a_pipe(clip, feed):
    feed("-i", clip, "-map", "0:v", "-f", "yuv4mpegpipe")
    with open_source("-", frames=3) as source:
        assert source.info.frames == 3
        assert len(list(source)) == 3


def test_start_behind_the_end_of_a_pipe(command, clip, feed, tmp_path):
    feed("-i", clip, "-map", "0:v", "-f", "yuv4mpegpipe")
    code, (line,) = command("-", tmp_path / "out.mkv", "-ss", 9)
    assert (code, list(tmp_path.iterdir())) == (1, [])
    assert "standard input: the start, 9 s, lies beyond its end" in line


def packets(path, kind):
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(p.pts * stream.time_base, bytes(p)) for p in container.demux(stream) if p.size]


def test_sound_and_subtitles_of_a_pipe(ffmpeg, command, clip, feed, tmp_path):
    feed("-i", clip, "-map", 0, "-c", "copy", "-f", "matroska")
    out = tmp_path / "out.mkv"
    code, _ = command("-", out, "-c:v", "ffv1")
    assert code == 0
    assert ffmpeg.frames(out, "yuv420p", SIZE) == ffmpeg.frames(clip, "yuv420p", SIZE)
    assert ffmpeg.times(out) == ffmpeg.times(clip)
    for kind in ("audio", "subtitles"):
        assert packets(out, kind) == packets(clip, kind) != []
    assert ffmpeg.stream(out)["sample_aspect_ratio"] == "16:15"


# What a pipe cannot say.


RESTATED = (
    "-colorspace", "bt2020nc", "-color_range", "pc", "-color_primaries", "bt2020", "-color_trc",
    "smpte2084", "-chroma_sample_location", "topleft", "-sar", "8:9",
)  # fmt: skip
PROBED = {
    "color_space": "bt2020nc", "color_range": "pc", "color_primaries": "bt2020",
    "color_transfer": "smpte2084", "chroma_location": "topleft", "sample_aspect_ratio": "8:9",
}  # fmt: skip


def test_restated_tags_reach_the_output(ffmpeg, command, clip, feed, tmp_path):
    feed("-i", clip, "-pix_fmt", "yuv420p10le", "-f", "rawvideo")
    out = tmp_path / "out.mkv"
    shape = ("-f", "rawvideo", "-video_size", "96x64", "-pixel_format", "yuv420p10le")
    rate = ("-r", "24000/1001")
    code, lines = command("-", out, *shape, *rate, *RESTATED, "-c:v", "ffv1")
    assert code == 0
    assert not any("not tagged" in line for line in lines)
    stream = ffmpeg.stream(out)
    assert {key: stream.get(key) for key in PROBED} == PROBED
    assert (stream["r_frame_rate"], stream["pix_fmt"]) == ("24000/1001", "yuv420p10le")
    assert ffmpeg.frames(out, "yuv420p10le", SIZE) == ffmpeg.frames(clip, "yuv420p10le", SIZE)


def test_restated_tags_overrule_a_file(ffmpeg, command, clip, tmp_path):
    out = tmp_path / "out.mkv"
    code, _ = command(clip, out, *RESTATED, "-field_order", "progressive", "-c:v", "ffv1")
    assert code == 0
    stream = ffmpeg.stream(out)
    assert {key: stream.get(key) for key in PROBED} == PROBED
    assert ffmpeg.frames(out, "yuv420p", SIZE) == ffmpeg.frames(clip, "yuv420p", SIZE)


def test_restated_tags_of_a_frame(clip):
    stated = InputConfig(
        matrix=9, range=Range.FULL, primaries=9, transfer=16, siting=Siting.TOP_LEFT,
        sar=Fraction(8, 9), field_order=FieldOrder.BT,
    )  # fmt: skip
    with open_source(clip, SourceConfig(input=stated)) as source:
        info, first = source.info, next(iter(source))
    assert info.colour == first.colour == source.tags
    assert (first.colour.matrix, first.colour.range, first.colour.siting) == (9, 2, 3)
    assert (info.sar, info.field_order) == (Fraction(8, 9), FieldOrder.BT)


@pytest.mark.parametrize("name", ["clip", "pipe"])
def test_rate_instead_of_timestamps(ffmpeg, tools, shared, feed, name):
    path = shared / "media/generated/vfr_irregular.mkv"
    if name == "pipe":
        feed("-i", path, "-c", "copy", "-f", "matroska")
    config = SourceConfig(input=InputConfig(rate=Fraction(24000, 1001)))
    source = open_source(path if name == "clip" else "-", config)
    assert source.info.rate == Fraction(24000, 1001)
    frames, times = tools.read(source)
    assert times == [Fraction(1001 * n, 24000) for n in range(60)]
    assert frames == ffmpeg.frames(path, "yuv420p", (160, 128))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("-colorspace", "bt.709"), ("bt.709", "bt709")),
        (("-color_range", "fulll"), ("fulll", "full")),
        (("-color_primaries", "bt2021"), ("bt2021", "bt2020")),
        (("-color_trc", "smpte2048"), ("smpte2048", "smpte2084")),
        (("-chroma_sample_location", "centre"), ("centre", "center")),
        (("-field_order", "top"), ("top", "tt")),
        (("-r", "25fps"), ("25fps", "24000/1001")),
        (("-r", "0"), ("rate", "0")),
        (("-sar", "16x15"), ("16x15", "16:15")),
        (("-f", "rawvideo"), ("-video_size", "-pixel_format")),
        (("-video_size", "96x64"), ("-f rawvideo",)),
        (("-f", "rawvideo", "-video_size", "96x64", "-pixel_format", "yuv42p"), ("yuv42p",)),
    ],
)
def test_words_that_do_not_exist(capsys, clip, tmp_path, flags, words):
    code: object
    try:
        code = main([str(clip), str(tmp_path / "out.mkv"), *flags])
    except SystemExit as stopped:  # argparse's own way
        code = stopped.code
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words), line
    assert code == 2
    assert list(tmp_path.iterdir()) == []


# How a pipe breaks off.


def left(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "stdin")


@pytest.fixture
def y4m(ffmpeg, clip):
    return ffmpeg.run("-i", clip, "-vsync", "passthrough", "-f", "yuv4mpegpipe", "-")


def test_y4m_that_ends_in_a_frame(ffmpeg, command, clip, give, tmp_path, y4m):
    give(y4m[:-100])
    code, lines = command("-", tmp_path / "out.mkv", "-c:v", "ffv1")
    assert code == 1
    frame = 96 * 64 * 3 // 2
    expected = f"standard input: it ends in the middle of a frame, {frame + 6 - 100} bytes into it"
    assert next(line for line in lines if "error" in line).startswith(
        f"vsr-upscale: error: {expected}"
    )
    assert left(tmp_path) == ["out.partial.mkv"]
    kept = ffmpeg.frames(tmp_path / "out.partial.mkv", "yuv420p", SIZE)
    assert kept == ffmpeg.frames(clip, "yuv420p", SIZE)[:11]


def test_raw_video_that_ends_in_a_frame(ffmpeg, command, clip, give, tmp_path):
    give(b"".join(ffmpeg.frames(clip, "yuv420p", SIZE))[:-100])
    shape = ("-f", "rawvideo", "-video_size", "96x64", "-pixel_format", "yuv420p")
    code, lines = command("-", tmp_path / "out.mkv", *shape, "-c:v", "ffv1")
    assert code == 1
    assert sum("error" in line for line in lines) == 1
    assert "ends in the middle of a frame" in lines[-1]
    kept = ffmpeg.frames(tmp_path / "out.partial.mkv", "yuv420p", SIZE)
    assert len(kept) == 11


def test_matroska_that_is_cut_off(ffmpeg, command, clip, give, tmp_path):
    data = ffmpeg.run("-i", clip, "-map", "0:v", "-c", "copy", "-f", "matroska", "-")
    give(data[: len(data) * 2 // 3])
    code, lines = command("-", tmp_path / "out.mkv", "-c:v", "ffv1")
    assert code == 1
    (error,) = [line for line in lines if "error:" in line]
    assert "standard input: it breaks off in the middle of a packet, at least " in error
    assert left(tmp_path) == ["out.partial.mkv"]
    got = ffmpeg.frames(tmp_path / "out.partial.mkv", "yuv420p", SIZE)
    whole = ffmpeg.frames(clip, "yuv420p", SIZE)
    assert 4 < len(got) < 10
    assert got == whole[: len(got)]


def test_damage_on_the_way_is_no_end(command, shared, give, tmp_path):
    """Flipped bits in a length lead the counter astray, and FFmpeg finds its way again."""
    give((shared / "media/generated/corr_base.mkv").read_bytes())
    code, lines = command("-", "-f", "null", tmp_path / "none")
    assert code == 0
    assert not any("breaks off" in line for line in lines)
    assert any("damaged in the source" in line for line in lines)


FRAGMENTS = ("-f", "mp4", "-movflags", "frag_every_frame+empty_moov", "-c:v", "libx264", "-bf", 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ("-f", "matroska", "-c:v", "copy"), ("-f", "webm", "-c:v", "libvpx"), FRAGMENTS,
        ("-f", "nut", "-c:v", "ffv1"), ("-f", "nut", "-c:v", "rawvideo"),
        ("-f", "nut", "-c:v", "libx264"), ("-f", "flv", "-c:v", "libx264"),
    ],
)  # fmt: skip
def test_every_cut_is_noticed_and_no_other(ffmpeg, clip, arguments):
    data = ffmpeg.run("-i", clip, "-map", "0:v", *arguments, "-")
    counter = PieceCounter()
    ends = []
    for at in range(len(data)):
        if at and counter.missing == 0:
            ends.append(at)
        counter.feed(data[at : at + 1])
    assert counter.missing == 0
    assert 12 <= len(ends) < 200  # heads, every frame, and what stands around them
    whole = PieceCounter()
    whole.feed(data)
    assert whole.missing == 0
    cut = PieceCounter()
    cut.feed(data[: ends[-1] - 5])
    assert cut.missing > 0


def test_a_damaged_head_of_nut_is_given_up_at_once(ffmpeg, clip):
    data = bytearray(ffmpeg.run("-i", clip, "-map", "0:v", "-c:v", "copy", "-f", "nut", "-"))
    data[39:43] = b"\xff\xff\xff\x7f"  # a number of time bases, in the main header
    counter = PieceCounter()
    counter.feed(bytes(data) + bytes(1 << 22))  # read anew with each byte, this would take days
    assert counter.missing == 0


def test_a_head_without_an_end_is_given_up(ffmpeg, clip):
    data = ffmpeg.run("-i", clip, "-map", "0:v", "-c:v", "copy", "-f", "nut", "-")
    counter = PieceCounter()
    counter.feed(data[:33] + b"\xff\xff\xff\x7f" + bytes(1 << 22))
    assert counter.missing == 0


def test_flv_that_is_cut_off(ffmpeg, command, clip, give, tmp_path):
    data = ffmpeg.run("-i", clip, "-map", "0:v", "-c:v", "libx264", "-bf", 0, "-f", "flv", "-")
    give(data[:-60])
    code, lines = command("-", tmp_path / "out.mkv", "-c:v", "ffv1")
    assert code == 1
    assert "breaks off in the middle of a packet" in lines[-1]
    assert len(ffmpeg.times(tmp_path / "out.partial.mkv")) >= 11


@pytest.mark.parametrize(
    ("missing", "said"), [(0, False), (1, True), (5, True), (187, True), (188, False)]
)
def test_a_transport_stream_that_is_cut_off(ffmpeg, command, clip, give, tmp_path, missing, said):
    """Recorders cut them anywhere: no error."""
    data = ffmpeg.run("-i", clip, "-map", "0:v", "-c:v", "mpeg2video", "-f", "mpegts", "-")
    give(data[: len(data) - missing])
    code, lines = command("-", tmp_path / "out.mkv", "-c:v", "ffv1")
    line = "the input ends in the middle of a packet: the last frame may be damaged or missing"
    assert code == 0
    assert (f"warning: {line}" in lines) == said


@pytest.mark.parametrize(("ahead", "behind"), [(0, 0), (4, 0), (0, 16)])
def test_packets_of_transport_streams(ahead, behind):
    packet = bytes(ahead) + b"\x47" + bytes(range(100, 187)) + bytes(100 + behind)
    data = (12 * packet)[100:]  # a pipe begins anywhere
    assert missing_of_ts(data[-TS_TAIL:]) == 0
    assert missing_of_ts(data.replace(b"\x80", b"\x47")[-TS_TAIL:]) == 0
    for missing in range(1, len(packet)):
        assert missing_of_ts(data[:-missing][-TS_TAIL:]) == missing


@pytest.mark.parametrize(
    "data", [b"", b"YUV4MPEG2 W96 H64", bytes(range(256)), b"\x1aE\xdf\xa3\0\0"]
)
def test_nothing_is_said_of_other_streams(data):
    counter = PieceCounter()
    counter.feed(data)
    assert counter.missing == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (b"YUV4MPEG2 W98 H64 F25:1 Ip A16:15 C420jpeg\n", "the size in it is wrong"),
        (b"YUV4MPEG2 W96 H62 F25:1 Ip A16:15 C420jpeg\n", "the size in it is wrong"),
        (b"YUV4MPEG2 W96 H64 F25:1 Ip A16:15 C444\n", "the size in it is wrong"),
        (b"YUV4MPEG2 W9600 H6400 F25:1 Ip A16:15 C420jpeg\n", "ahead of its first frame"),
        (b"YUV4MPEG2 W0 H64 F25:1 Ip A16:15 C420jpeg\n", "standard input"),
        (b"YUV4MPEG2 W96 H64 F25:1 Ip A16:15 C999\n", "standard input"),
        (b"YUV4MPEG2 H64 F25:1\n", "standard input"),
        (b"YUV4MPEG2 " + b"X" * 300 + b"\n", "standard input"),
    ],
)
def test_y4m_with_a_wrong_header(command, give, tmp_path, y4m, wrong, words):
    give(wrong + y4m[y4m.index(b"\n") + 1 :])
    code, lines = command("-", tmp_path / "out.mkv", "-c:v", "ffv1")
    assert code == 1
    errors = [line for line in lines if "error:" in line]
    assert len(errors) == 1
    assert words in errors[0], errors
    assert left(tmp_path) in ([], ["out.partial.mkv"])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "standard input: is empty"),
        (b"Not a video at all.\n" * 50, "not a media file"),
        (bytes(range(256)) * 64, "not a media file"),
        (b"YUV4MPEG2 W96 H64 F25:1\n", "standard input: "),
    ],
)
def test_no_video(command, give, tmp_path, data, words):
    give(data)
    code, lines = command("-", tmp_path / "out.mkv")
    assert code == 1
    assert len(lines) == 1
    assert words in lines[0], lines
    assert left(tmp_path) == []


VSR = [*PYTHON, "-m", "vsr"]


def test_a_terminal_is_no_pipe(tmp_path, root):
    ours, theirs = pty.openpty()
    line = [*VSR, "-", str(tmp_path / "out.mkv"), "--model", "identity"]
    done = subprocess.run(
        line, stdin=theirs, capture_output=True, cwd=root, timeout=60, check=False
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 1
    expected = "vsr-upscale: error: standard input: is a terminal, not a pipe\n"
    assert done.stderr.decode() == expected
    assert left(tmp_path) == []


def test_closed_standard_input(tmp_path, root):
    line = f'exec "{sys.executable}" -m vsr - out.mkv --model identity <&-'
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        line, shell=True, capture_output=True, cwd=tmp_path, env=env, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.decode() == "vsr-upscale: error: standard input: is closed\n"
    assert left(tmp_path) == []


def test_a_pipe_that_stays_open(ffmpeg, clip, tmp_path, root, y4m):
    """Five frames, then silence: nothing hangs, and all five are there once it is closed."""
    header = y4m.index(b"\n") + 1
    out = tmp_path / "out.mkv"
    line = [*VSR, "-", str(out), "--model", "identity", "-c:v", "ffv1"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root) as process:
        assert process.stdin is not None
        process.stdin.write(y4m[: header + 5 * (96 * 64 * 3 // 2 + 6)])
        process.stdin.flush()
        time.sleep(4)
        assert process.poll() is None
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert ffmpeg.frames(out, "yuv420p", SIZE) == ffmpeg.frames(clip, "yuv420p", SIZE)[:5]


@pytest.mark.parametrize(
    ("fields", "order"),
    [(FieldsConfig(progressive=True), None), (FieldsConfig(), FieldOrder.PROGRESSIVE)],
)
def test_a_live_pipe_is_not_awaited_to_look_for_fields(monkeypatch, y4m, fields, order):
    """Three frames, and no more before one has come out."""
    reading, writing = os.pipe()
    silence = time.monotonic() + 20  # instead of waiting for ever
    config = SourceConfig(
        fields=fields, input=InputConfig(field_order=order),
        should_stop=lambda: time.monotonic() > silence,
    )  # fmt: skip
    with open(writing, "wb") as pipe, io.TextIOWrapper(open(reading, "rb")) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        pipe.write(y4m[: y4m.index(b"\n") + 1 + 3 * (96 * 64 * 3 // 2 + 6)])
        pipe.flush()
        with open_source("-", config) as source:
            assert next(iter(source)).pts == 0
            assert not source.given_up
            assert source.fields is None
            assert source.info.rate == 25


def test_ffmpeg_that_is_killed_leaves_what_came(ffmpeg, tmp_path, root, clip):
    """A writer that dies between two frames cannot be told from one that is done."""
    data = ffmpeg.run("-i", clip, "-map", "0:v", "-c:v", "rawvideo", "-f", "nut", "-")
    (tmp_path / "stdin").write_bytes(data[: len(data) * 2 // 3])
    line = [*VSR, "-", str(tmp_path / "out.mkv"), "--model", "identity", "-c:v", "ffv1"]
    with Path(tmp_path / "stdin").open("rb") as stdin:
        done = subprocess.run(
            line, stdin=stdin, capture_output=True, cwd=root, timeout=60, check=False
        )
    assert b"Traceback" not in done.stderr
    (name,) = left(tmp_path)
    whole = ffmpeg.frames(clip, "yuv420p", SIZE)
    got = ffmpeg.frames(tmp_path / name, "yuv420p", SIZE)
    assert got == whole[: len(got)]
    assert len(got) >= 7


@pytest.mark.parametrize("extension", ["mp4", "mov"])
def test_mp4_with_its_index_at_the_end_wants_to_be_a_file(ffmpeg, tmp_path, root, extension):
    noise = "nullsrc=size=160x120:rate=25:duration=2,geq=random(1)*255:128:128"
    coding = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "1")
    path = ffmpeg.make(f"indexed.{extension}", "-f", "lavfi", "-i", noise, *coding)
    assert path.stat().st_size > 1 << 19  # a short one is read whole, and its index with it
    line = [*VSR, "-", str(tmp_path / "out.mkv"), "--model", "identity"]
    done = subprocess.run(
        line, input=path.read_bytes(), capture_output=True, cwd=root, timeout=60, check=False
    )
    assert done.returncode == 1
    (error,) = done.stderr.decode().splitlines()
    assert error.startswith("vsr-upscale: error: standard input: its index stands behind the video")
    assert "give it as a file" in error

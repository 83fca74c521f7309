"""The command at the head of a pipe, FFmpeg's own at its end."""

import contextlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.warm import PYTHON
from vsr.cli import main
from vsr.config import PIPE, UpscaleConfig
from vsr.errors import SinkError
from vsr.pipeline import upscale

FORMATS = ["yuv4mpegpipe", "nut", "matroska", "mpegts", "mp4", "mov"]
LOSSLESS = ["yuv4mpegpipe", "nut", "matroska"]
PIX_FMTS = ["yuv420p", "yuv422p10le"]
FRAMES = 12
TAGS = {
    "color_range": "tv", "color_space": "smpte170m", "color_transfer": "smpte170m",
    "color_primaries": "bt470bg",
}  # fmt: skip
COMMAND = [*PYTHON, "-m", "vsr"]


def ffmpeg(*arguments: str, data: bytes | None = None) -> bytes:
    command = ["ffmpeg", "-v", "error", "-y", *arguments]
    result = subprocess.run(command, input=data, capture_output=True, check=True)
    assert result.stderr == b"", result.stderr.decode()
    return result.stdout


def ffprobe(data: bytes, *entries: str) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", *entries, "-"]
    result = subprocess.run(command, input=data, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def frames_of(data: bytes, *options: str) -> list[tuple[Fraction, str]]:
    """Time in seconds and hash of every frame, as FFmpeg decodes them."""
    exactly = ("-fps_mode", "passthrough", "-enc_time_base", "-1")
    arguments = (*options, "-i", "-", "-map", "0:v:0", *exactly, "-f", "framemd5", "-")
    text = ffmpeg(*arguments, data=data).decode()
    match = re.search(r"#tb 0: (\d+/\d+)", text)
    assert match
    rows = [line.split(",") for line in text.splitlines() if not line.startswith("#")]
    return [(int(row[2]) * Fraction(match[1]), row[5].strip()) for row in rows]


def run(*arguments: str, folder: Path) -> tuple[int, bytes, str]:
    """The command in this process, with a file for its standard output, and what it logs."""
    log, kept = io.StringIO(), os.dup(1)
    try:
        with (folder / "stdout").open("wb") as file, contextlib.redirect_stderr(log):
            os.dup2(file.fileno(), 1)
            code = main([*arguments, "--model", "identity"])
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    return code, (folder / "stdout").read_bytes(), log.getvalue()


def make_source(path: Path, pix_fmt: str) -> None:
    """Twelve frames that move, anamorphic and tagged, with sound."""
    tags = ["-colorspace", "smpte170m", "-color_trc", "smpte170m", "-color_primaries", "bt470bg"]
    ffmpeg(
        "-f", "lavfi", "-i", f"testsrc2=s=96x64:r=30000/1001:d={FRAMES * 1001 / 30000}",
        "-f", "lavfi", "-i", f"sine=d={FRAMES / 30}:r=48000",
        "-vf", f"setsar=118/81:max=200,format={pix_fmt}", *tags, "-color_range", "tv",
        "-chroma_sample_location", "left", "-c:v", "ffv1", "-c:a", "ac3", str(path),
    )  # fmt: skip


@dataclass
class Piped:
    source: bytes
    data: bytes
    log: str
    pix_fmt: str
    muxer: str


@pytest.fixture(scope="module", params=[(f, p) for f in FORMATS for p in PIX_FMTS], ids="-".join)
def piped(request, tmp_path_factory) -> Piped:
    """What arrives through a pipe of each format."""
    muxer, pix_fmt = request.param
    folder = tmp_path_factory.mktemp("pipe")
    make_source(folder / "in.mkv", pix_fmt)
    options = ["--precision", "fp32", *(["-c:v", "prores_ks"] if muxer == "mov" else [])]
    code, data, log = run(str(folder / "in.mkv"), "-", "-f", muxer, *options, folder=folder)
    assert code == 0, log
    return Piped((folder / "in.mkv").read_bytes(), data, log, pix_fmt, muxer)


def video_of(found: dict[str, Any]) -> dict[str, Any]:
    return next(s for s in found["streams"] if s["codec_type"] == "video")


def test_frames_and_times(piped):
    before, after = frames_of(piped.source), frames_of(piped.data)
    assert len(before) == len(after) == FRAMES
    start = before[0][0] - after[0][0]
    unit = Fraction(1, 1000) if piped.muxer == "matroska" else Fraction(0)  # Matroska's
    for (expected, _), (found, _) in zip(before, after, strict=True):
        # the source, Matroska, counts in milliseconds, too
        assert abs(expected - start - found) <= max(unit, Fraction(1, 1000))


def test_lossless_formats_change_nothing(piped):
    if piped.muxer not in LOSSLESS:
        pytest.skip(f"{piped.muxer} is encoded")
    assert video_of(ffprobe(piped.data))["pix_fmt"] == piped.pix_fmt
    assert [h for _, h in frames_of(piped.source)] == [h for _, h in frames_of(piped.data)]
    assert "(lossless: what reads it encodes)" in piped.log


def test_aspect_ratio_and_field_order(piped):
    video = video_of(ffprobe(piped.data))
    assert video["sample_aspect_ratio"] == "118:81"
    # MPEG-TS leaves it to the bitstream, and that of H.265 says nothing
    silent = piped.muxer == "nut" or (piped.muxer, video["codec_name"]) == ("mpegts", "hevc")
    assert video.get("field_order", "unknown") == ("unknown" if silent else "progressive")


def test_colour(piped, tmp_path):
    """In the stream, or, where it has no place for it, with what the log says to tell."""
    data = piped.data
    if match := re.search(r"tell its reader (.*)", piped.log):
        assert piped.muxer in ("yuv4mpegpipe", "nut")
        told = match[1].split()
        ffmpeg(*told, "-i", "-", "-c:v", "ffv1", "-an", str(tmp_path / "a.mkv"), data=data)
        data = (tmp_path / "a.mkv").read_bytes()
    video = video_of(ffprobe(data))
    assert {key: video.get(key) for key in TAGS} == TAGS
    if piped.pix_fmt == "yuv420p" and piped.muxer in ("matroska", "mpegts", "mp4"):
        assert video["chroma_location"] == "left"
    if piped.pix_fmt == "yuv420p" and piped.muxer == "yuv4mpegpipe":
        assert b" C420mpeg2 " in piped.data[:200]


def test_sound_comes_along(piped):
    streams = ffprobe(piped.data)["streams"]
    kinds = sorted(stream["codec_type"] for stream in streams)
    if piped.muxer == "yuv4mpegpipe":
        assert kinds == ["video"]
        assert "audio stream 1 (ac3) is dropped: yuv4mpegpipe cannot hold it" in piped.log
        return
    assert kinds == ["audio", "video"]
    options = ("-i", "-", "-map", "0:a", "-c", "copy", "-f", "streamhash", "-")
    assert ffmpeg(*options, data=piped.data) == ffmpeg(*options, data=piped.source)


def test_cover_art_makes_no_empty_track_in_fragments(shared, tmp_path):
    source = shared / "media" / "generated" / "cov.mp4"
    _, data, log = run(str(source), "-", "-f", "mp4", "--frames", "5", folder=tmp_path)
    kinds = [stream["codec_type"] for stream in ffprobe(data)["streams"]]
    assert kinds.count("video") == 1
    assert "(mjpeg) is dropped: mp4 in fragments cannot hold it (a file can)" in log


def test_everything_else_in_matroska_survives_a_pipe(shared, tmp_path):
    source = shared / "media" / "generated" / "rich.mkv"
    _, data, _ = run(str(source), "-", "-f", "matroska", folder=tmp_path)
    after, before = (ffprobe(d, "-show_chapters") for d in (data, source.read_bytes()))
    kinds = [(s["codec_type"], s["tags"].get("language")) for s in after["streams"]]
    assert kinds == [(s["codec_type"], s["tags"].get("language")) for s in before["streams"]]
    assert len(after["chapters"]) == 2
    assert video_of(after)["sample_aspect_ratio"] == "10:11"
    for selected in ("a", "s"):
        hashes = [
            ffmpeg(
                "-i", "-", "-map", f"0:{selected}", "-c", "copy", "-f", "streamhash", "-", data=d
            )
            for d in (data, source.read_bytes())
        ]
        assert hashes[0] == hashes[1]


@pytest.mark.parametrize("muxer", ["nut", "matroska", "mp4"])
def test_irregular_times_survive(shared, tmp_path, muxer):
    source = shared / "media" / "generated" / "vfr_irregular.mkv"
    code, data, _ = run(str(source), "-", "-f", muxer, folder=tmp_path)
    assert code == 0
    before = [time for time, _ in frames_of(source.read_bytes())]
    assert len(before) == 60
    assert [time for time, _ in frames_of(data)] == before


def test_irregular_times_are_warned_of_in_y4m(shared, tmp_path):
    source = shared / "media" / "generated" / "vfr_irregular.mkv"
    _, data, log = run(str(source), "-", "-f", "yuv4mpegpipe", folder=tmp_path)
    assert len(frames_of(data)) == 60
    lines = [line for line in log.splitlines() if "evenly" in line]
    assert len(lines) == 1
    assert lines[0].startswith("warning: frames are not evenly spaced")


def test_a_real_pipe(shared):
    """Between FFmpeg's commands, in 10 bit, sound beside the picture."""
    source = shared / "media" / "generated" / "rich.mkv"
    line = (
        f"ffmpeg -v error -i {source} -map 0:v:0 -map 0:a:0 -c:v ffv1 -pix_fmt yuv420p10le "
        f"-c:a copy -f matroska - | {shlex.join(PYTHON)} -m vsr - - -f nut --model identity | "
        "ffmpeg -v error -i - -map 0:v -fps_mode passthrough -f framemd5 -"
    )
    result = subprocess.run(["bash", "-c", line], capture_output=True, check=True, timeout=120)
    rows = [row for row in result.stdout.decode().splitlines() if not row.startswith("#")]
    assert len(rows) == len(frames_of(source.read_bytes())) == 75
    assert {row.split(",")[3].strip() for row in rows} == {"1"}
    assert {row.split(",")[4].strip() for row in rows} == {str(320 * 240 * 3)}


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("long") / "in.mkv"
    source = "testsrc2=s=320x240:r=25:d=60"
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast", str(path))
    return path


def start(path: Path, muxer: str, *options: str) -> "subprocess.Popen[bytes]":
    command = [*COMMAND, str(path), "-", "-f", muxer, "--model", "identity", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize(
    ("muxer", "taken"),
    [("yuv4mpegpipe", 0), ("yuv4mpegpipe", 500_000), ("nut", 0), ("matroska", 0), ("mpegts", 9999)],
)
def test_reader_that_goes_away_ends_the_run(long_clip, muxer, taken):
    with start(long_clip, muxer, "--stats") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(process.stdout.read(taken)) == taken
        process.stdout.close()
        log = process.stderr.read().decode()
        assert process.wait(timeout=60) == 0
    last = log.splitlines()[-1]
    match = re.fullmatch(r"the reader of standard output has gone after (\d+) frames?", last)
    assert match, log
    assert int(match[1]) < 1500
    assert "Traceback" not in log
    assert "Exception ignored" not in log


@pytest.mark.parametrize("muxer", ["nut", "mp4"])
def test_interrupted_run_ends_the_stream_properly(long_clip, muxer):
    with start(long_clip, muxer, "--progress", "json", "-e", "g=5") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        head = process.stdout.read(50_000)
        process.send_signal(signal.SIGINT)
        data = head + process.stdout.read()
        log = process.stderr.read().decode()
        assert process.wait(timeout=60) == 130
    match = re.search(r"interrupted after (\d+) frames$", log)
    assert match, log
    assert len(frames_of(data)) == int(match[1]) < 1500


REFUSALS = [
    (["-"], "standard output needs a format: add -f with one of yuv4mpegpipe, nut, matroska"),
    (["-", "-f", "avi"], "avi cannot be piped: use one of"),
    (["-", "-f", "mkv"], "unknown output format mkv: did you mean matroska?"),
    (["-", "-f", "matrosca"], "unknown output format matrosca: did you mean matroska?"),
    (["-", "-f", "yuv4mpegpipe", "-c:v", "libx264"], "holds raw video only: leave out libx264"),
    (["-", "-f", "yuv4mpegpipe", "--pix-fmt", "rgba"], "vsr does not write rgba"),
    (["-", "-f", "mpegts", "-c:v", "rawvideo"], "raw video is not written in mpegts: mkv takes"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSALS)
def test_refused_in_one_line_with_nothing_on_stdout(long_clip, capfd, arguments, message):
    assert main([str(long_clip), *arguments, "--model", "identity"]) == 2
    output, log = capfd.readouterr()
    assert output == ""
    assert message in log
    assert log.count("\n") == 1


def test_full_disk_behind_standard_output(long_clip):
    with Path("/dev/full").open("wb") as full:
        command = [*COMMAND, str(long_clip), "-", "-f", "nut", "--model", "identity"]
        result = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "vsr-upscale: error: standard output: cannot be written: No space left on device"
    )


def test_format_by_name_for_a_file(long_clip, tmp_path, tools):
    output = tmp_path / "out.bin"
    arguments = [str(long_clip), str(output), "-f", "matroska", "--frames", "5"]
    assert main([*arguments, "--model", "identity", "--preset", "ultrafast"]) == 0
    assert len(tools.probe(output).video[0]["packets"]) == 5


def test_library_gets_its_standard_output_back(long_clip, capfdbinary):
    config = UpscaleConfig(
        input=long_clip, output=PIPE, muxer="yuv4mpegpipe", model="identity", frames=2
    )
    report = upscale(config)
    os.write(1, b"after\n")
    output = capfdbinary.readouterr().out
    assert output.startswith(b"YUV4MPEG2 W320 H240 F25:1 Ip A1:1 C420")
    assert output.endswith(b"after\n")
    assert (report.frames, report.output, report.reader_gone) == (2, None, False)
    with pytest.raises(SinkError, match="no directory"):
        upscale(UpscaleConfig(input=long_clip, output=Path("none/a.y4m"), model="identity"))

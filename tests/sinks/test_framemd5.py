"""Hashes of frames: FFmpeg's own reading of the output gives the same file."""

import hashlib
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from vsr.errors import SinkError
from vsr.sinks import FrameMd5Sink, NullSink

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def ffmpeg(path: Path, *options: str) -> str:
    """What ``ffmpeg -f framemd5`` says of a file's picture."""
    command = ["ffmpeg", "-v", "error", "-bitexact", "-i", str(path), "-map", "0:v:0"]
    command += [*options, "-bitexact", "-f", "framemd5", "-"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def hashes(text: str) -> list[str]:
    return [line.split(",")[-1].strip() for line in text.splitlines() if line[0] != "#"]


def write(tools, path, info, times, *, codec="ffv1"):
    with FrameMd5Sink(tools.open(path, info, codec=codec), info) as sink:
        for index, (pts, duration) in enumerate(times):
            sink.write(tools.frame(info, pts, duration, seed=index))
    return path.with_name(path.name + ".framemd5").read_text()


@pytest.mark.parametrize(
    "pix_fmt",
    ["yuv420p", "yuv422p10le", "yuv420p10le", "yuv444p16le", "gbrp10le", "gbrp16le", "gray",
     "gray16le", "yuva444p", "gbrap16le"],
)  # fmt: skip
@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_ffmpeg_says_the_same_of_the_output(tools, tmp_path, pix_fmt, size):
    info = tools.info(pix_fmt, width=size[0], height=size[1], sar=Fraction(16, 15))
    ours = write(tools, tmp_path / "out.mkv", info, tools.schedule([40] * 5))
    assert ours == ffmpeg(tmp_path / "out.mkv")  # times, sizes and header too
    assert len(set(hashes(ours))) == 5


def test_rgb_of_8_bits_is_hashed_in_planes(tools, tmp_path):
    info = tools.info("gbrp", sar=Fraction(1))
    ours = write(tools, tmp_path / "out.mkv", info, tools.schedule([40] * 3))
    assert ours == ffmpeg(tmp_path / "out.mkv", "-pix_fmt", "gbrp")


def test_alpha_of_8_bits_is_hashed_in_planes(tools, tmp_path):
    """FFmpeg 5.1 rounds alpha on its way into planes, so these are taken apart here."""
    info = tools.info("gbrap", sar=Fraction(1))
    ours = write(tools, tmp_path / "out.mkv", info, tools.schedule([40] * 3))
    with av.open(str(tmp_path / "out.mkv")) as container:
        pixels = [frame.to_ndarray() for frame in container.decode(video=0)]
    planes = [frame[..., [1, 0, 2, 3]].transpose(2, 0, 1).tobytes() for frame in pixels]
    assert hashes(ours) == [hashlib.md5(one, usedforsecurity=False).hexdigest() for one in planes]


def test_rounded_times_are_counted_in_frames(tools, tmp_path):
    """Matroska's milliseconds of 30000/1001 frames a second."""
    info = tools.info(rate=Fraction(30000, 1001), sar=Fraction(1))
    starts = [round(index * Fraction(1001, 30)) for index in range(13)]
    times = [(a, b - a) for a, b in pairwise(starts)]
    ours = write(tools, tmp_path / "out.mkv", info, times)
    assert "#tb 0: 1001/30000\n" in ours
    assert ours == ffmpeg(tmp_path / "out.mkv")


def test_uneven_times_are_kept(tools, tmp_path):
    info = tools.info(sar=Fraction(1))
    ours = write(tools, tmp_path / "out.mkv", info, tools.schedule([40, 17, 250, 33, 40]))
    theirs = ffmpeg(tmp_path / "out.mkv", "-vsync", "passthrough", "-enc_time_base", "-1")
    assert "#tb 0: 1/1000\n" in ours
    assert hashes(ours) == hashes(theirs)
    pts = [line.split(",")[2] for line in ours.splitlines() if line[0] != "#"]
    assert [int(time) for time in pts] == [0, 40, 57, 307, 340]
    assert pts == [line.split(",")[2] for line in theirs.splitlines() if line[0] != "#"]


def test_odd_sizes_are_cut_as_ffv1_can(tools, tmp_path):
    sink = tools.open(tmp_path / "out.mkv", tools.info(width=719, height=577), codec="ffv1")
    with sink:
        sink.write(tools.frame(tools.info(width=719, height=577), 0))
    assert "slices" not in sink._encoding.options
    assert any("chooses the number of slices" in note for note in sink._encoding.notes)
    even = tools.open(tmp_path / "even.mkv", tools.info(), codec="ffv1")
    even.abort()
    assert even._encoding.options["slices"] == "16"


def test_a_changed_frame_shows(tools, tmp_path):
    info = tools.info()
    first = write(tools, tmp_path / "a.mkv", info, [(0, 40)])
    with FrameMd5Sink(tools.open(tmp_path / "b.mkv", info, codec="ffv1"), info) as sink:
        frame = tools.frame(info, 0)
        frame.planes[1][3, 5] ^= 1
        sink.write(frame)
    assert hashes(first) != hashes((tmp_path / "b.mkv.framemd5").read_text())


def test_lossy_outputs_have_the_hashes_of_what_was_encoded(tools, tmp_path):
    info = tools.info()
    lossy = write(tools, tmp_path / "a.mkv", info, [(0, 40)], codec="libx264")
    assert hashes(lossy) == hashes(write(tools, tmp_path / "b.mkv", info, [(0, 40)]))
    assert hashes(lossy) != hashes(ffmpeg(tmp_path / "a.mkv"))


def test_a_part_is_named_as_a_part(tools, tmp_path):
    info = tools.info()
    sink = FrameMd5Sink(tools.open(tmp_path / "out.mkv", info, codec="ffv1"), info)
    sink.write(tools.frame(info, 0))
    assert sink.keep_partial() == tmp_path / "out.partial.mkv"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "out.partial.mkv", "out.partial.mkv.framemd5"
    ]  # fmt: skip


def test_nothing_is_left_of_a_failed_run(tools, tmp_path):
    def fail(sink):
        with sink:
            sink.write(tools.frame(info, 0))
            raise RuntimeError("the tape tore")

    info = tools.info()
    with pytest.raises(RuntimeError, match="the tape tore"):
        fail(FrameMd5Sink(tools.open(tmp_path / "out.mkv", info, codec="ffv1"), info))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_after_giving_up_by_hand(tools, tmp_path):
    """Nor does the end of the ``with`` statement finish what has been aborted."""
    info = tools.info()
    with FrameMd5Sink(tools.open(tmp_path / "out.mkv", info, codec="ffv1"), info) as sink:
        sink.write(tools.frame(info, 0))
        sink.abort()
        assert sink.is_closed
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="has been closed"):
        sink.finish()


@pytest.mark.parametrize("end", ["finish", "keep_partial", "abort"])
def test_a_sink_without_a_file_is_closed_as_any(end):
    sink = NullSink()
    getattr(sink, end)()
    assert sink.is_closed


def test_an_output_without_its_hashes_is_said_to_be_complete(tools, tmp_path):
    (tmp_path / "out.mkv.framemd5").mkdir()
    info = tools.info()
    with pytest.raises(SinkError, match=r"framemd5: cannot be written: .*out\.mkv is complete"):
        write(tools, tmp_path / "out.mkv", info, [(0, 40)])
    assert hashes(ffmpeg(tmp_path / "out.mkv"))
    assert not list(tmp_path.glob(".*"))


def test_without_a_file_there_is_nothing_to_name_it_after(tools):
    with FrameMd5Sink(NullSink(), replace(tools.info(), sar=None)) as sink:
        sink.write(tools.frame(tools.info(), 0))
    assert sink.frames == 1
    assert sink.finish() is None

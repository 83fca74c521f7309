"""A file that begins amid a group of pictures: what cannot be decoded is counted and told."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from vsr.cli import main
from vsr.config import SourceConfig
from vsr.sources import open_source

LINE = "begins amid a group of pictures"


def make(path: Path, *options: str) -> Path:
    """50 pictures in groups of 10."""
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=2"]
    subprocess.run([*command, "-g", "10", "-bf", "2", *options, str(path)], check=True)
    return path


def without_first_idr(path: Path, *, without: tuple[int, ...] = (5,)) -> Path:
    """Raw H.264 without the first group's NAL units of some types; they go on to the first IDR."""
    data = path.read_bytes()
    starts = [found.start() for found in re.finditer(b"\0\0\1", data)]
    units = [data[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]
    first = next(place for place, unit in enumerate(units) if unit[3] & 31 == 5)
    kept = [u for place, u in enumerate(units) if place > first or u[3] & 31 not in without]
    cut = path.with_stem("cut")
    cut.write_bytes(b"".join(b"\0" + unit for unit in kept))
    return cut


def cut_off(path: Path, share: int) -> Path:
    """A transport stream without the first part of ``share``."""
    data = path.read_bytes()
    cut = path.with_stem("cut")
    cut.write_bytes(data[len(data) // 188 // share * 188 :])
    return cut


def read(path: Path, **options) -> tuple[int, int, list[str]]:
    """Frames, packets lost ahead of them, and what is said of these."""
    with open_source(path, SourceConfig(**options)) as source:
        frames = len(list(source))
    assert source.report.lines() == []
    return frames, source.report.lost_ahead, [note for note in source.notes if LINE in note]


@pytest.mark.parametrize("without", [(5,), (5, 7, 8)], ids=["idr", "headers"])
def test_raw_h264(tmp_path, without):
    path = without_first_idr(make(tmp_path / "in.h264", "-c:v", "libx264"), without=without)
    said = f"{LINE}: 9 packets of the picture, ahead of the first key frame, could not be decoded"
    assert read(path) == (40, 9, [said])


@pytest.mark.parametrize(
    "options",
    [
        ("-c:v", "mpeg2video"), ("-c:v", "libx264", "-x264-params", "open-gop=1"),
        ("-c:v", "libx265", "-x265-params", "log-level=none:min-keyint=10"),
    ],
    ids=["mpeg2", "h264", "hevc"],
)  # fmt: skip
def test_a_recording(tmp_path, options):
    """Pictures that are shown ahead of the key frame may be coded behind it."""
    whole = make(tmp_path / "in.ts", *options)
    assert read(whole) == (50, 0, [])
    path = cut_off(whole, 3)
    command = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "packet=pts"]
    found = subprocess.run([*command, "-of", "csv", path], capture_output=True, check=True)
    frames, lost, notes = read(path)
    assert frames + lost == len(found.stdout.split())
    assert lost > 3
    assert len(notes) == 1


def test_what_a_part_leaves_out_does_not_count(tmp_path):
    path = cut_off(make(tmp_path / "in.ts", "-c:v", "mpeg2video"), 3)
    assert read(path, start=1)[1:] == (0, [])


@pytest.mark.parametrize("begin", ["0.3", "0.5"])
def test_what_an_edit_list_hides_does_not_count(tmp_path, begin):
    whole, path = make(tmp_path / "in.mp4", "-c:v", "libx264"), tmp_path / "cut.mp4"
    command = ["ffmpeg", "-v", "error", "-ss", begin, "-i", str(whole), "-c", "copy", str(path)]
    subprocess.run(command, check=True)
    assert read(path)[1:] == (0, [])


@pytest.mark.parametrize("codec", ["libvpx-vp9", "libsvtav1", "mpeg4", "ffv1"])
def test_hidden_pictures_are_not_lost(tmp_path, codec):
    assert read(make(tmp_path / "in.mkv", "-pix_fmt", "yuv420p", "-c:v", codec)) == (50, 0, [])


def test_the_record_has_their_number(tmp_path):
    path, output = cut_off(make(tmp_path / "in.ts", "-c:v", "libx264"), 3), tmp_path / "out.mkv"
    assert main([str(path), str(output), "--model", "identity", "--record"]) == 0
    record = json.loads(output.with_name("out.mkv.json").read_text())
    assert record["damage"]["packets_ahead_of_key_frame"] > 3
    assert any(LINE in note["text"] for note in record["notes"] if note["kind"] == "input")

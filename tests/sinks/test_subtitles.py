"""Text subtitles from one container's form into the other's: the text stays, its style is said."""

import shutil
import subprocess
from pathlib import Path

import av
import pytest

from vsr.config import UpscaleConfig
from vsr.pipeline import upscale

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")

SRT = """1
00:00:00,100 --> 00:00:00,400
<i>Héllo</i> {\\an8}<font color="#ff0000">you</font>

2
00:00:00,500 --> 00:00:00,800
1 < 2 and 3 > 2 {not a style} <3
"""
PLAIN = ["Héllo you", "1 < 2 and 3 > 2 {not a style} <3"]


@pytest.fixture
def films(tmp_path: Path) -> dict[str, Path]:
    """One with styled subtitles, in SubRip and in MP4's timed text."""
    words = tmp_path / "words.srt"
    words.write_text(SRT, encoding="utf-8")
    found = {}
    for muxer, codec in (("mkv", "subrip"), ("mp4", "mov_text")):
        found[muxer] = tmp_path / f"in.{muxer}"
        inputs = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", "-i", str(words)]
        command = ["ffmpeg", "-v", "error", *inputs, "-c:s", codec, str(found[muxer])]
        subprocess.run(command, check=True)
    return found


def texts(path: Path) -> list[str]:
    """What is shown: FFmpeg reads the style of mov_text, and writes it as SubRip's."""
    with av.open(str(path)) as container:
        (stream,) = container.streams.subtitles
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size > 2]
        if stream.codec_context.name == "mov_text":
            packets = [data[2 : 2 + int.from_bytes(data[:2], "big")] for data in packets]
    return [data.decode() for data in packets]


@pytest.mark.parametrize(("source", "muxer"), [("mkv", "mp4"), ("mkv", "mov"), ("mp4", "mkv")])
def test_style_that_is_lost_is_said_and_not_shown(
    films: dict[str, Path], tmp_path: Path, source: str, muxer: str
) -> None:
    output = tmp_path / f"out.{muxer}"
    report = upscale(UpscaleConfig(input=films[source], output=output, model="identity"))
    assert texts(output) == PLAIN
    (note,) = [note for note in report.notes if "loses style" in note]
    assert ": 1 text loses style" in note


@pytest.mark.parametrize("muxer", ["mkv", "mp4"])
def test_style_stays_in_the_same_form(films: dict[str, Path], tmp_path: Path, muxer: str) -> None:
    output = tmp_path / f"out.{muxer}"
    report = upscale(UpscaleConfig(input=films[muxer], output=output, model="identity"))
    assert texts(output) == texts(films[muxer])
    assert not [note for note in report.notes if "style" in note]

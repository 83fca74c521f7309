"""The aspect ratio in AVI: ffprobe reads it, and the frames stay where they are."""

import subprocess
from fractions import Fraction

import pytest

from vsr.sinks.avi import set_aspect_ratio

RATIOS = ["16/15", "59/54", "118/81", "8/9", "1", "1216/1215"]


@pytest.fixture
def plain(tools, tmp_path):
    path = tmp_path / "plain.avi"
    info = tools.info(width=720, height=576, time_base=Fraction(1, 25))
    tools.write(path, info, tools.schedule([1] * 3), codec="ffv1")
    return path


def hashes(path) -> list[str]:
    command = ["ffmpeg", "-v", "warning", "-i", str(path), "-map", "0", "-f", "framemd5", "-"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    return [line for line in result.stdout.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("sar", [Fraction(text) for text in RATIOS], ids=str)
def test_only_the_head_changes(plain, tools, sar):
    before, old = plain.read_bytes(), hashes(plain)
    set_aspect_ratio(plain, 0, sar)
    after = plain.read_bytes()
    frames = before.find(b"movi")
    assert len(after) == len(before)
    assert after[frames - 8 :] == before[frames - 8 :]
    assert hashes(plain) == old
    found = tools.probe(plain).video[0]["sample_aspect_ratio"]
    assert found == f"{sar.numerator}:{sar.denominator}"
    set_aspect_ratio(plain, 0, Fraction(10, 11))  # again: replaced
    assert tools.probe(plain).video[0]["sample_aspect_ratio"] == "10:11"


def test_numbers_that_do_not_fit_are_refused(plain):
    before = plain.read_bytes()
    with pytest.raises(ValueError, match=r"numbers of \d+:\d+ are too large"):
        set_aspect_ratio(plain, 0, Fraction(100_003, 100_000))
    assert plain.read_bytes() == before


@pytest.mark.parametrize("stream", [1, 9])
def test_only_video_has_an_aspect_ratio(rich, remux, tmp_path, stream):
    remux(rich, tmp_path / "out.avi")
    before = (tmp_path / "out.avi").read_bytes()
    with pytest.raises(ValueError, match=r"no stream 9|not a video stream"):
        set_aspect_ratio(tmp_path / "out.avi", stream, Fraction(1))
    assert (tmp_path / "out.avi").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"no AVI at all", b"RIFF\0\0\0\0AVI LIST\xff\xff\xff\0"])
def test_other_files_are_refused_untouched(tmp_path, content):
    (tmp_path / "a.avi").write_bytes(content)
    with pytest.raises(ValueError, match=r"not an AVI|beyond"):
        set_aspect_ratio(tmp_path / "a.avi", 0, Fraction(1))
    assert (tmp_path / "a.avi").read_bytes() == content

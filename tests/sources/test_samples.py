"""Sound of plain samples is cut where the picture is; coded sound at its packets."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vsr.cli import main

RATE = 48000
Film = Callable[[str, str, int], Path]


@pytest.fixture
def film(tmp_path: Path) -> Film:
    """Three seconds of 25 frames each, with counted samples in blocks of any length."""

    def make(name: str, codec: str, block: int) -> Path:
        path = tmp_path / name
        values = np.arange(3 * RATE, dtype=np.int32).astype(np.int16)
        both = np.stack([values, -values], axis=1)
        with av.open(path, "w") as out:
            video: Any = out.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
            sound: Any = out.add_stream(codec, rate=RATE, layout="stereo")
            out.start_encoding()
            for pts in range(75):
                picture = av.VideoFrame(64, 48, "yuv420p")
                picture.pts = pts
                out.mux(video.encode(picture))
            out.mux(video.encode(None))
            for begin in range(0, 3 * RATE, block):
                part = both[begin : begin + block].reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(part, format="s16", layout="stereo")
                frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
                frame.pts = begin
                out.mux(sound.encode(frame))
            out.mux(sound.encode(None))
        return path

    return make


def heard(path: Path) -> tuple[float, np.ndarray]:
    """When the sound begins, and the left channel."""
    with av.open(path) as container:
        frames = list(container.decode(audio=0))
    parts = [frame.to_ndarray().reshape(-1, 2)[:, 0] for frame in frames]
    return float(frames[0].time or 0), np.concatenate(parts)


PARTS: dict[tuple[str, ...], tuple[int | Fraction, int | Fraction]] = {
    ("-ss", "1", "-t", "1"): (1, 2),
    ("-ss", "0.52"): (Fraction(52, 100), 3),
    ("-to", "1.4"): (0, Fraction(14, 10)),
    ("-ss", "1", "--frames", "7"): (1, Fraction(128, 100)),
    ("--frames", "9"): (0, Fraction(36, 100)),
}


@pytest.mark.parametrize("part", PARTS, ids=" ".join)
@pytest.mark.parametrize(("suffix", "block"), [("mov", 1024), ("mkv", 16384), ("mov", 40000)])
def test_samples_are_cut_where_the_picture_is(film, tmp_path, part, suffix, block):
    given = film(f"in.{suffix}", "pcm_s16le", block)
    out = tmp_path / "out.mov"
    assert main([str(given), str(out), "--model", "identity", *part]) == 0
    (begin, end), (start, values) = PARTS[part], heard(out)
    expected = np.arange(round(begin * RATE), round(end * RATE)).astype(np.int16)
    assert start == pytest.approx(0, abs=0.0011 if suffix == "mkv" else 1e-4)
    slack = 48 if suffix == "mkv" else 0  # Matroska's times are whole milliseconds
    assert abs(int(values[0]) - int(expected[0])) <= slack
    assert abs(len(values) - len(expected)) <= slack
    np.testing.assert_array_equal(np.diff(values), np.int16(1))  # none is missing in between


def test_coded_sound_is_cut_at_its_packets(film, tmp_path):
    given = film("in.mkv", "flac", 4608)
    out = tmp_path / "out.mkv"
    assert main([str(given), str(out), "--model", "identity", "-ss", "1", "-t", "1"]) == 0
    start, values = heard(out)
    assert 0 < start < 4608 / RATE
    assert RATE - 2 * 4608 < len(values) < RATE + 2 * 4608


def test_a_part_of_a_file_whose_sound_is_of_an_unknown_codec(shared: Path, tmp_path: Path) -> None:
    path = shared / "media/androidx/sample_missing_stsd.mp4"
    arguments = [str(path), str(tmp_path / "out.mkv"), "--model", "identity"]
    assert main([*arguments, "-ss", "0.3", "--frames", "2"]) == 0

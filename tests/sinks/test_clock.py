"""The clock of an output: times that the source's has rounded are put where they were."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from vsr.cli import main
from vsr.sinks.clock import EncoderClock

FILM, VIDEO = Fraction(24000, 1001), Fraction(30000, 1001)
MS = Fraction(1, 1000)


def in_ms(times: list[Fraction]) -> list[int]:
    return [round(time * 1000) for time in times]


def marked(times: list[int], rate: Fraction, base: Fraction) -> list[Fraction]:
    clock = EncoderClock(base, rate)
    spans = [b - a for a, b in zip(times, [*times[1:], times[-1] + 42], strict=True)]
    found = [clock.mark(pts, span, MS) for pts, span in zip(times, spans, strict=True)]
    for (pts, lasting), (following, _) in pairwise(found):
        assert pts + lasting == following
    assert clock.moved == 0
    return [pts * base for pts, _ in found]


@pytest.mark.parametrize("late", [Fraction(0), Fraction("0.0125"), Fraction("7.0074")])
def test_what_milliseconds_have_rounded(late):
    """Over an hour, with frames that are missing."""
    true = [late + number / FILM for number in range(86_400) if number % 1000]
    found = marked(in_ms(true), FILM, Fraction(1, 24000))
    assert {(b - a) * FILM for a, b in pairwise(found)} == {1, 2}
    assert max(abs(a - b) for a, b in zip(found, true, strict=True)) <= Fraction(1, 1000)


def test_frames_of_another_pace_stay_where_they_are():
    film = [number / FILM for number in range(240)]
    video = [film[-1] + number / VIDEO for number in range(1, 300)]
    times = in_ms([*film, *video])
    found = marked(times, FILM, Fraction(1, 24000))
    assert found[:240] == film
    assert found[241:] == [time * MS for time in times[241:]]


def test_uneven_frames_stay_where_they_are():
    times = [0, 30, 71, 97, 160, 171, 222, 250, 340]
    assert marked(times, FILM, Fraction(1, 24000)) == [time * MS for time in times]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Two seconds at 24000/1001, in the milliseconds of Matroska."""
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=FILM, width=32, height=16)
        for number in range(48):
            frame = av.VideoFrame(32, 16, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([number]) * plane.buffer_size)
            frame.pts, frame.time_base = number, 1 / FILM
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def times_of(path: Path) -> tuple[list[Fraction], Fraction | None]:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        base = Fraction(video.time_base.numerator, video.time_base.denominator)
        times = sorted(p.pts * base for p in container.demux(video) if p.pts is not None)
        rate = video.average_rate
        return times, None if rate is None else Fraction(rate.numerator, rate.denominator)


@pytest.mark.parametrize("name", ["out.mp4", "out.mov"])
@pytest.mark.parametrize("options", [[], ["--segment-seconds", "1"]], ids=["one go", "segments"])
def test_film_of_matroska_has_its_rate_in_mp4_and_mov(tmp_path, film, name, options):
    assert len({b - a for a, b in pairwise(times_of(film)[0])}) == 2  # 41 and 42 ms
    out = tmp_path / name
    assert main([str(film), str(out), "--model", "identity", *options]) == 0
    assert times_of(out) == ([number / FILM for number in range(48)], FILM)

"""Frames that come unevenly, where a container or a codec counts them."""

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import pytest

from vsr.cli import main
from vsr.encoding.counting import check_gaps, counted_rate
from vsr.errors import ConfigError

FILM, VIDEO = Fraction(24000, 1001), Fraction(30000, 1001)


def frames(count: int, rate: Fraction, start: Fraction = Fraction(0)) -> list[Fraction]:
    """Times as Matroska has them, in milliseconds."""
    times = [start + number / rate for number in range(count)]
    return [Fraction(round(time * 1000), 1000) for time in times]


@pytest.mark.parametrize(
    ("times", "rate", "expected"),
    [
        (frames(50, FILM), FILM, FILM),
        (frames(50, FILM) + frames(50, VIDEO, 50 / FILM), FILM, Fraction(120000, 1001)),
        (frames(50, VIDEO) + frames(50, FILM, 50 / VIDEO), VIDEO, VIDEO),  # each has its place
        (frames(9, Fraction(25)) + frames(9, Fraction(50), Fraction(9, 25)), Fraction(25), 50),
        (frames(50, Fraction(30))[::3], Fraction(30), 30),  # with gaps
        ([Fraction(n * n, 1000) for n in range(9, 40)], Fraction(20), 240),
        ([Fraction(n, 1000) for n in (0, 3, 50, 400_000, 400_007)], Fraction(25), 125),
        ([Fraction(n, 1000) for n in (0, 3, 50, 4000_000, 4000_007)], Fraction(25), 25),
        ([], FILM, FILM),
        (frames(1, FILM), FILM, FILM),
    ],
)
def test_each_frame_has_a_place(times, rate, expected):
    assert counted_rate(times, rate) == expected


def test_a_gap_that_avi_cannot_leave():
    ahead = frames(5, Fraction(25))
    behind = [ahead[-1] + Fraction(60_001, 25) + time for time in ahead]
    check_gaps([*ahead, *behind], Fraction(25))
    check_gaps([*ahead, Fraction(10**6)], Fraction(25))  # a wrong time, which will be repaired
    with pytest.raises(ConfigError, match="60000 places"):
        check_gaps([*ahead, *(time + Fraction(1, 25) for time in behind)], Fraction(25))


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video"])
def test_it_is_refused_ahead_of_the_work(tmp_path, capsys, codec):
    """But not where the part that is wanted ends before."""
    gap = "settb=1/1000,setpts='N*40+if(gt(N,4),3600000,0)'"
    finer = ["-fps_mode", "passthrough", "-enc_time_base", "1/1000", "-c:v", "ffv1"]
    source = made(tmp_path / "in.mkv", "testsrc2=s=64x48:d=0.4:r=25", "-vf", gap, *finer)
    options = [str(tmp_path / "out.avi"), "--model", "identity", "-c:v", codec]
    assert main([str(source), *options]) == 2
    assert "write .mkv or .mp4" in capsys.readouterr().err
    assert main([str(source), *options, "-to", "1"]) == 0


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of film, then two of video, with sound."""
    folder = tmp_path_factory.mktemp("uneven")
    for name, rate in (("film", "24000/1001"), ("video", "30000/1001")):
        made = ["-f", "lavfi", "-i", f"testsrc2=s=64x48:r={rate}:d=2", "-c:v", "ffv1"]
        subprocess.run(["ffmpeg", "-v", "error", *made, str(folder / f"{name}.mkv")], check=True)
    (folder / "list").write_text("file film.mkv\nfile video.mkv\n")
    inputs = ["-f", "concat", "-i", str(folder / "list"), "-f", "lavfi", "-i", "sine=d=4"]
    path = folder / "in.mkv"
    command = ["ffmpeg", "-v", "error", *inputs, "-c:v", "copy", "-c:a", "pcm_s16le", str(path)]
    subprocess.run(command, check=True)
    return path


def shown(path: Path) -> list[float]:
    """When the decoder's pictures are shown, in seconds; of AVI, when they are decoded."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        base = Fraction(stream.time_base.numerator, stream.time_base.denominator)
        if path.suffix == ".avi":
            packets = (packet for packet in container.demux(stream) if packet.size)
            return [float((packet.dts or 0) * base) for packet in packets]
        return sorted(float((frame.pts or 0) * base) for frame in container.decode(stream))


def made(path: Path, *options: str) -> Path:
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", *options, path], check=True)
    return path


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video"])
@pytest.mark.parametrize("seconds", ["0", "1"])
def test_a_time_that_comes_twice(tmp_path, codec, seconds):
    """It is repaired by one tick, which the track must be able to say."""
    twice = ["-bsf:v", "setts=ts='if(eq(N,20),PREV_OUTPTS,PTS)'"]
    source = made(tmp_path / "in.ts", "testsrc2=s=64x48:d=2", "-c:v", "mpeg2video", *twice)
    options = ["--model", "identity", "-c:v", codec, "--segment-seconds", seconds]
    assert main([str(source), str(tmp_path / "out.mp4"), *options]) == 0
    found = shown(tmp_path / "out.mp4")
    assert len(found) == len(set(found)) == 50


def test_even_frames_of_mpeg2_lie_on_its_grid(tmp_path):
    """Though Matroska has milliseconds only."""
    source = made(tmp_path / "in.mkv", "testsrc2=s=64x48:d=1:r=30000/1001", "-c:v", "ffv1")
    options = ["--model", "identity", "-c:v", "mpeg2video"]
    assert main([str(source), str(tmp_path / "out.ts"), *options]) == 0
    found = shown(tmp_path / "out.ts")
    grid = [found[0] + number * 1001 / 30000 for number in range(30)]
    assert found == pytest.approx(grid, abs=2 / 90_000)


def test_film_out_of_telecine_is_counted_at_its_rate(tmp_path):
    telecine = ["-vf", "telecine", "-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-b:v", "1M"]
    source = made(tmp_path / "in.ts", "testsrc2=s=96x64:d=2:r=24000/1001", *telecine)
    output = tmp_path / "out.avi"
    assert main([str(source), str(output), "--model", "identity", "--ivtc", "-c:v", "mpeg4"]) == 0
    with av.open(str(output)) as container:
        assert container.streams.video[0].average_rate == FILM


def test_mpeg4_counts_what_it_cannot_time(uneven, tmp_path):
    """In 1/90000 s, as in most MP4 files of phones."""
    path, output = tmp_path / "in.mp4", tmp_path / "out.mkv"
    finer = ["-c:v", "libx264", "-enc_time_base", "1/90000", "-fps_mode", "passthrough"]
    subprocess.run(["ffmpeg", "-v", "error", "-i", uneven, *finer, path], check=True)
    assert main([str(path), str(output), "--model", "identity", "-c:v", "mpeg4"]) == 0
    assert shown(output) == pytest.approx(shown(uneven), abs=0.001)


@pytest.mark.parametrize("seconds", ["0", "1"])
@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("out.avi", "libx264"), ("out.avi", "mpeg4"), ("out.mkv", "mpeg2video"),
        ("out.mp4", "mpeg2video"), ("out.ts", "mpeg2video"), ("out.mkv", "mpeg1video"),
        ("out.mkv", "mpeg4"),
    ],
)  # fmt: skip
def test_the_picture_stays_with_the_sound(uneven, tmp_path, name, codec, seconds):
    output, options = tmp_path / name, ["--model", "identity", "--segment-seconds", seconds]
    reorder = ["-e", "bf=2"] if codec.startswith("mpeg") and name != "out.avi" else []
    assert main([str(uneven), str(output), *options, "-c:v", codec, *reorder]) == 0
    before, after = shown(uneven), shown(output)
    start = after[0] - before[0] if name == "out.ts" else 0
    near = 0.0021 if (name, codec) == ("out.avi", "mpeg4") else 0.001  # which cannot count finer
    assert [time - start for time in after] == pytest.approx(before, abs=near)
    with av.open(str(output)) as container:
        packets = (p for p in container.demux(video=0) if p.size)
        coded = [packet.dts for packet in packets if packet.dts is not None]
    assert coded == sorted(set(coded))

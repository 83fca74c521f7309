"""AVI that is damaged in its middle, or cut short: what is missing is said, and moves nothing."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vsr.sources import SourceConfig, open_source

FRAMES, RATE, SAMPLES = 75, 8000, 320
"""Pictures, 25 a second; samples a second, and in each picture's time."""
Place = tuple[int, int]


@pytest.fixture
def film(ffmpeg, tmp_path: Path) -> Path:
    """Every sample of the sound has its number as its value."""
    sound = np.arange(FRAMES * SAMPLES, dtype="<i2").tobytes()
    path = tmp_path / "film.avi"
    ffmpeg.run(
        "-f", "lavfi", "-i", f"testsrc2=s=64x48:r=25:d={FRAMES // 25}",
        "-f", "s16le", "-ar", RATE, "-ac", 1, "-i", "-", "-c:v", "mjpeg", "-c:a", "pcm_s16le", path,
        stdin=sound,
    )  # fmt: skip
    return path


def chunks(path: Path) -> list[Place]:
    """First byte and the one behind, of each picture's chunk."""
    with av.open(path) as container:
        listed = [(e.pos, e.pos + 8 + e.size) for e in container.streams.video[0].index_entries]
    assert len(listed) == FRAMES
    return listed


def without(film: Path, places: list[Place]) -> Path:
    """A copy with zeros in ``places``."""
    data, path = bytearray(film.read_bytes()), film.with_name("damaged.avi")
    for begin, end in places:
        data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    return path


def listed_only_of(data: bytearray, kind: bytes) -> None:
    """Leave out of the index what is not of ``kind``."""
    at = data.rindex(b"idx1") + 8
    entries = [bytes(data[begin : begin + 16]) for begin in range(at, len(data), 16)]
    kept = b"".join(entry for entry in entries if entry[:4] == kind)
    data[at - 4 :] = len(kept).to_bytes(4, "little") + kept


def first_samples(path: Path) -> list[tuple[int, int]]:
    """Milliseconds and number of the first sample of each packet of the sound."""
    with av.open(path) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        times = [round(float((p.pts or 0) * p.time_base) * 1000) for p in packets]
        return [
            (time, int.from_bytes(bytes(packet)[:2], "little"))
            for time, packet in zip(times, packets, strict=True)
        ]


def test_pictures_behind_those_that_are_lost_keep_their_times(film, tmp_path, command):
    damaged = without(film, chunks(film)[20:30])
    with open_source(damaged) as source:
        times = [frame.pts * frame.time_base * 25 for frame in source]
    assert times == [*range(20), *range(30, FRAMES)]
    assert source.report.unfound_duration == Fraction(10, 25)
    assert source.report.missing_duration == 0
    code, lines = command(damaged, tmp_path / "out.mkv")
    assert code == 0
    assert "warning: 0.40 s of picture that the index lists are not in the file" in "\n".join(lines)
    assert first_samples(tmp_path / "out.mkv") == first_samples(film)


@pytest.mark.parametrize("seconds", [0, 0.5])
def test_sound_that_is_lost_with_its_pictures_leaves_a_gap(film, tmp_path, command, seconds):
    """Where the film is written in segments, its sound is read again."""
    places = chunks(film)
    damaged = without(film, [(places[20][0], places[30][0])])
    code, lines = command(damaged, tmp_path / "out.mkv", "--segment-seconds", seconds)
    assert code == 0
    assert [line.partition(" that")[0] for line in lines if "not in the file" in line] == [
        "warning: 0.40 s of picture", "warning: 0.40 s of sound",
    ]  # fmt: skip
    found = first_samples(tmp_path / "out.mkv")
    assert found[-1][1] > FRAMES * SAMPLES - 2000
    for time, number in found:
        assert abs(time - 1000 * number / RATE) <= 1
    with av.open(tmp_path / "out.mkv") as container:
        shown = [round(float(p.pts * p.time_base) * 25) for p in container.demux(video=0) if p.size]
    assert sorted(shown) == [*range(20), *range(30, FRAMES)]


@pytest.mark.parametrize("seconds", [0, 0.5])
def test_in_mov_the_gap_is_silence(film, tmp_path, command, seconds):
    """PCM has no times there, but a number of samples."""
    places = chunks(film)
    damaged = without(film, [(places[20][0], places[30][0])])
    out = tmp_path / "out.mov"
    assert command(damaged, out, "--segment-seconds", seconds)[0] == 0
    with av.open(out) as container:
        samples = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert len(samples) == FRAMES * SAMPLES
    numbers = np.arange(len(samples))
    heard = samples != 0
    assert (samples[heard] == numbers[heard]).all()
    assert np.count_nonzero(~heard[1:]) == 10 * SAMPLES


@pytest.mark.parametrize("codec", ["libmp3lame", "ac3", "pcm_u8"])
def test_sound_that_is_counted_otherwise_stays_beside_its_picture(ffmpeg, film, tmp_path, codec):
    """In frames, in bytes, or in bytes that are samples."""
    other = tmp_path / "other.avi"
    ffmpeg.run("-i", film, "-c:v", "copy", "-c:a", codec, "-ar", 32000, other)
    places = chunks(other)
    damaged = without(other, [(places[20][0], places[30][0])])
    with open_source(damaged) as source:
        for _ in source:
            pass
    report = source.report
    assert report.unfound_duration == Fraction(10, 25)
    assert float(report.unfound_sound) == pytest.approx(0.4, abs=0.08)


@pytest.mark.parametrize("kind", [b"00dc", b"01wb"])
def test_an_index_of_one_stream_alone_parts_nothing(film, kind):
    """Picture and sound come too early, but together."""
    places = chunks(film)
    damaged = without(film, [(places[20][0], places[30][0])])
    data = bytearray(damaged.read_bytes())
    listed_only_of(data, kind)
    damaged.write_bytes(data)
    with open_source(damaged) as source:
        times = [frame.pts * frame.time_base * 25 for frame in source]
    assert times == [*range(FRAMES - 10)]
    assert source.report.unfound_duration == source.report.unfound_sound == 0
    assert any("0.40 s of 3.00 s are missing" in line for line in source.report.lines())


def test_two_pictures_that_are_not_found_are_said(film):
    """An eighth of the time in which a header may be wrong: the index knows how many there are."""
    data = bytearray(without(film, chunks(film)[20:22]).read_bytes())
    listed_only_of(data, b"00dc")
    damaged = film.with_name("damaged.avi")
    damaged.write_bytes(data)
    with open_source(damaged) as source:
        assert len(list(source)) == FRAMES - 2
    assert source.report.missing_duration == Fraction(2, 25)
    (line,) = source.report.lines()
    assert line == "0.08 s of 3.00 s are missing, in the middle: what follows comes too early"


def test_pictures_that_need_others_are_damaged_behind_a_hole(ffmpeg, film, tmp_path):
    other = tmp_path / "other.avi"
    ffmpeg.run("-i", film, "-c:v", "mpeg4", "-g", 25, "-c:a", "copy", other)
    damaged = without(other, chunks(other)[30:34])
    with open_source(damaged) as source:
        numbers = [int(frame.pts * frame.time_base * 25) for frame in source]
    assert numbers == [*range(30), *range(34, FRAMES)]
    assert [numbers[damage] for damage in source.report.damaged] == [*range(34, 50)]


def test_from_a_position_behind_the_damage_it_is_the_same(film):
    damaged = without(film, chunks(film)[20:30])
    for start, first in ((Fraction(1, 2), 13), (Fraction(9, 10), 30), (Fraction(2), 50)):
        with open_source(damaged, SourceConfig(start=start)) as source:
            numbers = [(frame.pts * frame.time_base + start) * 25 for frame in source]
        assert numbers == [number for number in range(first, FRAMES) if not 20 <= number < 30]


def test_work_on_a_damaged_film_goes_on(film, tmp_path, command):
    damaged, out = without(film, chunks(film)[20:30]), tmp_path / "out.mkv"
    options = ("--segment-seconds", "0.5", "-c:v", "ffv1")
    assert command(damaged, tmp_path / "whole.mkv", *options)[0] == 0
    command(damaged, out, *options, "--frames", "40")
    out.unlink()
    assert command(damaged, out, *options, "--resume")[0] == 0

    def pictures(path: Path) -> list[tuple[int | None, bytes]]:
        with av.open(path) as container:
            return [(p.pts, bytes(p)) for p in container.demux(video=0) if p.size]

    assert pictures(out) == pictures(tmp_path / "whole.mkv")


def test_an_index_that_is_wrong_changes_nothing(film):
    """Each place is that of the next chunk of its stream."""
    data = bytearray(film.read_bytes())
    at = data.rindex(b"idx1") + 8
    entries = [bytes(data[begin : begin + 16]) for begin in range(at, len(data), 16)]
    for kind in (b"00dc", b"01wb"):
        own = [n for n, entry in enumerate(entries) if entry[:4] == kind]
        places = [entries[n][8:] for n in own]
        for n, place in zip(own[1:], places[2:], strict=False):
            entries[n] = entries[n][:8] + place
    data[at:] = b"".join(entries)
    wrong = film.with_name("wrong.avi")
    wrong.write_bytes(data)
    with open_source(wrong) as source:
        times = [frame.pts * frame.time_base * 25 for frame in source]
    assert times == [*range(FRAMES)]
    assert source.report.lines() == []


def test_a_film_that_was_cut_short_lacks_what_its_header_promises(film):
    end = chunks(film)[40][0]
    short = film.with_name("short.avi")
    short.write_bytes(film.read_bytes()[:end])
    with open_source(short) as source:
        assert len(list(source)) == 40
    assert source.report.missing_duration == pytest.approx(Fraction(35, 25), abs=0.05)
    assert source.report.expected_duration == 3
    assert source.report.lines()[-1].endswith("s of 3.00 s are missing: the file ends early")
    assert not source.report.damaged


def test_a_picture_that_was_cut_short_is_damaged(film):
    begin, end = chunks(film)[40]
    short = film.with_name("short.avi")
    short.write_bytes(film.read_bytes()[: (begin + end) // 2])
    with open_source(short) as source:
        assert len(list(source)) == 41
    assert source.report.damaged == [40]


def test_where_reading_stopped_is_said(ffmpeg, tmp_path):
    """FFmpeg takes zeros in raw DV for NTSC, and the rest of it for nothing."""
    tape = ffmpeg.make(
        "tape.dv", "-f", "lavfi", "-i", "testsrc2=s=720x576:r=25:d=3",
        "-f", "lavfi", "-i", "sine=d=3:r=48000", "-target", "pal-dv",
    )  # fmt: skip
    data, frame = bytearray(tape.read_bytes()), 144_000
    data[30 * frame : 34 * frame] = bytes(4 * frame)
    damaged = tmp_path / "damaged.dv"
    damaged.write_bytes(data[: 60 * frame + 7777])
    with open_source(damaged) as source:
        for _ in source:
            pass
    stopped = source.report.unreadable_from
    assert stopped is not None
    assert 1.2 <= stopped < 1.5
    assert source.report.lines()[-1].endswith(": they cannot be read")


def test_the_last_picture_of_uneven_ones_lasts_as_long(shared, tmp_path, command):
    """AVI counts on to its end."""
    source, out = shared / "media" / "generated" / "vfr_irregular.mkv", tmp_path / "out.avi"
    assert command(source, out)[0] == 0
    ends = []
    for path in (source, out):
        with open_source(path) as opened:
            *_, last = opened
        ends.append(float((last.pts + last.duration) * last.time_base))
    assert ends[1] == pytest.approx(ends[0], abs=0.005)

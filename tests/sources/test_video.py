import gc
import json
import shutil
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import av
import av.filter
import numpy as np
import pytest
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vsr.config import InputConfig
from vsr.errors import ConfigError, SourceError
from vsr.frame import Frame, Matrix, Range, pixel_format
from vsr.sources import SourceConfig, VideoSource, open_source
from vsr.sources.decoder import Decoder
from vsr.sources.ffv1 import SliceChecker
from vsr.sources.planes import convert, native_format, planes_of

MEDIA = Path(__file__).resolve().parents[2] / "../shared/media"
UNREADABLE = {"trunc_base.mp4": "not a media file", "invalid-bitstream.webm": "none of its vp9"}
FFPROBE = shutil.which("ffprobe")

needs_media = pytest.mark.skipif(not MEDIA.is_dir(), reason=f"no sample files in {MEDIA}")
needs_ffprobe = pytest.mark.skipif(FFPROBE is None, reason="ffprobe is not installed")


def media(name: str) -> Path:
    found = MEDIA / name
    if not found.is_file():
        pytest.skip(f"no sample file {found}")
    return found


def all_media() -> list[Path]:
    return sorted(p for p in MEDIA.rglob("*.*") if p.suffix != ".md") if MEDIA.is_dir() else []


def checksum(frame: Frame) -> int:
    return zlib.crc32(b"".join(p.contiguous().numpy().tobytes() for p in frame.planes))


def picture(index: int, width: int, height: int, pix_fmt: str) -> VideoFrame:
    """A gradient that moves, so that no two frames are equal."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([(x * 3 + index * 5) % 256, (y * 5) % 256, (x + y + index) % 256], axis=-1)
    frame = VideoFrame.from_ndarray(rgb.astype(np.uint8), "rgb24")
    return frame if pix_fmt == "rgb24" else frame.reformat(format=pix_fmt)


def write_clip(
    path: Path,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    *,
    size: tuple[int, int] = (64, 48),
    times: list[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    options: dict[str, str] | None = None,
    tone: bool = False,
) -> Path:
    """Encode ``picture`` at ``times``, with one second of sound per 25 frames if ``tone``."""
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=25, options=options or {})
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        video.codec_context.time_base = time_base
        audio = out.add_stream("pcm_s16le", rate=8000, layout="mono") if tone else None
        for i, time in enumerate(times if times is not None else range(25)):
            frame = picture(i, *size, pix_fmt)
            frame.pts, frame.time_base = time, time_base
            out.mux(video.encode(frame))
            if audio is not None:
                sound = av.AudioFrame.from_ndarray(np.full((1, 320), i, np.int16), "s16", "mono")
                sound.sample_rate, sound.pts = 8000, 320 * i
                out.mux(audio.encode(sound))
        out.mux(video.encode())
    return path


Clip = Callable[..., Path]


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    def make(name: str = "clip.mkv", *args: object, **kwargs: object) -> Path:
        return write_clip(tmp_path / name, *args, **kwargs)  # type: ignore[arg-type]

    return make


def ffprobe_times(path: Path, stream: int, count: int) -> list[int | None]:
    assert FFPROBE is not None
    command = [
        FFPROBE, "-v", "quiet", "-of", "json", "-select_streams", str(stream), "-threads", "1",
        "-read_intervals", f"%+#{count + 16}", "-show_entries", "frame=best_effort_timestamp",
        str(path),
    ]  # fmt: skip
    result = subprocess.run(command, check=False, capture_output=True, timeout=60)
    frames = json.loads(result.stdout)["frames"]
    return [frame.get("best_effort_timestamp") for frame in frames][:count]


# Every sample file


@needs_media
@pytest.mark.parametrize("path", all_media(), ids=lambda p: p.name)
def test_sample_file_reads_like_ffprobe_says(path: Path) -> None:
    if path.name in UNREADABLE:
        with pytest.raises(SourceError, match=UNREADABLE[path.name]):
            open_source(path)
        return
    with open_source(path, frames=40) as source:
        stream = source.stream.index
        frames = list(source)
        info = source.info
    times = [frame.pts for frame in frames]
    assert times == sorted(set(times))
    assert times[0] >= 0
    for one, two in pairwise(frames):
        assert one.duration == two.pts - one.pts
    assert frames[-1].duration > 0
    assert Fraction(1) <= info.rate <= 600
    assert info.rate != 1000
    for frame in frames:
        assert frame.colour.matrix != Matrix.UNSPECIFIED
        assert frame.colour.range != Range.UNSPECIFIED
        for index, plane in enumerate(frame.components):
            assert plane.shape == info.format.component_shape(index, info.width, info.height)
    # Timestamps that run backwards are repaired; ffprobe 5 counts raw DV in other units.
    if FFPROBE is not None and path.name not in ("SampleVideo_1280x720_1mb.mkv", "pal.dv"):
        shift = round(source.start_time / info.time_base)
        assert [time + shift for time in times] == ffprobe_times(path, stream, len(times))


@needs_media
def test_edison_film_comes_out_evenly_spaced() -> None:
    with open_source(media("archivematica/0239.mpg")) as source:
        frames = list(source)
    assert len(frames) == 819
    assert frames[0].pts == 0
    assert source.info.rate == Fraction(30000, 1001)
    # One picture of the film is lost in a damaged packet near the end; its place stays empty.
    assert sorted(f.duration for f in frames) == [40040] * 818 + [80080]
    assert source.report.repaired_pts == 1


@needs_media
def test_jump_back_in_time_is_bridged() -> None:
    with open_source(media("archivematica/SampleVideo_1280x720_1mb.mkv")) as source:
        frames = list(source)
    assert [f.pts for f in frames] == list(range(0, 147 * 40, 40))
    assert source.report.repaired_pts == 90
    assert "90 frames of 147 had a missing or backward timestamp" in source.report.lines()[0]


@needs_media
def test_irregular_timing_is_kept_exactly() -> None:
    path = media("generated/vfr_irregular.mkv")
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        expected = sorted((p.pts, p.duration) for p in packets)
    with open_source(path) as source:
        assert [(f.pts, f.duration) for f in source] == expected
    assert source.report.lines() == []


@needs_media
@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("androidx/sample.flv", 30),
        ("androidx/sample_with_ass_subtitles.mkv", 30),
        ("androidx/bt601.mov", Fraction(30000, 1001)),
        ("androidx/sd-hls0000000000.ts", 24),
        ("androidx/roadtrip-vp92-10bit.webm", Fraction(24000, 1001)),
        ("generated/pal.dv", 25),
    ],
)
def test_rate(name: str, rate: Fraction) -> None:
    with open_source(media(name)) as source:
        assert source.info.rate == rate


@needs_media
def test_stream_facts() -> None:
    path = media("format-corpus/dv-pal-interlaced.mov")
    with open_source(path) as source:  # whose clean aperture is 703 columns from the 8th on
        assert (source.info.width, source.info.height) == (704, 576)
    with open_source(path, SourceConfig(crop=False)) as source:
        info = source.info
    assert (info.width, info.height, info.sar) == (720, 576, Fraction(59, 54))
    assert (info.field_order.interlaced, info.codec, info.frames) == (True, "dvvideo", 25)
    assert (info.colour.matrix, info.colour.primaries, info.colour.transfer) == (6, 5, 1)
    with open_source(media("generated/rot.mp4")) as source:
        matrix = np.frombuffer(source.info.display_matrix or b"", "<i4").tolist()
        assert matrix == [0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30]
        assert not source.info.field_order.interlaced
    with open_source(media("intel/milk.mkv")) as source:
        assert source.info.format.name == "yuvj420p"
        assert source.info.colour.range == Range.FULL


@needs_media
def test_cover_art_is_not_the_video() -> None:
    for name in ("generated/cov.mp4", "generated/rich.mkv"):
        with open_source(media(name)) as source:
            assert (source.info.width, source.info.codec) == (320, "h264")


@needs_media
def test_start_offset_is_taken_off() -> None:
    with open_source(media("androidx/sample_scte35.ts")) as source:
        assert source.start_time == Fraction(7, 10)
        assert next(iter(source)).pts == 129003 - 63000


# Damage


@needs_media
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(
    ("name", "frames", "errors"),
    [
        ("androidx/sample_with_invalid_nalu.mp4", 29, 1),
        ("generated/trunc_basefs.mp4", 59, 1),
    ],
)
def test_frames_behind_an_error_at_the_end_are_kept(
    name: str, frames: int, errors: int, threads: int
) -> None:
    with open_source(media(name), threads=threads) as source:
        assert len(list(source)) == frames
    assert source.report.decode_errors == errors


@needs_media
@pytest.mark.parametrize(
    ("name", "missing"), [("trunc_base.mkv", "1.48"), ("trunc_basefs.mp4", "1.50")]
)
def test_missing_end_is_reported(name: str, missing: str) -> None:
    with open_source(media(f"generated/{name}")) as source:
        list(source)
    assert f"the last {missing} s of 4.0" in source.report.lines()[-1]


@needs_media
def test_complete_files_are_not_called_truncated() -> None:
    for name in ("iibbibb_editlist_videoonly.mp4", "bt601.mov", "sample_mdat_too_long.mp4"):
        with open_source(media(f"androidx/{name}")) as source:
            list(source)
        assert source.report.lines() == []


@needs_media
def test_concealed_frames_are_flagged_and_counted() -> None:
    with open_source(media("generated/corr_base.mpg")) as source:
        flags = [frame.corrupt for frame in source]
    assert len(flags) == 101
    assert sum(flags) == source.report.corrupt_frames == 31
    assert source.report.lines()[0].startswith("31 frames of 101 damaged")


@needs_media
def test_ffv1_slice_checksums_are_verified() -> None:
    with open_source(media("generated/corr_ffv1_slicecrc.mkv")) as source:
        damaged = [frame.pts for frame in source if frame.corrupt]
    assert source.report.corrupt_frames == len(damaged) == 37
    assert 920 in damaged


def test_sound_ffv1_is_not_called_damaged(clip: Clip) -> None:
    for crc in ("0", "1"):
        options = {"level": "3", "slicecrc": crc, "slices": "4"}
        with open_source(clip(f"{crc}.mkv", "ffv1", options=options)) as source:
            assert not any(frame.corrupt for frame in source)


def test_slice_checker_finds_one_flipped_bit(clip: Clip) -> None:
    path = clip("a.mkv", "ffv1", options={"level": "3", "slicecrc": "1"})
    with av.open(str(path)) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
    broken = bytearray(packets[1])
    broken[len(broken) // 2] ^= 1
    checker = SliceChecker()
    damaged = [checker.is_damaged(p) for p in (packets[0], bytes(broken), b"abc", packets[2])]
    assert damaged == [False, True, True, False]


def damage(path: Path, broken: Path, victims: set[int]) -> None:
    """Copy the video of ``path``, the first bytes of some packets overwritten."""
    with av.open(str(path)) as source, av.open(str(broken), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        packets = [p for p in source.demux(video=0) if p.size]
        for index, packet in enumerate(packets):
            mutable = bytearray(bytes(packet))
            if index in victims:
                mutable[:24] = b"\xa5" * 24  # beyond the frame size that Matroska strips off ProRes
            copy: Packet = Packet(bytes(mutable))  # type: ignore[type-arg]
            copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
            copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
            copy.stream = stream
            out.mux_one(copy)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "mpeg4", "prores_ks"])
def test_damage_costs_the_same_frames_with_any_number_of_threads(
    codec: str, clip: Clip, tmp_path: Path
) -> None:
    fast = {"libx264": {"g": "8"}, "libx265": {"x265-params": "log-level=error:keyint=8"}}
    options = fast.get(codec, {"g": "8", "deadline": "realtime", "cpu-used": "8"})
    path = clip("a.mkv", codec, "yuv422p10le" if codec == "prores_ks" else "yuv420p",
                options=options if codec != "prores_ks" else None)  # fmt: skip
    damage(path, tmp_path / "b.mkv", {5, 13, 23})
    found = {}
    for threads in (1, 2, 4):
        with open_source(tmp_path / "b.mkv", threads=threads) as source:
            found[threads] = [frame.pts for frame in source]
            assert source.report.decode_errors + source.report.corrupt_frames > 0
    assert found[1] == found[2] == found[4]
    assert 8 < len(found[1]) <= 25
    assert found[1][-1] >= 22 * 40  # the end is reached


def test_damage_makes_no_frames_where_packets_have_no_times(clip: Clip, tmp_path: Path) -> None:
    path = clip("a.mkv", "libx264", options={"g": "8", "bf": "2"})
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.h264"), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(source.demux(video=0)):
            data = bytearray(bytes(packet))
            if index == 13:
                nal = max(data.rfind(b"\0\0\1") + 3, 4)  # Matroska has lengths in place of it
                data[nal + 1 : nal + 9] = b"\xff" * 8
            if packet.size:
                copy: Packet = Packet(bytes(data))  # type: ignore[type-arg]
                copy.stream, copy.is_keyframe = stream, packet.is_keyframe
                out.mux_one(copy)
    expected = None
    for threads in (1, 2, 4):
        with open_source(tmp_path / "b.h264", threads=threads) as source:
            found = [digest(frame) for frame in source]
        assert 12 <= len(found) <= 24
        assert found == (expected or found)
        expected = found


def digest(frame: Frame) -> int:
    return hash(tuple(plane.numpy().tobytes() for plane in frame.planes))


def test_vp9_goes_on_behind_a_damaged_packet(clip: Clip, tmp_path: Path) -> None:
    # Packets with a hidden frame: after an error in one, PyAV alone refuses all that follow.
    options = {"g": "16", "lag-in-frames": "12", "auto-alt-ref": "1", "cpu-used": "5"}
    path = clip("a.mkv", "libvpx-vp9", options=options, times=list(range(48)))
    damage(path, tmp_path / "b.mkv", {4, 5, 6})
    with open_source(tmp_path / "b.mkv") as source:
        times = [frame.pts for frame in source]
    assert times[-16:] == list(range(32 * 40, 48 * 40, 40))


def test_raw_streams_come_at_the_rate_that_they_say(clip: Clip, tmp_path: Path) -> None:
    ffmpeg = ["ffmpeg", "-v", "error", "-i", str(clip("a.mkv", "ffv1")), "-r", "50", "-c:v"]
    path = tmp_path / "raw.h264"
    subprocess.run([*ffmpeg, "libx264", "-bf", "2", str(path)], check=True)
    with open_source(path) as source:
        assert source.info.rate == 50
        assert {frame.duration * frame.time_base for frame in source} == {Fraction(1, 50)}
        assert f"{path}: has no times: 50 frames a second (-r says otherwise)" in source.notes
        assert not source.has_times
        assert not source.report.repaired_pts  # there was nothing to repair
        assert source.report.lines() == []


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [("raw.mjpeg", "mjpeg", 25), ("raw.obu", "libsvtav1", 25), ("raw.m2v", "mpeg2video", 30)],
)
def test_a_rate_that_nothing_says_is_told(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    """MPEG-2 says it."""
    made = "testsrc2=s=64x64:r=30:d=0.2"
    path = tmp_path / name
    ffmpeg = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", made, "-pix_fmt", "yuv420p", "-c:v"]
    subprocess.run([*ffmpeg, codec, "-strict", "unofficial", str(path)], check=True)
    with open_source(path) as source:
        assert source.info.rate == rate
        assert source.has_times is (codec == "mpeg2video")
        line = f"{path}: has no times: 25 frames a second (-r says otherwise)"
        assert (line in source.notes) is not source.has_times
        assert len(list(source)) == 6
        assert source.report.lines() == []


def test_the_last_picture_of_uneven_matroska_ends_with_it(clip: Clip, tmp_path: Path) -> None:
    path = clip("a.mkv", "ffv1", times=[0, 1, 2, 6, 9, 13, 17])
    data = path.read_bytes()
    end = b"00:00:00.720000000"  # of the last frame, by its own duration
    assert data.count(end) == 1
    path.write_bytes(data.replace(end, b"00:00:00.690000000"))
    with open_source(path) as source:
        frames = list(source)
    assert (frames[-1].pts + frames[-1].duration) * frames[-1].time_base == Fraction(69, 100)


@pytest.mark.parametrize("written", ["FFmpeg", "mkvmerge"])
def test_matroska_that_starts_late(written: str, clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    with av.open(str(clip("a.mkv", "ffv1"))) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        if written == "mkvmerge":  # whose DURATION is a length; FFmpeg's own is put in its place
            stream.metadata["_STATISTICS_TAGS"] = "BPS DURATION NUMBER_OF_FRAMES"
        for packet in source.demux(video=0):
            if packet.size:
                assert packet.pts is not None
                packet.pts, packet.stream = packet.pts + 5000, stream
                packet.dts = packet.pts
                out.mux_one(packet)
    if written == "mkvmerge":
        data = path.read_bytes()
        assert data.count(b"00:00:06.000000000") == 1
        path.write_bytes(data.replace(b"00:00:06.000000000", b"00:00:01.000000000"))
    with open_source(path) as source:
        assert source.info.frames == 25
        assert source.info.duration == pytest.approx(1, abs=0.001)
        assert len(list(source)) == 25
        assert source.report.lines() == []


# Files that are no good


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.mp4", None, "none.mp4: no such file"),
        ("empty.mp4", b"", "empty.mp4: is empty"),
        ("x.txt", b"just some words\n" * 9, "x.txt: not a media file that FFmpeg can read"),
        ("x.mp4", b"version https://git-lfs.github.com/spec/v1\n", "x.mp4: not a media file"),
        ("x.srt", b"1\n00:00:01,000 --> 00:00:02,000\nhi\n", "x.srt: holds no video stream"),
    ],
)
def test_unusable_file(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / message.split(":")[0]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is a directory"):
        open_source(tmp_path)


def test_audio_only(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.wav"), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
    with pytest.raises(SourceError, match=r"a\.wav: holds no video stream"):
        open_source(tmp_path / "a.wav")


def test_a_colon_in_the_name_is_no_protocol(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip("12:30.mkv")
    monkeypatch.chdir(tmp_path)
    with open_source("12:30.mkv") as source:
        assert len(list(source)) == 25


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.mp4").write_bytes(b"abc" * 100)
    with pytest.raises(SourceError):
        open_source(tmp_path / "x.mp4")
    assert capfd.readouterr() == ("", "")


# Trimming


@needs_media
@pytest.mark.parametrize(
    "name",
    [
        "mdn/friday.mp4",
        "generated/tc.mpg",
        "generated/rich.mkv",
        "androidx/sd-hls0000000000.ts",
        "androidx/sample.flv",
        "archivematica/SampleVideo_1280x720_1mb.mkv",
        "torchcodec/av1_video.mkv",
    ],
)
def test_trim_is_the_same_part_of_the_whole(name: str) -> None:
    with open_source(media(name)) as source:
        whole = [(f.pts * f.time_base, checksum(f)) for f in source]
    start = Fraction(round(whole[-1][0] * 600), 1000)
    end = start + Fraction(1, 5)
    with open_source(media(name), start=start, end=end) as source:
        part = [(f.pts * f.time_base, checksum(f)) for f in source]
        unit = source.info.time_base
    expected = [(time - start, sum_) for time, sum_ in whole if start <= time < end]
    assert [sum_ for _, sum_ in part] == [sum_ for _, sum_ in expected]
    for (time, _), (wanted, _) in zip(part, expected, strict=True):
        assert abs(time - wanted) <= unit
    assert part[0][0] >= 0


def test_start_and_frames(clip: Clip) -> None:
    with open_source(clip(), start=Fraction(1, 2), frames=3) as source:
        assert source.info.frames == 3
        assert [(f.pts, f.duration) for f in source] == [(20, 40), (60, 40), (100, 40)]
        assert source.report.frames == 3
    with open_source(clip(), end=Fraction(1, 5)) as source:
        assert source.info.frames == 5
        assert source.info.duration == Fraction(1, 5)
        assert len(list(source)) == 5


def test_trimming_is_not_truncation(clip: Clip) -> None:
    with open_source(clip(times=list(range(100))), frames=3) as source:
        list(source)
    assert source.report.lines() == []


def test_start_behind_the_end(clip: Clip) -> None:
    with pytest.raises(SourceError, match=r"the start, 9\.5 s, lies beyond its end"):
        open_source(clip(), start=Fraction(19, 2))


# The other streams


@pytest.mark.parametrize("filters", [None, "hflip"])
def test_a_part_between_two_frames_is_empty(clip: Clip, filters: str | None) -> None:
    config = SourceConfig(start=Fraction(1, 100), end=Fraction(2, 100), filters=filters)
    with pytest.raises(SourceError, match="no frame lies between the start and the end"):
        VideoSource(clip(), config)


def relayed(source: VideoSource) -> list[Fraction]:
    found = [p.pts for p in source.packets]
    return [Fraction(pts * 1, 1000) for pts in found if pts is not None]


def test_packets_of_wanted_streams_arrive_whole(clip: Clip) -> None:
    path = clip(tone=True)
    with av.open(str(path)) as container:
        expected = [bytes(p) for p in container.demux(audio=0) if p.size]
    with open_source(path) as source:
        source.relay.add(1)
        list(source)
        assert [bytes(p) for p in source.packets] == expected
        assert len(expected) == 25


def test_nothing_is_relayed_unless_asked(clip: Clip) -> None:
    with open_source(clip(tone=True)) as source:
        list(source)
        assert not source.packets


def test_packets_stop_with_the_video(clip: Clip) -> None:
    path = clip(tone=True)
    with open_source(path, frames=5) as source:
        source.relay.add(1)
        list(source)
        assert relayed(source) == [Fraction(i, 25) for i in range(5)]
    with open_source(path, start=Fraction(1, 5), end=Fraction(2, 5)) as source:
        source.relay.add(1)
        list(source)
        assert relayed(source) == [Fraction(i, 25) for i in range(5, 10)]


def test_packets_are_there_before_the_video_ends(clip: Clip) -> None:
    with open_source(clip(tone=True, times=list(range(200)), options={"bf": "0"})) as source:
        source.relay.add(1)
        frames = iter(source)
        for _ in range(100):
            next(frames)
        assert 90 <= len(source.packets) < 180


# Pixel formats and colour


@pytest.mark.parametrize(
    "pix_fmt",
    [
        "yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuv410p", "yuvj420p", "nv12", "yuyv422",
        "uyvy422", "gray", "gray16le", "yuv420p10le", "yuv422p10le", "yuv444p16le", "p010le",
        "rgb24", "bgr0", "rgba", "argb", "rgb48le", "rgba64le", "gbrp", "gbrp10le", "gbrap",
        "yuva420p", "ya8", "nv21", "nv16",
    ],
)  # fmt: skip
def test_native_formats_share_the_decoders_memory(pix_fmt: str) -> None:
    source = picture(0, 37, 23, pix_fmt)
    assert native_format(source).name == pix_fmt
    planes = planes_of(source, pixel_format(pix_fmt))
    assert [p.data_ptr() for p in planes] == [p.buffer_ptr for p in source.planes]
    # swscale unpacks every format into its planar relative without rounding.
    format = pixel_format(pix_fmt)
    for index, view in enumerate(format.views(planes, 37, 23)):
        assert tuple(view.shape) == format.component_shape(index, 37, 23)
        assert view.numpy().tolist() == component(source, pix_fmt, index)


def component(frame: VideoFrame, pix_fmt: str, index: int) -> list[list[int]]:
    """The values of one component, cut out of the raw bytes with FFmpeg's description."""
    layout = {
        "nv12": [(0, 0, 1), (1, 0, 2), (1, 1, 2)], "nv16": [(0, 0, 1), (1, 0, 2), (1, 1, 2)],
        "nv21": [(0, 0, 1), (1, 1, 2), (1, 0, 2)], "p010le": [(0, 0, 1), (1, 0, 2), (1, 1, 2)],
        "yuyv422": [(0, 0, 2), (0, 1, 4), (0, 3, 4)], "uyvy422": [(0, 1, 2), (0, 0, 4), (0, 2, 4)],
        "rgb24": [(0, i, 3) for i in range(3)], "rgb48le": [(0, i, 3) for i in range(3)],
        "bgr0": [(0, 2, 4), (0, 1, 4), (0, 0, 4)], "rgba": [(0, i, 4) for i in range(4)],
        "argb": [(0, 1, 4), (0, 2, 4), (0, 3, 4), (0, 0, 4)], "ya8": [(0, 0, 2), (0, 1, 2)],
        "rgba64le": [(0, i, 4) for i in range(4)],
    }  # fmt: skip
    planar = [(2, 0, 1), (0, 0, 1), (1, 0, 1), (3, 0, 1)]
    default = planar if pix_fmt.startswith("gbr") else [(i, 0, 1) for i in range(4)]
    plane, offset, step = layout.get(pix_fmt, default)[index]
    rows, columns = pixel_format(pix_fmt).component_shape(index, frame.width, frame.height)
    raw = np.frombuffer(bytes(frame.planes[plane]), "<u2" if is_wide(pix_fmt) else np.uint8)
    samples = raw.reshape(frame.planes[plane].height, -1)[:rows, offset::step][:, :columns]
    values: list[list[int]] = samples.tolist()
    return values


def is_wide(pix_fmt: str) -> bool:
    return pixel_format(pix_fmt).depth > 8


def test_planes_outlive_their_source(clip: Clip) -> None:
    with open_source(clip("a.mkv", "ffv1")) as source:
        frames = list(source)
        sums = [checksum(frame) for frame in frames]
    del source
    assert [checksum(frame) for frame in frames] == sums
    assert len(set(sums)) == 25


@pytest.mark.parametrize(
    ("pix_fmt", "native"),
    [
        ("yuv422p10be", "yuv422p10le"),
        ("gray16be", "gray16le"),
        ("rgb48be", "rgb48le"),
        ("gbrp12be", "gbrp12le"),
        ("x2rgb10le", "gbrp10le"),
        ("xv36le", "yuv444p12le"),
        ("y210le", "yuv422p10le"),
        ("vuya", "yuva444p"),
    ],
)
def test_other_formats_are_converted_without_loss(pix_fmt: str, native: str) -> None:
    source = picture(3, 36, 22, pix_fmt)
    format = native_format(source)
    assert format.name == native
    there = convert(source, format, 36, 22, matrix=Matrix.SMPTE170M)
    back = there.reformat(format=pix_fmt)
    for one, other in zip(back.planes, source.planes, strict=True):
        used = one.width * source.format.padded_bits_per_pixel // 8 // len(source.planes)
        rows = [np.frombuffer(p, np.uint8).reshape(p.height, -1)[:, :used] for p in (one, other)]
        assert np.array_equal(rows[0], rows[1])


def test_few_bits_are_spread_over_eight() -> None:
    source = picture(3, 32, 16, "rgb565le")
    format = native_format(source)
    assert format.name == "gbrp"
    planes = planes_of(convert(source, format, 32, 16, matrix=2), format)
    packed = np.frombuffer(source.planes[0], "<u2").reshape(16, -1)[:, :32]
    r, g, b = (view.numpy() for view in format.views(planes, 32, 16))
    assert np.array_equal(r >> 3, packed >> 11)
    assert np.array_equal(g >> 2, packed >> 5 & 63)
    assert np.array_equal(b >> 3, packed & 31)


def test_float_in_planes_stays_what_it_is() -> None:
    for name in ("grayf32le", "gbrapf32le", "gbrpf16le"):
        assert native_format(VideoFrame(16, 16, name)).name == name
    frame = VideoFrame(5, 3, "gbrpf32le")
    planes = planes_of(frame, pixel_format("gbrpf32le"))
    assert [tuple(plane.shape) for plane in planes] == [(3, 5)] * 3
    np.frombuffer(frame.planes[2], "<f4")[1] = 7.25
    assert planes[2][0, 1].item() == 7.25


def test_floats_stay_floats_and_what_sensors_see_becomes_16_bit() -> None:
    for name in ("rgbf32le", "rgbf32be"):
        assert native_format(VideoFrame(16, 16, name)).name == "rgbf32le"
    assert native_format(VideoFrame(16, 16, "bayer_rggb8")).name == "gbrp16le"


def test_a_narrow_picture_keeps_its_subsampling() -> None:
    for width in (1, 5, 16):  # its chroma is rounded up
        assert native_format(VideoFrame(width, 4, "uyyvyy411")).name == "yuv411p"


def test_palette(tmp_path: Path) -> None:
    frame = VideoFrame(8, 4, "pal8")
    np.frombuffer(frame.planes[0], np.uint8)[:] = 7
    palette = np.frombuffer(frame.planes[1], "<u4")
    palette[:] = 0
    palette[7] = 0xFF102030
    assert native_format(frame).name == "gbrp"
    colours = convert(frame, native_format(frame), 8, 4, matrix=2)
    views = pixel_format("gbrp").views(planes_of(colours, pixel_format("gbrp")), 8, 4)
    assert [int(view[2, 3]) for view in views] == [0x10, 0x20, 0x30]
    palette[7] = 0x7F102030
    assert native_format(frame).name == "gbrap"


def test_bottom_up_pictures_are_turned() -> None:
    upright = picture(0, 32, 16, "rgb24")
    graph = av.filter.Graph()
    chain = [graph.add_buffer(width=32, height=16, format="rgb24", time_base=Fraction(1, 25)),
             graph.add("vflip"), graph.add("buffersink")]  # fmt: skip
    graph.link_nodes(*chain).configure()
    upright.pts = 0
    graph.push(upright)
    flipped = graph.pull()
    assert isinstance(flipped, VideoFrame)
    assert flipped.planes[0].line_size < 0
    format = pixel_format("rgb24")
    (turned,), (straight,) = planes_of(flipped, format), planes_of(upright, format)
    assert turned.flip(0).equal(straight)


def test_conversion_is_noted_once(clip: Clip) -> None:
    with open_source(clip("a.mov", "png", "monob")) as source:
        assert source.info.format.name == "gray"
        assert source.info.colour.range == Range.FULL
        values = {int(v) for frame in source for v in np.unique(frame.planes[0].numpy())}
        assert values == {0, 255}
        assert source.notes[0] == "pixel format monob is converted to gray"
        assert len(source.notes) == len(set(source.notes))
    assert source.report.reformatted_frames == 0


def test_change_of_size_in_mid_stream(tmp_path: Path) -> None:
    options = {"bf": "0"}
    one = write_clip(tmp_path / "1.h264", size=(64, 48), options=options)
    two = write_clip(tmp_path / "2.h264", size=(96, 80), options=options)
    (tmp_path / "both.h264").write_bytes(one.read_bytes() + two.read_bytes())
    with open_source(tmp_path / "both.h264") as source:
        frames = list(source)
    assert len(frames) == 50
    assert {(f.width, f.height) for f in frames} == {(64, 48)}
    assert {tuple(f.planes[0].shape) for f in frames} == {(48, 64)}
    assert source.report.reformatted_frames == 25
    assert source.report.lines()[-1].startswith("25 frames of 50 changed size")
    # A raw stream has no timestamps: the frames are spaced by the rate.
    spacing = round(1 / (source.info.rate * source.info.time_base))
    assert {f.duration for f in frames} == {spacing}


def test_tags_of_the_stream_are_used_and_the_rest_is_guessed(clip: Clip) -> None:
    tagged = clip("a.mkv", options={"colorspace": "bt709", "color_range": "pc",
                                    "color_primaries": "bt709", "color_trc": "bt709"})  # fmt: skip
    with open_source(tagged) as source:
        colour = next(iter(source)).colour
        assert (colour.matrix, colour.range) == (Matrix.BT709, Range.FULL)
        assert (colour.primaries, colour.transfer) == (1, 1)
        assert source.info.colour == colour
        assert source.notes == []
    with open_source(clip("b.mkv")) as source:
        assert source.info.colour.matrix == Matrix.SMPTE170M
        assert any("not tagged" in note for note in source.notes)


DOUBTED = "tagged limited range: RGB is taken as full, as FFmpeg does"


def test_rgb_that_is_tagged_limited_is_taken_as_full_and_said(clip: Clip) -> None:
    """x264 tags so what FFmpeg hands it, which is full."""
    path = clip("a.mkv", "libx264rgb", "rgb24", options={"color_range": "tv", "crf": "0"})
    with open_source(path) as source:
        assert source.tags.range == Range.LIMITED
        assert {frame.colour.range for frame in source} == {Range.FULL}
        assert [note.partition(" (")[0] for note in source.notes] == [DOUBTED]
    for stated in (Range.LIMITED, Range.FULL):
        config = SourceConfig(input=InputConfig(range=stated))
        with open_source(path, config) as source:
            assert source.info.colour.range == next(iter(source)).colour.range == stated
            assert source.notes == []


@pytest.mark.parametrize("chain", ["hflip", "scale=32:24", "format=rgb24,crop=32:24"])
def test_rgb_keeps_the_range_that_was_stated_through_filters(clip: Clip, chain: str) -> None:
    path = clip("a.mkv", "libx264rgb", "rgb24")
    for stated in (Range.LIMITED, Range.FULL):
        config = SourceConfig(input=InputConfig(range=stated), filters=chain)
        with open_source(path, config) as source:
            assert {frame.colour.range for frame in source} == {stated}
            assert source.notes == []


def test_filters_that_misread_rgb_of_limited_range_are_said(clip: Clip) -> None:
    path = clip("a.mkv", "libx264rgb", "rgb24")
    config = SourceConfig(input=InputConfig(range=Range.LIMITED), filters="format=yuv444p")
    with open_source(path, config) as source:
        assert "the filters have taken RGB of limited range for full" in source.notes


# Using it


def test_iterating_on_another_thread(clip: Clip) -> None:
    found: list[int] = []
    with open_source(clip(tone=True)) as source:
        source.relay.add(1)
        worker = threading.Thread(target=lambda: found.extend(f.pts for f in source))
        worker.start()
        worker.join(timeout=20)
        assert not worker.is_alive()
        assert len(source.packets) == 25
    assert found == list(range(0, 1000, 40))


def test_it_is_iterated_once(clip: Clip) -> None:
    with open_source(clip()) as source:
        list(source)
        with pytest.raises(ValueError, match="has been read"):
            iter(source)


def test_closing_is_safe_at_any_time(clip: Clip) -> None:
    path = clip(tone=True)
    source = open_source(path)
    source.close()
    source.close()
    source = open_source(path)
    frames: Iterator[Frame] = iter(source)
    next(frames)
    source.close()
    source.close()
    with pytest.raises(ValueError, match="closed"):
        iter(open_source_closed(path))


def test_threads_of_a_source_that_nobody_has_closed_are_stopped(make_clip, monkeypatch):
    """Before the codec context is freed, which would wait for threads that wait for Python."""
    gc.collect()  # what others have left
    stopped: list[str] = []
    close = Decoder.close

    def note(decoder: Decoder) -> None:
        stopped.append(decoder.codec)
        close(decoder)

    monkeypatch.setattr(Decoder, "close", note)
    source = open_source(make_clip("open.mp4"))
    assert len(list(source)) > 0
    del source
    gc.collect()
    assert stopped == ["h264"]


def open_source_closed(path: Path) -> VideoSource:
    source = open_source(path)
    source.close()
    return source


@pytest.mark.parametrize(
    "fails",
    ["demuxer.choose_stream", "demuxer.ClockJoins", "media.Playback", "media.lost_chapter_features",
     "media.find_part", "companion.PacketRelay"],
)  # fmt: skip
def test_a_source_that_cannot_begin_leaves_nothing_open(
    clip: Clip, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def fail(*args: object, **more: object) -> None:
        raise MemoryError(fails)

    path = clip()
    monkeypatch.setattr(f"vsr.sources.{fails}", fail)
    with pytest.raises(MemoryError, match=fails) as caught:
        open_source(path, SourceConfig(audio_from=path))
    assert caught.tb is not None  # which still refers to what was half made
    descriptors = list(Path("/proc/self/fd").iterdir())
    assert path not in [d.readlink() for d in descriptors if d.is_symlink()]


def test_smallest_video(clip: Clip) -> None:
    with open_source(clip("a.mkv", "ffv1", size=(1, 1), pix_fmt="gray")) as source:
        assert [tuple(f.planes[0].shape) for f in source] == [(1, 1)] * 25


def test_single_frame_has_a_duration(clip: Clip) -> None:
    with open_source(clip(times=[0])) as source:
        assert [(f.pts, f.duration) for f in source] == [(0, 40)]


def test_a_matrix_that_the_pixels_cannot_have_is_refused(clip: Clip) -> None:
    stated = SourceConfig(input=InputConfig(matrix=Matrix.RGB))
    with pytest.raises(ConfigError, match=r"-colorspace rgb: .* is yuv420p, which holds none"):
        open_source(clip("a.mkv", "ffv1"), stated)
    with open_source(clip("b.mkv", "ffv1", pix_fmt="yuv444p"), stated) as source:
        assert source.info.colour.matrix == Matrix.RGB


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_last_of_slides_ends_with_its_film(ffmpeg, tmp_path, suffix) -> None:
    """As on a screen that hardly changes: 111 s is the median of the distances."""
    path = ffmpeg.make(
        tmp_path / f"slides.{suffix}", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=1:d=5",
        "-f", "lavfi", "-i", "sine=d=610:r=8000", "-vf",
        "setpts='if(eq(N,4),600/TB,N*N*37/TB)'", "-fps_mode", "passthrough", "-enc_time_base",
        "1/1000", "-c:v", "libx264", "-c:a", "aac", "-b:a", "16k",
    )  # fmt: skip
    with open_source(path, SourceConfig()) as source:
        last = list(source)[-1]
    # The priming of the sound moves Matroska's picture by 128 ms.
    assert last.pts * last.time_base == pytest.approx(600, abs=0.13)
    assert last.duration * last.time_base == pytest.approx(10, abs=0.2)


def test_the_last_frame_of_avi_with_dropped_ones_is_no_longer_than_it_was(ffmpeg) -> None:
    kept = ("-vf", "select='not(mod(n,3))'", "-vsync", "vfr", "-c:v", "mpeg4")
    path = ffmpeg.make(
        "dropped.avi", "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25,trim=end_frame=28", *kept
    )
    with open_source(path) as source:
        frames = list(source)
    assert [frame.pts for frame in frames] == list(range(0, 28, 3))
    assert [frame.duration for frame in frames] == [3] * 9 + [1]


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_a_source_that_was_closed_is_not_read(make_clip, codec):
    """FFmpeg would read memory that has been freed, and the process end."""
    path = make_clip("in.mkv", codec=codec)
    with open_source(path) as source:
        frames = iter(source)
        next(frames)
    for use in (
        lambda: next(frames), lambda: source.preview(3), lambda: source.bit_rate,
        lambda: iter(open_closed(path)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="closed: open it again"):
            use()
    for taken in (1, 12):  # in the middle, and behind the last one
        source = open_source(path)
        frames = iter(source)
        assert len([*islice(frames, taken)]) == taken
        source.close()
        with pytest.raises(ValueError, match="has been closed"):
            next(frames)


def open_closed(path):
    source = open_source(path)
    source.close()
    return source


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frames": 2.5}, "frames must be a whole number"),
        ({"decoder": "bestsorce"}, "decoder must be one of pyav"),
        ({"start": 10**30}, "start must be at most"),
        ({"audio_from": ""}, "audio_from must be the name of a file"),
    ],
)
def test_options_that_cannot_be_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        SourceConfig(**options)


@pytest.mark.parametrize("name", ["x" * 300, ""])
def test_names_that_no_file_has(name):
    with pytest.raises(ConfigError, match=r"255 bytes|name of a file"):
        open_source(name)


def test_a_picture_that_begins_late_ends_where_it_ends(ffmpeg, tmp_path):
    """FFmpeg takes the file's length for that of a stream that it has not seen."""
    picture = ("-itsoffset", 5, "-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=1")
    sound = ("-f", "lavfi", "-i", "sine=d=20", "-map", 0, "-map", 1, "-c:a", "flac")
    path = ffmpeg.make("late-picture.mkv", *picture, *sound, "-c:v", "libx264")
    with open_source(path) as source:
        assert len(list(source)) == 25
    assert source.report.missing_duration == 0


@pytest.mark.parametrize(("late", "said"), [(5, True), (0.04, False)])
def test_a_clock_that_begins_late_is_said(ffmpeg, late, said):
    drawn = ("-itsoffset", late, "-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.2")
    with open_source(ffmpeg.make(f"late-{late}.mkv", *drawn, "-c:v", "ffv1")) as source:
        assert any(note.startswith("begins at 5.000 s by its own") for note in source.notes) == said
        assert next(iter(source)).pts == 0


@pytest.mark.parametrize(
    ("start", "end"),
    [(None, Fraction(1, 2)), (Fraction(1, 2), None), (Fraction(1, 5), Fraction(9))],
)
def test_as_many_frames_are_expected_as_come(make_clip, start, end):
    with open_source(make_clip("in.mp4", frames=50), start=start, end=end) as source:
        assert source.info.frames == len(list(source))


def test_pictures_of_digital_cinema_are_said_to_lose_colours(ffmpeg) -> None:
    path = ffmpeg.make(
        "cinema.j2c", "-f", "lavfi", "-i", "color=s=2048x1080:r=24", "-frames:v", 1, "-pix_fmt",
        "xyz12le", "-c:v", "libopenjpeg", "-profile:v", "cinema2k",
    )  # fmt: skip
    with open_source(path) as source:
        assert source.info.format.name == "gbrp16le"
    assert sum("colours outside it are cut" in note for note in source.notes) == 1

"""Files that say only when packets are decoded: AVI, GXF, and MXF without an index."""

from fractions import Fraction

import av
import pytest

from vsr.sources import SourceConfig, open_source

TICK = Fraction(1, 25)
PYRAMID = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", 3, "-x264-params")


def draw(frames, size="96x64", rate=25):
    return ("-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate},trim=end_frame={frames}")


def times_of(path, **config):
    """Seconds of all frames and where the last one ends, nothing repaired."""
    with open_source(path, SourceConfig(**config)) as source:
        frames = list(source)
    assert source.report.lines() == []
    base = frames[0].time_base
    times = [frame.pts * base for frame in frames]
    return times, times[-1] + frames[-1].duration * base


@pytest.mark.parametrize(
    ("name", "coding"),
    [
        ("pyramid.avi", (*PYRAMID, "b-pyramid=normal")),
        ("plain-b.avi", (*PYRAMID, "b-pyramid=none")),
        ("low-delay.avi", ("-c:v", "libx264", "-preset", "ultrafast", "-bf", 0)),
        ("mpeg4.avi", ("-c:v", "mpeg4", "-bf", 2)),
        ("mpeg2.avi", ("-c:v", "mpeg2video", "-bf", 2)),
        ("mjpeg.avi", ("-c:v", "mjpeg")),
        ("pyramid.mxf", (*PYRAMID, "b-pyramid=normal", "-pix_fmt", "yuv420p")),
        ("mpeg2.mxf", ("-c:v", "mpeg2video", "-bf", 2)),
        ("mpeg2.gxf", ("-c:v", "mpeg2video", "-bf", 2, "-s", "720x576")),
    ],
)
def test_every_frame_is_shown_in_its_turn(ffmpeg, name, coding):
    path = ffmpeg.make(name, *draw(60), *coding)
    times, end = times_of(path)
    assert times == [index * TICK for index in range(60)]
    assert end == 60 * TICK
    times, _ = times_of(path, start=Fraction(1))
    assert times == [index * TICK for index in range(35)]


def test_fields_in_mxf(ffmpeg):
    woven = (*draw(50, rate=50), "-vf", "interlace")
    coding = ("-c:v", "libx264", "-x264-params", "interlaced=1:tff=1")
    times, end = times_of(ffmpeg.make("woven.mxf", *woven, *coding, "-pix_fmt", "yuv422p10le"))
    assert times == [index * TICK for index in range(25)]
    assert end == 1


@pytest.mark.parametrize("coding", [(*PYRAMID, "b-pyramid=normal"), ("-c:v", "mpeg4", "-bf", 2)])
def test_frames_that_were_dropped_stay_out(ffmpeg, coding):
    dropped = {*range(20, 25), 40, 41}
    kept = "select='not(between(n,20,24)+between(n,40,41))'"
    path = ffmpeg.make(
        f"gaps-{coding[1]}.avi", *draw(60), "-vf", kept, "-vsync", "vfr", *coding
    )  # fmt: skip
    times, end = times_of(path)
    assert times == [index * TICK for index in range(60) if index not in dropped]
    assert end == 60 * TICK


def test_picture_and_sound_begin_together(ffmpeg):
    """They do for whoever wrote the file: AVI cannot say that the decoder is late."""
    light = "color=black:s=96x64:r=25:d=2,drawbox=c=white:t=fill:enable='gte(t,1)'"
    tone = ("-f", "lavfi", "-i", "sine=1000:d=2:r=48000,volume=0:enable='lt(t,1)'")
    path = ffmpeg.make(
        "flash.avi", "-f", "lavfi", "-i", light, *tone, *PYRAMID, "b-pyramid=normal",
        "-c:a", "pcm_s16le",
    )  # fmt: skip
    with open_source(path) as source:
        bright = (f.pts * f.time_base for f in source if f.components[0].float().mean() > 128)
        assert next(bright) == 1
    sound = ffmpeg.run("-i", path, "-vn", "-f", "s16le", "-")
    loud = next(at for at, byte in enumerate(sound) if byte)
    assert abs(loud / 2 / 48000 - 1) < 1 / 100


def test_pictures_that_cannot_be_decoded_take_their_time(ffmpeg, tmp_path):
    """A file that was cut at a key frame begins with pictures that are shown ahead of that one."""
    whole = ffmpeg.make("whole.avi", *draw(60), "-c:v", "mpeg4", "-bf", 2)
    with av.open(whole) as video, av.open(tmp_path / "cut.avi", "w") as cut:
        packets = [packet for packet in video.demux(video=0) if packet.size]
        stream = cut.add_stream_from_template(video.streams.video[0])
        second = [n for n, packet in enumerate(packets) if packet.is_keyframe][1]
        for number, packet in enumerate(packets[second:]):
            packet.stream, packet.pts, packet.dts = stream, number, number
            cut.mux(packet)
    times, end = times_of(tmp_path / "cut.avi")
    assert times == [index * TICK for index in range(2, 60 - second)]
    assert end == (60 - second) * TICK

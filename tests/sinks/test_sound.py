"""Sound that a container cannot hold is heard all the same: at its times, as good as can be."""

import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest

RATE = 48000
ROUNDING = 2.0**-23  # of 24 bits


def tone(seconds: float, *, channels: int = 1, start: float = 0) -> np.ndarray:
    """(channels, samples) in -1 to 1: a tone for each channel, at phases that ``start`` sets."""
    time = start + np.arange(round(seconds * RATE)) / RATE
    pitches = 300 + 200 * np.arange(channels)
    waves = 0.5 * np.sin(2 * np.pi * pitches[:, None] * time)
    return waves.astype(np.float32)


def write_sound(path, codec, parts, *, layout="mono", **options) -> None:
    """A film of a second and more with sound of ``parts``: (first second, samples) each."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
        sound = out.add_stream(codec, rate=RATE, layout=layout, **options)
        sound.time_base = Fraction(1, RATE)
        out.start_encoding()
        write_pictures(out, video)
        for first, samples in parts:
            frame = av.AudioFrame.from_ndarray(samples, "fltp", layout)
            frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
            frame.pts = round(first * RATE)
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))


def write_pictures(out, video) -> None:
    for pts in range(60):
        picture = av.VideoFrame(64, 48, "yuv420p")
        picture.pts = pts
        out.mux(video.encode(picture))
    out.mux(video.encode(None))


def heard(path) -> tuple[float, np.ndarray]:
    """Where the sound starts, and its samples, (channels, samples) in -1 to 1."""
    with av.open(str(path)) as container:
        context = container.streams.audio[0].codec_context
        form = av.AudioResampler("fltp", context.layout, RATE)
        frames = [part for frame in container.decode(audio=0) for part in form.resample(frame)]
        frames += form.resample(None)
    start = frames[0].time
    assert start is not None
    return start, np.concatenate([frame.to_ndarray() for frame in frames], axis=1)


def heard_by_ffmpeg(path) -> bytes:
    """Samples of 24 bits as the installed ffmpeg decodes them."""
    line = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:a", "-f", "s24le", "-"]
    return subprocess.run(line, capture_output=True, check=True).stdout


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov", "nut"])
def test_nothing_is_lost_where_a_container_has_such_a_codec(remux, tools, tmp_path, suffix):
    write_sound(tmp_path / "in.asf", "wmav2", [(0, tone(2))], bit_rate=96_000)
    output = tmp_path / f"out.{suffix}"
    sink = remux(tmp_path / "in.asf", output)
    codec = "alac" if suffix in ("mp4", "mov") else "flac"
    assert f"audio stream 1 (wmav2) becomes {codec}: " in sink.notes[0]
    assert [s["codec_name"] for s in tools.probe(output).audio] == [codec]
    (start, before), (new_start, after) = heard(tmp_path / "in.asf"), heard(output)
    assert new_start == pytest.approx(start, abs=0.002)
    assert before.shape == after.shape
    assert np.abs(before - after).max() <= 1.01 * ROUNDING


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s24le", "pcm_f32le"])
def test_samples_in_mp4_are_heard_by_the_ffmpeg_of_today_and_of_years_ago(remux, tmp_path, codec):
    """As PCM, 24 bits are noise to FFmpeg 5.1, and nothing to browsers."""
    write_sound(tmp_path / "in.mov", codec, [(0, tone(1.5, channels=2))], layout="stereo")
    sink = remux(tmp_path / "in.mov", tmp_path / "out.mp4")
    rounded = ", rounded to 24 bits" * (codec == "pcm_f32le")
    assert f"({codec}) becomes alac{rounded}: few players read it in mp4" in sink.notes[0]
    samples = [heard_by_ffmpeg(tmp_path / name) for name in ("in.mov", "out.mp4")]
    assert len(samples[0]) == 1.5 * RATE * 2 * 3
    assert samples[0] == samples[1]


@pytest.mark.parametrize(
    ("suffix", "codec", "least"), [("webm", "opus", 0.99), ("ts", "aac", 0.99)]
)
def test_else_a_little_is(remux, tools, tmp_path, suffix, codec, least):
    write_sound(tmp_path / "in.mkv", "pcm_s16le", [(0.5, tone(1.5, channels=2))], layout="stereo")
    sink = remux(tmp_path / "in.mkv", tmp_path / f"out.{suffix}")
    assert "which loses a little" in sink.notes[0]
    found = tools.probe(tmp_path / f"out.{suffix}")
    assert [s["codec_name"] for s in found.audio] == [codec]
    start, after = heard(tmp_path / f"out.{suffix}")
    begin = round((0.5 - start + found.video[0]["pts"][0]) * RATE) if suffix == "ts" else 0
    _, before = heard(tmp_path / "in.mkv")
    after = after[:, begin : begin + before.shape[1]]
    length = after.shape[1]
    for old, new in zip(before, after, strict=True):
        assert np.corrcoef(old[4000 : length - 4000], new[4000 : length - 4000])[0, 1] > least


def test_a_gap_is_silence(remux, tmp_path):
    write_sound(tmp_path / "in.nut", "pcm_mulaw", [(0, tone(0.8)), (1.5, tone(0.5))])
    remux(tmp_path / "in.nut", tmp_path / "out.mkv")
    start, after = heard(tmp_path / "out.mkv")
    assert start == 0
    assert after.shape[1] == 2 * RATE
    loud = np.abs(after[0]) > 0.2
    assert not loud[round(0.8 * RATE) : round(1.5 * RATE)].any()
    assert loud[: round(0.8 * RATE)].mean() == pytest.approx(
        loud[round(1.5 * RATE) :].mean(), abs=0.01
    )


@pytest.mark.parametrize(("later", "told"), [(1.5, False), (40, True)])
@pytest.mark.parametrize("suffix", ["mkv", "mov"])  # encoded anew, copied with silence between
def test_much_silence_is_told(remux, tmp_path, later, told, suffix):
    codec = "pcm_mulaw" if suffix == "mkv" else "pcm_s16le"
    write_sound(tmp_path / "in.nut", codec, [(0, tone(0.8)), (later, tone(0.5))])
    notes = remux(tmp_path / "in.nut", tmp_path / f"out.{suffix}").notes
    line = "gaps of 39.2 s in all, which are filled with silence, between 1.3 s of sound"
    assert any(line in note for note in notes) is told
    assert any("filled with silence" in note for note in notes) is told


def test_what_is_rounded_to_fields_is_no_gap(remux, tmp_path):
    """GXF: packets of 32768 samples, 34.1 fields, begin and last whole ones."""
    woven = ("-f", "lavfi", "-i", "testsrc2=s=720x576:r=25", "-f", "lavfi", "-i", "sine=440")
    coding = ("-c:v", "mpeg2video", "-c:a", "pcm_s16le", "-ar", "48000", "-t", "3")
    path, out = tmp_path / "in.gxf", tmp_path / "out.mov"
    subprocess.run(["ffmpeg", "-v", "error", *woven, *coding, path], check=True)
    remux(path, out)
    _, before = heard(path)
    _, after = heard(out)
    assert np.array_equal(before, after)


def test_a_clock_that_falls_back_does_not_silence_the_rest(remux, tools, tmp_path):
    parts = [(tenth / 10, tone(0.1, start=tenth / 10)) for tenth in range(20)]
    write_sound(tmp_path / "in.nut", "pcm_mulaw", parts)

    def fall(packet):
        second = round(1 / packet.time_base)
        if packet.stream.type == "audio" and packet.pts >= second:
            packet.pts -= second
            packet.dts = packet.pts

    sink = remux(tmp_path / "in.nut", tmp_path / "out.mkv", alter=fall)
    _, before = heard(tmp_path / "in.nut")
    _, after = heard(tmp_path / "out.mkv")
    assert np.array_equal(before, after)
    assert any("timestamps were repaired" in note for note in sink.notes)


def test_channels_may_change_on_the_way(remux, tmp_path):
    """As in a broadcast, from stereo to mono."""
    with av.open(str(tmp_path / "in.ts"), "w") as out:
        video = out.add_stream("mpeg2video", rate=25, width=64, height=48, pix_fmt="yuv420p")
        stereo = out.add_stream("ac3", rate=RATE, layout="stereo")
        out.start_encoding()
        write_pictures(out, video)
        mono = av.CodecContext.create("ac3", "w")
        mono.sample_rate, mono.layout, mono.format = RATE, "mono", "fltp"
        mono.time_base = Fraction(1, RATE)
        for context, channels, first in ((stereo.codec_context, 2, 0), (mono, 1, 1)):
            layout = "stereo" if channels == 2 else "mono"
            frame = av.AudioFrame.from_ndarray(tone(1, channels=channels), "fltp", layout)
            frame.sample_rate, frame.pts = RATE, first * RATE
            frame.time_base = Fraction(1, RATE)
            for packet in [*context.encode(frame), *context.encode(None)]:
                packet.stream, packet.time_base = stereo, Fraction(1, RATE)
                out.mux(packet)
    remux(tmp_path / "in.ts", tmp_path / "out.webm")
    _, after = heard(tmp_path / "out.webm")
    assert after.shape[0] == 2
    assert after.shape[1] == pytest.approx(2 * RATE, abs=4000)
    early, late = after[:, 8000:40000], after[:, 60000:90000]
    assert abs(np.corrcoef(early)[0, 1]) < 0.1  # two tones
    assert np.corrcoef(late)[0, 1] > 0.99  # one, on both sides


def test_damaged_packets_are_told(remux, tmp_path):
    write_sound(tmp_path / "in.asf", "wmav2", [(0, tone(2))], bit_rate=96_000)
    seen = []

    def wreck(packet):
        seen.append(packet)
        if len(seen) == 10:
            packet.update(b"\xff" * packet.size)

    sink = remux(tmp_path / "in.asf", tmp_path / "out.mkv", alter=wreck)
    assert "audio stream 1 (wmav2): 1 packet could not be decoded" in sink.notes


@pytest.mark.parametrize("layout", ["stereo", "5.1"])
def test_mp4_learns_what_matroska_does_not_say_of_channels(remux, tools, tmp_path, layout):
    channels = av.AudioLayout(layout).nb_channels
    parts = [(0, tone(1, channels=channels))]
    write_sound(tmp_path / "in.mkv", "pcm_s24le", parts, layout=layout)
    remux(tmp_path / "in.mkv", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == "alac"
        assert container.streams.audio[0].codec_context.layout.name == layout
    assert np.array_equal(heard(tmp_path / "in.mkv")[1], heard(tmp_path / "out.mp4")[1])


@pytest.mark.parametrize(
    ("layout", "suffix", "lost"),
    [
        ("5.1(side)", "mkv", True), ("5.1(side)", "nut", True), ("5.1(side)", "mp4", True),
        ("5.1(side)", "mov", False), ("5.1(side)", "avi", False), ("stereo", "mkv", False),
        ("5.1", "mkv", False), ("5.1", "mp4", False),
    ],
)  # fmt: skip
def test_speakers_that_a_container_does_not_name_are_named(remux, tmp_path, layout, suffix, lost):
    channels = av.AudioLayout(layout).nb_channels
    write_sound(tmp_path / "in.mov", "pcm_s16le", [(0, tone(0.2, channels=channels))],
                layout=layout)  # fmt: skip
    sink = remux(tmp_path / "in.mov", tmp_path / f"out.{suffix}")
    name = "audio stream 1 (pcm_s16le)"
    note = f"{name}: which speakers its channels are for ({layout}) is lost in"
    assert any(line.startswith(note) for line in sink.notes) == lost
    with av.open(tmp_path / f"out.{suffix}") as container:
        said = container.streams.audio[0].codec_context.layout.name
    # where only their number is said, players take the usual layout of so many
    usual = {"2 channels": "stereo", "6 channels": "5.1"}
    understood = usual.get(said, said)
    assert (understood != layout) == lost


@pytest.mark.parametrize("codec", ["libvorbis", "dca", "eac3", "flac"])
def test_sound_that_avi_has_no_clock_for_lasts_as_long(remux, tmp_path, codec):
    clip, output = tmp_path / "in.mkv", tmp_path / "out.avi"
    pictures = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=2", "-c:v", "ffv1"]
    sound = ["-f", "lavfi", "-i", "sine=440:duration=2", "-c:a", codec, "-strict", "-2"]
    command = ["ffmpeg", "-v", "error", *pictures[:4], *sound[:4], *pictures[4:], *sound[4:]]
    subprocess.run([*command, "-ac", "2", str(clip)], check=True)
    sink = remux(clip, output)
    with av.open(str(output)) as container:
        frames = list(container.decode(audio=0))
    assert float(frames[-1].time or 0) == pytest.approx(2, abs=0.05)
    assert any("becomes pcm_s24le: avi cannot hold it as it is" in note for note in sink.notes)


@pytest.mark.parametrize(
    ("codec", "rate", "copied"),
    [("ac3", 48000, False), ("aac", 48000, False), ("mp3", 22050, False), ("mp3", 44100, True)],
)
def test_sound_of_avi_lasts_as_long_in_avi(remux, tmp_path, codec, rate, copied):
    """AVI says how large blocks are; its muxer would count blocks where there are frames."""
    clip, output = tmp_path / "in.avi", tmp_path / "out.avi"
    inputs = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=10"]
    inputs += ["-f", "lavfi", "-i", "sine=440:duration=10"]
    coding = ["-c:v", "mpeg4", "-c:a", codec, "-ar", str(rate), str(clip)]
    subprocess.run(["ffmpeg", "-v", "error", *inputs, *coding], check=True)
    sink = remux(clip, output)
    with av.open(str(output)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
    assert float((packets[-1].dts or 0) * packets[-1].time_base) == pytest.approx(10, abs=0.1)
    assert any("becomes pcm_s24le" in note for note in sink.notes) != copied

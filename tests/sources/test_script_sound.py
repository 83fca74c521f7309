"""The sound that a VapourSynth script makes: every sample goes along, in its format."""

import io
import json
import textwrap
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest

from vsr.cli import main
from vsr.errors import SourceError
from vsr.sources import Companion, SourceConfig, open_source

vs = pytest.importorskip("vapoursynth", exc_type=ImportError)

from vsr.sources.environment import make_environment  # noqa: E402 - they import it
from vsr.sources.script_sound import ScriptSound, _Samples  # noqa: E402

HEAD = """
import vapoursynth as vs
core = vs.core
clip = core.std.BlankClip(width=64, height=48, format=vs.YUV420P8, length=48, fpsnum=24)
clip.std.SetFrameProps(_Matrix=6, _Range=0).set_output()
"""
FORMATS = {
    "16": ("pcm_s16le", "s16", "stereo"),
    "24": ("pcm_s24le", "s32", "stereo"),
    "32": ("pcm_s32le", "s32", "stereo"),
    "float": ("pcm_f32le", "flt", "stereo"),
    "5.1": ("pcm_s16le", "s16", "5.1"),
}


@pytest.fixture
def tone(tmp_path: Path):
    """Noise of one of ``FORMATS``, and a script with BestSource that hands it on."""

    try:
        version("vapoursynth-bestsource")
    except PackageNotFoundError:
        pytest.skip("the plugin BestSource (vapoursynth-bestsource) is not installed")

    def make(codec: str, form: str, layout: str, seconds: int = 2) -> Path:
        path, channels = tmp_path / "noise.mka", {"stereo": 2, "5.1": 6}[layout]
        rng = np.random.default_rng(7)
        count = (1, 48000 * seconds * channels)
        if form == "flt":
            values: np.ndarray = rng.uniform(-1, 1, count).astype(np.float32)
        else:
            kind = np.int16 if form == "s16" else np.int32
            limits = np.iinfo(kind)
            values = rng.integers(limits.min, limits.max, count, dtype=kind, endpoint=True)
        if codec == "pcm_s24le":
            values = values & ~0xFF
        with av.open(path, "w") as container:
            stream = cast(Any, container.add_stream(codec, rate=48000, layout=layout))
            frame = av.AudioFrame.from_ndarray(values, format=form, layout=layout)
            frame.sample_rate = 48000
            container.mux([*stream.encode(frame), *stream.encode(None)])
        return path

    return make


def script(path: Path, body: str) -> Path:
    path.write_text(HEAD + textwrap.dedent(body))
    return path


def source_of(path: Path) -> str:
    return f"sound = core.bs.AudioSource(r'{path}', cachemode=0)\n"


def sound_of(path: Path) -> tuple[str, str, np.ndarray]:
    """Codec, layout and samples, as (values of all channels in turn)."""
    with av.open(path) as container:
        stream = container.streams.audio[0]
        parts = [frame.to_ndarray().reshape(-1) for frame in container.decode(stream)]
        context = stream.codec_context
        return context.name, context.layout.name, np.concatenate(parts)


@pytest.mark.parametrize("case", FORMATS)
def test_every_sample_goes_along(tone, tmp_path, case):
    given = tone(*FORMATS[case])
    path = script(tmp_path / "s.vpy", source_of(given) + "sound.set_output(1)")
    out = tmp_path / "out.mkv"
    assert main([str(path), str(out), "--model", "identity"]) == 0
    (codec, _, values), (_, _, expected) = sound_of(out), sound_of(given)
    assert codec == FORMATS[case][0]
    assert len(values) == 2 * 48000 * (6 if case == "5.1" else 2)
    np.testing.assert_array_equal(values, expected)


def test_speakers_stay_where_they_are(tone, tmp_path):
    path = script(tmp_path / "s.vpy", source_of(tone(*FORMATS["5.1"])) + "sound.set_output(1)")
    with open_source(path) as source:
        assert source.others is not None
        (stream,) = source.others.container.streams.audio
        assert stream.codec_context.layout.name == "5.1"
        assert (stream.rate, stream.codec_context.name) == (48000, "pcm_s16le")


def test_a_part_has_the_sound_of_that_part(tone, tmp_path):
    given = tone(*FORMATS["16"])
    path = script(tmp_path / "s.vpy", source_of(given) + "sound.set_output(1)")
    out = tmp_path / "out.mkv"
    assert main([str(path), str(out), "--model", "identity", "-ss", "0.5", "-to", "1.25"]) == 0
    values, whole = sound_of(out)[2], sound_of(given)[2]
    np.testing.assert_array_equal(values, whole[48000 : 48000 + len(values)])
    length = Fraction(len(values), 2 * 48000)
    assert Fraction(3, 4) <= length < Fraction(3, 4) + Fraction(1, 10)  # whole packets


def test_a_run_in_segments_has_all_of_it(tone, tmp_path):
    """Segments hold pictures alone; the sound is made again when they are joined."""
    given, out = tone(*FORMATS["16"]), tmp_path / "out.mkv"
    path = script(tmp_path / "s.vpy", source_of(given) + "sound.set_output(1)")
    command = [str(path), str(out), "--model", "identity", "--segment-seconds", "0.5", "--record"]
    assert main(command) == 0
    np.testing.assert_array_equal(sound_of(out)[2], sound_of(given)[2])
    (told,) = json.loads((tmp_path / "out.mkv.json").read_text())["sync"]["audio"]
    assert (told["end_in"], told["video_minus_audio_in"]) == (2.0, 0.0)
    assert abs(told["video_minus_audio_out"]) <= 0.001  # Matroska's millisecond


def test_another_container_gets_another_codec(tone, tmp_path):
    path = script(tmp_path / "s.vpy", source_of(tone(*FORMATS["16"], 1)) + "sound.set_output(1)")
    assert main([str(path), str(tmp_path / "out.webm"), "--model", "identity"]) == 0
    assert sound_of(tmp_path / "out.webm")[0] == "opus"


def test_one_of_several_is_taken_and_a_line_says_so(tmp_path):
    body = """
    core.std.BlankAudio(length=44100, sampletype=vs.FLOAT, bits=32).set_output(2)
    core.std.BlankAudio(length=88200).set_output(7)
    core.std.BlankClip(clip).set_output(5)
    """
    with open_source(script(tmp_path / "s.vpy", body)) as source:
        assert source.others is not None
        assert source.others.container.streams.audio[0].codec_context.name == "pcm_f32le"
    assert [note for note in source.notes if "output " in note] == [
        "output 0 is read, of 0, 5", "output 2 is its sound",
        "sound is left out: output 7 (one is taken)",
    ]  # fmt: skip


def test_a_file_beside_comes_instead(make_clip, tmp_path):
    path = script(tmp_path / "s.vpy", "core.std.BlankAudio(length=44100).set_output(1)")
    beside = make_clip("in.mkv")
    with open_source(path, SourceConfig(audio_from=beside)) as source:
        assert source.others is not None
        assert source.others.container.name == f"file:{beside}"
    assert f"other streams come from {beside}, not from the input" in source.notes


class _Broken:
    """A node like VapourSynth's; none of its own plugins fails on sound."""

    num_samples, sample_rate, num_channels, channel_layout = 6000, 48000, 1, 4
    sample_type, bits_per_sample, bytes_per_sample = 0, 16, 2

    def get_frame(self, number: int) -> object:
        raise vs.Error(f"Traceback\n  in a plugin\nno frame {number} today")


def test_sound_that_cannot_be_made_is_one_line(tmp_path):
    path = tmp_path / "s.vpy"
    environment = make_environment(path)
    sound = ScriptSound(_Broken(), environment, str(path))
    with (
        pytest.raises(SourceError, match=r"s\.vpy: sound, frame 0: no frame 0 today"),
        sound.open() as container,
    ):
        list(container.demux())
    environment.close()


def test_samples_are_found_at_every_place(tone, tmp_path):
    """FFmpeg reads on, back, and in pieces of any length."""
    given = tone(*FORMATS["24"], 1)
    path = script(tmp_path / "s.vpy", source_of(given) + "sound.set_output(1)")
    whole = (sound_of(given)[2].view(np.uint8).reshape(-1, 4)[:, 1:]).tobytes()
    with open_source(path) as source:
        assert isinstance(source.others, Companion)
        samples = _Samples(cast(ScriptSound, source.others.sound))
        rng = np.random.default_rng(3)
        assert samples.seek(0, io.SEEK_END) == len(whole)
        for begin, length in zip(
            rng.integers(0, len(whole), 40), rng.integers(0, 60000, 40), strict=True
        ):
            samples.seek(int(begin))
            assert samples.read(int(length)) == whole[begin : begin + length]
            assert samples.tell() == min(begin + length, len(whole))

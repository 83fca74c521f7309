"""A run that was stopped and gone on with equals one that was not; what is there is verified."""

import errno
import itertools
import json
import logging
import os
import re
import shutil
import subprocess
from array import array
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
from av.packet import Packet

from vsr.cli import main
from vsr.config import PIPE, EncoderConfig, InputConfig, UpscaleConfig
from vsr.engine import rendering
from vsr.errors import ConfigError, SinkError, SourceError, TruncatedError
from vsr.frame import Frame
from vsr.index import find_model, locate
from vsr.pipeline import upscale
from vsr.report import Report
from vsr.resume import join, locked, opening, verify
from vsr.resume.coding import SegmentCoder
from vsr.resume.join import decoding_times
from vsr.resume.manifest import MANIFEST, Manifest, seal
from vsr.resume.segments import SegmentWriter
from vsr.resume.settings import changes, fingerprint
from vsr.resume.watch import InputWatch
from vsr.resume.work import WorkFolder, remove_work
from vsr.sources import open_source

FRAMES, SEGMENT = 44, 10  # of the clip; of a segment of 0.4 s

CODECS = [
    ("mkv", "libx264", {}), ("mp4", "libx264", {}), ("mov", "libx264", {}),
    ("mkv", "libx265", {"preset": "ultrafast"}), ("mp4", "libx265", {"preset": "ultrafast"}),
    ("mp4", "libsvtav1", {"preset": "12"}), ("mkv", "ffv1", {}), ("mov", "prores_ks", {}),
]  # fmt: skip


def ffmpeg(*arguments: object) -> str:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pictures with sound and subtitles: of constant rate with B-frames, and of variable rate."""
    folder = tmp_path_factory.mktemp("clips")
    words = folder / "words.srt"
    words.write_text("1\n00:00:00,200 --> 00:00:00,900\nword\n")
    inputs = (
        "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25",
        "-f", "lavfi", "-i", "sine=frequency=440", "-i", words, "-t", FRAMES / 25,
    )  # fmt: skip
    coding = ("-c:v", "libx264", "-bf", "2", "-g", "12", "-c:a", "flac", "-c:s", "srt")
    paths = {"cfr": folder / "cfr.mkv", "vfr": folder / "vfr.mkv"}
    ffmpeg(*inputs, *coding, paths["cfr"])
    uneven = "setpts='(N+0.4*mod(N\\,3))/25/TB'"
    ffmpeg(*inputs, "-vf", uneven, "-fps_mode", "passthrough", *coding, paths["vfr"])
    return paths


def config_for(source: Path, output: Path, **kw: object) -> UpscaleConfig:
    plain: dict[str, object] = {
        "input": source, "output": output, "model": "identity", "segment_seconds": 0.4,
        "encoder": EncoderConfig(codec="libx264", preset="ultrafast"),
    }  # fmt: skip
    return UpscaleConfig(**{**plain, **kw})  # type: ignore[arg-type]


def stop_after(config: UpscaleConfig, frames: int) -> None:
    """Run ``config`` and stop it after so many frames, of which whole segments stay."""
    count = itertools.count(1)
    report = upscale(config, should_stop=lambda: next(count) >= frames)
    assert report.kept is not None
    assert report.kept_frames == frames // SEGMENT * SEGMENT
    assert report.output is None


def packets(path: Path) -> str:
    """Times, flags and hash of every packet of every stream, as ffprobe reads them."""
    entries = "packet=stream_index,pts,dts,duration,size,flags,data_hash"
    command = ["ffprobe", "-v", "error", "-show_data_hash", "md5", "-show_entries", entries]
    done = subprocess.run(
        [*command, "-of", "csv", str(path)], check=True, capture_output=True, text=True
    )
    return done.stdout


def assert_equal(path: Path, other: Path) -> None:
    assert packets(path) == packets(other)
    assert ffmpeg("-i", path, "-f", "framemd5", "-") == ffmpeg("-i", other, "-f", "framemd5", "-")


@pytest.fixture
def whole(clips: dict[str, Path], tmp_path: Path) -> Path:
    """What a run without a break makes of the clip of constant rate."""
    path = tmp_path / "whole.mkv"
    upscale(config_for(clips["cfr"], path))
    return path


@pytest.fixture
def begun(clips: dict[str, Path], tmp_path: Path) -> UpscaleConfig:
    """A run that was stopped when two segments were finished."""
    config = config_for(clips["cfr"], tmp_path / "out.mkv")
    stop_after(config, 24)
    return config


def output_of(config: UpscaleConfig) -> Path:
    assert config.output is not None
    return config.output


def work_of(config: UpscaleConfig) -> Path:
    return output_of(config).with_name(f"{output_of(config).name}.parts")


# Equal to a run without a break.


@pytest.mark.parametrize("clip", ["cfr", "vfr"])
@pytest.mark.parametrize(("extension", "codec", "options"), CODECS)
def test_resumed_equals_uninterrupted(clips, tmp_path, clip, extension, codec, options):
    encoder = EncoderConfig(codec=codec, options=options)
    one, two = tmp_path / f"one.{extension}", tmp_path / f"two.{extension}"
    upscale(config_for(clips[clip], one, encoder=encoder))
    config = config_for(clips[clip], two, encoder=encoder)
    stop_after(config, 24)
    report = upscale(replace(config, resume=True))
    assert (report.frames, report.frames_before, report.sittings) == (FRAMES, 20, 2)
    assert_equal(one, two)
    assert sorted(path.name for path in tmp_path.iterdir()) == [one.name, two.name]


def test_segments_hold_what_one_go_holds(clips, tmp_path):
    one, two = tmp_path / "one.mkv", tmp_path / "two.mkv"
    ffv1 = EncoderConfig(codec="ffv1")
    upscale(config_for(clips["vfr"], one, encoder=ffv1, segment_seconds=0, framemd5=True))
    upscale(config_for(clips["vfr"], two, encoder=ffv1, framemd5=True))
    assert_equal(one, two)
    hashes = [Path(f"{path}.framemd5").read_text() for path in (one, two)]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("segment", [0, 0.4])
@pytest.mark.parametrize(("frames", "starts"), [(None, [0, 1000, 3000]), (20, [0])])
def test_chapters_of_sound_that_goes_on_stay(clips, tmp_path, caplog, segment, frames, starts):
    """They are left out, and that is said once, only where the picture was asked to end early."""
    listed, film = tmp_path / "chapters.txt", tmp_path / "film.mkv"
    spans = [(0, 1000), (1000, 3000), (3000, 4000)]
    chapters = "".join(
        f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={begin}\nEND={end}\n" for begin, end in spans
    )
    listed.write_text(f";FFMETADATA1\n{chapters}")
    sound = ("-f", "lavfi", "-i", "sine=frequency=440:duration=4", "-i", listed)
    taken = ("-map", "0:v", "-map", "1:a", "-map_chapters", 2, "-c:v", "copy", "-c:a", "flac")
    ffmpeg("-i", clips["cfr"], *sound, *taken, film)
    output = tmp_path / "out.mkv"
    upscale(config_for(film, output, segment_seconds=segment, frames=frames))
    with av.open(str(output)) as container:
        assert [chapter["start"] // 10**6 for chapter in container.chapters()] == starts
    said = caplog.text.count("2 chapters are left out: the output ends before")
    assert said == (0 if frames is None else 1)


def test_hashes_and_record_of_all_runs(clips, tmp_path):
    one, two = tmp_path / "one.mkv", tmp_path / "two.mkv"
    beside = {"framemd5": True, "record": True, "encoder": EncoderConfig(codec="ffv1")}
    upscale(config_for(clips["cfr"], one, **beside))
    config = config_for(clips["cfr"], two, **beside)
    stop_after(config, 35)
    upscale(replace(config, resume=True))
    assert Path(f"{one}.framemd5").read_text() == Path(f"{two}.framemd5").read_text()
    records = [json.loads(Path(f"{path}.json").read_text()) for path in (one, two)]
    assert records[0]["sync"] == records[1]["sync"]
    assert records[1]["output"]["frames"] == FRAMES
    assert [record["run"]["sittings"] for record in records] == [1, 2]


def test_what_lies_beside_the_film_outlasts_a_power_cut(clips, tmp_path, monkeypatch):
    """Hashes and record are on the disk, with their names, before the work is said to be over."""
    steps: list[str] = []
    fsync, rename, unlink = os.fsync, os.replace, os.unlink

    def note_sync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        steps.append("sync folder" if path == tmp_path else f"sync {path.name}")
        fsync(descriptor)

    def note_rename(source: Path, target: Path) -> None:
        steps.append(f"{Path(source).name} becomes {Path(target).name}")
        rename(source, target)

    def note_unlink(path: Path, **named: Any) -> None:
        steps.append(f"delete {Path(path).name}")
        unlink(path, **named)

    config = config_for(clips["cfr"], tmp_path / "out.mkv", framemd5=True, record=True)
    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    monkeypatch.setattr(os, "unlink", note_unlink)
    upscale(config)
    over = steps.index("delete 000000.seg")
    for name in ("out.mkv.framemd5", "out.mkv.json"):
        named = next(place for place, step in enumerate(steps) if step.endswith(f"becomes {name}"))
        hidden = steps[named].split(" becomes ")[0]
        assert steps[named - 1] == f"sync {hidden}"
        assert "sync folder" in steps[named:over]


@pytest.mark.parametrize(("mode", "expected"), [(0o600, 0o700), (0o640, 0o750), (0o644, 0o755)])
def test_who_may_not_read_the_film_may_not_read_its_segments(clips, tmp_path, mode, expected):
    config = config_for(clips["cfr"], tmp_path / "out.mkv", overwrite=True)
    output_of(config).touch()
    output_of(config).chmod(mode)
    stop_after(config, 24)
    assert work_of(config).stat().st_mode & 0o777 & ~0o022 == expected & ~0o022


@pytest.mark.parametrize("frames", [40, 41])
def test_a_part_stops_where_it_was_to(clips, tmp_path, frames):
    one, two = tmp_path / "one.mp4", tmp_path / "two.mp4"
    upscale(config_for(clips["cfr"], one, frames=frames))
    config = config_for(clips["cfr"], two, frames=frames)
    stop_after(config, 30)
    assert upscale(replace(config, resume=True)).frames == frames
    assert_equal(one, two)


SCRIPT = """
import vapoursynth as vs
c = vs.core.std.BlankClip(width=64, height=48, length=44, fpsnum=25, format=vs.YUV420P8)
c = vs.core.std.FrameEval(c, lambda n: vs.core.std.BlankClip(c, color=[n * {step}, 9, 99]))
c.set_output()
"""


def test_scripts_and_pictures_go_on_by_number(tmp_path):
    script = tmp_path / "s.vpy"
    script.write_text(SCRIPT.format(step=4))
    pictures = tmp_path / "in"
    pictures.mkdir()
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", 44, pictures / "%03d.png"
    )
    for source in (script, pictures):
        one, two = tmp_path / f"{source.stem}1.mkv", tmp_path / f"{source.stem}2.mkv"
        upscale(config_for(source, one))
        config = config_for(source, two)
        stop_after(config, 24)
        assert upscale(replace(config, resume=True)).frames_before == 20
        assert_equal(one, two)


# Verified before it is trusted.


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    "damage",
    [flip, Path.unlink, lambda path: os.truncate(path, 100), lambda path: path.write_bytes(b"")],
)
def test_damaged_segments_are_done_again(whole, begun, caplog, number, damage):
    damage(work_of(begun) / f"{number:06d}.seg")
    with caplog.at_level(logging.INFO, "vsr"):
        report = upscale(replace(begun, resume=True))
    assert report.frames_before == SEGMENT
    first = number * SEGMENT
    assert f"frames {first} to {first + SEGMENT - 1} are done again" in caplog.text
    assert_equal(whole, output_of(begun))


def test_what_stands_in_an_untouched_segment_is_not_computed(begun, monkeypatch):
    encoded: list[int] = []
    encode = SegmentCoder.encode

    def spy(self: SegmentCoder, frame: Frame) -> "list[Packet[Any]]":
        encoded.append(frame.pts)
        return encode(self, frame)

    monkeypatch.setattr(SegmentCoder, "encode", spy)
    upscale(replace(begun, resume=True))
    assert len(encoded) == FRAMES - 2 * SEGMENT


def test_changed_settings_are_named(begun):
    changed = replace(begun, resume=True, encoder=replace(begun.encoder, crf=30.0))
    with pytest.raises(
        ConfigError, match=r"encoder option crf was 17, is 30; with all as it was --resume goes on"
    ):
        upscale(changed)
    stated = replace(begun, resume=True, source=InputConfig(matrix=1))
    with pytest.raises(
        ConfigError, match=r"output colour was matrix \w+, range tv.*, is matrix bt709"
    ):
        upscale(stated)
    with pytest.raises(ConfigError, match="network was identity x1, is"):
        upscale(replace(begun, resume=True, model="lanczos", scale=2))
    upscale(replace(begun, resume=True))


@pytest.mark.parametrize(
    "other",
    [{"model": "lanczos"}, {"weights": locate(find_model("sst", 2))}],
    ids=["model", "file"],
)
def test_another_network_is_named_whatever_runs_the_first(clips, tmp_path, other):
    """The runtime that the work was begun with may not know it."""
    config = config_for(clips["cfr"], tmp_path / "out.mkv", model="span", scale=2)
    stop_after(config, SEGMENT + 1)
    with pytest.raises(ConfigError, match="network was span x2, is"):
        upscale(replace(config, resume=True, **other))


def test_another_length_of_segments_is_said_to_change_nothing(whole, begun, caplog):
    with caplog.at_level(logging.INFO, "vsr"):
        upscale(replace(begun, resume=True, segment_seconds=begun.segment_seconds * 2))
    assert f"segments stay of {SEGMENT} frames, as they were begun, not of" in caplog.text
    assert_equal(whole, output_of(begun))


def test_what_is_fastest_today_changes_nothing(clips, tmp_path, caplog):
    """The runtime and its precision are measured, on a machine and a day."""
    config = config_for(clips["cfr"], tmp_path / "out.mkv", model="span", scale=2)
    before = replace(config, runtime="torch", precision="bf16")
    upscale(replace(before, output=tmp_path / "whole.mkv"))
    stop_after(before, SEGMENT + 1)
    with caplog.at_level(logging.INFO, "vsr"):
        upscale(replace(config, resume=True))
    assert "span x2 on cpu" in caplog.text
    assert "in bfloat16" in caplog.text
    assert_equal(tmp_path / "whole.mkv", output_of(config))
    output_of(config).unlink()
    stop_after(before, SEGMENT + 1)
    with pytest.raises(ConfigError, match="precision was bfloat16, is float32"):
        upscale(replace(config, resume=True, runtime="torch", precision="fp32"))


def test_a_tile_that_memory_asks_for_is_a_setting(clips, tmp_path, monkeypatch):
    """Tiles of a network with attention are close to the whole picture, not equal to it."""
    config = config_for(clips["cfr"], tmp_path / "out.mkv", model="sst", scale=2)
    stop_after(config, SEGMENT + 1)
    monkeypatch.setattr(rendering, "default_tile", lambda *arguments, **more: 32)
    with pytest.raises(ConfigError, match="tile was whole frames, is 32"):
        upscale(replace(config, resume=True))


def test_a_changed_input_is_named(clips, tmp_path):
    source = tmp_path / "in.mkv"
    shutil.copy(clips["cfr"], source)
    config = config_for(source, tmp_path / "out.mkv")
    stop_after(config, 24)
    content = source.read_bytes()
    source.write_bytes(content + b"\0")
    size = len(content)
    with pytest.raises(ConfigError, match=f"input was of {size} bytes, is of {size + 1}; with"):
        upscale(replace(config, resume=True))
    source.write_bytes(bytes([*content[:-1], content[-1] ^ 1]))
    with pytest.raises(ConfigError, match="input was another of that size: its first or last MiB"):
        upscale(replace(config, resume=True))


def test_a_changed_script_is_named_without_its_hash(tmp_path):
    script, other = tmp_path / "s.vpy", tmp_path / "in.mkv"
    script.write_text(SCRIPT.format(step=4))
    config = config_for(script, tmp_path / "out.mkv")
    stop_after(config, 24)
    script.write_text(SCRIPT.format(step=4) + "# another line\n")
    named = re.escape(f"cannot be resumed: the text of {script} has changed; with all as it was")
    with pytest.raises(ConfigError, match=named):
        upscale(replace(config, resume=True))
    size = "testsrc2=size=64x48:rate=25"
    ffmpeg("-f", "lavfi", "-i", size, "-frames:v", 44, "-c:v", "ffv1", "-pix_fmt", "yuv420p", other)
    words = f"input was a script, is a file of {other.stat().st_size} bytes; "
    with pytest.raises(ConfigError, match=words):
        upscale(replace(config, input=other, resume=True))


def test_what_a_script_imports_is_known_by_its_pictures(tmp_path):
    """Its text is not compared: what it is taken from is nobody's business but the script's."""
    (tmp_path / "s.vpy").write_text(
        "import pathlib\nexec((pathlib.Path(__file__).parent / 'of.txt').read_text())\n"
    )
    (tmp_path / "of.txt").write_text(SCRIPT.format(step=4))
    config = config_for(tmp_path / "s.vpy", tmp_path / "out.mkv")
    stop_after(config, 24)
    (tmp_path / "of.txt").write_text(SCRIPT.format(step=5))
    with pytest.raises(SourceError, match="frame 9 is another picture: --restart begins again"):
        upscale(replace(config, resume=True))


def test_a_small_input_whose_time_alone_has_changed_is_the_same(whole, clips, tmp_path):
    source = tmp_path / "in.mkv"
    shutil.copy(clips["cfr"], source)
    config = config_for(source, tmp_path / "out.mkv")
    for time in (1, 2):
        asked = itertools.chain([False] * 11, itertools.repeat(True))
        upscale(replace(config, resume=True), should_stop=asked.__next__)
        os.utime(source, (time, time))
    assert upscale(replace(config, resume=True)).frames == FRAMES
    assert_equal(whole, output_of(config))


def test_a_large_input_whose_time_alone_has_changed_may_have_changed(tmp_path):
    """Of which not all is hashed; the message has the command that makes it go on."""
    path = tmp_path / "in.mkv"
    path.write_bytes(bytes(2 << 20))
    before = {"input": fingerprint(path)}
    os.utime(path, (1, 1))
    assert changes(before, {"input": fingerprint(path)}) == ""
    path.write_bytes(bytes((2 << 20) + 1))
    os.utime(path, ns=(10**9, 1795419593309549123))
    before = {"input": fingerprint(path)}
    os.utime(path, ns=(10**9, 1795421171473617123))
    now = {"input": fingerprint(path)}
    said = changes(before, now)
    first, second = re.findall(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", said)
    assert datetime.fromisoformat(first).timestamp() == 1795419593.309
    assert datetime.fromisoformat(second).timestamp() == 1795421171.473
    command = re.findall("touch -d @[0-9.]+", said)[0]
    assert f"{command} '/a film.mkv' gives it its time again" in changes(
        before, now, {"input": Path("/a film.mkv")}
    )
    subprocess.run([*command.split(), str(path)], check=True)
    assert changes(before, {"input": fingerprint(path)}) == ""
    assert "@99999999999999.000000" in changes(
        before, {"input": now["input"].replace("1795421171.473617", "99999999999999.000000")}
    )


def test_another_picture_at_the_same_time_is_noticed(begun):
    manifest = Manifest.load(work_of(begun))
    manifest.segments[1] = replace(manifest.segments[1], anchor="0" * 32)
    manifest.save(work_of(begun))
    with pytest.raises(SourceError, match="frame 19 is another picture: --restart begins again"):
        upscale(replace(begun, resume=True))
    assert not output_of(begun).exists()


@pytest.fixture
def changing(clips, tmp_path, monkeypatch):
    """A run with a sound of another file; before it joins, something happens."""
    source, sound = tmp_path / "in.mkv", tmp_path / "in.wav"
    shutil.copy(clips["cfr"], source)
    ffmpeg("-f", "lavfi", "-i", "sine=d=1.76", sound)
    output = tmp_path / "out" / "out.mkv"
    output.parent.mkdir()
    config = config_for(source, output, audio_from=sound)

    def run(happens: Callable[[], object]) -> Report:
        check = InputWatch.check

        def checking(self: InputWatch) -> None:
            happens()
            check(self)

        with monkeypatch.context() as patch:
            patch.setattr(InputWatch, "check", checking)
            return upscale(config)

    return SimpleNamespace(source=source, sound=sound, config=config, run=run)


@pytest.mark.parametrize("name", ["input", "sound"])
def test_a_file_that_changes_under_the_run(changing, name):
    path = changing.source if name == "input" else changing.sound

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"\0")

    size = path.stat().st_size
    words = (
        rf"/{path.name}: was changed while it was read: {name} was of {size} bytes, is of "
        rf"{size + 1}; {FRAMES} frames are finished: with all as it was --resume goes on, --restart"
    )
    with pytest.raises(SourceError, match=words):
        changing.run(grow)
    assert not output_of(changing.config).exists()
    os.truncate(path, size)
    assert upscale(replace(changing.config, resume=True)).frames_before == FRAMES


def test_a_sound_that_is_replaced_under_the_run(changing):
    """As by ``mv new.wav in.wav``: it is opened by its name for the joined film."""
    other = changing.sound.with_name("new.wav")
    ffmpeg("-f", "lavfi", "-i", "sine=frequency=900:d=1.76", other)
    with pytest.raises(SourceError, match=r"in\.wav: was changed .*: sound was another of that"):
        changing.run(lambda: os.replace(other, changing.sound))
    assert not output_of(changing.config).exists()


def test_small_files_that_are_only_touched_under_the_run(changing):
    def touch() -> None:
        os.utime(changing.source, (1, 1))
        os.utime(changing.sound, (1, 1))

    report = changing.run(touch)
    assert (report.frames, report.warnings) == (FRAMES, [])


def test_a_large_input_that_is_only_touched_under_the_run(changing):
    with changing.source.open("ab") as file:  # what makes it large is behind the end of the film
        file.write(bytes(2 << 20))
    with pytest.raises(SourceError, match=r"is of 1970.* touch -d @") as said:
        changing.run(lambda: os.utime(changing.source, (1, 1)))
    command = re.findall(r"touch -d @[0-9.]+ \S+", str(said.value))[0]
    subprocess.run(command.split(), check=True)
    assert upscale(replace(changing.config, resume=True)).frames_before == FRAMES


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"format":"vsr-resume/1"}', '{"format":"vsr-resume/2"}', "[" * 100_000,
        "\xff", '{"format":"vsr-resume/2","segments":[{"number":"../x"}]}',
    ],
)  # fmt: skip
def test_a_damaged_manifest_is_refused(begun, text):
    (work_of(begun) / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(SinkError, match=r"manifest\.json: is damaged .*: --restart begins again"):
        upscale(replace(begun, resume=True))
    assert (work_of(begun) / "000001.seg").exists()


def test_a_manifest_of_zeros_is_called_damaged_in_plain_words(begun):
    path = work_of(begun) / MANIFEST
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(SinkError, match=r"manifest\.json: is damaged \(Expecting value: line 1"):
        upscale(replace(begun, resume=True))


@pytest.mark.parametrize("kind", ["film", "pictures", "one segment"])
def test_a_manifest_that_is_lost_is_called_damaged(whole, clips, tmp_path, caplog, kind):
    """Segments without it are of no use, but for somebody who has a backup of it."""
    name = "out%d.png" if kind == "pictures" else "out.mkv"
    config = config_for(clips["cfr"], tmp_path / name, encoder=EncoderConfig())
    count = itertools.count(1)
    upscale(config, should_stop=lambda: next(count) >= 24)
    work, backup = work_of(config), tmp_path / "backup"
    (work / MANIFEST).rename(backup)
    before = sorted(work.rglob("*"))
    with pytest.raises(
        SinkError, match=r"manifest\.json: cannot be read: No such .*: --restart be"
    ):
        upscale(replace(config, resume=True, segment_seconds=10 if kind == "one segment" else 0.4))
    with pytest.raises(SinkError, match="an earlier run has left its work"):
        upscale(config)
    assert sorted(work.rglob("*")) == before
    shutil.copy(backup, work / MANIFEST)
    assert upscale(replace(config, resume=True)).frames_before in (20, 24)
    assert not work.exists()


@pytest.mark.parametrize("step", range(6))
def test_killed_while_unwanted_work_is_removed(begun, monkeypatch, step):
    """By --restart: nobody goes on with what is left, nor is asked what to do with it."""
    steps = itertools.count()

    def counted(action: Callable[..., object]) -> Callable[..., None]:
        def act(*arguments: object, **named: object) -> None:
            if next(steps) == step:
                raise KeyboardInterrupt
            action(*arguments, **named)

        return act

    with monkeypatch.context() as patch:
        for name in ("replace", "unlink", "rmdir"):
            patch.setattr(os, name, counted(getattr(os, name)))
        with pytest.raises(KeyboardInterrupt):
            remove_work(work_of(begun))
    # Until the manifest has another name, nothing is removed; then nothing counts.
    assert upscale(replace(begun, resume=True)).frames_before == (0 if step else 2 * SEGMENT)
    assert not work_of(begun).exists()


def test_a_number_that_is_damaged_in_a_manifest_is_noticed(begun):
    path = work_of(begun) / MANIFEST
    path.write_text(path.read_text().replace('"time_base":"1/1000"', '"time_base":"1/1001"'))
    with pytest.raises(SinkError, match=r"\(it is not what was written\): --restart begins"):
        upscale(replace(begun, resume=True))


@pytest.mark.parametrize("name", ["settings", "segments", "end", "source", "notes"])
def test_manifests_that_hold_something_else(begun, name):
    path = work_of(begun) / MANIFEST
    content = json.loads(path.read_text())
    del content["sha256"]
    content[name] = True
    path.write_text(json.dumps({**content, "sha256": seal(content)}))
    with pytest.raises(SinkError, match=r"manifest\.json: is damaged"):
        upscale(replace(begun, resume=True))


def test_a_manifest_is_read_as_it_was_written(begun, tmp_path):
    manifest = Manifest.load(work_of(begun))
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest
    assert manifest.frames == 2 * SEGMENT
    assert manifest.segments[1].first == SEGMENT


# What stands in the way.


def test_work_is_never_deleted_in_silence(begun, caplog):
    for config in (begun, replace(begun, overwrite=True)):
        with pytest.raises(SinkError, match=r"left its work in out\.mkv\.parts: --resume .* --res"):
            upscale(config)
    assert Manifest.load(work_of(begun)).frames == 2 * SEGMENT
    with caplog.at_level(logging.INFO, "vsr"):
        assert upscale(replace(begun, restart=True)).frames_before == 0
    assert "the work of an earlier run is deleted" in caplog.text
    assert not work_of(begun).exists()


def test_a_folder_of_that_name_is_left_alone(clips, tmp_path):
    config = config_for(clips["cfr"], tmp_path / "out.mkv", overwrite=True)
    work_of(config).mkdir()
    (work_of(config) / "diary.txt").write_text("mine")
    with pytest.raises(SinkError, match=r"diary\.txt is not vsr's"):
        upscale(config)
    assert (work_of(config) / "diary.txt").read_text() == "mine"


def test_the_second_run_on_one_output_stops(clips, tmp_path):
    config = config_for(clips["cfr"], tmp_path / "out.mkv")
    with (
        locked(output_of(config)),
        pytest.raises(SinkError, match=rf"another run is writing it \(process {os.getpid()}\)"),
    ):
        upscale(config)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".out.mkv.lock").write_text("1\n")  # of a run that was killed
    assert upscale(config).frames == FRAMES
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"]


def test_pipes_say_that_they_cannot(clips, tmp_path):
    with pytest.raises(ConfigError, match="--resume is for files"):
        config_for(PIPE, tmp_path / "out.mkv", resume=True)
    with pytest.raises(ConfigError, match="--resume is for files"):
        config_for(clips["cfr"], PIPE, muxer="matroska", resume=True)


# Where a run may be stopped.


def test_killed_between_the_name_and_the_cleaning(whole, begun, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(opening, "_remove", lambda removal: None)
        upscale(replace(begun, resume=True))
    assert work_of(begun).exists()
    assert upscale(replace(begun, resume=True)).frames_before == FRAMES
    assert_equal(whole, output_of(begun))
    assert not work_of(begun).exists()


def test_who_repeats_the_command_is_told_apart_that_it_was_done(clips, tmp_path, capsys):
    """By an exit code of its own, where a failure has another."""
    output = tmp_path / "out.mkv"
    options = ["--model", "identity", "--segment-seconds", "0.4", "-c:v", "ffv1", "--resume"]
    command = [str(clips["cfr"]), str(output), *options]
    assert main(command) == 0
    assert main(command) == 3
    assert "out.mkv: already exists; -y replaces it" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere.mkv"), *command[1:]]) == 1


def test_an_output_of_somebody_else_is_not_replaced(begun):
    output_of(begun).write_text("mine")
    with pytest.raises(SinkError, match="already exists"):
        upscale(replace(begun, resume=True))
    assert output_of(begun).read_text() == "mine"


def test_a_full_disk_keeps_what_is_finished(whole, clips, tmp_path, monkeypatch):
    put = SegmentWriter._put

    def fail(self: SegmentWriter, data: bytes) -> None:
        if self.index.number == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(self, data)

    config = config_for(clips["cfr"], tmp_path / "out.mkv")
    with monkeypatch.context() as patch:
        patch.setattr(SegmentWriter, "_put", fail)
        with pytest.raises(SinkError, match=r"No space left on device \(20 frames are finished"):
            upscale(config)
    assert sorted(path.name for path in work_of(config).iterdir()) == [
        "000000.seg", "000001.seg", MANIFEST,
    ]  # fmt: skip
    upscale(replace(config, resume=True))
    assert_equal(whole, output_of(config))


def test_a_disk_that_will_be_too_small_is_said(clips, tmp_path, caplog, monkeypatch):
    config = config_for(clips["cfr"], tmp_path / "out.mkv")
    upscale(config)
    assert "short" not in caplog.text
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    upscale(replace(config, overwrite=True))
    assert re.search(
        r"will be about \d+\.\d [kM]B short: segments and the finished file are there at once",
        caplog.text,
    )


def test_a_packet_that_the_encoder_swallows_is_missed(clips, tmp_path, monkeypatch):
    flush = SegmentCoder.flush
    monkeypatch.setattr(SegmentCoder, "flush", lambda self: flush(self)[1:])
    with pytest.raises(SinkError, match=r"segment 0 \(frames 0 to 9\): of libx264 10 frames went"):
        upscale(config_for(clips["cfr"], tmp_path / "out.mkv", encoder=EncoderConfig()))
    assert list(tmp_path.iterdir()) == []


def test_stopped_before_a_segment_is_finished(clips, tmp_path):
    config = config_for(clips["cfr"], tmp_path / "out.mkv")
    count = itertools.count(1)
    report = upscale(config, should_stop=lambda: next(count) >= 7)
    assert report.kept is None
    assert report.output == tmp_path / "out.partial.mkv"
    with av.open(str(report.output)) as container:
        heard = [packet.pts for packet in container.demux(audio=0) if packet.pts is not None]
    assert max(heard) < 280  # ms: not all of the film's
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial.mkv"]


def test_an_input_that_breaks_off_leaves_what_came_before(tmp_path):
    source = tmp_path / "in.y4m"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", 25, source)
    os.truncate(source, source.stat().st_size - 100)
    with pytest.raises(TruncatedError, match=r"24 frames, is in .*out\.partial\.mkv"):
        upscale(config_for(source, tmp_path / "out.mkv"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.y4m", "out.partial.mkv"]
    assert packets(tmp_path / "out.partial.mkv").count("packet,0") == 24


def test_a_part_that_cannot_be_joined_leaves_whole_segments(tmp_path, monkeypatch):
    source = tmp_path / "in.y4m"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", 25, source)
    os.truncate(source, source.stat().st_size - 100)
    config = config_for(source, tmp_path / "out.mkv")

    def fail(path: Path, expected: verify.Expected) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(join, "verify", fail)
        with pytest.raises(SinkError, match=r"No space left on device \(20 frames are finished"):
            upscale(config)
    with pytest.raises(TruncatedError, match=r"24 frames, is in .*out\.partial\.mkv"):
        upscale(replace(config, resume=True))
    assert packets(tmp_path / "out.partial.mkv").count("packet,0") == 24


def test_killed_before_the_end_is_noted_behind_the_last_segment(
    whole, clips, tmp_path, monkeypatch
):
    def die(*arguments: object) -> None:
        raise RuntimeError("killed")

    config = config_for(clips["cfr"], tmp_path / "out.mkv")
    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "conclude", die)
        with pytest.raises(SinkError, match="killed"):
            upscale(config)
    assert upscale(replace(config, resume=True)).frames_before == FRAMES // SEGMENT * SEGMENT
    assert_equal(whole, output_of(config))


@pytest.mark.parametrize("name", ["東" * 83 + ".mkv", "x" * 251 + ".mkv"])
def test_the_longest_names(whole, clips, tmp_path, name):
    home = tmp_path / ("映" * 80)
    home.mkdir()
    config = config_for(clips["cfr"], home / name, record=True, framemd5=True)
    stop_after(config, 25)
    report = upscale(replace(config, resume=True))
    assert report.output == home / name
    assert_equal(whole, home / name)
    assert {path.suffix for path in home.iterdir()} == {".mkv", ".json", ".framemd5"}


# The parts.


def test_a_source_begins_with_a_later_frame(clips):
    with open_source(clips["cfr"]) as source:
        frames = []
        for frame in source:
            frames.append(frame)
            if len(frames) == 30:
                timing = source.timing
    assert timing is not None
    with open_source(clips["cfr"]) as source:
        assert source.skip(29, frames[29].pts, timing, lambda f: f.pts == frames[29].pts)
        rest = list(source)
    assert [f.pts for f in rest] == [f.pts for f in frames[29:]]
    assert [f.duration for f in rest] == [f.duration for f in frames[29:]]
    for ours, theirs in zip(rest, frames[29:], strict=True):
        assert all((a == b).all() for a, b in zip(ours.planes, theirs.planes, strict=True))
    with open_source(clips["cfr"]) as source:
        assert not source.skip(29, frames[29].pts, timing, lambda frame: False)
        assert [f.pts for f in source] == [f.pts for f in frames]


@pytest.mark.parametrize(
    ("pts", "dts"),
    [
        ([], []),
        ([0, 1, 2], [0, 1, 2]),
        ([0, 3, 1, 2, 6, 4, 5], [-1, 0, 1, 2, 3, 4, 5]),
        ([10, 40, 20, 30, 50, 90, 70, 60, 80], [-10, 0, 10, 20, 30, 40, 50, 60, 70]),
    ],
)  # fmt: skip
def test_decoding_times_rise_below_those_of_display(pts, dts):
    found = list(decoding_times(array("q", pts)))
    assert found == dts
    assert all(decoded <= shown for decoded, shown in zip(found, pts, strict=True))


@pytest.mark.parametrize("muxer", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("segment", [0, 10])
def test_a_long_pause_is_no_longer_than_it_was(tmp_path, muxer, segment):
    """Slides: B-frames are decoded before the pause that they are shown after."""
    slides, out = tmp_path / "slides.mkv", tmp_path / f"out.{muxer}"
    chosen = "testsrc2=r=1:s=64x48:d=60,select='not(mod(n\\,15))+lt(n\\,5)'"
    ffmpeg("-f", "lavfi", "-i", chosen, "-fps_mode", "vfr", "-c:v", "libx264", slides)
    upscale(config_for(slides, out, segment_seconds=segment, encoder=EncoderConfig()))
    entries = ["-show_entries", "format=duration:packet=pts_time", "-select_streams", "v"]
    command = ["ffprobe", "-v", "error", *entries, "-of", "json", str(out)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert float(found["format"]["duration"]) == 46
    shown = sorted(float(packet["pts_time"]) for packet in found["packets"])
    assert shown == [0, 1, 2, 3, 4, 15, 30, 45]


@pytest.mark.parametrize(
    ("pts", "dts", "durations", "end"),
    [
        ([0, 3, 1, 2, 4], [-2, -1, 0, 1, 2], [1, 1, 1, 1, 3], 7),  # B-frames at an even pace
        ([0, 1, 2, 9], [0, 1, 2, 9], [1, 1, 7, 4], 13),  # a pause, all in order
        ([0, 9, 1, 2], [-2, -1, 0, 1], [1, 1, 1, 9], 11),
        ([0, 9, 1, 8], [-1, 0, 1, 8], [1, 1, 7, 2], None),  # from one decoding to the next
        ([0, 3, 1, 2], [-2, -1, 0, 1], [5, 1, 1, 1], 5),  # as long as each is shown
    ],
)
def test_where_a_film_ends_is_known_but_for_pauses_among_b_frames(pts, dts, durations, end):
    times = verify._Times(len(pts), *(array("q", row) for row in (pts, dts, durations)))
    assert times.end == end

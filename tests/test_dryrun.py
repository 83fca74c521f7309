"""A dry run writes nothing, fails where the run would, and says what the run then does."""

import json
import os
import shlex
import shutil
import signal
import subprocess
from contextlib import ExitStack
from fractions import Fraction

import pytest

from tests.warm import PYTHON
from vsr.cli import main
from vsr.cli.configuration import make_config
from vsr.cli.options import build_parser
from vsr.config import EncoderConfig, UpscaleConfig
from vsr.dryrun import _Stopwatch, dry_run
from vsr.pipeline import upscale
from vsr.planning import make_plan
from vsr.progress import Progress


def say(capsys, *arguments):
    """What the command prints: its sections, each a list of lines."""
    assert main([*map(str, arguments), "--dry-run", "--model", "identity"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    sections: dict[str, list[str]] = {}
    title = ""
    for line in out.splitlines():
        if line.startswith("  "):
            sections[title].append(line.strip())
        else:
            title = line
            sections[title] = []
    assert list(sections) == ["Input", "Work", "Output", "Lost or changed", "Time"]
    return sections


def the(lines, start):
    (found,) = [line for line in lines if line.startswith(start)]
    return found


def test_nothing_is_written(make_clip, tmp_path, capsys, monkeypatch):
    scratch, folder = tmp_path / "scratch", tmp_path / "out"
    scratch.mkdir()
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    said = say(capsys, make_clip("in.mp4"), folder / "out.mkv", "--target", "archive")
    assert list(folder.iterdir()) == list(scratch.iterdir()) == []
    assert f"beside it: {folder}/out.mkv.framemd5" in said["Output"]
    assert f"beside it: {folder}/out.mkv.json" in said["Output"]
    assert said["Lost or changed"] == ["nothing but what the lines above name"]
    assert the(said["Time"], "expected").startswith("expected: 12 frames, about ")


def test_no_time_is_kept_where_there_is_none(tmp_path, capsys):
    path = tmp_path / "in.mjpeg"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x48:d=0.2"]
    subprocess.run([*command, "-pix_fmt", "yuvj420p", str(path)], check=True)
    said = say(capsys, path, tmp_path / "out.mkv")["Input"]
    assert the(said, "timing") == (
        "timing: 25 frames/s, counted: the input has no times, or none that are used"
    )


def test_what_lies_beside_a_long_name_is_called_as_in_the_run(make_clip, tmp_path):
    source, target = make_clip("in.mkv", frames=4), tmp_path / f"{'n' * 250}.mkv"
    config = UpscaleConfig(input=source, output=target, target="archive", model="identity")
    said = [line.strip() for line in dry_run(config) if "beside it" in line]
    upscale(config)
    written = {path for path in tmp_path.iterdir() if path not in (source, target)}
    assert len(written) == 2
    assert set(said) == {f"beside it: {path}" for path in written}


def test_colour_says_who_said_it(make_clip, tmp_path, capsys):
    source = make_clip("in.mp4")
    colour = the(say(capsys, source, tmp_path / "o.mkv", "-color_range", "pc")["Input"], "colour")
    assert "matrix smpte170m (guessed)" in colour
    assert "range pc (given)" in colour
    assert "siting left (declared)" in colour  # H.264 that says nothing says that


def test_a_tag_that_is_not_believed_is_not_called_declared(make_clip, tmp_path, capsys):
    tag = {"color_range": "tv"}
    source = make_clip("in.mkv", codec="libx264rgb", pix_fmt="rgb24", options=tag)
    colour = the(say(capsys, source, tmp_path / "o.mkv")["Input"], "colour")
    assert "range pc (guessed)" in colour


@pytest.mark.parametrize(
    ("target", "name", "pix_fmt"),
    [("archive", "o.mkv", None), ("edit", "o.mov", None), ("web", "o.mp4", None),
     ("web", "o.mp4", "yuvj420p"), ("hevc", "o.mp4", None), ("av1", "o.mkv", None)],
)  # fmt: skip
def test_the_flags_it_names_come_to_the_same(make_clip, tmp_path, capsys, target, name, pix_fmt):
    source = make_clip("in.mkv", codec="ffv1", pix_fmt="yuv422p10le", frames=4)
    asked = UpscaleConfig(
        input=source, output=tmp_path / name, target=target, model="identity",
        encoder=EncoderConfig(pix_fmt=pix_fmt),
    )  # fmt: skip
    line = next(line for line in dry_run(asked) if "the same in flags" in line)
    command = shlex.split(line.partition(": ")[2])
    assert command[0] == "vsr-upscale"
    spelt_out = make_config(build_parser().parse_intermixed_args(command[1:]))
    assert spelt_out.target is None
    with ExitStack() as stack:
        wanted, found = (make_plan(config, stack) for config in (asked, spelt_out))
        for plan in (wanted, found):  # the encoder counts the last word of a list
            for key in [k for k in plan.encoding.options if k.endswith("-params")]:
                parts = plan.encoding.options[key].split(":")
                plan.encoding.options[key] = ":".join(dict.fromkeys(parts))
        assert wanted.encoding == found.encoding
        assert wanted.info == found.info
        assert wanted.config.framemd5 == found.config.framemd5


def test_it_fails_as_the_run_would(make_clip, tmp_path, capsys):
    source = make_clip("in.mp4")
    for arguments, words, code in [
        ([source, tmp_path / "o.mp4", "--target", "archive"], "name the output .mkv", 2),
        ([tmp_path / "no.mp4", tmp_path / "o.mp4"], "no such file", 1),
        ([source, tmp_path / "no" / "o.mp4"], "there is no directory", 1),
        ([source, tmp_path / "no" / "o.%04d.tga"], "unknown output extension .tga", 2),
        ([source, source], "same file", 2),
    ]:
        assert main([*map(str, arguments), "--dry-run", "--model=identity"]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert words in err
    assert list(tmp_path.iterdir()) == []


def test_of_an_input_that_breaks_off_it_says_no_more_than_where(make_clip, tmp_path, capsys):
    source = make_clip("in.mkv", frames=5)
    parts = source.with_name("parts.ffconcat")
    parts.write_text("ffconcat version 1.0\nfile in.mkv\nfile gone.mkv\n")
    out = tmp_path / "o.mkv"
    assert main([str(parts), str(out), "--dry-run", "--model=identity"]) == 1
    said = capsys.readouterr().err
    assert "gone.mkv cannot be opened" in said
    assert said.rstrip().endswith(" s")  # and not where what came before it is
    assert not out.exists()


def test_an_interrupted_sample_is_no_answer(make_clip, tmp_path, capsys, monkeypatch):
    """Also one that ends by itself in the time that it is given to end."""
    monkeypatch.setattr(_Stopwatch, "mark", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    arguments = ["--dry-run", "--model", "identity"]
    assert main([str(make_clip("in.mkv", frames=1)), str(tmp_path / "out.mkv"), *arguments]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "aborted"


def test_what_is_finished_needs_no_time(make_clip, tmp_path, capsys):
    source, target = make_clip("in.mkv", frames=40, audio=False), tmp_path / "out.mkv"
    count = iter(range(1, 100))
    config = UpscaleConfig(input=source, output=target, model="identity", segment_seconds=0.4)
    upscale(config, should_stop=lambda: next(count) >= 25)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    options = ["--resume", "--segment-seconds", "0.4"]
    said = the(say(capsys, source, target, *options)["Time"], "expected")
    assert said.startswith("expected: 40 frames, 20 of them finished before, about ")
    assert main([str(source), str(target), *options, "--dry-run", "--model", "lanczos"]) == 2
    assert "network was identity x1, is lanczos x2" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_tiles_are_named(make_clip, tmp_path, capsys):
    source = make_clip("in.mp4")
    assert "tiles: none, whole frames" in say(capsys, source, tmp_path / "o.mkv")["Work"]
    assert "tiles: 32 pixels" in say(capsys, source, tmp_path / "o.mkv", "--tile", "32")["Work"]


def test_discarding(make_clip, capsys):
    said = say(capsys, make_clip("in.mp4"), "-f", "null")
    assert said["Output"] == ["nothing is written"]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_a_pipe_has_no_known_length():
    drawn = ("-f", "lavfi", "-i", "testsrc2=s=160x120:r=25", "-frames:v", "400")
    ffmpeg = subprocess.Popen(
        ["ffmpeg", "-v", "quiet", *drawn, "-f", "yuv4mpegpipe", "-"], stdout=subprocess.PIPE
    )
    command = [*PYTHON, "-m", "vsr", "-", "-", "-f", "nut", "--dry-run", "--scale", "4"]
    done = subprocess.run(
        [*command, "--model", "lanczos"], stdin=ffmpeg.stdout, capture_output=True, text=True,
        check=True, timeout=120,
    )  # fmt: skip
    assert ffmpeg.stdout is not None
    ffmpeg.stdout.close()
    ffmpeg.wait()
    assert "standard input, yuv4mpegpipe" in done.stdout
    assert "matrix smpte170m (guessed)" in done.stdout
    assert "unknown length" in done.stdout or "expected: 400" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("name", "arguments", "section", "words"),
    [
        ("generated/rich.mkv", ["o.mp4"], "Lost or changed", "stream 3 (ass, ger) is dropped: mp4"),
        ("generated/rich.mkv", ["o.mkv"], "Input", "stream 2: audio ac3 (fra), 44100 Hz, mono"),
        ("generated/rich.mkv", ["o.mkv"], "Input", "chapters: 2"),
        ("generated/rich.mkv", ["o.mkv", "-ss=1", "-to=2"], "Input", "chapters: 2, 1 of them in"),
        ("generated/rich.mkv", ["o.mkv"], "Input", "pixels 10:11"),
        ("generated/rich.mkv", ["o.mp4", "--target=web"], "Output", "320x264 yuv420p, pixels 1:1"),
        ("generated/vfr_irregular.mkv", ["o.mkv"], "Input", "timing: variable frame rate"),
        ("mdn/friday.mp4", ["o.mkv", "--frames=9"], "Input", "timing: constant frame rate in the"),
        ("generated/pal.dv", ["o.mkv", "--deinterlace=bwdif"], "Work", "bwdif=mode=send_frame"),
        ("generated/pal.dv", ["o.mkv", "--progressive"], "Input", "fields: interlaced"),
        ("generated/tc.mov", ["o.mkv"], "Input", "stream 2: data (eng), 2.002 s, carried as"),
        ("generated/hdr10_sei_only.mkv", ["o.mkv"], "Input", "mastering display"),
    ],
)  # fmt: skip
def test_real_files(shared, tmp_path, capsys, name, arguments, section, words):
    output, *options = arguments
    said = say(capsys, shared / "media" / name, tmp_path / output, *options)
    assert any(words in line for line in said[section]), json.dumps(said, indent=1)


def test_the_first_frame_does_not_count_and_the_last_ones_way_does(monkeypatch):
    now = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    watch = _Stopwatch()
    now += 30.0  # the first frame: kernels are compiled, files are read
    watch.mark(progress(1))
    for frame in range(2, 25):
        now += 0.25
        watch.mark(progress(frame))
    assert watch.enough()
    now += 0.75  # what the encoder still held
    assert watch.speed() == pytest.approx(23 / 6.5)


def test_a_slow_sample_ends_after_two_frames(monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    watch = _Stopwatch()
    now = 11.0
    watch.mark(progress(1))
    assert not watch.enough()
    now = 22.0
    watch.mark(progress(2))
    assert watch.enough()
    assert watch.speed() == pytest.approx(1 / 11)


def test_a_fast_sample_lasts_its_seconds(monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    watch = _Stopwatch()
    watch.mark(progress(1))
    now = 2.9
    watch.mark(progress(500))
    assert not watch.enough()
    now = 3.0
    assert watch.enough()


def progress(frames):
    return Progress(
        frames=frames, total=None, position=Fraction(0), fps=1.0, eta=None, bottleneck="encode"
    )

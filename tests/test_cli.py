"""The command as its users type it."""

import contextlib
import ctypes
import io
import json
import logging
import os
import pty
import shlex
import signal
import subprocess
import sys
import termios
import threading
import time
from fractions import Fraction
from importlib import metadata
from pathlib import Path

import av
import pytest
import torch

import vsr
from tests.warm import PYTHON
from vsr.cli import main
from vsr.cli.bench import main as bench_main
from vsr.cli.configuration import PICTURES, make_config
from vsr.cli.interrupts import Interrupts
from vsr.cli.models import main as models_main
from vsr.cli.options import build_parser
from vsr.cli.values import parse_time
from vsr.cli.versions import _gpus
from vsr.config import UpscaleConfig
from vsr.errors import ConfigError
from vsr.sources.listing import _KINDS

COMMAND = [*PYTHON, "-m", "vsr"]


def parse(*arguments):
    return make_config(build_parser().parse_intermixed_args(arguments))


def count_frames(path):
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_help_is_instant_and_imports_no_torch():
    code = (
        "import sys; from vsr.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'av' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def printed(monkeypatch):
    """What a command prints on a stdout of this encoding and treatment of errors, as bytes."""

    def run(command, encoding, errors, *arguments):
        stdout = io.TextIOWrapper(io.BytesIO(), encoding, errors)
        monkeypatch.setattr(sys, "stdout", stdout)
        with contextlib.suppress(SystemExit):
            assert command([str(argument) for argument in arguments]) == 0
        stdout.flush()
        return stdout.buffer.getvalue()

    return run


@pytest.mark.parametrize(
    ("errors", "dots"),
    [("strict", rb"\u2026"), ("surrogateescape", rb"\u2026"), ("replace", b"?")],
)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_stdout_has_no_character_for_is_spelt_out(printed, encoding, errors, dots):
    text = build_parser().format_help().replace("…", dots.decode())
    assert printed(main, encoding, errors, "--help") == text.encode("ascii")


@pytest.mark.parametrize("command", [models_main, bench_main])
def test_the_other_commands_spell_it_out_too(printed, command):
    def talk(arguments):
        with contextlib.suppress(SystemExit):
            command(arguments)
        sys.stdout.write("größe…\n")
        return 0

    told = printed(talk, "ascii", "strict", "--help")
    assert told.endswith(b"gr\\xf6\\xdfe\\u2026\n")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems want UTF-8 in names")
@pytest.mark.parametrize(
    ("encoding", "written"), [("utf-8", "größe".encode()), ("ascii", rb"gr\xf6\xdfe")]
)
def test_a_dry_run_names_what_is_no_text(make_clip, tmp_path, printed, encoding, written):
    """The bytes of a name that are no text in it are printed as they are, as ``ls`` does."""
    source = make_clip("in.mp4").rename(tmp_path / os.fsdecode("größe".encode() + b"\xe9.mp4"))
    options = ["--model", "identity", "--dry-run", "--progressive"]
    found = printed(main, encoding, "strict", source, tmp_path / "out.mp4", *options)
    assert written + b"\xe9.mp4" in found


def test_defaults_are_those_of_the_library():
    assert parse("a.mp4", "b.mp4") == UpscaleConfig(input=Path("a.mp4"), output=Path("b.mp4"))


def test_every_option_arrives():
    config = parse(
        "-i", "a.mkv", "-o", "b.mkv", "--model", "lanczos", "--scale", "3", "--size", "640x480",
        "--device", "cpu", "--precision", "fp32", "--tile", "64", "--dither", "ordered",
        "-ss", "1:02.5", "-to", "0:01:30", "--frames", "7", "-y", "-c:v", "libx265",
        "--crf", "12", "--preset", "slow", "--pix-fmt", "yuv444p", "-e", "tune=grain", "-e", "g=1",
    )  # fmt: skip
    assert (config.input, config.output) == (Path("a.mkv"), Path("b.mkv"))
    assert (config.model, config.scale, config.size) == ("lanczos", 3, (640, 480))
    assert (config.device, config.precision, config.tile) == ("cpu", "fp32", 64)
    assert (config.start, config.end) == (Fraction(125, 2), Fraction(90))
    assert (config.dither, config.frames, config.overwrite) == ("ordered", 7, True)
    assert parse("a.mkv", "b.mkv", "--weights", "w.pth").weights == Path("w.pth")
    encoder = config.encoder
    assert (encoder.codec, encoder.crf, encoder.preset) == ("libx265", 12, "slow")
    assert (encoder.pix_fmt, encoder.options) == ("yuv444p", {"tune": "grain", "g": "1"})


def test_null_needs_no_output():
    assert parse("a.mp4", "-f", "null", "-").output is None
    assert parse("a.mp4", "-f", "null").output is None


def test_files_may_stand_anywhere():
    config = parse("a.mp4", "--frames", "2", "b.mp4", "-y")
    assert (config.input, config.output, config.frames) == (Path("a.mp4"), Path("b.mp4"), 2)


def test_after_two_dashes_all_are_files():
    config = parse("--frames", "2", "--", "-in.mp4", "-y")
    assert (config.input, config.output) == (Path("-in.mp4"), Path("-y"))
    assert (config.frames, config.overwrite) == (2, False)
    assert parse("a.mp4", "--", "--").output == Path("--")


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (
            [f"x/{number}.JPG" for number in range(400)],
            "'x/*.JPG', in quotes, or as their folder, x/",
        ),
        (["1.png", "2.png"], "'*.png', in quotes, or as their folder, ./"),
        (["1.png", "2.jpg"], None),
        (["1.mp4", "2.mp4"], None),
    ],
)
def test_what_a_shell_makes_of_a_glob_is_no_flood(names, hint):
    with pytest.raises(ConfigError) as error:
        parse(*names, "out.mp4")
    said = str(error.value)
    assert said.startswith(f"too many files ({names[0]}, {names[1]} and {len(names) - 1} more): ")
    assert len(said) < 200
    assert said.endswith(hint or "there is one input and one output")


def test_pictures_are_known_by_their_extension():
    assert [name.removeprefix(".") for name in PICTURES] == list(_KINDS)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("1:30", 90), ("0:01:30.25", Fraction(361, 4)), (".5", None),
        ("90:05", 5405), ("100", 100), ("1:99", None), ("1:60:00", None), ("1:5", 65),
        ("500ms", Fraction(1, 2)), ("1.5s", Fraction(3, 2)), ("20us", Fraction(1, 50_000)),
        ("1:30ms", None), ("5m", None),
    ],
)  # fmt: skip
def test_times(text, seconds):
    if seconds is None:
        with pytest.raises(Exception, match="is no time"):
            parse_time(text)
    else:
        assert parse_time(text) == seconds


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no input file"),
        (["a.mp4"], "no output file"),
        (["-i", "-a.mp4", "b.mp4"], "one argument; a name that begins with a dash is written ./-"),
        (["-rf.avi", "out.mkv"], "unrecognized arguments: -rf.avi; a name that begins with a dash"),
        (["a.mp4", "b.mp4", "c.mp4"], "too many files (a.mp4, b.mp4 and 1 more)"),
        (["-i", "a.mp4", "b.mp4", "c.mp4", "d.mp4"], "too many files (a.mp4, b.mp4 and 2 more)"),
        (["a.mp4", "pipe:3", "-f", "nut"], "standard input and output are known"),
        (["-i", "a.mp4", "-i", "b.wav", "c.mp4"], "a.mp4 and b.wav: sound and the rest of another"),
        (["-o", "a.mp4", "b.mp4", "--output", "c.mp4"], "two are given, a.mp4 and c.mp4"),
        (["a.mp4", "b.mp4", "--size", "big"], "is no size"),
        (["a.mp4", "b.mp4", "-ss", "soon"], "is no time"),
        (["a.mp4", "b.mp4", "-ss", "5", "-to", "4"], "must lie after"),
        (["a.mp4", "b.mp4", "--frames", "0"], "frames must be"),
        (["a.mp4", "b.mp4", "--scale", "0"], "scale must be"),
        (["a.mp4", "b.mp4", "--tile", "3"], "tile must be"),
        (["a.mp4", "b.mp4", "-e", "fast"], "is no option"),
        (["a.mp4", "b.mp4", "--precision", "fp8"], "invalid choice"),
        (["a.mp4", "b.mp4", "--frmaes", "8"], "unrecognized arguments"),
        (["a.mp4", "b.mp4", "-y", "-n"], "not allowed with"),
        (["a.mp4", "b.mp4", "--model", "span", "--weights", "w"], "--model and --weights name two"),
        (["a.mp4", "b.mp4", "-an"], "-an: sound, subtitles and the rest are copied as they are"),
        (["a.mp4", "b.mp4", "-c:a", "aac"], "-c:a: sound, subtitles"),
        (["a.mp4", "b.mp4", "-crf", "20"], "-crf: is --crf here"),
        (["a.mp4", "b.mp4", "-vcodec", "ffv1"], "-vcodec: is -c:v here"),
        (["a.mp4", "b.mp4", "-c", "copy"], "-c: is -c:v (all other streams are copied) here"),
        (["a.mp4", "b.mp4", "-hwaccel", "cuda"], "-hwaccel: is --hwaccel here"),
        (["a.mp4", "b.mp4", "-aspect", "4:3"], "-aspect: is -sar, the ratio of a pixel's sides,"),
        (["a.mp4", "b.mp4", "-q:v", "2"], "-q:v: is -e qmin=N -e qmax=N here"),
        (["a.mp4", "b.mp4", "-shortest"], "-shortest: there is none here: -t ends picture"),
        (["a.mp4", "b.mp4", "-pass", "1"], "-pass: there is none here: --crf states a quality"),
        (["a.mp4", "b.mp4", "-f", "hls"], "-f hls: is not written; ffmpeg makes it of the result"),
        (["a.mp4", "b.mp4", "-f", "concat"], "-f concat: is to be left out: a list is read"),
        (["a.mp4", "b.mp4", "-ss", "1:99"], "is no time; write seconds, [HH:]MM:SS (each below 60"),
        (["a.mp4", "b.mp4", "-t", "0"], "-t: a part of no length has no frames"),
        (["a.mp4", "b.mp4", "--scal", "3"], "arguments: --scal 3: did you mean --scale?"),
        (["a.mp4", "b.mp4", "--pixfmt=gray"], "--pixfmt=gray: did you mean --pix-fmt?"),
        (
            ["a.mp4", "b.mp4", "-hide_banner"],
            "-hide_banner: is to be left out: there is no",
        ),
        (["a.mp4", "b.mp4", "-noautorotate"], "unrecognized arguments: -noautorotate"),
        (["a.mp4", "b.mp4", "-t", "1", "-to", "2"], "not allowed with"),
        (["", "b.mp4"], "the name of a file is empty"),
        (["http://host/a.mp4", "b.mp4"], "only files and pipes are read"),
        (
            ["concat:a 1.ts|b.ts", "b.mp4"],
            "the parts, cat 'a 1.ts' b.ts > joined.ts, and give",
        ),
        (["concat:a|b|c", "b.mp4"], "join the parts, cat a b … > joined, and give"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(arguments, words, capsys):
    try:
        code: object = main(arguments)
    except SystemExit as stop:  # argparse leaves by itself
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "end"),
    [(["-to", "3"], 3), (["-t", "3"], 3), (["-ss", "1:00", "-t", "3"], 63), ([], None)],
)
def test_the_end_is_a_position_or_a_length(arguments, end):
    options = build_parser().parse_intermixed_args(["a.mp4", "b.mp4", *arguments])
    assert make_config(options).end == end


@pytest.mark.parametrize(
    ("names", "found"),
    [(["pipe:0", "pipe:1"], ("-", "-")), (["file:a.mp4", "pipe:"], ("a.mp4", "-"))],
)
def test_addresses_of_ffmpeg_are_understood(names, found):
    config = make_config(build_parser().parse_intermixed_args([*names, "-f", "nut"]))
    assert (str(config.input), str(config.output)) == found


@pytest.mark.skipif(os.name != "posix", reason="descriptors are POSIX's")
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_a_process_without_standard_streams(make_clip, tmp_path, closed):
    command = [
        sys.executable,
        "-m",
        "vsr",
        str(make_clip("in.mp4")),
        "out.mp4",
        "--model",
        "identity",
    ]
    done = subprocess.run(f"{shlex.join(command)} {closed}", shell=True, cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert count_frames(tmp_path / "out.mp4") == 12


def test_version_names_what_matters(capsys):
    assert main(["--version"]) == 0
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    assert capsys.readouterr().out.splitlines() == [
        f"vsr {vsr.__version__}",
        f"torch {torch.__version__} ({cuda})",
        *(f"cuda:{number} {name}" for number, name in enumerate(gpus)),
        f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}",
        f"VapourSynth R{metadata.version('vapoursynth')}",
    ]


def test_version_needs_no_library_that_loads(tmp_path):
    """PyTorch's is read without importing it: that takes seconds, and may be what fails."""
    for name in ("torch", "av", "vapoursynth"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ImportError('no\\n{name}')")
    (tmp_path / "torch" / "version.py").write_text("__version__ = '2.99.0+cpu'\ncuda = None")
    places = os.pathsep.join([str(tmp_path), str(Path(vsr.__file__).resolve().parents[1])])
    run = subprocess.run(
        [sys.executable, "-m", "vsr", "--version"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": places},
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == [
        f"vsr {vsr.__version__}",
        "torch 2.99.0+cpu (no CUDA)",
        f"PyAV {av.__version__} cannot be loaded (no av)",
        f"VapourSynth {metadata.version('vapoursynth')} cannot be loaded (no vapoursynth)",
    ]


class Driver:
    """Stands for CUDA's: two devices, or none where ``failure`` is no 0."""

    def __init__(self, failure):
        self.failure = failure

    def cuInit(self, flags):
        return self.failure

    def cuDeviceGetCount(self, count):
        count._obj.value = 2
        return 0

    def cuDeviceGet(self, device, index):
        device._obj.value = 7 + index
        return 0

    def cuDeviceGetName(self, name, size, device):
        name.value = f"GPU {device.value}".encode()
        return 0


@pytest.mark.parametrize(("failure", "names"), [(0, ["GPU 7", "GPU 8"]), (100, [])])
def test_version_names_the_gpus(monkeypatch, failure, names):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(failure))
    assert list(_gpus()) == names


def test_list_models(capsys):
    assert main(["--list-models"]) == 0
    out = capsys.readouterr().out
    assert "span-x2" in out
    assert "identity" in out


def test_a_run_says_what_it_decided(make_clip, tmp_path, capsys):
    target = tmp_path / "out.mp4"
    assert main([str(make_clip("in.mp4")), str(target), "--model", "lanczos", "--stats"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "lanczos x2 on" in err
    assert "matrix not tagged" in err
    assert "12 frames in" in err
    assert "<- limits" in err
    assert count_frames(target) == 12


@pytest.mark.parametrize(("slash", "told"), [("", True), ("/", False)])
def test_what_a_folder_as_output_means_is_said(make_clip, tmp_path, capsys, slash, told):
    folder = tmp_path / "p"
    folder.mkdir()
    assert main([str(make_clip("in.mp4")), f"{folder}{slash}", "--model", "identity"]) == 0
    line = f"{folder} is a folder: it gets one picture a frame; {folder}/in.mp4 would be a film"
    assert (line in capsys.readouterr().err.splitlines()) == told
    assert len(list(folder.glob("*.png"))) == 12


def test_warnings_only(make_clip, tmp_path, capsys):
    target = str(tmp_path / "out.mp4")
    quiet = ["--log-level", "error", "--model", "lanczos"]
    level = logging.getLogger("vsr").level
    assert main([str(make_clip("in.mp4")), target, *quiet]) == 0
    assert capsys.readouterr() == ("", "")
    assert logging.getLogger("vsr").level == level  # who calls it as a library keeps his own


def json_lines(text):
    return [json.loads(line) for line in text.splitlines() if line[0] == "{"]


def test_json_progress(make_clip, tmp_path, capsys):
    target = str(tmp_path / "out.mp4")
    main([str(make_clip("in.mp4")), target, "--model", "identity", "--progress", "json"])
    *lines, last = json_lines(capsys.readouterr().err)
    assert [line["frames"] for line in lines] == list(range(1, 13))
    assert lines[-1]["total"] == 12
    assert set(lines[0]) == {"frames", "total", "seconds", "fps", "eta", "bottleneck"}
    assert last.pop("elapsed") > 0
    assert last == {"done": True, "frames": 12, "output": target}


def test_json_says_that_a_run_is_complete_only_when_it_is(make_clip, tmp_path, capsys, monkeypatch):
    source, target = str(make_clip("in.mp4")), tmp_path / "out.mp4"
    options = ("--model", "identity", "--progress", "json")
    assert main([source, "-f", "null", *options]) == 0
    assert json_lines(capsys.readouterr().err)[-1]["output"] is None

    was_there = []
    monkeypatch.setattr(
        "vsr.cli.upscale.print_json_done", lambda *_: was_there.append(target.exists())
    )
    assert main([source, str(target), *options]) == 0
    assert was_there == [True]
    monkeypatch.setattr("vsr.cli.upscale.print_json", lambda _: os.kill(os.getpid(), signal.SIGINT))
    assert main([source, str(target), "-y", *options]) == 130
    assert was_there == [True]


def read_all(reader):
    """What was written to a terminal whose other end is closed."""
    shown = b""
    with contextlib.suppress(OSError):  # EIO is how a terminal says that it ends
        while chunk := os.read(reader, 65536):
            shown += chunk
    os.close(reader)
    return shown.decode()


def test_bar_on_a_terminal(make_clip, tmp_path):
    reader, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    arguments = [str(make_clip("in.mp4")), str(tmp_path / "out.mp4"), "--model", "identity"]
    run = subprocess.run([*COMMAND, *arguments], stderr=terminal, check=False)
    os.close(terminal)
    shown = read_all(reader)
    assert run.returncode == 0
    assert "12/12" in shown
    assert "limited by" in shown


# Interrupts, in a process of their own.


def start(source, target, *arguments):
    command = [*COMMAND, str(source), str(target), "--progress", "json", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("{"):
            break
    return process


@pytest.fixture
def long_clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "long.mkv"
    source = ["-f", "lavfi", "-i", "testsrc2=s=320x240:r=24", "-frames:v", "400"]
    subprocess.run(["ffmpeg", "-v", "error", *source, "-c:v", "mpeg4", str(path)], check=True)
    return path


def test_first_interrupt_keeps_what_is_done(long_clip, tmp_path):
    target = tmp_path / "out.mkv"
    process = start(long_clip, target, "--model", "lanczos")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not target.exists()
    (kept,) = tmp_path.iterdir()
    assert 0 < count_frames(kept) < 400
    assert str(kept) in err


def test_before_there_is_a_frame_an_interrupt_aborts():
    with Interrupts().installed() as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert interrupts.stopping.is_set()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(10)
        time.sleep(1.2)  # what tidies up is not interrupted


def test_another_thread_may_run_the_command(monkeypatch, capsys):
    """Only the main thread may handle signals."""
    monkeypatch.setattr(sys, "argv", ["vsr-upscale", "--list-models"])
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main()))
    thread.start()
    thread.join()
    assert codes == [0]
    assert "span-x2" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_amid_an_import_ends_the_process(make_clip, tmp_path, number):
    pressing = f"""
import os, sys
class Pressing:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Pressing())
from vsr.cli import main
from vsr.cli.bench import main as bench_main
sys.exit(main())
"""
    clip = make_clip("in.mp4")
    command = [sys.executable, "-c", pressing, str(clip), str(tmp_path / "out.mkv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr == "aborted\n"
    assert list(tmp_path.iterdir()) == []


class Pressed(io.RawIOBase):
    """A file; while something is written to it, somebody presses Ctrl-C."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def write(self, data) -> int:
        signal.raise_signal(signal.SIGINT)
        return self._file.write(data)


def test_an_interrupt_in_the_middle_of_a_line(tmp_path, monkeypatch):
    with (tmp_path / "stderr").open("wb", buffering=0) as file:
        stderr = io.TextIOWrapper(io.BufferedWriter(Pressed(file)))
        monkeypatch.setattr("sys.stderr", stderr)
        with Interrupts().installed() as interrupts:
            interrupts.begun = True
            stderr.write("frame 1\n")
            stderr.flush()
        assert interrupts.stopping.is_set()
        lines = (tmp_path / "stderr").read_text().splitlines()
        stderr.close()
    assert sorted(lines) == [
        "",
        "frame 1",
        "stopping after this frame; press Ctrl-C again to abort",
    ]


def test_the_readme_command_works_as_it_stands(root, tmp_path, capsys):
    """All but the installation before it, and on two frames."""
    readme = (root / "README.md").read_text()
    first = next(line for line in readme.splitlines() if "uv run vsr-upscale" in line)
    source, target = first.split("vsr-upscale ")[1].split()
    large = tmp_path / target
    assert main([str(root / source), str(large), "--frames", "2"]) == 0
    with av.open(str(root / source)) as small, av.open(str(large)) as container:
        assert container.streams.video[0].width == 2 * small.streams.video[0].width
        assert len(container.streams.audio) == 1
    assert "span x2 on" in capsys.readouterr().err


def test_a_closed_standard_output_takes_no_stream(make_clip):
    command = shlex.join([sys.executable, "-m", "vsr", str(make_clip("in.mkv"))])
    line = f"exec {command} - -f matroska >&-"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "standard output is closed: there is nowhere to write to" in done.stderr


def test_standard_output_by_its_name(make_clip, tmp_path):
    line = [*PYTHON, "-m", "vsr", str(make_clip("in.mkv")), "/dev/stdout", "-f", "matroska"]
    done = subprocess.run([*line, "--model", "identity"], capture_output=True, check=True)
    assert done.stdout[:4] == b"\x1a\x45\xdf\xa3"
    other = [*line[:-3], "/dev/fd/2", "-f", "matroska", "--model", "identity"]
    refused = subprocess.run(other, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.endswith("/dev/fd/2: is no file: - is standard output\n")


@pytest.mark.parametrize("kind", [ImportError, OSError])
def test_a_library_that_memory_does_not_hold_is_one_line(monkeypatch, capsys, kind):
    def fail(options):
        raise kind("libtorch_cpu.so: failed to map segment from shared object")

    monkeypatch.setattr("vsr.cli.upscale.make_config", fail)
    assert main(["a.mkv", "b.mkv"]) == 1
    assert capsys.readouterr().err == (
        "vsr-upscale: error: not enough memory to load a library, or it must not be executed: "
        "libtorch_cpu.so: failed to map segment from shared object\n"
    )


def test_a_deleted_working_directory_is_one_line(tmp_path):
    code = (
        "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone');"
        "from vsr.cli import main; sys.exit(main(['--version']))"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(vsr.__file__).resolve().parents[1])}
    line = [sys.executable, "-c", code]
    run = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == "vsr-upscale: error: the working directory has been deleted\n"


def test_a_matrix_that_is_not_known_is_refused(make_clip, tmp_path, capsys):
    source = make_clip("in.mkv", codec="ffv1", options={"colorspace": "ictcp"})
    assert main([str(source), str(tmp_path / "out.mkv"), "--model", "identity"]) == 2
    assert "in.mkv: colour matrix 14 (H.273, ICtCp) is not supported\n" in capsys.readouterr().err


def test_a_matrix_that_is_not_known_amid_a_run_is_a_failure(make_clip, tmp_path, capsys):
    parts = [
        make_clip(f"{matrix}.h264", frames=4, audio=False, options={"colorspace": matrix})
        for matrix in ("bt709", "ictcp")
    ]
    source, target = tmp_path / "in.h264", tmp_path / "out.mkv"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert main([str(source), str(target), "--model", "identity", "--device", "cpu"]) == 1
    assert "colour matrix 14 (H.273, ICtCp) is not supported" in capsys.readouterr().err
    assert not target.exists()

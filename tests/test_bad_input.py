"""Everything a user can get wrong: one line on stderr, the right exit code, nothing left behind."""

import os
import pickle
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vsr.cli import main


@pytest.fixture
def run(tmp_path, capsys):
    """Run the command into an empty folder; returns exit code and stderr."""
    folder = tmp_path / "out"
    folder.mkdir()

    def run(source, *arguments, name="out.mp4", leaves=()):
        target = folder / name
        code = main([str(source), str(target), *map(str, arguments)])
        out, err = capsys.readouterr()
        assert out == ""
        assert "Traceback" not in err
        assert sorted(path.name for path in folder.iterdir()) == sorted(leaves)
        return code, err

    return run


def one_line(result, code, *words):
    status, err = result
    assert status == code
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err


# Inputs.


def test_missing_file(run, tmp_path):
    one_line(run(tmp_path / "no.mp4"), 1, "no.mp4", "no such file")


def test_what_a_terminal_would_obey_is_spelt_out(run, tmp_path):
    result = run(tmp_path / "a\x1b[2J\tb\r\nc  d.mp4")
    one_line(result, 1, r"a\x1b[2J\tb c  d.mp4: no such file")


def test_directory(run, tmp_path):
    one_line(run(tmp_path), 1, "directory")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.mp4", b""),
        ("notes.txt", b"Not a video at all.\n" * 50),
        ("noise.mkv", bytes(range(256)) * 64),
    ],
)
def test_no_media(run, tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    one_line(run(path, "--model", "identity"), 1, name)


def test_audio_only(run, tmp_path):
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48_000, layout="mono")
        silence = np.zeros((1, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    one_line(run(path, "--model", "identity"), 1, "song.m4a", "no video")


def test_a_stream_that_never_decodes(run, shared):
    path = shared / "media/androidx/invalid-bitstream.webm"
    one_line(run(path, "--model", "identity"), 1, "invalid-bitstream.webm")


def test_moov_lost(run, shared):
    path = shared / "media/generated/trunc_base.mp4"
    one_line(run(path, "--model", "identity"), 1, "trunc_base.mp4")


def test_truncated_file_goes_on_and_says_so(run, shared):
    path = shared / "media/generated/trunc_base.mkv"
    code, err = run(path, "--model", "identity", name="o.mkv", leaves=["o.mkv"])
    assert code == 0
    assert "missing" in err


def test_corrupt_packets_are_concealed_counted_and_reported(run, shared):
    path = shared / "media/generated/corr_base.mkv"
    code, err = run(path, "--model", "identity", name="o.mkv", leaves=["o.mkv"])
    assert code == 0
    assert "warning" in err
    assert "damage" in err or "corrupt" in err


def test_start_behind_the_end(run, make_clip):
    one_line(run(make_clip("in.mp4"), "--model", "identity", "-ss", "99"), 1, "in.mp4")


# Outputs.


def test_output_folder_is_missing(make_clip, tmp_path, capsys):
    target = tmp_path / "nowhere" / "out.mp4"
    code = main([str(make_clip("in.mp4")), str(target), "--model", "identity"])
    one_line((code, capsys.readouterr().err), 1, "nowhere")


def test_output_folder_is_read_only(make_clip, capsys):
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to others
        folder, source = Path(place, "locked"), Path(place, "in.mp4")
        shutil.copy(make_clip("in.mp4"), source)
        folder.mkdir()
        Path(place).chmod(0o755)
        folder.chmod(0o555)
        with not_root():
            code = main([str(source), str(folder / "o.mp4"), "--model", "identity"])
        one_line((code, capsys.readouterr().err), 1, "locked")
        assert list(folder.iterdir()) == []


@contextmanager
def not_root():
    """Root may write anywhere; for a while, be nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_existing_output(run, make_clip, tmp_path):
    (tmp_path / "out" / "out.mp4").write_bytes(b"precious")
    one_line(run(make_clip("in.mp4"), leaves=["out.mp4"]), 3, "already exists", "-y")
    assert (tmp_path / "out" / "out.mp4").read_bytes() == b"precious"


def test_input_is_output(make_clip, capsys):
    path = str(make_clip("in.mp4"))
    one_line((main([path, path, "-y"]), capsys.readouterr().err), 2, "same file")


@pytest.mark.parametrize(("option", "ending"), [("--record", "json"), ("--framemd5", "framemd5")])
@pytest.mark.parametrize("role", ["input", "sound", "linked"])
def test_what_is_written_beside_the_output_replaces_no_input(
    make_clip, tmp_path, capsys, option, ending, role
):
    clip, target = make_clip("in.mp4"), tmp_path / "out.mkv"
    beside = tmp_path / f"out.mkv.{ending}"
    if role == "linked":
        beside.hardlink_to(clip)
    else:
        shutil.copy(clip, beside)
    before = beside.read_bytes()
    reads = {
        "input": [str(beside)],
        "linked": [str(clip)],
        "sound": [str(clip), "--audio-from", str(beside)],
    }[role]
    code = main([*reads, str(target), "--model", "identity", option, "-y"])
    one_line((code, capsys.readouterr().err), 2, f"{beside}: is an input")
    assert beside.read_bytes() == before
    assert not target.exists()


def test_unknown_extension(run, make_clip):
    one_line(run(make_clip("in.mp4"), "--model", "identity", name="out.xyz"), 2, "xyz")


def test_unknown_codec(run, make_clip):
    one_line(run(make_clip("in.mp4"), "--model", "identity", "-c:v", "libx999"), 2, "libx999")


def test_codec_that_the_container_refuses(run, make_clip):
    result = run(make_clip("in.mp4"), "--model", "identity", "-c:v", "libx264", name="out.webm")
    one_line(result, 2, "libx264", "webm")


def test_pixel_format_that_the_codec_refuses(run, make_clip):
    result = run(make_clip("in.mp4"), "--model", "identity", "--pix-fmt", "gbrap16le")
    one_line(result, 2, "gbrap16le", "yuv420p")


def test_unknown_encoder_option(run, make_clip):
    one_line(run(make_clip("in.mp4"), "--model", "identity", "-e", "wibble=1"), 2, "wibble")


def test_odd_size(run, make_clip):
    result = run(make_clip("in.mp4"), "--model", "lanczos", "--size", "101x75")
    one_line(result, 2, "101x75", "--size", "yuv444p")


def test_tiny_video_works(run, make_clip):
    code, _ = run(make_clip("in.mp4", size=(16, 16)), "--model", "lanczos", leaves=["out.mp4"])
    assert code == 0


def test_full_disk(make_clip, tmp_path):
    source = make_clip("in.mkv", size=(320, 240), frames=8)
    folder = tmp_path / "out"
    folder.mkdir()
    command = [sys.executable, "-m", "vsr", source, folder / "o.mkv", "--model", "identity"]

    def limit() -> None:  # writing past the limit fails like a full disk does
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    run = subprocess.run(
        [*command, "--log-level", "warning", "--crf", "1"],
        capture_output=True, text=True, check=False, preexec_fn=limit,
    )  # fmt: skip
    one_line((run.returncode, run.stderr), 1, "o.mkv")
    assert list(folder.iterdir()) == []


# Weights.


@pytest.fixture
def clip(make_clip):
    return make_clip("in.mp4")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.safetensors", b"", "empty"),
        ("text.pth", b"these are no weights\n", "text.pth"),
        ("text.safetensors", b"these are no weights\n", "text.safetensors"),
        ("lfs.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
    ],
)
def test_weights_that_are_none(run, clip, tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    one_line(run(clip, "--weights", path), 1, words)


def test_missing_weights(run, clip):
    one_line(run(clip, "--weights", "no.pth"), 1, "no.pth")


def test_weights_of_an_unknown_network(run, clip, tmp_path):
    path = tmp_path / "odd.safetensors"
    save_file({"layer.weight": torch.zeros(3, 3)}, path)
    one_line(run(clip, "--weights", path), 1, "odd.safetensors", "layer.weight")


class _Trap:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return (os.mkdir, (str(self.witness),))


def test_a_pickle_that_would_run_code(run, clip, tmp_path):
    path, witness = tmp_path / "trap.pth", tmp_path / "it-ran"
    path.write_bytes(pickle.dumps({"params": _Trap(witness)}))
    one_line(run(clip, "--weights", path), 1, "trap.pth", "code")
    assert not witness.exists()


def test_a_scale_that_the_model_has_not(run, clip):
    one_line(run(clip, "--model", "lanczos", "--scale", "7"), 2, "no scale 7", "2, 3, 4")


def test_an_unknown_model(run, clip):
    one_line(run(clip, "--model", "magic"), 2, "magic", "lanczos")


def test_a_device_that_is_not_there(run, clip):
    one_line(run(clip, "--model", "identity", "--device", "cuda:99"), 1, "cuda:99")
    one_line(run(clip, "--model", "identity", "--device", "abacus"), 2, "abacus")
    for more in ([], ["--size", "128x96"]):
        one_line(run(clip, "--model", "span", "--variant", "sst+", *more), 2, "sst+", "span-x2")


def test_debug_shows_the_traceback(clip, tmp_path, capsys):
    code = main([str(clip), str(tmp_path / "o.mp4"), "--model", "magic", "--debug"])
    err = capsys.readouterr().err
    assert code == 2
    assert "Traceback" in err

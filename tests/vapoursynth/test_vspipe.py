"""The VapourSynth filter through the real vspipe, its y4m read back by the real ffmpeg."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import vapoursynth as vs  # type: ignore[import-untyped]

from vsr.vapoursynth import upscale

Done = subprocess.CompletedProcess[bytes]
Vspipe = Callable[..., Done]

_CLIP = """
import vapoursynth as vs
import vsr.vapoursynth
clip = vs.core.std.BlankClip(
    format=vs.YUV420P10, width=48, height=32, length=9, color=[400, 300, 700]
).std.SetFrameProps(_Matrix=1, _Range=0)
clip = vs.core.std.Interleave([clip, clip.std.Levels(max_in=800, planes=0)])[:9]
"""
_FILTER = 'clip = vsr.vapoursynth.upscale(clip, "span", precision="fp32", runtime="torch")\n'


@pytest.fixture(scope="module")
def vspipe(tmp_path_factory: pytest.TempPathFactory) -> Vspipe:
    """Runs a script; vspipe is told in a folder of the test's which Python it belongs to."""
    program = Path(sys.executable).parent / "vspipe"
    if not program.exists():
        pytest.skip("vspipe is not in this environment")
    folder = tmp_path_factory.mktemp("vspipe")
    environment = os.environ | {"XDG_CONFIG_HOME": str(folder)}
    subprocess.run(
        [sys.executable, "-m", "vapoursynth", "config"], env=environment, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip

    def run(text: str, *arguments: str) -> Done:
        script = folder / "script.vpy"
        script.write_text(text)
        return subprocess.run(
            [program, *arguments, script, "-"], env=environment, capture_output=True,
            timeout=120, check=False,
        )  # fmt: skip

    return run


def _frames_in_process() -> list[bytes]:
    scope = {"vs": vs}
    exec(_CLIP.replace("import vsr.vapoursynth", ""), scope)
    clip = upscale(scope["clip"], "span", precision="fp32", runtime="torch")
    return [
        b"".join(np.ascontiguousarray(np.asarray(frame[plane])).tobytes() for plane in range(3))
        for frame in clip.frames()
    ]


@pytest.mark.parametrize("options", [pytest.param("", marks=pytest.mark.slow), "batch_size=4, "])
def test_only_the_picture_reaches_stdout(vspipe: Vspipe, options: str) -> None:
    if (ffmpeg := shutil.which("ffmpeg")) is None:
        pytest.skip("needs ffmpeg")
    done = vspipe(_CLIP + _FILTER.replace("precision", f"{options}precision")
                  + "clip.set_output()", "-c", "y4m")  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"YUV4MPEG2 C420p10 W96 H64 ")
    read = subprocess.run(
        [ffmpeg, "-v", "error", "-i", "-", "-f", "framemd5", "-"], input=done.stdout,
        capture_output=True, check=True,
    )  # fmt: skip
    hashes = [line.split()[-1] for line in read.stdout.decode().splitlines() if line[:1] == "0"]
    wanted = [hashlib.md5(frame).hexdigest() for frame in _frames_in_process()]
    assert hashes == wanted
    assert b"span" in done.stderr  # what was chosen is told there


@pytest.mark.parametrize(
    ("ending", "telling"),
    [('vsr.vapoursynth.upscale(clip, "nothing").set_output()', "no model is called 'nothing'"),
     pytest.param('vsr.vapoursynth.upscale(clip, device="cuda:77").set_output()',
                  "device 'cuda:77'", marks=pytest.mark.slow),
     pytest.param("vsr.vapoursynth.upscale(None).set_output()",
                  "takes a video clip, not NoneType", marks=pytest.mark.slow),
     pytest.param("vsr.vapoursynth.upscale(vs.core.std.BlankClip(length=0)).set_output()",
                  "invalid length", marks=pytest.mark.slow),
     (f"clip = clip.std.SetFrameProps(_FieldBased=2)\n{_FILTER}clip.set_output()",
      ": interlaced"),  # of whichever frame fails first
     (f"def torn(n, f):\n    if n == 5: raise ValueError('torn at 5')\n    return f\n"
      f"clip = clip.std.ModifyFrame(clip, torn)\n{_FILTER}clip.set_output()", "torn at 5")],
)  # fmt: skip
def test_what_fails_says_why_in_its_last_line(vspipe: Vspipe, ending: str, telling: str) -> None:
    done = vspipe(_CLIP + ending, "-c", "y4m")
    assert done.returncode != 0
    lines = [line for line in done.stderr.decode().splitlines() if line.strip()]
    last = [line for line in lines if not line.startswith("Output ")][-1]
    assert telling.lower() in last.lower(), done.stderr.decode()


@pytest.mark.parametrize(
    ("text", "telling"),
    [("clip = = 3", "SyntaxError: invalid syntax"), ("", "Failed to retrieve output node"),
     ("vs.core.nothere.Source('x').set_output()", "No attribute with the name nothere exists")],
)  # fmt: skip
def test_a_script_that_is_none_ends_vspipe(vspipe: Vspipe, text: str, telling: str) -> None:
    done = vspipe(f"import vapoursynth as vs\n{text}\n", "-c", "y4m")
    assert done.returncode != 0
    last = [line for line in done.stderr.decode().splitlines() if line.strip()][-1]
    assert telling in last


def test_what_is_chosen_is_told_and_nothing_else(vspipe: Vspipe) -> None:
    done = vspipe(f'{_CLIP}vsr.vapoursynth.upscale(clip, "lanczos").set_output()')
    first, *others = done.stderr.decode().splitlines()
    assert first.startswith("Information: vsr: lanczos x2 on ")
    assert all(line.startswith(("Information: vsr: ", "Output 9 frames")) for line in others)


def test_frames_that_nobody_waits_for_do_not_keep_it_alive(vspipe: Vspipe) -> None:
    """They are asked for ahead, and still in the works when the last one is written."""
    done = vspipe(_CLIP + _FILTER + "(clip * 500).set_output()", "-c", "y4m", "-e", "1")
    assert done.returncode == 0
    assert done.stdout.count(b"FRAME") == 2

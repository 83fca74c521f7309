"""Every recipe of plugins/ffmpeg/README.md, as it stands there, between real ffmpegs."""

import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.warm import PYTHON

README = Path(__file__).resolve().parents[2] / "plugins" / "ffmpeg" / "README.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
RECIPES = [block for block in BLOCKS if "ffplay" not in block]  # a window wants a screen

pytestmark = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="ffmpeg is not here"
)

FRAMES = 9
RATE = Fraction(24000, 1001)
BT709 = {"color_space": "bt709", "color_primaries": "bt709", "color_transfer": "bt709"}
LIMITED = {**BT709, "color_range": "tv"}


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What ffprobe has to find in the recipe's output."""

    source: str
    """The sample that the timestamps are compared with; empty for a constant rate."""
    pix_fmt: str
    colour: dict[str, str]
    sar: str = "1:1"
    kinds: str = "v"
    """First letters of the streams' types, in order."""


def deep(source: str = "in.mkv", *, kinds: str = "v") -> Expected:
    """10 bit, anamorphic."""
    return Expected(
        source=source, pix_fmt="yuv422p10le", colour=LIMITED, sar="16:15", kinds=kinds
    )  # fmt: skip


def plain(*, kinds: str = "v") -> Expected:
    return Expected(source="in.mp4", pix_fmt="yuv420p", colour=LIMITED, kinds=kinds)


RGB = Expected(source="in.mp4", pix_fmt="bgr0", colour={})
# A piece of each recipe that no other has, and what comes of it.
EXPECTED = {
    "hqdn3d": deep(kinds="vas"),
    "-map 0:v -c:v rawvideo -f matroska": plain(),
    "in.mkv -map 0 -c copy": deep(kinds="vas"),
    "-c:v rawvideo -f nut -": plain(),
    "in.mp4 -f yuv4mpegpipe - |\n  vsr-upscale -": plain(),
    "-strict -1": deep(""),
    "-f rawvideo": plain(),
    "in.mp4 - -f matroska |": plain(kinds="va"),
    "unsharp": plain(kinds="va"),
    "- -f yuv4mpegpipe |": plain(),
    "-f mp4": plain(kinds="va"),
    "-f mpegts": plain(kinds="va"),
    "vsr-upscale 'frames": RGB,
    "-framerate": RGB,
    "--vf": plain(kinds="va"),
}


def expected_of(recipe: str) -> Expected:
    (found,) = [value for piece, value in EXPECTED.items() if piece in recipe]
    return found


def ffmpeg(*arguments: str, cwd: Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments], check=True, cwd=cwd)


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Path:
    """in.mp4 (8 bit, with sound), in.mkv (10 bit, VFR, anamorphic, with subtitles), frames/."""
    folder: Path = tmp_path_factory.mktemp("samples")
    tags = ("-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709",
            "-color_trc", "bt709")  # fmt: skip
    tone = ("-f", "lavfi", "-i", "sine=d=0.6:r=48000")
    plain = f"testsrc2=s=64x48:r={RATE}:d={float(FRAMES / RATE)},format=yuv420p"
    ffmpeg("-f", "lavfi", "-i", plain, *tone, *tags, "-c:v", "libx264", "-c:a", "aac", "in.mp4",
           cwd=folder)  # fmt: skip
    (folder / "in.srt").write_text("1\n00:00:00,100 --> 00:00:00,300\nHello\n")
    uneven = r"setpts='(N+floor(N/3))*0.04/TB'"
    deep = f"testsrc2=s=64x48:r=25:d={FRAMES / 25},format=yuv422p10le,{uneven},setsar=16/15"
    ffmpeg("-f", "lavfi", "-i", deep, *tone, "-i", "in.srt", "-map", "0", "-map", "1", "-map", "2",
           *tags, "-fps_mode", "vfr", "-c:v", "ffv1", "-c:a", "flac", "in.mkv",
           cwd=folder)  # fmt: skip
    (folder / "frames").mkdir()
    ffmpeg("-i", "in.mp4", "-pix_fmt", "rgb24", "frames/%06d.png", cwd=folder)
    return folder


@pytest.fixture
def workplace(samples: Path, tmp_path: Path) -> Path:
    for sample in samples.iterdir():
        (tmp_path / sample.name).symlink_to(sample)
    return tmp_path


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the command that the recipes call."""
    folder: Path = tmp_path_factory.mktemp("bin")
    command = folder / "vsr-upscale"
    command.write_text(f'#!/bin/sh\nexec {shlex.join(PYTHON)} -m vsr "$@"\n')
    command.chmod(0o755)
    return folder


def run(recipe: str, folder: Path, commands: Path) -> str:
    """Run a recipe in bash; its standard error. Every part of the pipe has to succeed."""
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", recipe], cwd=folder, timeout=280, text=True,
        capture_output=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr


def probe(path: Path) -> Any:
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_format", str(path)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def video_of(path: Path) -> Any:
    return next(s for s in probe(path)["streams"] if s["codec_type"] == "video")


def times(path: Path) -> list[Fraction]:
    """When frames are shown, counted from the start of the first."""
    command = [
        "ffprobe", "-v", "error", "-of", "csv=p=0", "-select_streams", "v:0", "-show_entries",
        "frame=best_effort_timestamp_time", str(path),
    ]  # fmt: skip
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    shown = [Fraction(line.split(",")[0]) for line in output.splitlines() if line.strip(",")]
    return [time - shown[0] for time in shown]


def audio_lag(path: Path) -> Fraction:
    """How long after the picture the sound starts, its warming up included."""
    starts = []
    for kind in "va":
        command = [
            "ffprobe", "-v", "error", "-of", "csv=p=0", "-select_streams", kind, "-show_entries",
            "packet=pts_time", str(path),
        ]  # fmt: skip
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        starts.append(min(Fraction(line.split(",")[0]) for line in output.split()))
    return starts[1] - starts[0]


def audio_hash(path: Path) -> str:
    command = [
        "ffmpeg", "-v", "error", "-i", str(path), "-map", "0:a", "-c", "copy", "-bsf:a",
        "aac_adtstoasc" if path.suffix == ".ts" else "null", "-f", "streamhash", "-hash", "md5",
        "-",
    ]  # fmt: skip
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_every_recipe_is_expected_and_every_expectation_used():
    assert sorted(map(repr, map(expected_of, RECIPES_TO_FILES))) == sorted(
        map(repr, EXPECTED.values())
    )


RECIPES_TO_FILES = [recipe for recipe in RECIPES if "out-%06d" not in recipe]


@pytest.mark.parametrize("recipe", RECIPES_TO_FILES, ids=lambda r: " ".join(r.split())[:60])
def test_recipe(recipe, workplace, commands):
    expected = expected_of(recipe)
    said = run(recipe, workplace, commands)
    assert "error" not in said
    (output,) = workplace.glob("out.*")
    check_picture(video_of(output), expected)
    check_times(times(output), expected, workplace)
    streams = [s["codec_type"][0] for s in probe(output)["streams"]]
    assert "".join(streams) == expected.kinds
    if "a" in expected.kinds:
        lag = audio_lag(output) - audio_lag(workplace / expected.source)
        assert abs(lag) <= Fraction(2, 1000)
        assert audio_hash(output) == audio_hash(workplace / expected.source)


def check_picture(video: Any, expected: Expected) -> None:
    assert (video["width"], video["height"]) == (128, 96)
    assert video["pix_fmt"] == expected.pix_fmt
    assert video.get("sample_aspect_ratio", "1:1") == expected.sar
    for tag, value in expected.colour.items():
        assert video.get(tag) == value, tag


def check_times(found: list[Fraction], expected: Expected, folder: Path) -> None:
    if expected.source:
        wanted = times(folder / expected.source)
        assert len(found) == len(wanted) == FRAMES
    else:  # ffmpeg fills the gaps of VFR when it makes a constant rate of it
        assert len(found) >= FRAMES
        wanted = [Fraction(index, 25) for index in range(len(found))]
    tolerance = Fraction(1, 1000)  # what Matroska rounds to
    for a, b in zip(found, wanted, strict=True):
        assert abs(a - b) <= tolerance
    assert all(b > a for a, b in pairwise(found))


def test_pictures_out_of_a_pipe(workplace, commands):
    (recipe,) = [recipe for recipe in RECIPES if "out-%06d" in recipe]
    run(recipe, workplace, commands)
    pictures = sorted(workplace.glob("out-*.png"))
    assert [p.name for p in pictures] == [f"out-{n:06d}.png" for n in range(1, FRAMES + 1)]
    picture = video_of(pictures[-1])
    assert (picture["width"], picture["height"]) == (128, 96)


def test_vfr_sample_is_uneven(samples):
    steps = {b - a for a, b in pairwise(times(samples / "in.mkv"))}
    assert len(steps) > 1

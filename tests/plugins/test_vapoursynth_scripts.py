"""The ready scripts, each run by the real vspipe, what comes out read by the real ffmpeg."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from vsr.cli import main
from vsr.cli.options import PLUGINS

vs = pytest.importorskip("vapoursynth", exc_type=ImportError)

ROOT = Path(__file__).resolve().parents[2] / "plugins"
SCRIPTS = ROOT / "vapoursynth"
FILM = "24000/1001"
MOVING = "testsrc2=s=96x64:r={rate},scroll=h=0.031:v=0.047,gblur=1.5,trim=end_frame={count}"
"""Everything moves, and nothing is so sharp that it looks combed by itself."""
VSPIPE = Path(sys.executable).with_name("vspipe")

needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not here")
needs_vspipe = pytest.mark.skipif(not VSPIPE.exists(), reason="vspipe is not beside Python")


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What ffprobe finds in the y4m."""

    clip: str
    frames: int
    rate: str
    pix_fmt: str
    needs: tuple[str, ...] = ("bs",)
    """Namespaces of the plugins."""
    model: str = "lanczos"
    size: tuple[int, int] = (192, 128)


EXPECTED = {
    "plain.vpy": Expected(
        clip="plain.mkv", frames=6, rate="25/1", pix_fmt="yuv420p", model="span"
    ),
    "dvd-ivtc.vpy": Expected(
        clip="film.mkv", frames=16, rate="24000/1001", pix_fmt="yuv420p",
        needs=("bs", "vivtc", "bwdif"),
    ),
    "interlaced.vpy": Expected(
        clip="tape.mpg", frames=20, rate="50/1", pix_fmt="yuv420p", needs=("bs", "bwdif")
    ),
    "anime.vpy": Expected(clip="plain.mkv", frames=6, rate="25/1", pix_fmt="yuv420p10le"),
    "hdr.vpy": Expected(clip="hdr.mkv", frames=6, rate="25/1", pix_fmt="yuv420p10le"),
}  # fmt: skip


def test_every_script_has_an_expectation() -> None:
    assert sorted(path.name for path in SCRIPTS.glob("*.vpy")) == sorted(EXPECTED)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plain.mkv, film.mkv (hard telecine), disc.mpg (soft), tape.mpg (top first), hdr.mkv (PQ)."""
    folder = tmp_path_factory.mktemp("clips")
    fields = ("-flags", "+ildct+ilme", "-top", "1", "-c:v", "mpeg2video", "-q:v", "2", "-bf", "0")
    pq = ("-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc",
          "-pix_fmt", "yuv420p10le", "-c:v", "ffv1")  # fmt: skip
    made: dict[str, tuple[str, tuple[str, ...]]] = {
        "plain.mkv": (MOVING.format(rate=25, count=6), ("-pix_fmt", "yuv420p", "-c:v", "ffv1")),
        "film.mkv": (
            MOVING.format(rate=FILM, count=16) + ",format=yuv420p,telecine",
            ("-c:v", "ffv1"),
        ),
        "tape.mpg": (MOVING.format(rate=50, count=20) + ",interlace,setsar=8/9", fields),
        "hdr.mkv": (MOVING.format(rate=25, count=6), pq),
    }
    for name, (graph, options) in made.items():
        line = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", graph, *options, name]
        subprocess.run(line, check=True, cwd=folder)
    make_soft_telecine(folder, "disc.mpg", MOVING.format(rate=FILM, count=16))
    return folder


def make_soft_telecine(folder: Path, name: str, graph: str) -> None:
    """A disc that holds film frames whole, flagged (ISO/IEC 13818-2, 6.2) to be shown 2:3."""
    stream, line = folder / "disc.m2v", ["ffmpeg", "-v", "error", "-y"]
    encoder = ["-pix_fmt", "yuv420p", "-c:v", "mpeg2video", "-q:v", "2", "-bf", "0"]
    subprocess.run([*line, "-f", "lavfi", "-i", graph, *encoder, str(stream)], check=True)
    data, pictures = bytearray(stream.read_bytes()), 0
    for found in re.finditer(b"\0\0\1[\xb3\xb5]", bytes(data)):
        at = found.end()
        if data[at - 1] == 0xB3:
            data[at + 3] = data[at + 3] & 0xF0 | 4  # frame_rate_code: 30000/1001
        elif data[at] >> 4 == 1:
            data[at + 1] &= ~0x08  # no progressive_sequence
        elif data[at] >> 4 == 8:  # top_field_first, repeat_first_field
            data[at + 3] = data[at + 3] & ~0x82 | (0x82, 0x00, 0x02, 0x80)[pictures % 4]
            pictures += 1
    stream.write_bytes(data)
    subprocess.run([*line, "-i", str(stream), "-c", "copy", name], check=True, cwd=folder)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where vspipe finds this Python, and BestSource keeps its index, beside the user's own."""
    folder = str(tmp_path_factory.mktemp("config"))
    found = {**os.environ, "XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder,
             "OMP_NUM_THREADS": "1"}  # fmt: skip
    line = [str(Path(sys.executable).with_name("vapoursynth")), "config"]
    subprocess.run(line, check=True, env=found, capture_output=True)
    return found


def vspipe(script: Path, output: Path, environment: dict[str, str], **arguments: object) -> str:
    """Run ``script``; its standard error. Fails if vspipe does."""
    given = [part for key, value in arguments.items() for part in ("-a", f"{key}={value}")]
    line = [str(VSPIPE), "-c", "y4m", *given, str(script), str(output)]
    done = subprocess.run(
        line, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def probe(path: Path) -> dict[str, Any]:
    line = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", str(path)]
    text = subprocess.run(line, capture_output=True, check=True).stdout
    found: dict[str, Any] = json.loads(text)["streams"][0]
    return found


def luma(path: Path, *filters: str) -> list[bytes]:
    """Every frame's brightness at 96x64, so that large and small can be compared."""
    chain = ",".join([*filters, "format=gray,scale=96:64:flags=area"])
    line = ["ffmpeg", "-v", "error", "-i", str(path), "-vf", chain, "-vsync", "passthrough",
            "-f", "rawvideo", "-"]  # fmt: skip
    raw = subprocess.run(line, capture_output=True, check=True).stdout
    return [raw[at : at + 96 * 64] for at in range(0, len(raw), 96 * 64)]


def difference(one: bytes, other: bytes) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def require(*namespaces: str) -> None:
    for name in namespaces:
        if not hasattr(vs.core, name):
            pytest.skip(f"the VapourSynth plugin {name} is not installed")


@needs_ffmpeg
@needs_vspipe
@pytest.mark.parametrize("name", EXPECTED)
def test_a_script_runs_under_vspipe(name, clips, environment, tmp_path) -> None:
    expected = EXPECTED[name]
    require(*expected.needs)
    out = tmp_path / "out.y4m"
    vspipe(SCRIPTS / name, out, environment, source=clips / expected.clip, model=expected.model)
    found = probe(out)
    assert (found["width"], found["height"]) == expected.size
    assert found["pix_fmt"] == expected.pix_fmt
    assert found["r_frame_rate"] == expected.rate
    assert int(found["nb_read_frames"]) == expected.frames


@needs_ffmpeg
@needs_vspipe
@pytest.mark.parametrize("disc", ["film.mkv", "disc.mpg"], ids=["hard", "soft"])
def test_ivtc_finds_the_frames_of_the_film(disc, clips, environment, tmp_path) -> None:
    """Each of the film's frames is there, in order, whole: as before it was spread over fields."""
    require("bs", "vivtc", "bwdif")
    out, film = tmp_path / "out.y4m", tmp_path / "film.y4m"
    vspipe(SCRIPTS / "dvd-ivtc.vpy", out, environment, source=clips / disc, model="lanczos")
    graph = MOVING.format(rate=FILM, count=16)
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", graph, "-pix_fmt", "yuv420p",
                    str(film)], check=True)  # fmt: skip
    found, wanted = luma(out), luma(film)
    nearest = []
    for frame in found:
        differences = [difference(frame, other) for other in wanted]
        nearest.append((differences.index(min(differences)), min(differences)))
    assert [number for number, _ in nearest] == list(range(16))
    assert max(far for _, far in nearest) < 4


@needs_ffmpeg
def test_by_the_command_what_y4m_loses_stays(clips, tmp_path) -> None:
    """Aspect ratio and colour of the tape, which vspipe's y4m has no place for."""
    require("bs", "bwdif")
    out = tmp_path / "out.mkv"
    arguments = ["-a", f"source={clips / 'tape.mpg'}", "-a", "model=lanczos", "--model", "identity"]
    assert main([str(SCRIPTS / "interlaced.vpy"), str(out), *arguments]) == 0
    found = probe(out)
    assert (found["sample_aspect_ratio"], found["width"]) == ("8:9", 192)
    assert Fraction(found["r_frame_rate"]) == 50
    assert int(found["nb_read_frames"]) == 20


@needs_ffmpeg
@needs_vspipe
def test_what_is_not_hdr_is_refused_in_one_line(clips, environment, tmp_path) -> None:
    require("bs")
    line = [str(VSPIPE), "-a", f"source={clips / 'plain.mkv'}", str(SCRIPTS / "hdr.vpy"), "--"]
    done = subprocess.run(
        line, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode != 0
    assert "plain.mkv is not tagged as HDR (transfer 2): use plain.vpy" in done.stderr


MPV = """
import warnings
import vapoursynth as vs
warnings.simplefilter("ignore")  # of the old name of the range
clip = vs.core.std.BlankClip(
    width=64, height=int(height), format=vs.YUV420P8, length=(2**31 - 1) // 16, fpsnum=0, fpsden=1
)
clip = clip.std.RemoveFrameProps(["_Matrix", "_Range"]).std.SetFrameProps(
    _ColorSpace=1, _ColorRange=1, _ChromaLocation=0, _FieldBased=0, _SARNum=1, _SARDen=1,
    _DurationNum=1001, _DurationDen=24000,
)
for _ in range(2):  # mpv runs a script again after each seek
    exec(open(script).read(), {"video_in": clip, "__name__": "__vapoursynth__"})
"""
"""What mpv (video/filter/vf_vapoursynth.c) gives a script: a clip of no known length and rate."""


@needs_vspipe
@pytest.mark.parametrize(("height", "size"), [(48, (128, 96)), (1080, (64, 1080))])
def test_the_script_for_mpv_enlarges_what_mpv_hands_over(
    height, size, environment, tmp_path
) -> None:  # fmt: skip
    """As mpv runs it, in a program that is not Python."""
    host, out, props = tmp_path / "mpv.vpy", tmp_path / "out.raw", tmp_path / "props.json"
    host.write_text(MPV)
    given = ["-a", f"height={height}", "-a", f"script={ROOT / 'mpv' / 'vsr.vpy'}", "-e", "1"]
    line = [str(VSPIPE), *given, "--json", str(props), str(host), str(out)]
    done = subprocess.run(
        line, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size == 2 * size[0] * size[1] * 3 // 2
    frame = json.loads(props.read_text())[1]
    assert (frame["_DurationNum"], frame["_DurationDen"]) == (1001, 24000)
    if size[0] != 64:
        assert frame["_Matrix"] == 1  # as mpv said; 48 lines alone would be taken for BT.601


@pytest.mark.parametrize("host", PLUGINS)
def test_where_they_are_is_told(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--plugin-path", host]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / "README.md").is_file()
    assert folder.name == host


def test_every_script_says_what_it_needs() -> None:
    readme = (SCRIPTS / "README.md").read_text()
    for name, expected in EXPECTED.items():
        text = (SCRIPTS / name).read_text()
        assert f"`{name}`" in readme
        for plugin in expected.needs:
            wheel = {"bs": "bestsource"}.get(plugin, plugin)
            assert f"vapoursynth-{wheel}" in text

"""The VapourSynth filter beside the command, and beside vs-mlrt where its plugins are installed.

    python scripts/bench_vapoursynth.py [--size 320x180] [--mlrt PYTHON] [--json OUT]

All of them read the same y4m, make the same 4:2:0 from it and throw it away; frames a second are
counted from the first request to the last frame. They run in turn, several times, and the medians
are compared. vs-mlrt gets what its users write: YUV to RGBS, the model, and back; its plugins
(wheels vapoursynth-mlrt-ov and vapoursynth-mlrt-ort) are looked for in this environment, or in that
of ``--mlrt``, the Python of another one.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsr.cli.values import parse_size

READ = """
import numpy as np
import vapoursynth as vs
core = vs.core
WIDTH, HEIGHT, FRAMES, START = {width}, {height}, {frames}, {start}
data = np.memmap({clip!r}, np.uint8, "r", START).reshape(FRAMES, -1)[:, len(b"FRAME\\n"):]
clip = core.std.BlankClip(format=vs.YUV420P8, width=WIDTH, height=HEIGHT, length=FRAMES)
clip = clip.std.SetFrameProps(_Matrix=6, _Range=0, _ChromaLocation=0, _Primaries=6, _Transfer=6)
def read(n, f):
    made, place = f.copy(), 0
    for plane in range(3):
        view = np.asarray(made[plane])
        view[:] = data[n, place : place + view.size].reshape(view.shape)
        place += view.size
    return made
clip = clip.std.ModifyFrame(clip, read)
"""
FILTER = """
import vsr.vapoursynth
vsr.vapoursynth.upscale(clip, weights={weights}, {options}).set_output()
"""
MLRT = """
clip = clip.resize.Bicubic(format=vs.RGBS)
clip = core.{call}
clip.resize.Bicubic(format=vs.YUV420P8, matrix=6).set_output()
"""
PLUGINS = {
    "ov, bf16": "ov.Model([clip], network_path={path!r}, device='CPU', "
    "config=lambda: dict(INFERENCE_PRECISION_HINT='bf16'))",
    "ort": "ort.Model([clip], network_path={path!r}, provider='CPU')",
}


def make_y4m(path: Path, frames: int, width: int, height: int) -> int:
    """A clip of drifting texture in 4:2:0; returns where its first frame begins."""
    rng = np.random.default_rng(0)
    header = f"YUV4MPEG2 W{width} H{height} F24:1 Ip A1:1 C420mpeg2\n".encode()
    fine = np.kron(
        rng.integers(16, 235, (height // 4 + 64, width // 4 + 64), dtype=np.uint8),
        np.ones((4, 4), np.uint8),
    )
    chroma = np.full(-(-height // 2) * -(-width // 2) * 2, 120, np.uint8).tobytes()
    with path.open("wb") as file:
        file.write(header)
        for index in range(frames):
            luma = fine[index % 200 :, index // 2 % 200 :][:height, :width]
            file.write(b"FRAME\n" + np.ascontiguousarray(luma).tobytes() + chroma)
    return len(header)


def command_fps(clip: Path, weights: Path | None) -> float:
    """Of the whole command, run in a process of its own."""
    arguments = ["--weights", str(weights)] if weights else []
    code = "import sys; from vsr.cli import main; sys.exit(main())"
    done = _run([sys.executable, "-c", code, str(clip), "-f", "null", "-", "--stats", *arguments])
    return _found(r"([\d.]+) fps", done.stdout + done.stderr)


def vspipe_fps(script: Path, python: Path, config: Path) -> float:
    """Of a script, through the vspipe of ``python``'s environment."""
    done = _run([vspipe_of(python), "-p", script, "."], config)
    return _found(r"\(([\d.]+) fps\)", done.stderr)


def vspipe_of(python: Path) -> str:
    """The vspipe of ``python``'s environment, of the path, or of its package; else empty.

    The package holds the program itself, beside Python lies a script that starts it: but not where
    the wheel was installed with ``pip install --target``.
    """
    beside = python.parent / "vspipe"
    if found := str(beside) if beside.exists() else shutil.which("vspipe"):
        return found
    code = "import vapoursynth as v; print(v.__file__)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    inside = Path(done.stdout.strip()).with_name("vspipe") if done.stdout.strip() else None
    return str(inside) if inside is not None and inside.exists() else ""


def _run(
    command: Sequence[str | Path], config: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """What it says, with its configuration in a folder of our own; SystemExit if it fails."""
    own = {} if config is None else {"XDG_CONFIG_HOME": str(config)}
    done = subprocess.run(
        command, env=os.environ | own, capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = " ".join(map(str, command))
        raise SystemExit(f"{words}\nended with {done.returncode}:\n{done.stderr.strip()}")
    return done


def _found(pattern: str, text: str) -> float:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"no speed is told in {text!r}")
    return float(match[1])


def configure(python: Path, config: Path) -> None:
    """Tell vspipe which Python it belongs to, in a folder of our own."""
    _run([python, "-m", "vapoursynth", "config"], config)


def plugins_of(python: Path) -> list[str]:
    """Those of ``PLUGINS`` that are installed beside ``python``."""
    names = [name.split(",")[0] for name in PLUGINS]
    code = f"import vapoursynth as v; print(*[hasattr(v.core, name) for name in {names}])"
    there = _run([python, "-c", code]).stdout.split()
    return [name for name, found in zip(PLUGINS, there, strict=True) if found == "True"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is measured."""

    size: tuple[int, int]
    frames: int
    rounds: int
    weights: Path | None = None
    mlrt: Path | None = None
    options: str = ""
    """Further arguments of the filter, as a script has them."""


def bench_filter(folder: Path, wanted: Wanted) -> dict[str, object]:
    """Frames a second of the command, the filter, and vs-mlrt; and the filter's over each."""
    size, frames, weights = wanted.size, wanted.frames, wanted.weights
    clip, python = folder / "clip.y4m", Path(sys.executable)
    if not vspipe_of(python):
        print("vspipe is not in this environment: the filter is not measured", file=sys.stderr)
        return {}
    start = make_y4m(clip, frames, *size)
    read = READ.format(clip=str(clip), width=size[0], height=size[1], frames=frames, start=start)
    runs: dict[str, Callable[[], float]] = {"command": lambda: command_fps(clip, weights)}

    def add(name: str, ending: str, interpreter: Path) -> None:
        script = folder / f"{name.split(',')[0]}.vpy"
        script.write_text(read + ending)
        runs[name] = lambda: vspipe_fps(script, interpreter, folder)

    configure(python, folder)
    own = repr(str(weights)) if weights else None
    add("filter", FILTER.format(weights=own, options=wanted.options), python)
    other = wanted.mlrt or python
    if plugins := plugins_of(other):
        configure(other, folder)
        model = export(folder, weights)
        for name in plugins:
            add(name, MLRT.format(call=PLUGINS[name].format(path=str(model))), other)
    medians = _medians(runs, wanted.rounds)
    ratios = {name: medians["filter"] / fps for name, fps in medians.items() if name != "filter"}
    for name, ratio in ratios.items():
        print(f"filter / {name}: {ratio:.3f} ({frames} frames of {size[0]}x{size[1]})")
    if not plugins:
        print("vs-mlrt's plugins are not installed: nothing to compare with")
    return {"size": size, "frames": frames, "fps": medians, "ratios": ratios}


def _medians(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    measured: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds):
        for name, run in runs.items():
            measured[name].append(run())
        told = ", ".join(f"{name} {fps[-1]:.2f}" for name, fps in measured.items())
        print(f"round {turn + 1}: {told} frames/s", flush=True)
    return {name: statistics.median(fps) for name, fps in measured.items()}


def export(folder: Path, weights: Path | None) -> Path:
    """The network as ONNX (needs the extra ``export``)."""
    path = folder / "model.onnx"
    command = [
        sys.executable,
        "-c",
        "import sys; from vsr.cli.models import main; sys.exit(main())",
    ]
    _run([*command, "export", str(weights or "span-x2"), "-o", str(path), "--format", "onnx"])
    return path


def main() -> int:
    """Measure and print; 1 if nothing could be measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=(320, 180))
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", type=Path, help="instead of the model that ships")
    parser.add_argument("--options", default="", help="of the filter, e.g. num_streams=3")
    parser.add_argument("--mlrt", type=Path, help="Python of the environment of vs-mlrt's plugins")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        wanted = Wanted(
            size=options.size, frames=options.frames, rounds=options.rounds,
            weights=options.weights, mlrt=options.mlrt, options=options.options,
        )  # fmt: skip
        results = bench_filter(Path(name), wanted)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if results else 1


if __name__ == "__main__":
    sys.exit(main())

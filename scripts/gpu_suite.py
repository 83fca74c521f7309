"""Everything that wants a GPU, in one command: correctness, peaks, the ladder, SST, and the rest.

    python scripts/gpu_suite.py --out OUT [--minutes 9.3] [--only warm kernels ...] [--data DATA]
    python scripts/gpu_suite.py --out OUT --rehearse

Steps run in the order of their worth until the time is up; each has a time limit of its own, and
one that fails or is stopped stops no other. OUT gets ``results.json`` (what ran, how long, how it
ended, the end of what it said, the figures so far) before the first step and after each, and
``logs.tar.gz``, all that each said and wrote. At the end a table says what was wanted and found.

All steps together take longer than ten minutes. Where a GPU is lent for so long at a time, three
calls, one right after the other and each with an OUT of its own, get most of it in:

    --only warm kernels stream paper
    --only tests precision networks attention
    --only command filter --train RECIPE

``warm`` comes first on every new machine: what is tuned and compiled there is remembered, and no
other step's limit pays for it.

It needs no network, and beside vsr's own requirements only Triton and, for the tests, pytest; vsr
need not be installed. ``--train RECIPE`` goes on with a training in what time is left; that needs
Pillow and the data. A training ends in OUT as ``run-NAME.tar.gz.00`` and so on, pieces of
15 MiB, since what brings OUT back may take a few files of limited size; whoever finds such pieces
in OUT goes on from there. By hand: ``cat run-NAME.tar.gz.* | tar xz``.

``--rehearse`` runs the same scripts on this CPU on tiny pictures, where that is possible: it shows
that each starts, ends and writes its figures, and nothing about speed.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"
PYTEST = (
    "-m", "pytest", "-o", "addopts=", "--import-mode=importlib", "-v", "-ra", "--tb=short",
    "--continue-on-collection-errors", "-m", "cuda",
)  # fmt: skip
"""Without the plug-ins that this project's settings ask for."""
PARALLEL = ("-n", "4", "--dist=loadfile") if find_spec("xdist") else ()
"""Most of these tests compile on one core."""
LINES = 60
"""Of the end of what a step said, kept in its record."""
GRACE = 10
"""Seconds at the end of a limit in which a step may end by itself."""
PIECE = 15 << 20
"""Bytes of a file that a packed training is cut into."""
BOUND = 0.65
"""Share of what the device's peaks allow that the fastest rung should reach."""

Figures = Mapping[str, Any]
"""What each step found, by its name."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command."""

    name: str
    arguments: tuple[str, ...]
    """For this Python; ``{out}``, ``{work}`` and ``{data}`` are filled in."""
    seconds: int
    """After which it is stopped."""
    small: tuple[str, ...] | None = None
    """What takes their place in a rehearsal; None leaves the step out of it."""


def gpu_tests() -> tuple[str, ...]:
    """Files that hold tests for a GPU: what others import need not be installed."""
    marks = ("mark.cuda", "kernel_device")
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return tuple(
        str(file.relative_to(ROOT)) for file in files if any(m in file.read_text() for m in marks)
    )


def _timed(name: str, seconds: int, script: str, *arguments: str, small: tuple[str, ...]) -> Step:
    """A step that writes its figures to a file of its name."""
    figures = ("--json", f"{{work}}/{name}.json")
    start = ("-m", script) if "." in script.removesuffix(".py") else (str(SCRIPTS / script),)
    return Step(
        name, (*start, "--device", "cuda", *arguments, *figures), seconds,
        (*start, "--device", "cpu", *small, *figures),
    )  # fmt: skip


STEPS = (
    _timed("warm", 210, "warm.py", small=()),
    _timed("kernels", 240, "bench_kernels.py", small=("--sizes", "16x12")),
    _timed("stream", 240, "bench_stream.py", small=("--sizes", "64x48", "--frames", "8")),
    _timed(
        "paper", 240, "bench_networks.py", "--paper",
        small=("--paper", "--only", "sst-light", "--frame", "128x96"),
    ),
    Step(
        "tests", (*PYTEST, *PARALLEL, *gpu_tests()), 300,
        (*PYTEST, "--collect-only", *gpu_tests()),
    ),
    _timed("precision", 90, "bench_precision.py", "{data}/data/Set5", small=("--pictures", "1")),
    _timed(
        "networks", 180, "bench_networks.py", "--size", "640x360",
        small=("--size", "20x12", "--only", "spanf"),
    ),
    Step(
        "attention",
        (str(SCRIPTS / "bench_attention.py"), "--device", "cuda", "--json",
         "{work}/attention.json"),
        120,
    ),
    _timed(
        "command", 240, "vsr.cli.bench", "--size", "1280x720", "--frames", "120", "--rounds", "1",
        "--compile",
        small=("--size", "64x48", "--frames", "4", "--rounds", "1", "--peers", "torch"),
    ),
    Step(
        "filter",
        (str(SCRIPTS / "bench_vapoursynth.py"), "--size", "1280x720", "--frames", "240",
         "--json", "{work}/filter.json"),
        120,
        (str(SCRIPTS / "bench_vapoursynth.py"), "--size", "64x48", "--frames", "6",
         "--rounds", "1", "--json", "{work}/filter.json"),
    ),
)  # fmt: skip


# Targets.


@dataclass(frozen=True, slots=True)
class Target:
    """What must be reached, and where it is found."""

    words: str
    wanted: float
    find: Callable[[Figures], float]
    """Raises LookupError, ValueError or StopIteration where it was not measured."""
    most: bool = False
    """Whether ``wanted`` is the most that is allowed."""

    def check(self, figures: Figures) -> dict[str, Any]:
        """Wanted, found, and whether it is reached; None for what was not measured."""
        found = None
        with suppress(LookupError, ValueError, StopIteration):
            found = self.find(figures)
        reached = None
        if found is not None:
            reached = found <= self.wanted if self.most else found >= self.wanted
        return {"target": self.words, "wanted": self.wanted, "found": found, "reached": reached}


def _rung(name: str) -> Callable[[Figures], float]:
    def find(figures: Figures) -> float:
        rows = figures["kernels"]["rows"]
        return next(float(r["fps"]) for r in rows if r["way"] == name and r["size"][0] == 1920)

    return find


def _of_bound(figures: Figures) -> float:
    rows = [r for r in figures["kernels"]["rows"] if r["size"][0] == 1920]
    return float(max(rows, key=lambda row: row["fps"])["of_bound"])


def _commands(figures: Figures, size: str) -> tuple[float, float]:
    """Frames a second of the command, by its faster way of decoding, and of the network alone."""
    row = next(r for r in figures["stream"] if r["size"] == size)
    return max(v for k, v in row.items() if k.startswith("command")), row["network"]


def _share(figures: Figures) -> float:
    command, network = _commands(figures, "1920x1080")
    return command / network


def _sst(one: str, other: str) -> Callable[[Figures], list[float]]:
    """Quotients of two columns for every SST of which the paper gives both."""

    def find(figures: Figures) -> list[float]:
        rows = [r for r in figures["paper"] if r["variant"].startswith("sst") and r[other] != "-"]
        return [r[one] / r[other] for r in rows if r["paper_ms"] != "-"]

    return find


def _lost(figures: Figures) -> float:
    return float(max(abs(r["apart"]) for r in figures["precision"] if r["model"] == "sst"))


TARGETS = (
    Target("1080p x2, network alone, fused epilogues, frames/s", 190,
           _rung("Triton, fused epilogues")),
    Target("1080p x2, network alone, fused blocks, frames/s", 260, _rung("Triton, fused blocks")),
    Target("1080p x2, the fastest rung over the bound of the peaks", BOUND, _of_bound),
    Target("1080p x2, command to nothing over the network alone", 0.9, _share),
    Target("720p x2, command to nothing, frames/s", 400, lambda f: _commands(f, "1280x720")[0]),
    Target("SST, the paper's time over ours, at worst", 2,
           lambda f: min(_sst("paper_ms", "milliseconds")(f))),
    Target("SST, our memory over the paper's, at worst", 1,
           lambda f: max(_sst("mb", "paper_mb")(f)), most=True),
    Target("SST, dB between half precision and float32, at worst", 0.01, _lost, most=True),
)  # fmt: skip


def tell(checked: Sequence[Mapping[str, Any]]) -> None:
    """Print what was wanted and what was found."""
    words = {True: "reached", False: "missed", None: "not measured"}
    print(f"\n{'target':60} {'wanted':>8} {'found':>9}")
    for row in checked:
        found = "" if row["found"] is None else f"{row['found']:.3f}"
        print(f"{row['target']:60} {row['wanted']:8} {found:>9} {words[row['reached']]}")


# Running.


@dataclass(frozen=True, slots=True)
class Places:
    """Folders that steps read and write."""

    out: Path
    """What is brought back: few files."""
    work: Path
    """What each step writes while it runs."""
    data: Path

    def fill(self, part: str) -> str:
        """An argument of a step, as it is given."""
        for name in ("out", "work", "data"):
            part = part.replace(f"{{{name}}}", str(getattr(self, name)))
        return part

    def pack(self) -> None:
        """Everything that steps have said and written so far, in one file."""
        with tarfile.open(self.out / "logs.tar.gz", "w:gz") as archive:
            archive.add(self.work, "logs")

    def pack_training(self, name: str) -> None:
        """Its folder as a few files, each of :data:`PIECE` bytes at most; a checkpoint has more."""
        folder = self.out / "runs" / name
        if not folder.is_dir():
            return
        for piece in self._pieces(name):
            piece.unlink()
        with tempfile.TemporaryFile(dir=self.work.parent) as packed:
            with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
                archive.add(folder, name)
            packed.seek(0)
            for index, data in enumerate(iter(lambda: packed.read(PIECE), b"")):
                (self.out / f"run-{name}.tar.gz.{index:02}").write_bytes(data)
        shutil.rmtree(folder)

    def unpack_training(self, name: str) -> None:
        """What :meth:`pack_training` has left, if it has."""
        if not (pieces := self._pieces(name)):
            return
        with tempfile.TemporaryFile(dir=self.work.parent) as packed:
            for piece in pieces:
                packed.write(piece.read_bytes())
            packed.seek(0)
            with tarfile.open(fileobj=packed, mode="r:gz") as archive:
                archive.extractall(self.out / "runs", filter="data")

    def _pieces(self, name: str) -> list[Path]:
        return sorted(self.out.glob(f"run-{name}.tar.gz.*"))


def run(step: Step, places: Places, left: float, *, small: bool) -> dict[str, object]:
    """Run one step within ``left`` seconds; its record."""
    arguments = step.small if small and step.small is not None else step.arguments
    filled = [places.fill(part) for part in arguments]
    limit, started = min(step.seconds, left), time.monotonic()
    said = places.work / f"{step.name}.txt"
    with said.open("w") as log:
        code = _run_within(limit, [sys.executable, *filled], log.fileno(), small=small)
    record: dict[str, object] = {
        "step": step.name, "command": " ".join(filled), "exit": code,
        "seconds": round(time.monotonic() - started, 1),
        "said": said.read_text(errors="replace").splitlines()[-LINES:],
    }  # fmt: skip
    figures = places.work / Path(filled[-1]).name
    if figures.suffix == ".json" and figures.is_file():
        with suppress(ValueError):  # it was stopped while it wrote
            record["figures"] = json.loads(figures.read_text())
    return record


def _run_within(limit: float, command: list[str], log: int, *, small: bool) -> int | None:
    """The exit code; None if it was stopped, and all that it had started with it."""
    grace = min(GRACE, limit / 4)
    child = subprocess.Popen(
        command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=_environment(small=small),
        start_new_session=True,
    )  # fmt: skip
    try:
        return child.wait(limit - grace)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGTERM)  # a training saves what it has
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace)
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _environment(*, small: bool) -> dict[str, str]:
    """A step's: vsr need not be installed, and what was said before a stop is not lost."""
    wanted = (
        {"CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "1"} if small else {"VSR_REQUIRE": "cuda"}
    )
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    found = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    return os.environ | wanted | found


def device() -> dict[str, object]:
    """What the figures were measured on; it is asked in a process of its own."""
    code = (
        "import json, torch; c = torch.cuda; print(json.dumps({'gpu': c.get_device_name() if "
        "c.is_available() else None, 'torch': torch.__version__, 'cuda': torch.version.cuda}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1:], "cores": os.cpu_count()}
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "python": sys.version.split()[0], "cores": os.cpu_count()}


def training(recipe: Path, minutes: float) -> Step:
    """Go on with a training, for so long."""
    return Step(
        f"train-{recipe.stem}",
        (str(SCRIPTS / "train.py"), str(recipe.resolve()), "--data", "{data}", "--device", "cuda",
         "--minutes", f"{minutes:.2f}", "--busy", "--out", f"{{out}}/runs/{recipe.stem}"),
        round(60 * minutes) + 60,
    )  # fmt: skip


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--minutes", type=float, default=9.3)
    parser.add_argument("--only", nargs="+", choices=[step.name for step in STEPS])
    parser.add_argument("--rehearse", action="store_true", help="on this CPU, on tiny pictures")
    parser.add_argument("--train", nargs="+", type=Path, default=[], metavar="RECIPE")
    return parser.parse_args()


def _steps(options: argparse.Namespace) -> list[Step]:
    chosen = [step for step in STEPS if not options.only or step.name in options.only]
    return [step for step in chosen if step.small is not None or not options.rehearse]


def main() -> int:
    """Run what there is time for; 1 if a step failed or was stopped."""
    options = _parse()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vsr-suite-") as work:
        return _run_all(options, Places(out, Path(work), options.data.resolve()))


def _run_all(options: argparse.Namespace, places: Places) -> int:
    end = time.monotonic() + 60 * options.minutes
    records: list[dict[str, object]] = []
    results: dict[str, Any] = {"device": device(), "steps": records}

    def save() -> None:
        figures = {str(r["step"]): r["figures"] for r in records if "figures" in r}
        results["targets"] = [target.check(figures) for target in TARGETS]
        (places.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        places.pack()

    def perform(step: Step) -> None:
        if (left := end - time.monotonic()) < 5:
            print(f"{step.name}: no time is left")
            return
        records.append(run(step, places, left, small=options.rehearse))
        print("{step}: exit {exit} after {seconds} s".format(**records[-1]), flush=True)
        save()

    save()
    for step in _steps(options):
        perform(step)
    for recipe in options.train:
        places.unpack_training(recipe.stem)
        perform(training(recipe, max(0.0, end - time.monotonic() - 60) / 60))
        places.pack_training(recipe.stem)
    if not options.rehearse:
        tell(results["targets"])
    return int(any(record["exit"] != 0 for record in records))


if __name__ == "__main__":
    sys.exit(main())

"""Everything that wants a GPU, in one command: tests, benchmarks, trainings that are due.

    python scripts/gpu_suite.py --out OUT [--minutes 9] [--only tests attention ...] [--data DATA]

Steps run in the order of their worth until the time is up; each has a time limit of its own, and
one that fails stops no other. OUT gets ``results.json`` (what ran, how long, how it ended, the
figures) after every step, and each step's output as a text file.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"


@dataclass(frozen=True, slots=True)
class Step:
    """One command."""

    name: str
    arguments: tuple[str, ...]
    """For this Python; ``{out}`` and ``{data}`` are filled in."""
    seconds: int
    """After which it is stopped."""


STEPS = (
    Step("tests", ("-m", "pytest", "-m", "cuda", "-q", "-ra"), 300),
    Step(
        "kernels",
        (str(SCRIPTS / "bench_kernels.py"), "--device", "cuda", "--json", "{out}/kernels.json"),
        240,
    ),
    Step(
        "attention",
        (str(SCRIPTS / "bench_attention.py"), "--device", "cuda", "--json", "{out}/attention.json"),
        120,
    ),
    Step(
        "networks",
        (str(SCRIPTS / "bench_networks.py"), "--device", "cuda", "--size", "640x360",
         "--json", "{out}/networks.json"),
        180,
    ),
    Step(
        "paper",
        (str(SCRIPTS / "bench_networks.py"), "--device", "cuda", "--paper",
         "--json", "{out}/paper.json"),
        240,
    ),
    Step(
        "command",
        ("-m", "vsr.bench_cli", "--size", "1280x720", "--frames", "120", "--rounds", "2",
         "--device", "cuda", "--json", "{out}/bench.json"),
        240,
    ),
    Step(
        "stream",
        (str(SCRIPTS / "bench_stream.py"), "--device", "cuda", "--json", "{out}/stream.json"),
        180,
    ),
    Step(
        "filter",
        (str(SCRIPTS / "bench_vapoursynth.py"), "--size", "1280x720", "--frames", "240",
         "--json", "{out}/filter.json"),
        120,
    ),
    Step(
        "quality",
        (str(SCRIPTS / "evaluate.py"), "{data}/data/Set5", "--scale", "2", "--device", "cuda",
         "span", "sst"),
        60,
    ),
)  # fmt: skip


def run(step: Step, out: Path, data: Path, left: float) -> dict[str, object]:
    """Run one step within ``left`` seconds; its record."""
    filled = [
        part.replace("{out}", str(out)).replace("{data}", str(data)) for part in step.arguments
    ]
    limit, started = min(step.seconds, left), time.monotonic()
    with (out / f"{step.name}.txt").open("w") as log:
        try:
            code: int | None = subprocess.run(
                [sys.executable, *filled], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
                timeout=limit, env={**os.environ, "VSR_REQUIRE": "cuda"}, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = None
    record: dict[str, object] = {
        "step": step.name, "command": " ".join(filled), "exit": code,
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    figures = out / f"{Path(filled[-1]).name}"
    if figures.suffix == ".json" and figures.is_file():
        record["figures"] = json.loads(figures.read_text())
    return record


def device() -> dict[str, object]:
    """What the figures were measured on."""
    import torch

    found = torch.cuda.is_available()
    return {
        "gpu": torch.cuda.get_device_name() if found else None, "torch": torch.__version__,
        "cuda": torch.version.cuda, "python": sys.version.split()[0], "cores": os.cpu_count(),
    }  # fmt: skip


def main() -> int:
    """Run what there is time for; 1 if a step failed or was stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--only", nargs="+", choices=[step.name for step in STEPS])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    results: dict[str, object] = {"device": device(), "steps": (records := [])}
    for step in STEPS:
        left = end - time.monotonic()
        if left < 5 or (options.only and step.name not in options.only):
            continue
        records.append(run(step, options.out.resolve(), options.data.resolve(), left))
        print("{step}: exit {exit} after {seconds} s".format(**records[-1]), flush=True)
        (options.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    return int(any(record["exit"] != 0 for record in records))


if __name__ == "__main__":
    sys.exit(main())

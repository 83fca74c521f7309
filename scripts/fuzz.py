"""Damaged inputs by the thousand: no hang, no traceback, no growth, nothing left behind.

    python scripts/fuzz.py --cases 1000 --seed 1 [--kind containers] [--media FOLDER]

Each case is the same for the same kind, seed and number; ``--first N --cases 1 --keep FOLDER``
runs one again and keeps its files. Exit code 1 if anything was wrong. What is damaged stands in
``fuzz_kinds.py``, how in ``fuzz_mutate.py``.
"""

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fuzz_kinds import KINDS
from fuzz_seeds import make_seeds

__all__ = ["Found", "fuzz"]

_WORKER = Path(__file__).with_name("fuzz_worker.py")
_PYTHON = [sys.executable]
_PATIENCE = 60.0  # seconds for one case; the first loads libraries
_BATCH = 1000  # cases a process
_GROWTH = 16  # KB a case, over the second half of a batch


@dataclass(slots=True)
class Found:
    """What became of the cases of one kind."""

    kind: str
    outcomes: Counter[str] = field(default_factory=Counter)
    """How many were done, refused, wrong, crashed or hung."""
    wrong: dict[int, str] = field(default_factory=dict)
    """Numbers of the cases that ended as none may, and how."""
    growth: list[tuple[float, float]] = field(default_factory=list)
    """KB that a process grew a case in the second half of its cases: resident, but for what is
    freed and kept, and allocated."""

    @property
    def survived(self) -> bool:
        """Whether nothing was wrong."""
        return not self.wrong and all(max(growth) < _GROWTH for growth in self.growth)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))
        grown = ", ".join(f"{kept:.1f} ({used:.1f} allocated)" for kept, used in self.growth)
        return f"{self.kind}: {counts}; grew {grown or '-'} KB a case"


def fuzz(kind: str, seed: int, cases: range, folder: Path, seeds: Path) -> Found:
    """Run ``cases`` of ``kind`` in one process after the other.

    Args:
        kind: One of :data:`fuzz_kinds.KINDS`.
        seed: Where all choices come from.
        cases: Numbers of the cases.
        folder: Where to work; holds the files of the last case afterwards.
        seeds: What :func:`fuzz_seeds.make_seeds` made.
    """
    found = Found(kind)
    position = cases.start
    while position < cases.stop:
        batch = range(position, min(position + _BATCH, cases.stop))
        position = _run_batch(found, seed, batch, folder, seeds)
    return found


def _run_batch(found: Found, seed: int, batch: range, folder: Path, seeds: Path) -> int:
    """Run as much of ``batch`` as one process gets through; returns the next case."""
    span = (batch.start, batch.stop)
    command = [*_PYTHON, _WORKER, found.kind, seed, *span, folder / found.kind, seeds]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE)
    assert process.stdout is not None
    running, memory = batch.start, []
    try:
        for line in _lines(process.stdout):
            told = json.loads(line)
            if "begins" in told:
                running = told["begins"]
                continue
            _note(found, told["case"], told["outcome"], told["problem"])
            memory.append(told["memory"])
            running += 1
    except TimeoutError:
        _note(found, running, "hung", _stack_of(process))
        return running + 1
    finally:
        process.kill()
        code = process.wait()
        process.stdout.close()
    if running < batch.stop:
        said = (folder / found.kind / "stderr").read_text(errors="replace")[-500:]
        _note(found, running, "crashed", f"the process ended with {code}, saying {said!r}")
        return running + 1
    found.growth += _growth(memory)
    return batch.stop


def _note(found: Found, case: int, outcome: str, problem: str | None) -> None:
    found.outcomes[outcome] += 1
    if problem is not None:
        found.wrong[case] = problem
        print(f"{found.kind} {case}: {outcome}: {problem}", file=sys.stderr, flush=True)


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines of ``stream`` as they come.

    Raises:
        TimeoutError: none came in time.
    """
    buffer, handle = b"", stream.fileno()
    while True:
        if not select.select([handle], [], [], _PATIENCE)[0]:
            raise TimeoutError
        data = os.read(handle, 1 << 16)
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        yield from lines


def _stack_of(process: "subprocess.Popen[bytes]") -> str:
    """Let a process that hangs say on stderr where."""
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.5)
    return f"no answer within {_PATIENCE:.0f} s (its threads stand above)"


def _growth(memory: list[tuple[int, int]]) -> list[tuple[float, float]]:
    """KB a case between the third quarter and the last, least against least; none of few cases."""
    quarter = len(memory) // 4
    if quarter < 50:
        return []
    third, last = memory[2 * quarter : 3 * quarter], memory[3 * quarter :]
    least = [[min(column) for column in zip(*part, strict=True)] for part in (third, last)]
    kept, used = ((after - before) / quarter for before, after in zip(*least, strict=True))
    return [(kept, used)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kind", choices=KINDS, action="append", help="default: all")
    parser.add_argument("--cases", type=int, default=200, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--media", type=Path, help="real files to damage, besides those made here")
    parser.add_argument("--keep", type=Path, help="work here, and leave the last case's files")
    return parser


def main() -> int:
    options = _parser().parse_args()
    cases = range(options.first, options.first + options.cases)
    with tempfile.TemporaryDirectory() as scratch:
        seeds, folder = Path(scratch, "seeds"), options.keep or Path(scratch, "work")
        make_seeds(seeds, options.media)
        all_found = []
        for kind in options.kind or KINDS:
            all_found.append(fuzz(kind, options.seed, cases, folder, seeds))
            print(all_found[-1], flush=True)
    return 0 if all(found.survived for found in all_found) else 1


if __name__ == "__main__":
    sys.exit(main())

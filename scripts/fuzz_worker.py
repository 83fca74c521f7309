"""Runs cases in a process of its own, and says of each how it ended, one line of JSON at a time.

FFmpeg is in this process, and a decoder that crashes or hangs takes it along; who started it sees
which case it had announced.
"""

import faulthandler
import gc
import json
import os
import random
import resource
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import IO, Any

from fuzz_kinds import KINDS, Bench, Wrong
from soak_memory import allocated, give_back, resident

__all__ = ["work"]

_MEMORY = 8 << 30  # of addresses: what a small file may claim before it is told that there is none


def work(kind: str, seed: int, cases: range, folder: Path, seeds: Path) -> None:
    """Run ``cases`` of ``kind``; standard output tells."""
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    folder.mkdir(parents=True, exist_ok=True)
    errors = os.open(folder / "stderr", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    faulthandler.register(signal.SIGUSR1, file=os.fdopen(os.dup(2), "w"), all_threads=True)
    os.dup2(errors, 2)
    os.close(errors)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    bench = Bench(folder, seeds)
    bench.clear()
    os.environ["TMPDIR"] = str(bench.temporary)
    os.chdir(bench.elsewhere)
    _Worker(kind, seed, bench, told).run(cases)


class _Worker:
    def __init__(self, kind: str, seed: int, bench: Bench, told: IO[str]) -> None:
        self._kind, self._seed, self._bench, self._told = kind, seed, bench, told
        self._handles: int | None = None

    def run(self, cases: range) -> None:
        for case in cases:
            self._tell(begins=case)
            outcome, problem = self._try(case)
            self._tell(case=case, outcome=outcome, problem=problem, memory=_memory())

    def _tell(self, **values: Any) -> None:  # noqa: ANN401
        print(json.dumps(values), file=self._told, flush=True)

    def _try(self, case: int) -> tuple[str, str | None]:
        os.chdir("/")
        self._bench.clear()
        os.chdir(self._bench.elsewhere)
        rng = random.Random(f"{self._kind} {self._seed} {case}")
        try:
            outcome = KINDS[self._kind](rng, self._bench)
            gc.collect()
            self._look_around()
        except Wrong as error:
            return "wrong", str(error)
        except BaseException:  # noqa: BLE001 - that is what is being looked for
            return "wrong", traceback.format_exc()
        return outcome, None

    def _look_around(self) -> None:
        """Nothing may be left: threads, open files, files elsewhere."""
        threads = [t.name for t in threading.enumerate() if t.name.startswith("vsr-")]
        if threads:
            raise Wrong(f"left threads: {threads}")
        for folder in (self._bench.elsewhere, self._bench.temporary):
            if left := sorted(path.name for path in folder.rglob("*")):
                raise Wrong(f"left {left} in {folder.name}")
        handles = len(os.listdir("/proc/self/fd"))
        before, self._handles = self._handles, handles
        if before is not None and handles > before:
            raise Wrong(f"{handles} open files, {before} before")


def _memory() -> tuple[int, int]:
    """KB that are resident, apart from what is free, and KB that are allocated."""
    give_back()
    return resident(), allocated()


if __name__ == "__main__":
    kind, seed, start, stop, folder, seeds = sys.argv[1:]
    work(kind, int(seed), range(int(start), int(stop)), Path(folder), Path(seeds))

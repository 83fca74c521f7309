"""One measurement in a process of its own: threads, memory and settings of others do not reach it.

A job comes as JSON, as the only argument; what was measured goes to stdout as one line of JSON, or
``{"missing": reason}`` where a peer is not here, or ``{"error": line}`` for the user.
"""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vsr.benchmarks.jobs import Job, Kind
from vsr.benchmarks.loops import converter, run_command, run_serial, run_stages
from vsr.benchmarks.measures import count_work, measure_peaks, peak_mib, psnr
from vsr.benchmarks.ways import WAYS, Case, NotHereError, Run, rendered
from vsr.converting.exporting import ExportConfig, export_network
from vsr.device import choose_device, choose_dtype, describe, dtype_name, keep_freed_memory
from vsr.errors import ConfigError, VsrError
from vsr.planning import Plan, make_plan
from vsr.runtimes import EagerRuntime
from vsr.stopwatch import synchronise
from vsr.timings import processor_name

__all__ = ["apart", "main", "perform"]

Found = dict[str, Any]

_PYTHON = [sys.executable]
_CODE = "from vsr.benchmarks.worker import main; main()"


def apart(job: Job) -> Found:
    """:func:`perform` in a process of its own.

    Raises:
        NotHereError: a peer is not installed, or fails.
        VsrError: the measurement itself cannot be made.
    """
    done = subprocess.run(
        [*_PYTHON, "-c", _CODE, job.json], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise NotHereError(f"it fails: {lines[-1]}")
    found: Found = json.loads(done.stdout.splitlines()[-1])
    if "error" in found:
        raise (ConfigError if found["usage"] else VsrError)(found["error"])
    if "missing" in found:
        raise NotHereError(found["missing"])
    return found


def main() -> None:
    """Perform the job in the first argument."""
    job = Job.from_json(sys.argv[1])
    sys.path.extend(job.packages)  # behind our own
    keep_freed_memory()  # as the command does
    try:
        found = perform(job)
    except VsrError as error:
        found = {"error": str(error), "usage": isinstance(error, ConfigError)}
    except NotHereError as error:
        found = {"missing": str(error)}
    sys.stdout.write("\n" + json.dumps(found) + "\n")


def perform(job: Job) -> Found:
    """Measure.

    Returns:
        ``seconds`` for ``frames``, ``mib`` of memory, and what else there is to a job of its kind.

    Raises:
        NotHereError: the way cannot be gone here.
        VsrError: the clip, the model or the device cannot be used.
    """
    if job.kind in _WITHOUT_PLAN:
        return _WITHOUT_PLAN[job.kind](job)
    with ExitStack() as stack:
        plan = make_plan(job.config, stack)
        case = _make_case(job, plan)
        if job.kind in _WITHOUT_RUN:
            return _WITHOUT_RUN[job.kind](job, plan, case)
        return _WITH_RUN[job.kind](job, plan, case, WAYS[job.way](case))


def _make_case(job: Job, plan: Plan) -> Case:
    device = choose_device(job.device)
    return Case(
        job=job, network=plan.network, device=device, dtype=choose_dtype(device, job.precision),
        shape=plan.info.shape,
    )  # fmt: skip


def _peaks(job: Job) -> Found:
    device = choose_device(job.device)
    halves = [torch.float16] if device.type == "cuda" else [torch.bfloat16]
    return measure_peaks(device, [torch.float32, *halves])


def _facts(job: Job, plan: Plan, case: Case) -> Found:
    """What is run where, its work, and files for the others: a picture, and what it becomes."""
    info, network = plan.source.info, case.network
    frame = next(iter(plan.source))
    planes = frame.format.views(frame.planes, frame.width, frame.height)
    picture = converter(plan, torch.device("cpu"))(planes).contiguous()
    exact = rendered(case, EagerRuntime(network, case.device, torch.float32))
    out, flop, moved = count_work(exact, picture.to(case.device))
    np.save(job.file("picture.npy"), picture.numpy())
    np.save(job.file("reference.npy"), out.cpu().numpy())
    return {
        "source": [info.width, info.height], "result": [plan.info.width, plan.info.height],
        "network": network.name, "scale": out.shape[-1] // picture.shape[-1],
        "parameters": sum(p.numel() for p in network.module.parameters()),
        "flop": flop, "bytes": moved,
        "runtime": plan.engine.runtime, "dtype": dtype_name(plan.engine.dtype),
        "device": case.device.type, "encoder": plan.encoding.codec,
        "machine": _machine(case.device),
    }  # fmt: skip


def _machine(device: torch.device) -> Found:
    return {
        "cpu": processor_name(), "threads": torch.get_num_threads(),
        "device": describe(device), "system": platform.system(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "torch": torch.__version__, "python": platform.python_version(),
    }  # fmt: skip


def _export(job: Job, plan: Plan, case: Case) -> Found:
    """The network as ONNX, for peers; of windows, for this size alone."""
    width, height = (side // max(case.network.scale, 1) for side in reversed(case.shape))
    size = (width, height) if case.network.grid > 1 else None
    config = ExportConfig(size=size, overwrite=True)
    return {"path": str(export_network(case.network, job.file("model.onnx"), config).path)}


def _network(job: Job, plan: Plan, case: Case, run: Run) -> Found:
    """The bare network on a picture that lies ready."""
    picture = torch.from_numpy(np.load(job.file("picture.npy"))).to(case.device)
    first: Tensor = run(picture)
    distance = psnr(first.float().cpu().numpy(), np.load(job.file("reference.npy")))
    synchronise(case.device)
    started = time.perf_counter()
    for _ in range(job.frames):
        run(picture)
    synchronise(case.device)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds, "frames": job.frames, "psnr": distance, "mib": peak_mib(case.device)
    }  # fmt: skip


_WITHOUT_PLAN: Mapping[Kind, Callable[[Job], Found]] = {"peaks": _peaks, "command": run_command}
_WITHOUT_RUN: Mapping[Kind, Callable[[Job, Plan, Case], Found]] = {
    "facts": _facts, "export": _export,
}  # fmt: skip
_WITH_RUN: Mapping[Kind, Callable[[Job, Plan, Case, Run], Found]] = {
    "network": _network, "serial": run_serial, "stages": run_stages,
}  # fmt: skip

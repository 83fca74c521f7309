"""The ways to run one network: ours, and those of other programs, as their users run them."""

import importlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vsr.benchmarks.graphed import graphed
from vsr.benchmarks.jobs import OURS, Job
from vsr.networks import Network
from vsr.networks.attention import pad_to_multiple
from vsr.runtimes import EagerRuntime, make_runtime
from vsr.runtimes.openvino import load_openvino

__all__ = ["ON_CPU", "ON_CUDA", "SERIAL", "WAYS", "Case", "NotHereError", "Run", "rendered"]

Run = Callable[[Tensor], Tensor]
"""From (1, 3, H, W) float32 on the case's device to (1, 3, scale * H, scale * W)."""


class NotHereError(Exception):
    """Why a way cannot be gone here, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is to be run."""

    job: Job
    network: Network
    device: torch.device
    dtype: torch.dtype
    """That a run of the command would choose, or was told."""
    shape: tuple[int, int]
    """(height, width) of the result."""

    @property
    def half(self) -> torch.dtype:
        """The half precision of the device."""
        return torch.float16 if self.device.type == "cuda" else torch.bfloat16


def rendered(case: Case, runtime: EagerRuntime) -> Run:
    """``runtime`` from picture to picture, whatever else the network wants or gives."""
    network = case.network

    def run(picture: Tensor) -> Tensor:
        out = runtime(network.fed(picture))
        return out if network.scale else runtime.render(out, picture, case.shape)

    return run


def _ours(case: Case) -> Run:
    runtime = make_runtime(case.network, case.device, case.dtype, case.job.runtime)
    run = rendered(case, runtime)
    return graphed(run, case.device) if case.device.type == "cuda" else run


# PyTorch, as people write it.


def _torch(
    case: Case, *, half: bool = False, last: bool = False, compiled: bool = False
) -> Run:  # fmt: skip
    network = _plain(case.network)
    dtype = case.half if half else torch.float32
    layout = torch.channels_last if last else torch.contiguous_format
    module = network.module.to(case.device, dtype).to(memory_format=layout)
    forward = torch.compile(module, dynamic=False) if compiled else module

    @torch.inference_mode()
    def run(picture: Tensor) -> Tensor:
        height, width = (network.scale * side for side in picture.shape[-2:])
        seen = pad_to_multiple(picture.to(dtype, memory_format=layout), network.multiple)
        out: Tensor = forward(seen)
        return out[..., :height, :width].float()

    return run


def _plain(network: Network) -> Network:
    """``network``, if a picture of three channels is all that it wants."""
    if not network.scale or network.noise is not None or network.in_channels != 3:
        raise NotHereError(f"{network.name} wants more than a picture of three channels")
    return network


# Other programs, from ONNX.


def _onnx(case: Case) -> Path:
    path = case.job.file("model.onnx")
    if case.device.type != "cpu":
        raise NotHereError("compared on a CPU")
    if not path.is_file():
        raise NotHereError("there is no ONNX file of this network")
    return path


def _package(name: str) -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotHereError(f"the package {name} is not installed") from error


def _onnxruntime(case: Case) -> Run:
    path, onnxruntime = _onnx(case), _package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(picture: Tensor) -> Tensor:
        (found,) = session.run(["output"], {"input": picture.numpy()})
        return torch.from_numpy(found)

    return run


def _openvino(case: Case, precision: str) -> Run:
    path = _onnx(case)
    try:
        openvino = load_openvino()
    except ImportError as error:
        raise NotHereError("the package openvino is not installed") from error
    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise NotHereError("this processor has no bf16")
    model = core.read_model(path)
    height, width = (side // case.network.scale for side in case.shape)
    model.reshape([1, 3, height, width])
    options = {
        "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }  # fmt: skip
    request = core.compile_model(model, "CPU", options).create_infer_request()

    def run(picture: Tensor) -> Tensor:
        request.set_input_tensor(openvino.Tensor(picture.numpy(), shared_memory=True))
        request.infer()
        return torch.from_numpy(request.get_output_tensor().data)

    return run


def _ncnn(case: Case) -> Run:
    path, ncnn = _onnx(case), _package("ncnn")
    param, weights = _to_ncnn(case, path)
    net = ncnn.Net()
    net.opt.num_threads = torch.get_num_threads()
    if net.load_param(str(param)) or net.load_model(str(weights)):
        raise NotHereError("ncnn cannot read what pnnx has made")

    def run(picture: Tensor) -> Tensor:
        with net.create_extractor() as extractor:
            extractor.input("in0", ncnn.Mat(picture[0].numpy()).clone())
            _, found = extractor.extract("out0")
            return torch.from_numpy(np.array(found))[None]

    return run


def _to_ncnn(case: Case, path: Path) -> tuple[Path, Path]:
    """The network's graph and weights for ncnn, in float32; made by pnnx the first time."""
    made = path.with_suffix(".ncnn.param"), path.with_suffix(".ncnn.bin")
    if not made[0].is_file():
        pnnx = _find_pnnx()
        height, width = (side // case.network.scale for side in case.shape)
        shape = f"inputshape=[1,3,{height},{width}]"
        done = subprocess.run(
            [pnnx, path.name, shape, "fp16=0"], cwd=path.parent, capture_output=True, check=False
        )
        if done.returncode or not made[0].is_file():
            raise NotHereError("pnnx cannot convert this network")
    return made


def _find_pnnx() -> str:
    spec = importlib.util.find_spec("pnnx")
    places = [Path(spec.origin).parent] if spec is not None and spec.origin else []
    places += [Path(sys.executable).parent]
    found = shutil.which("pnnx", path=":".join(map(str, places))) or shutil.which("pnnx")
    if found is None:
        raise NotHereError("pnnx, which converts networks for ncnn, is not installed")
    return found


WAYS: dict[str, Callable[[Case], Run]] = {
    OURS: _ours,
    "openvino-bf16": partial(_openvino, precision="bf16"),
    "openvino-fp32": partial(_openvino, precision="f32"),
    "onnxruntime": _onnxruntime,
    "ncnn": _ncnn,
    "torch": _torch,
    "torch-nhwc": partial(_torch, last=True),
    "torch-half": partial(_torch, half=True),
    "torch-nhwc-half": partial(_torch, half=True, last=True),
    "torch-compile": partial(_torch, half=True, last=True, compiled=True),
}
"""By name. ``nhwc`` is channels_last, ``half`` bf16 on a CPU and fp16 on a GPU, all of it."""

ON_CPU = (
    "openvino-bf16", "openvino-fp32", "onnxruntime", "ncnn", "torch", "torch-nhwc",
    "torch-nhwc-half",
)  # fmt: skip
ON_CUDA = ("torch", "torch-nhwc", "torch-half", "torch-nhwc-half")
SERIAL = {"cpu": ("onnxruntime", "ncnn", "torch"), "cuda": ("torch", "torch-half")}
"""Those that are also measured in the loop of existing tools."""

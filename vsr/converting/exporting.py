"""Networks for other programs: ONNX and TorchScript, checked against our own output."""

import copy
import importlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.export import Dim

from vsr.comparing import LIMIT, difference, draw
from vsr.converting.writing import new_file
from vsr.errors import ConfigError, VsrError, WeightsError
from vsr.networks import Network
from vsr.networks.attention import pad_to_multiple

__all__ = ["SUFFIXES", "ExportConfig", "Exported", "export_network"]

Format = Literal["onnx", "torchscript"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torchscript": ".pt"}
"""What can be written, and the usual suffix of each."""

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """What to write."""

    format: Format = "onnx"
    opset: int | None = None
    """ONNX operator set; None takes PyTorch's own choice."""
    size: tuple[int, int] | None = None
    """Width and height of the only picture that the file shall take; None is any."""
    half: bool = False
    """Whether the network's body is in float16; input and output stay in float32."""
    source: str = ""
    """Where the weights come from, for the file's metadata."""
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A file that was written, and how it compares."""

    path: Path
    opset: int | None
    """Of an ONNX file."""
    difference: float
    """The largest from our own output in float32, in standard deviations of that."""


def export_network(network: Network, path: Path, config: ExportConfig) -> Exported:
    """Write ``network`` for another program, run the file, and compare.

    The input is called ``input``: (N, channels, H, W) float32 in [0, 1]. The output is called
    ``output``, scale times as high and wide, and not clamped. N, H and W are free; of a network
    with windows, H and W must be multiples of ``network.grid`` (``multiple`` in the metadata), two
    at least, and N is 1 for ESC; of one that works on cells of pixels, they must be whole cells.
    With ``config.size``, H and W are fixed, and N is 1.

    Raises:
        ConfigError: the extra ``export`` is not installed, or the opset cannot be had.
        WeightsError: the network cannot be traced, or the file's output differs from ours.
        SinkError: ``path`` exists, or cannot be written.
    """
    if config.format == "onnx":
        _require_extra()
    elif config.opset is not None:
        raise ConfigError("an opset is a matter of ONNX; TorchScript has none")
    write, load = (
        (_write_onnx, _load_onnx) if config.format == "onnx" else (_write_script, _load_script)
    )
    metadata = {
        "architecture": network.name, "scale": str(network.scale), "source": config.source,
        "precision": "fp16" if config.half else "fp32",
        "multiple": str(_unit(network) if config.size is None else 1),
    }  # fmt: skip
    _require_picture_only(network)
    plan = _plan(network, config)
    module = _Portable(network, half=config.half).eval()
    with new_file(path, overwrite=config.overwrite) as part, _explained(network, config):
        with torch.no_grad():  # networks keep tables; they must not come from a tracer
            module(_example(module, plan))
        opset = write(module, part, metadata, config, plan)
        ours = module if not config.half else _Portable(network, half=False).eval()
        found = max(_compare(ours, module, load(part), shape) for shape in plan.tried)
    return Exported(path=path, opset=opset, difference=found)


def _require_picture_only(network: Network) -> None:
    """Refuse what has to be told more than a picture."""
    if not network.scale:
        raise WeightsError(f"{network.name} enlarges by any factor, which no file can be told")
    if network.noise is not None:
        raise WeightsError(f"{network.name} wants noise beside the picture, and is not exported")


class _Portable(nn.Module):
    """A network that takes and gives float32, whatever its body is in, and pads for itself."""

    def __init__(self, network: Network, *, half: bool) -> None:
        super().__init__()
        self.channels = network.in_channels
        self._scale, self._multiple = network.scale, network.multiple
        self.network = copy.deepcopy(network.module)
        self.half_body = half and bool(network.body)
        self._input = torch.float16 if half and "" in network.body else torch.float32
        if half:
            for name in network.body:
                self.network.get_submodule(name).half()

    def forward(self, x: Tensor) -> Tensor:
        """Upscale (N, C, H, W)."""
        height, width = x.shape[-2] * self._scale, x.shape[-1] * self._scale
        if self._multiple > 1:
            x = pad_to_multiple(x, self._multiple)
        out: Tensor = self.network(x.to(self._input)).float()
        return out[..., :height, :width] if self._multiple > 1 else out


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is traced, at which sizes the file is tried, and which of its sides are free."""

    traced: tuple[int, int, int]
    """Batch, height and width, of which nothing must depend where they are free."""
    tried: tuple[tuple[int, int, int], ...]
    free: Mapping[int, object] | None = None
    """Dimensions for ``torch.export``; None fixes all."""


def _plan(network: Network, config: ExportConfig) -> _Plan:
    """How to export ``network``: a size is tried above what was traced and one below, none square.

    Both are needed: a height that became a constant does no harm to pictures that are less high.
    Windows tie a trace to whole windows, so sides are multiples of the grid there. A kernel for
    each picture ties it to a batch of one: a convolution's groups cannot be free.
    """
    if config.size is not None:
        shape = (1, config.size[1], config.size[0])
        return _Plan(shape, (shape,))
    if network.grid == 1 and network.multiple == 1:
        free = {0: Dim("batch"), 2: Dim("height"), 3: Dim("width")}
        return _Plan((2, 52, 60), ((1, 55, 67), (2, 50, 58)), free)
    if network.grid == 1:
        cell = network.multiple
        free = {0: Dim("batch"), 2: cell * Dim("rows", min=2), 3: cell * Dim("columns", min=2)}
        tried = ((1, 28 * cell, 34 * cell), (2, 25 * cell, 29 * cell))
        return _Plan((2, 26 * cell, 30 * cell), tried, free)
    grid, batch = network.grid, 1 if network.multiple > 1 else 2
    sides = {2: grid * Dim("rows", min=2), 3: grid * Dim("columns", min=2)}
    free = sides if batch == 1 else {0: Dim("batch"), **sides}
    tried = ((1, 4 * grid, 5 * grid), (batch, 2 * grid, 3 * grid))
    return _Plan((batch, 3 * grid, 4 * grid), tried, free)


def _unit(network: Network) -> int:
    """What sides must be multiples of: windows, or cells."""
    return network.grid if network.grid > 1 else network.multiple


def _example(module: _Portable, plan: _Plan) -> Tensor:
    batch, height, width = plan.traced
    return draw(module.channels, height, width).repeat(batch, 1, 1, 1)


def _compare(ours: Run, module: _Portable, run: Run, shape: tuple[int, int, int]) -> float:
    """How far the file is from our output in float32, in standard deviations.

    Raises:
        ValueError: further than rounding. In half precision, rounding is what ``module`` loses too.
    """
    batch, height, width = shape
    picture = draw(module.channels, height, width)
    picture = torch.cat([picture.roll(5 * index, -1) for index in range(batch)])
    with torch.inference_mode():
        expected = ours(picture)
        found = run(picture)
        limit = LIMIT + (2 * difference(module(picture), expected) if module.half_body else 0)
    apart = difference(found, expected) if found.shape == expected.shape else float("inf")
    if not apart <= limit:
        raise ValueError(f"at {width}x{height} its output differs by {apart:.1g} deviations")
    return apart


@contextmanager
def _explained(network: Network, config: ExportConfig) -> Iterator[None]:
    """Whatever a tracer or a runtime raises, as one line."""
    try:
        yield
    except VsrError:
        raise
    except Exception as error:  # tracers and runtimes raise anything
        while error.__cause__ is not None and isinstance(error.__cause__, Exception):
            error = error.__cause__
        reason = _reason(error)
        message = f"{network.name} cannot be exported to {config.format} "
        if config.size is None:
            hint = "; --size WxH exports it for one"
            raise WeightsError(f"{message}for any size: {reason}{hint}") from error
        raise WeightsError(f"{message}at this size: {reason}") from error


def _reason(error: Exception) -> str:
    """The line of a message that says something: TorchScript's interpreter puts it last."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = lines[-1] if lines[-1].startswith("RuntimeError: ") else lines[0]
    return line.partition(" For more information")[0].rstrip("!.")[:200]


# ONNX.


def _require_extra() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ConfigError(
                f"export to ONNX needs the extra export: pip install {package}"
            ) from error


def _write_onnx(
    module: _Portable, path: Path, metadata: dict[str, str], config: ExportConfig, plan: _Plan
) -> int:
    """Trace, add the metadata, and check the file; returns its opset."""
    import onnx

    with _silence():
        torch.onnx.export(
            module, (_example(module, plan),), path, dynamo=True, opset_version=config.opset,
            input_names=["input"], output_names=["output"], external_data=False, verbose=False,
            dynamic_shapes=None if plan.free is None else (plan.free,),
        )  # fmt: skip
    model = onnx.load(path)
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    if config.opset not in (None, opset):  # PyTorch writes one, and converts where it can
        raise ConfigError(f"opset {config.opset} cannot be had of this network; {opset} can")
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return int(opset)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep PyTorch from logging what the comparison settles, or the one line of an error says."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools", UserWarning)
            yield
    finally:
        logging.disable(before)


def _load_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(picture: Tensor) -> Tensor:
        (found,) = session.run(["output"], {"input": picture.numpy()})
        return torch.from_numpy(found)

    return run


# TorchScript.


def _write_script(
    module: _Portable, path: Path, metadata: dict[str, str], config: ExportConfig, plan: _Plan
) -> None:
    """Trace, and write with the metadata as a file ``vsr.json`` inside."""
    with _deprecated():
        example = _example(module, plan)
        traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path, _extra_files={"vsr.json": json.dumps(metadata)})


def _load_script(path: Path) -> Run:
    with _deprecated():
        loaded: Run = torch.jit.load(path)  # type: ignore[no-untyped-call]
    return loaded


@contextmanager
def _deprecated() -> Iterator[None]:
    """TorchScript is deprecated, but it is what FFmpeg and others load.

    A tracer also warns where a size becomes a constant; the comparison at other sizes shows whether
    it matters.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield

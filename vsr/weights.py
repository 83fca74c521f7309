"""Checkpoint files to networks.

Loading runs no code: safetensors, or ``torch.load(weights_only=True)``. What ships is verified
against the checksum in ``models/index.toml``.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vsr.errors import ConfigError, CorruptWeightsError, UnknownArchitectureError, WeightsError
from vsr.files import file_sha256
from vsr.index import expected_sha256, find_model, locate
from vsr.networks import ARCHITECTURES, Network, classical, describe, identify

__all__ = ["build_network", "load_network", "read_checkpoint", "require_pictures"]

_WRAPPERS = (
    "params_ema", "params-ema", "ema", "params", "state_dict", "model_state_dict", "model", "sd",
    "net_g", "generator", "network", "net",
)  # fmt: skip
"""Keys that a state dict lies under, in the order of preference: averaged weights come first."""
_SUBMODULES = ("net_g.", "netG.", "generator.", "model.")
"""What names begin with where a trainer saved the network as a part of itself, in order."""
_WAY_OUT = "save the state dict alone: torch.save(model.state_dict(), …)"
_DEEPEST = 4
"""Wrappers, or prefixes, in one another; a pickle may hold a dict that holds itself."""
_COUNTERS = ("total_ops", "total_params")
"""What thop leaves in every module whose work it has counted."""


# Reading files.


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a .safetensors or .pth file without running code from it.

    The state dict is the file's content, or lies under the first of these keys that has tensors:
    ``params_ema``, ``params-ema``, ``ema``, ``params``, ``state_dict``, ``model_state_dict``,
    ``model``, ``sd``, ``net_g``, ``generator``, ``network``, ``net``; also one within another.
    From names, ``module.`` in front and ``_orig_mod.`` anywhere are removed. If no network is known
    that has the names that remain, those are taken that begin with the first of ``net_g.``,
    ``netG.``, ``generator.``, ``model.`` behind which a known one is found. What thop counts
    (``total_ops``, ``total_params``) is left out.

    Returns:
        The state dict, with the names that the network gives its tensors, and the file's metadata.

    Raises:
        WeightsError: the file cannot be read.
        CorruptWeightsError: it is no checkpoint, is damaged, or would run code.
    """
    head = _read_head(path)
    safetensors = path.suffix == ".safetensors" or head[8:9] == b"{"
    state, metadata = (_read_safetensors if safetensors else _read_pickle)(path)
    return _unwrap(state, path), metadata


def _read_head(path: Path) -> bytes:
    """The first bytes of a file that holds anything."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}") from error
    if head.startswith(b"version https://git-lfs"):
        raise CorruptWeightsError(
            f"{path}: a Git LFS pointer, not the weights; run 'git lfs pull' to fetch them"
        )
    if not head:
        raise CorruptWeightsError(f"{path}: the file is empty")
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise CorruptWeightsError(f"{path}: an HTML page, not weights; fetch the file itself")
    return head


def _read_safetensors(path: Path) -> tuple[Any, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise CorruptWeightsError(f"{path}: no readable safetensors file ({error})") from error


def _read_pickle(path: Path) -> tuple[Any, dict[str, str]]:
    _refuse_programs(path)
    _refuse_packed(path)
    try:
        with warnings.catch_warnings():  # torch warns of pickle protocols; the outcome says enough
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True), {}
    except Exception as error:  # a file of arbitrary bytes makes unpicklers raise anything
        refused = isinstance(error, pickle.UnpicklingError) and (
            "GLOBAL" in str(error) or _is_foreign_pickle(path)
        )
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({named[1]})" if named else ""
        reason = (
            f"refused: it holds objects other than tensors{what}, and loading them would run code; "
            f"{_WAY_OUT}"
            if refused
            else "no readable checkpoint"
        )
        raise CorruptWeightsError(f"{path}: {reason}") from error


def _refuse_programs(path: Path) -> None:
    """Refuse what holds a whole program beside its weights, and say what it is.

    Raises:
        CorruptWeightsError: it is an ONNX file, or a program of PyTorch's.
    """
    head = _read_head(path)
    # an ONNX file begins with its version, and then the producer's name, or the graph
    if path.suffix.lower() == ".onnx" or re.match(rb"\x08[\x03-\x20][\x12\x3a]", head):
        raise CorruptWeightsError(f"{path}: an ONNX file, not a state dict; {_WAY_OUT}")
    names = {member.filename.partition("/")[2] for member in _members(path)}
    if "constants.pkl" in names or any(name.startswith("code/__torch__") for name in names):
        raise CorruptWeightsError(f"{path}: a TorchScript file, not a state dict; {_WAY_OUT}")
    if "archive_format" in names:
        raise CorruptWeightsError(f"{path}: made by torch.export, not a state dict; {_WAY_OUT}")


def _members(path: Path) -> list[zipfile.ZipInfo]:
    """What a zip archive says that it holds; nothing if it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):  # torch has the word
        return []


def _refuse_packed(path: Path) -> None:
    """Refuse an archive that would be larger in memory than it is; torch writes none.

    Raises:
        CorruptWeightsError: it is one.
    """
    size = sum(member.file_size for member in _members(path))
    if size > path.stat().st_size:
        raise CorruptWeightsError(f"{path}: refused: {size} bytes are packed into it")


def _is_foreign_pickle(path: Path) -> bool:
    """Whether this is a whole pickle, but of a protocol that torch (which writes 2) never uses."""
    later = (b"\x80\x03", b"\x80\x04", b"\x80\x05")
    return _read_head(path)[:2] in later and path.read_bytes().endswith(pickle.STOP)


def _unwrap(state: object, path: Path) -> dict[str, Tensor]:
    """The network's tensors, under the names that it has itself.

    Raises:
        CorruptWeightsError: there are no tensors with names where they are looked for.
    """
    found = _find_tensors(state)
    if not found:
        reason = "holds no tensors with names"
        if isinstance(state, Mapping) and state:
            keys = [" ".join(str(key)[:30].split()) for key in list(state)[:5]]
            more = ", …" if len(state) > len(keys) else ""
            reason = f"no tensors with names, nor under a known key; its keys are {', '.join(keys)}"
            reason += more
        raise CorruptWeightsError(f"{path}: {reason}")
    plain = {
        name.replace("_orig_mod.", "").removeprefix("module."): tensor
        for name, tensor in found.items()
    }
    return _find_network(plain) or plain


def _find_tensors(state: object, depth: int = 0) -> dict[str, Tensor]:
    """Those under the first of the wrappers that has any, else those that ``state`` itself has."""
    if not isinstance(state, Mapping) or depth > _DEEPEST:
        return {}
    for wrapper in _WRAPPERS:
        if found := _find_tensors(state.get(wrapper), depth + 1):
            return found
    return {
        str(name): value
        for name, value in state.items()
        if isinstance(value, Tensor) and str(name).rpartition(".")[2] not in _COUNTERS
    }


def _find_network(tensors: dict[str, Tensor], depth: int = 0) -> dict[str, Tensor]:
    """Those of a network that is known: all, or those under a prefix, without it; empty if none."""
    if any(architecture.detect(tensors) for architecture in ARCHITECTURES):
        return tensors
    if depth == _DEEPEST:
        return {}
    for prefix in (*_SUBMODULES, "module."):
        inner = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        if inner and (found := _find_network(inner, depth + 1)):
            return found
    return {}


# Building networks.


def build_network(
    state: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path, *, probe: bool = True
) -> Network:
    """The network that ``state`` belongs to, folded, in float32, for inference.

    Args:
        state: a state dict as published.
        metadata: what else is known; see ``infer_config`` of the networks.
        path: what to call the checkpoint in messages.
        probe: whether what parameters leave open may be settled by trial, even against what the
            file says.

    Raises:
        ConfigError: the shapes fit several variants, and nothing tells which it is.
        UnknownArchitectureError: no registered network has parameters of these names.
        CorruptWeightsError: parameters are missing, left over, of impossible shapes, not finite, or
            no real numbers.
    """
    try:
        architecture = identify(state)
    except UnknownArchitectureError as error:
        raise UnknownArchitectureError(f"{path}: {error}") from error
    try:
        doubles = _doubles(state)
        folded = architecture.prepare(doubles)
        config = architecture.infer_config(folded, metadata)
        _require_finite(doubles, path)
        with torch.random.fork_rng(devices=[]):  # values are drawn only to be replaced
            module = architecture.build(config)
        _fill(module, folded)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except CorruptWeightsError:
        raise
    except (KeyError, ValueError, RuntimeError, IndexError, ArithmeticError) as error:
        raise CorruptWeightsError(
            f"{path}: a damaged {architecture.name} checkpoint ({_reason(error)})"
        ) from error
    module.eval().requires_grad_(False)
    if probe and architecture.settle is not None:
        module = architecture.settle(module)
    return describe(architecture.name, module, config)


def _doubles(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` in float64; a single number that only marks something may be of any real type.

    Raises:
        ValueError: a tensor has no elements, so that no network could be built around it, or holds
            integers or complex numbers.
    """
    for name, value in state.items():
        if not value.numel():
            raise ValueError(f"{name} is empty")
        if value.is_complex() or not (value.is_floating_point() or value.numel() == 1):
            kind = "complex numbers" if value.is_complex() else "integers"
            raise ValueError(f"{name} holds {kind} ({value.dtype}), not real numbers")
    return {name: v.double() if v.is_floating_point() else v for name, v in state.items()}


def _require_finite(doubles: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that would make every picture black; a pass over each tensor, nothing copied.

    Raises:
        CorruptWeightsError: a tensor holds NaN, or what float32 cannot hold.
    """
    largest = torch.finfo(torch.float32).max
    bad = []
    for name, value in doubles.items():
        low, high = value.aminmax()
        if not (low >= -largest and high <= largest):  # NaN is neither
            bad.append(name)
    if bad:
        named = f"{bad[0]}, …" if len(bad) > 1 else bad[0]
        raise CorruptWeightsError(
            f"{path}: NaN or infinity in {len(bad)} of its {len(doubles)} tensors ({named}): "
            "the training has diverged, or the file is damaged"
        )


def _fill(module: torch.nn.Module, state: Mapping[str, Tensor]) -> None:
    """Replace the values of ``module``; a buffer that ``state`` lacks is a constant and stays.

    Raises:
        KeyError: a parameter is missing.
        ValueError: one is left over or has another shape.
    """
    wanted = module.state_dict()
    constant = dict(module.named_buffers())
    for name in {**wanted, **state}:
        if name not in wanted:
            raise ValueError(f"{name} is left over")
        if name not in state and name not in constant:
            raise KeyError(name)
        if name in state and state[name].shape != wanted[name].shape:
            shapes = (list(state[name].shape), list(wanted[name].shape))
            raise ValueError("{} has shape {}, not {}".format(name, *shapes))
    single = {name: value.float().contiguous() for name, value in state.items()}
    module.load_state_dict(wanted | single, assign=True)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()


# Loading by name.


def load_network(
    model: str | Path = "span", *, scale: Fraction | int | None = None,
    weights: str | Path | None = None, variant: str | None = None,
) -> Network:  # fmt: skip
    """Load a network by name, or from a checkpoint of your own.

    Args:
        model: a name from :func:`vsr.index.list_models`; a Path is taken as ``weights``.
        scale: the enlargement wanted; None takes the smallest that the model offers. A network
            that renders at any size takes any.
        weights: a .safetensors or .pth file to load instead of ``model``.
        variant: which variant of its architecture a checkpoint is, where nothing else tells.

    Returns:
        The network on the CPU in float32; a runner moves it where it is needed.

    Raises:
        ConfigError: no such model, it has not this scale, or it is no checkpoint of your own and
            ``variant`` is given.
        WeightsError: the file cannot be used (see the subclasses).
    """
    if weights is not None or isinstance(model, Path):
        hints = {"requested_variant": variant} if variant else {}
        file = weights or model
        return _load_file(file if isinstance(file, Path) else Path(file), scale, hints)
    entry = find_model(model, scale)
    if variant:
        raise ConfigError(f"variant {variant!r}: it is known which one {entry.name} is")
    if entry.is_classical:
        return classical(entry.family, entry.scale)
    path = locate(entry)
    _verify(path, expected_sha256(entry))
    hints = {"variant": entry.variant} if entry.variant else {}
    network = _load_file(path, entry.scale or scale, hints)
    # what ships is known to keep its head beyond black and white (tests/test_bounds.py)
    return network if entry.source else replace(network, bounded=False)


def _load_file(path: Path, scale: Fraction | int | None, hints: Mapping[str, str]) -> Network:
    state, metadata = read_checkpoint(path)
    network = build_network(state, {"file_name": path.stem, **metadata, **hints}, path)
    require_pictures(network, path)
    if scale is not None and network.scale not in (scale, 0):
        raise ConfigError(f"{path}: enlarges {network.scale} times, not {float(scale):g} times")
    return network


def require_pictures(network: Network, path: Path) -> None:
    """Refuse a network that was trained for something else than pictures.

    Raises:
        WeightsError: it has other channels than one or three, or gives others than it takes.
    """
    channels = (network.in_channels, network.out_channels)
    if channels not in ((1, 1), (3, 3)):
        raise WeightsError(
            f"{path}: a network from {channels[0]} to {channels[1]} channels; a picture has 3, or 1"
        )


def _verify(path: Path, sha256: str) -> None:
    _read_head(path)
    if file_sha256(path) != sha256:
        raise CorruptWeightsError(f"{path}: damaged, its checksum is not the known one")

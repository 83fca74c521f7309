"""Checkpoint files to tensors under the names that their networks give them, and metadata.

Reading runs no code: safetensors, or ``torch.load(weights_only=True)``.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vsr.errors import CorruptWeightsError, WeightsError
from vsr.networks import ARCHITECTURES

__all__ = ["read_checkpoint", "read_head"]

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
        Parameters come as plain tensors.

    Raises:
        WeightsError: the file cannot be read.
        CorruptWeightsError: it is no checkpoint, is damaged, or would run code.
    """
    head = read_head(path)
    safetensors = path.suffix == ".safetensors" or head[8:9] == b"{"
    state, metadata = (_read_safetensors if safetensors else _read_pickle)(path)
    found = _unwrap(state, path)
    _refuse_repeated(found, path)
    return found, metadata


def read_head(path: Path) -> bytes:
    """The first 64 bytes of a file that may hold weights, or all of it if it is shorter.

    Raises:
        WeightsError: the file cannot be read.
        CorruptWeightsError: it is empty, a Git LFS pointer, or an HTML page.
    """
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
    head = read_head(path)
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


def _refuse_repeated(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that are larger than what the file holds of them: it repeats a few values.

    Raises:
        CorruptWeightsError: there is one.
    """
    for name, tensor in tensors.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CorruptWeightsError(
                f"{path}: refused: {name}, {tuple(tensor.shape)}, is larger than its values in the "
                "file"
            )


def _is_foreign_pickle(path: Path) -> bool:
    """Whether this is a whole pickle, but of a protocol that torch (which writes 2) never uses."""
    later = (b"\x80\x03", b"\x80\x04", b"\x80\x05")
    return read_head(path)[:2] in later and path.read_bytes().endswith(pickle.STOP)


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
        str(name): value.detach()  # a parameter would keep a graph of what is made of it
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

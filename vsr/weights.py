"""Networks: by the names of models, or from checkpoints of your own.

What ships is verified against the checksum in ``models/index.toml``.
"""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from vsr.checking import file_name
from vsr.checkpoints import read_checkpoint, read_head
from vsr.choosing import AUTO
from vsr.errors import ConfigError, CorruptWeightsError, UnknownArchitectureError, WeightsError
from vsr.files import file_sha256
from vsr.index import expected_sha256, find_model, locate
from vsr.networks import Network, classical, describe, identify

__all__ = ["build_network", "load_network", "require_pictures"]


# Loading by name.


def load_network(
    model: str | Path = "span", *, scale: Fraction | int | None = None,
    weights: str | Path | None = None, variant: str | None = None,
) -> Network:  # fmt: skip
    """Load a network by name, or from a checkpoint of your own.

    Args:
        model: a name from :func:`vsr.index.list_models`; a Path is taken as ``weights``. ``auto``
            needs a source to look at, and is for runs and the VapourSynth filter.
        scale: the enlargement wanted; None takes the smallest that the model offers. A network
            that renders at any size takes any.
        weights: a .safetensors or .pth file to load instead of ``model``.
        variant: which variant of its architecture a checkpoint is, where nothing else tells.

    Returns:
        The network on the CPU in float32; a runner moves it where it is needed.

    Raises:
        ConfigError: no such model, it has not this scale, or it is no checkpoint of your own and
            ``variant`` is given; or no file can be called so.
        WeightsError: the file cannot be used (see the subclasses).
    """
    if weights is not None or isinstance(model, Path):
        hints = {"requested_variant": variant} if variant else {}
        file = file_name("model", model) if weights is None else file_name("weights", weights)
        return _load_file(file, scale, hints)
    if model == AUTO:
        raise ConfigError(f"model {AUTO!r} is chosen by the source: give it to a run or the filter")
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
        raise ConfigError(f"{path}: enlarges {network.scale} times, not {float(scale):.10g} times")
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
    read_head(path)
    if file_sha256(path) != sha256:
        raise CorruptWeightsError(f"{path}: damaged, its checksum is not the known one")


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

"""Any checkpoint that the registry knows, and SPAN from ncnn, as one folded safetensors file."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from vsr.checkpoints import read_checkpoint
from vsr.comparing import LIMIT, difference, draw
from vsr.converting.ncnn import is_ncnn, read_ncnn
from vsr.converting.writing import new_file
from vsr.errors import ConfigError, SinkError, WeightsError
from vsr.files import file_sha256, followed
from vsr.networks import Network, identify
from vsr.networks.span import SpanConfig
from vsr.weights import build_network, require_pictures

__all__ = ["Imported", "import_checkpoint"]

_HINTS = ("file_name", "requested_variant")
"""Metadata that only helps to read a file; what it leads to is written instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A file that was written, and how it compares."""

    path: Path
    architecture: str
    scale: int
    difference: float
    """From the original in float64, in standard deviations of the output: rounding, or what
    half precision costs."""


def import_checkpoint(
    path: Path, output: Path | None = None, *, variant: str | None = None, half: bool = False,
    overwrite: bool = False,
) -> Imported:  # fmt: skip
    """Write a checkpoint anew: folded, as safetensors, with what its shapes do not say.

    The file is loaded again and its output compared with that of the original, folded in float64.

    Args:
        path: a .safetensors or .pth file, or either file of an ncnn pair.
        output: where to write; None takes ``path`` with the suffix .safetensors.
        variant: which variant of its architecture it is, where the shapes fit several.
        half: store float16, which halves the file and rounds the weights.
        overwrite: whether an existing file may be replaced.

    Raises:
        ConfigError: ``output`` is ``path``.
        WeightsError: the checkpoint cannot be used, or the outputs differ by more than rounding.
        SinkError: ``output`` exists, or cannot be written.
    """
    output = path.with_suffix(".safetensors") if output is None else output
    if followed(output) == followed(path):
        raise ConfigError(f"{output}: would replace what is imported; name another with -o")
    with new_file(output, overwrite=overwrite) as part:
        state, hints = read_ncnn(path) if is_ncnn(path) else read_checkpoint(path)
        hints = {"file_name": path.name, **hints}
        if variant is not None:
            hints["requested_variant"] = variant
        network = build_network(state, hints, path)
        require_pictures(network, path)
        original = _exact(network, state)
        stored = _stored(original, half=half)
        if half:
            _require_room(stored, output)
        _save(stored, _describe(network, hints, path), part, output)
        return _check(network, original, stored, part=part, output=output)


def _exact(network: Network, state: Mapping[str, Tensor]) -> nn.Module:
    """``network`` with weights that were folded in float64; it computes in that too, if it can.

    Attention in float64 stores all scores, gigabytes for a large window; those networks, of which
    nothing or little is folded, stay in float32.
    """
    doubles = {name: v.double() if v.is_floating_point() else v for name, v in state.items()}
    module = copy.deepcopy(network.module)
    if network.grid == 1:
        module.double()
    module.load_state_dict(identify(state).prepare(doubles), strict=False)  # lacks constants only
    return module


def _stored(module: nn.Module, *, half: bool) -> dict[str, Tensor]:
    dtype = torch.float16 if half else torch.float32
    return {
        name: (value.to(dtype) if value.is_floating_point() else value).contiguous()
        for name, value in module.state_dict().items()
    }


def _require_room(stored: Mapping[str, Tensor], output: Path) -> None:
    """Refuse to write weights that float16 cannot hold; the original's are finite.

    Raises:
        WeightsError: some are too large.
    """
    if large := [name for name, value in stored.items() if not value.isfinite().all()]:
        raise WeightsError(
            f"{output}: not written: {large[0]} holds values beyond 65504, the largest of float16; "
            "import it without --half"
        )


def _describe(network: Network, hints: Mapping[str, str], path: Path) -> dict[str, str]:
    """What is said of the file: all that the original said, and what can be known of it."""
    source = path.with_suffix(".bin") if is_ncnn(path) else path
    known = {
        "format": "pt", "arch": network.name, "scale": str(network.scale),
        "source_file": source.name,
        "source_sha256": file_sha256(source),
    }  # fmt: skip
    kept = {key: value for key, value in hints.items() if key not in _HINTS}
    if "requested_variant" in hints:
        known["variant"] = hints["requested_variant"]
    return kept | known | _unshaped(network.module)


def _unshaped(module: nn.Module) -> dict[str, str]:
    """What the shapes do not tell, as the networks' ``infer_config`` reads it."""
    config = getattr(module, "config", None)
    if isinstance(config, SpanConfig):
        if not config.norm:
            return {"norm": "none", "rgb_mean": "null", "img_range": "1.0"}
        mean = json.dumps(list(config.mean))
        return {"norm": "mean", "rgb_mean": mean, "img_range": str(config.img_range)}
    windows = getattr(config, "windows", None)
    return {"windows": ",".join(map(str, windows))} if windows else {}


def _save(state: dict[str, Tensor], metadata: dict[str, str], part: Path, output: Path) -> None:
    try:  # not save_file, which leaves a file that nobody else may read
        part.write_bytes(save(state, metadata))
    except OSError as error:
        raise SinkError(f"{output}: {error.strerror}") from error


def _check(
    network: Network, original: nn.Module, stored: Mapping[str, Tensor], *, part: Path, output: Path
) -> Imported:
    """Compare what was written with the original; half precision, with the original so rounded."""
    picture = draw(network.in_channels, 72, 88)
    written = build_network(*read_checkpoint(part), output)
    with torch.inference_mode():
        found = _run(written, written.module, picture)
        exact = _run(network, original, picture)
        apart = lost = difference(found, exact)
        if any(value.dtype == torch.float16 for value in stored.values()):
            original.load_state_dict(stored, strict=False)
            apart = difference(found, _run(network, original, picture))
    if not apart <= LIMIT:
        raise WeightsError(
            f"{output}: not written: its output would differ from the original's by {apart:.1g}"
            " standard deviations"
        )
    return Imported(
        path=output, architecture=written.name, scale=written.scale,
        difference=lost,
    )  # fmt: skip


def _run(network: Network, module: nn.Module, picture: Tensor) -> Tensor:
    """What ``module``, a form of ``network``, makes of a picture; a free size is twice as large."""
    height, width = picture.shape[-2:]
    picture = network.fed(picture).to(next(module.parameters()).dtype)
    out: Tensor = module(picture) if network.scale else module(picture, (2 * height, 2 * width))
    return out

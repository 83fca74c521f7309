"""The index of models: what can be named, and where its weights lie.

``models/index.toml`` is the only list: ``[[model]]`` ship, ``[[download]]`` are fetched by
``vsr-models pull``. It is read once, and importing this module needs no torch.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from difflib import get_close_matches
from fractions import Fraction
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from vsr.cache import cache_path, how_to_get, is_cached, trusted_sha256
from vsr.errors import ConfigError, WeightsError
from vsr.shipped import shipped_folder

__all__ = [
    "Model",
    "expected_sha256",
    "find_model",
    "list_models",
    "locate",
    "looks_like_a_file",
    "models_folder",
    "scale_reaching",
]

_CHECKPOINTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".param", ".onnx")
_CLASSICAL_SCALES = {"identity": (1,), "lanczos": (1, 2, 3, 4)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """An entry of the model index."""

    name: str
    family: str
    """What ``--model`` may say instead, with ``--scale`` choosing among the family."""
    scale: int
    """How many times it enlarges; 0 stands for any scale, as for ESC+LTE."""
    summary: str
    file: str | None = None
    """Name of the weights file in the models folder; None for what does not ship."""
    source: str = ""
    """What a model that does not ship is fetched from: a reference (see :mod:`vsr.cache`)."""
    sha256: str = ""
    """Of the weights; empty if their author states none and nobody else does."""
    architecture: str = ""
    variant: str = ""
    """What the shapes in the file do not tell its network, such as SST's window sizes."""
    purpose: str = ""
    """``clean`` or ``video``: what ``--model auto`` takes it for; empty if it never takes it."""
    licence: str = ""
    psnr: float | None = None
    """Set5, dB on luma, measured by ``scripts/evaluate.py`` or its protocol."""
    paper: str = ""
    """What its authors published, in their words and units."""

    @property
    def is_classical(self) -> bool:
        """Whether it is a filter, which has no weights."""
        return self.file is None and not self.source


def models_folder() -> Path:
    """Where the shipped models lie."""
    return shipped_folder("models")


def locate(model: Model) -> Path:
    """The weights file of a model that has one; of a shipped one it is not said that it exists.

    Raises:
        WeightsError: it does not ship and was not fetched; the message says how to get it.
    """
    if model.file is not None:
        return models_folder() / model.file
    if not is_cached(model.source):
        hint = how_to_get(model.source, model.name)
        raise WeightsError(f"model {model.name!r} is not on this machine; {hint}")
    return cache_path(model.source)


def expected_sha256(model: Model) -> str:
    """What the sha256 of a model's weights must be.

    Where the index knows none, the file is trusted on first use: what was recorded then holds.

    Raises:
        WeightsError: the model does not ship and was not fetched.
    """
    return model.sha256 or trusted_sha256(locate(model))


@cache
def list_models() -> tuple[Model, ...]:
    """All models that can be named: those that ship, filters, those that are fetched.

    Raises:
        WeightsError: the index is missing or damaged.
    """
    shipped, fetched = _read_index(models_folder() / "index.toml")
    identity = Model(name="identity", family="identity", scale=1, summary="the picture as it is")
    filters = [
        Model(name=f"lanczos-x{scale}", family="lanczos", scale=scale, summary="Lanczos filter")
        for scale in _CLASSICAL_SCALES["lanczos"]
        if scale > 1
    ]
    return (*shipped, identity, *filters, *fetched)


def _read_index(path: Path) -> tuple[list[Model], list[Model]]:
    """Models that ship, and those that are fetched."""
    try:
        index = tomllib.loads(path.read_text(encoding="utf-8"))
        return list(_models(index, "model", "file")), list(_models(index, "download", "source"))
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}; install vsr again") from error
    except (ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path}: damaged ({reason}); install vsr again") from error


def _models(index: dict[str, Any], table: str, place: str) -> Iterator[Model]:
    """The entries of ``table``, each of which must say its ``place``.

    Raises:
        ValueError: an entry says something else than it may.
    """
    entries = index.get(table, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{table!r} is no list of tables")
    for entry in entries:
        _check_entry(entry, place)
        yield Model(**entry)


def _check_entry(entry: dict[str, Any], place: str) -> None:
    """Whether an entry can be a :class:`Model`.

    Raises:
        ValueError: a value is missing, unknown or of another type, or leads out of the folder.
    """
    known = {field.name for field in fields(Model)} - ({"file", "source"} - {place})
    numbers: dict[str, tuple[type, ...]] = {"scale": (int,), "psnr": (int, float)}
    for key, value in entry.items():
        if key not in known or type(value) not in numbers.get(key, (str,)):
            raise ValueError(f"{key} = {value!r}")
    if missing := {"name", "family", "scale", "summary", place} - entry.keys():
        raise ValueError(f"an entry without {', '.join(sorted(missing))}")
    if entry["scale"] < 0 or not entry["name"]:
        raise ValueError(f"an entry {entry['name']!r} of scale {entry['scale']}")
    if place == "file" and PurePath(entry["file"]).name != entry["file"]:
        raise ValueError(f"file = {entry['file']!r} is not beside the index")


def find_model(
    name: str, scale: Fraction | int | None, *, otherwise: str = "a run may name a size"
) -> Model:
    """The model called ``name``, or the one of family ``name`` with this scale.

    One that ships comes before one that is fetched, whatever the fetched one is called.

    Args:
        name: of a model or a family.
        scale: the enlargement wanted; None takes the smallest.
        otherwise: what to do for a scale that it has not, in the words of who asks.

    Raises:
        ConfigError: there is no such model, or it has not this scale.
    """
    candidates = [model for model in list_models() if name in (model.name, model.family)]
    if not candidates:
        raise ConfigError(f"no model is called {name!r}; {_what_is_meant(name)}")
    candidates.sort(key=lambda model: (bool(model.source), model.scale))
    if scale is None:
        return candidates[0]
    for model in candidates:
        if model.scale in (scale, 0):
            return model
    scales = ", ".join(str(model.scale) for model in sorted(candidates, key=lambda m: m.scale))
    raise ConfigError(
        f"model {name!r} has no scale {float(scale):.10g}; it has {scales} ({otherwise})"
    )


def _what_is_meant(name: str) -> str:
    """Where someone who wrote ``name`` finds what they look for."""
    if looks_like_a_file(name):
        return "if it is a file, give it as weights instead"
    known = {word: None for model in list_models() for word in (model.family, model.name)}
    if close := get_close_matches(name, known):
        return f"did you mean {' or '.join(close)}? vsr-models list shows all"
    shipped = {model.family: None for model in list_models() if not model.source}
    return f"{', '.join(shipped)} are here, and vsr-models list shows what can be fetched"


def looks_like_a_file(name: str) -> bool:
    """Whether ``name`` names a checkpoint on this machine, there or not, rather than a model."""
    path = name.removeprefix("file:")
    return path != name or PurePath(path).suffix.lower() in _CHECKPOINTS or Path(path).is_file()


def scale_reaching(name: str, wanted: float) -> int | None:
    """The smallest scale of model or family ``name`` that is ``wanted`` or more, else its largest.

    None for a network that renders at any scale.

    Raises:
        ConfigError: there is no such model.
    """
    find_model(name, None)
    scales = sorted(model.scale for model in list_models() if name in (model.name, model.family))
    return next((scale for scale in scales if scale >= wanted), scales[-1]) or None

"""The index of models: what can be named, and where its weights lie.

``models/index.toml`` is the only list: ``[[model]]`` ship, ``[[download]]`` are fetched by
``vsr-models pull``. It is read once, and importing this module needs no torch.
"""

import tomllib
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

from vsr.cache import cache_path, how_to_get, trusted_sha256
from vsr.errors import ConfigError, WeightsError

__all__ = [
    "Model",
    "expected_sha256",
    "find_model",
    "list_models",
    "locate",
    "models_folder",
    "scale_reaching",
]

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
    """Where the shipped models lie: in the installed package, or in the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "models"
    return installed if installed.is_dir() else package.parent / "models"


def locate(model: Model) -> Path:
    """The weights file of a model that has one; of a shipped one it is not said that it exists.

    Raises:
        WeightsError: it does not ship and was not fetched; the message says how to get it.
    """
    if model.file is not None:
        return models_folder() / model.file
    path = cache_path(model.source)
    if not path.is_file():
        hint = how_to_get(model.source, model.name)
        raise WeightsError(f"model {model.name!r} is not on this machine; {hint}")
    return path


def expected_sha256(model: Model) -> str:
    """What the sha256 of a model's weights must be.

    Where the index knows none, the file is trusted on first use: what was recorded then holds.

    Raises:
        WeightsError: the model does not ship and was not fetched.
    """
    return model.sha256 or trusted_sha256(locate(model))


@cache
def list_models() -> tuple[Model, ...]:
    """All models that can be named: those that ship, filters, those that are fetched."""
    index = tomllib.loads((models_folder() / "index.toml").read_text(encoding="utf-8"))
    shipped = [Model(**entry) for entry in index.get("model", ())]
    fetched = [Model(**entry) for entry in index.get("download", ())]
    identity = Model(name="identity", family="identity", scale=1, summary="the picture as it is")
    filters = [
        Model(name=f"lanczos-x{scale}", family="lanczos", scale=scale, summary="Lanczos filter")
        for scale in _CLASSICAL_SCALES["lanczos"]
        if scale > 1
    ]
    return (*shipped, identity, *filters, *fetched)


def find_model(name: str, scale: Fraction | int | None) -> Model:
    """The model called ``name``, or the one of family ``name`` with this scale.

    One that ships comes before one that is fetched, whatever the fetched one is called.

    Raises:
        ConfigError: there is no such model, or it has not this scale.
    """
    candidates = [model for model in list_models() if name in (model.name, model.family)]
    if not candidates:
        families = sorted({model.family for model in list_models()})
        raise ConfigError(f"no model is called {name!r}; there are {', '.join(families)}")
    candidates.sort(key=lambda model: (bool(model.source), model.scale))
    if scale is None:
        return candidates[0]
    for model in candidates:
        if model.scale in (scale, 0):
            return model
    scales = ", ".join(str(model.scale) for model in sorted(candidates, key=lambda m: m.scale))
    raise ConfigError(f"model {name!r} has no scale {float(scale):g}; it has {scales}")


def scale_reaching(name: str, wanted: float) -> int | None:
    """The smallest scale of model or family ``name`` that is ``wanted`` or more, else its largest.

    None for a network that renders at any scale.

    Raises:
        ConfigError: there is no such model.
    """
    find_model(name, None)
    scales = sorted(model.scale for model in list_models() if name in (model.name, model.family))
    return next((scale for scale in scales if scale >= wanted), scales[-1]) or None

"""The index of models: what can be named, and where its weights lie.

``models/index.toml`` is the only list. It is read once, and importing this module needs no torch.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vsr.errors import ConfigError

__all__ = ["Model", "find_model", "list_models", "locate", "models_folder"]

_CLASSICAL_SCALES = {"identity": (1,), "lanczos": (1, 2, 3, 4)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """An entry of the model index."""

    name: str
    family: str
    """What ``--model`` may say instead, with ``--scale`` choosing among the family."""
    scale: int
    summary: str
    file: str | None = None
    """Name of the weights file in the models folder; None for classical filters."""
    sha256: str = ""
    architecture: str = ""
    licence: str = ""
    psnr: float | None = None
    """Set5, dB on luma."""


def models_folder() -> Path:
    """Where the shipped models lie: in the installed package, or in the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "models"
    return installed if installed.is_dir() else package.parent / "models"


def locate(model: Model) -> Path:
    """The weights file of a model that has one; it is not said that it exists."""
    assert model.file is not None
    return models_folder() / model.file


@cache
def list_models() -> tuple[Model, ...]:
    """All models that can be named, those without weights last."""
    index = tomllib.loads((models_folder() / "index.toml").read_text(encoding="utf-8"))
    shipped = [Model(**entry) for entry in index.get("model", ())]
    identity = Model(name="identity", family="identity", scale=1, summary="the picture as it is")
    filters = [
        Model(name=f"lanczos-x{scale}", family="lanczos", scale=scale, summary="Lanczos filter")
        for scale in _CLASSICAL_SCALES["lanczos"]
        if scale > 1
    ]
    return (*shipped, identity, *filters)


def find_model(name: str, scale: int | None) -> Model:
    """The model called ``name``, or the one of family ``name`` with this scale.

    Raises:
        ConfigError: there is no such model, or it has not this scale.
    """
    candidates = [model for model in list_models() if name in (model.name, model.family)]
    if not candidates:
        families = sorted({model.family for model in list_models()})
        raise ConfigError(f"no model is called {name!r}; there are {', '.join(families)}")
    if scale is None:
        return min(candidates, key=lambda model: model.scale)
    for model in candidates:
        if model.scale == scale:
            return model
    scales = ", ".join(str(model.scale) for model in sorted(candidates, key=lambda m: m.scale))
    raise ConfigError(f"model {name!r} has no scale {scale}; it has {scales}")

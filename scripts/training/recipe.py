"""Recipes: one TOML file says everything about a training but where its data lie."""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.degrade import Degradation, problem_with_degradation
from training.fields import ABOVE_ZERO, SHARE, problem_with
from vsr.networks import ARCHITECTURES

__all__ = ["DTYPES", "Recipe"]

DTYPES = ("bfloat16", "float16", "float32")
_CHOICES = {
    "network": tuple(architecture.name for architecture in ARCHITECTURES),
    "loss": ("l1", "charbonnier", "psnr"), "optimiser": ("adamw", "muon"),
    "schedule": ("cosine", "steps"), "dtype": DTYPES, "degradation": ("clean", "video"),
}  # fmt: skip

_AMOUNT, _FROM_ONE, _FROM_EIGHT = (0, math.inf), (1, math.inf), (8, math.inf)
_BOUNDS = {
    "scale": (1, 16), "channels": _FROM_ONE, "rendered": _AMOUNT, "rendered_share": SHARE,
    "patch": _FROM_EIGHT, "batch": _FROM_ONE, "choices": _FROM_ONE, "steps": _FROM_ONE,
    "warmup": _AMOUNT, "rate": _AMOUNT, "final_rate": _AMOUNT, "clip": ABOVE_ZERO, "ema": SHARE,
    "seed": (0, 2**63 - 1), "reduced_share": SHARE, "reductions": (0.1, 1), "gray_share": SHARE,
    "luma_share": SHARE,
    "epsilon": ABOVE_ZERO, "weight_decay": _AMOUNT, "milestones": _AMOUNT, "decay": ABOVE_ZERO,
    "rounded_share": SHARE, "tile": _FROM_EIGHT, "clips": _AMOUNT, "frames": _FROM_ONE,
}  # fmt: skip
_LASTING = {
    "the network": ("network", "scale", "channels", "shape"),
    "the optimiser": ("optimiser", "weight_decay"),
    "the cache": (
        "photographs", "rendered", "rendered_share", "reduced_share", "reductions", "tile",
        "seed", "degradation", "clips", "frames", "video",
    ),
}  # fmt: skip
"""What may not change amid a training: for each thing the fields that decide it."""


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise SystemExit(f"{path}: no recipe in TOML: {error}") from error


def _wrong_choice(values: Mapping[str, Any]) -> str | None:
    for name, choices in _CHOICES.items():
        if name in values and values[name] not in choices:
            return f"{name} must be one of {', '.join(choices)}"
    return None


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One training, as its TOML file states it."""

    network: str
    """A registered architecture: ``span``, ``spanf``, ``sst``, …"""
    scale: int
    channels: int
    photographs: str
    """Folder of .jpg below --data."""
    rendered: int
    """Pictures of text, line art and patterns."""
    rendered_share: float
    """Of all patches."""
    validation: str
    """Folder below --data: with ``HR`` and ``LRx<scale>``, or of pictures that are degraded as the
    training's are."""
    patch: int
    """Side of a patch in low-resolution pixels; a multiple of 8."""
    batch: int
    choices: int
    """Each patch is the most detailed of this many."""
    steps: int
    warmup: int
    rate: float
    final_rate: float
    """Of the cosine."""
    clip: float
    """Largest norm of the gradient."""
    ema: float
    seed: int
    reduced_share: float = 0.0
    """Share of patches from photographs that were made smaller: sharper, and free of JPEG."""
    reductions: tuple[float, ...] = (0.5,)
    """Their sizes, of 1; each has an equal part of ``reduced_share``."""
    gray_share: float = 0.0
    """Of the patches: without colour on both sides, so that film in black and white stays so."""
    start: str | None = None
    """A checkpoint, ours or another's, whose body to begin with, of the same width at any scale; a
    SPAN-F on cells may begin with one on pixels (see :mod:`training.cells`)."""
    loss: str = "l1"
    epsilon: float = 1e-3
    """Of Charbonnier's loss, sqrt(difference^2 + epsilon^2), and of ``psnr``, 10 log10(mean of
    difference^2 + epsilon^2)."""
    luma_share: float = 0.0
    """Of the loss: that of luma, beside that of RGB."""
    optimiser: str = "adamw"
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    """Steps at which the schedule ``steps`` multiplies the rate by ``decay``."""
    decay: float = 0.5
    dtype: str = "bfloat16"
    """Of the network's body in training; parameters and their average stay in float32."""
    rounded_share: float = 0.0
    """Share of the steps, the last ones, whose forward pass runs the body in bfloat16 whatever
    ``dtype`` says, as inference on a CPU will."""
    degradation: str = "clean"
    tile: int = 96
    """Side in low-resolution pixels of what a cache holds; patches are cut from it."""
    clips: int = 0
    """Sequences to degrade, with ``degradation = "video"``."""
    frames: int = 6
    """Pictures kept of each sequence, of twice as many that go through the codec."""
    video: dict[str, Any] = field(default_factory=dict)
    """What to change in :class:`training.degrade.Degradation`."""
    shape: dict[str, Any] = field(default_factory=dict)
    """Further hyper-parameters of the network, as its config names them."""

    @classmethod
    def read(cls, path: Path) -> "Recipe":
        """Parse a recipe file.

        Raises:
            SystemExit: the file cannot be read, or a field is unknown, missing, or has a value that
                it cannot have.
        """
        values = _read(path)
        if problem := problem_with(cls, values, _BOUNDS) or _wrong_choice(values):
            raise SystemExit(f"{path}: {problem}")
        if problem := problem_with_degradation(values.get("video", {})):
            raise SystemExit(f"{path}: video: {problem}")
        recipe = cls(**_with_tuples(values))
        if problem := recipe._problem():
            raise SystemExit(f"{path}: {problem}")
        return recipe

    def _problem(self) -> str | None:
        if self.patch % 8 or self.patch > self.tile:
            return "patch must be a multiple of 8, and no larger than tile"
        if self.rendered_share + self.reduced_share > 1 + 1e-9:  # 0.7 + 0.3 may be more than 1
            return "rendered_share and reduced_share must be 1 together, at most"
        if self.reduced_share and not self.reductions:
            return "reduced_share needs reductions"
        if self.degradation == "video" and (self.clips < 1 or self.tile % 2):
            return "the video degradation needs clips, and a tile of an even size"
        return None

    def to_json(self) -> str:
        """All fields, for :meth:`changes` and for whoever wants to know."""
        return json.dumps(asdict(self))

    def changes(self, before: str) -> str:
        """What differs from the recipe that a training went by until now, in words.

        Args:
            before: what its :meth:`to_json` said; a field that it lacks was not there yet.

        Returns:
            "" if nothing does but ``start``, which only a training's first step needs.

        Raises:
            ValueError: what differs cannot change amid a training; the words say which field.
        """
        known, now = json.loads(before), json.loads(self.to_json())
        changed = [n for n in now if n in known and known[n] != now[n] and n != "start"]
        for thing, names in _LASTING.items():
            for name in changed:
                if name in names:
                    raise ValueError(f"{_change(name, known, now)} changes {thing}")
        return ", ".join(_change(name, known, now) for name in changed)

    def degrading(self) -> Degradation:
        """The video degradation, as far as the recipe changes it."""
        return Degradation(**_with_tuples(self.video))

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine from ``rate`` to ``final_rate``, or steps down."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        if self.schedule == "steps":
            passed = sum(step >= milestone for milestone in self.milestones)
            return self.rate * self.decay**passed
        progress = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return (
            self.final_rate + (self.rate - self.final_rate) * (1 + math.cos(math.pi * progress)) / 2
        )


def _change(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return f"{name} {json.dumps(before[name])} -> {json.dumps(now[name])}"

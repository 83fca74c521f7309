"""The course of a training, read from what it left."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from training.journal import Row, read_log

__all__ = ["Run", "hours_of", "join_logs", "recipe_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A training, finished or broken off, and the weights that came of it."""

    weights: Path
    recipe: Mapping[str, Any]
    rows: Sequence[Row]
    """Of all stages, as one course."""
    own: Sequence[Row]
    """Of the last stage."""
    watched: Sequence[Row]
    """Of the stages that were watched on the same pictures as the last one."""
    hours: float
    """By the clock."""

    @classmethod
    def read(cls, folders: Sequence[Path], weights: Path | None = None) -> "Run":
        """Read what ``train.py`` wrote to ``folders``, one stage after another.

        Args:
            folders: of the stages.
            weights: that ship, if these are not the last stage's own.
        """
        own = folders[-1] / "model.safetensors"
        recipe = recipe_in(weights or own) or recipe_in(own)
        logs = [read_log(folder / "log.csv") for folder in folders]
        watched = [recipe_in(f / "model.safetensors").get("validation") for f in folders[:-1]]
        alike = [log for log, v in zip(logs, watched, strict=False) if v == recipe["validation"]]
        return cls(
            weights=weights or own, recipe=recipe, rows=join_logs(logs), own=logs[-1],
            watched=join_logs([*alike, logs[-1]]), hours=sum(map(hours_of, logs)),
        )  # fmt: skip


def recipe_in(weights: Path) -> dict[str, Any]:
    """The recipe that weights name, by its fields; nothing where they name none."""
    with safe_open(weights, framework="pt") as file:
        found: dict[str, Any] = json.loads((file.metadata() or {}).get("recipe", "{}"))
    return found


def hours_of(rows: Sequence[Row]) -> float:
    """How long a stage took by the clock; the seconds of a training that goes on begin at 0."""
    seconds = [row["seconds"] for row in rows]
    spans = zip([0.0, *seconds[:-1]], seconds, strict=True)
    return sum(b - a if b >= a else b for a, b in spans) / 3600


def join_logs(logs: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows of several stages as one course; steps that begin anew count on."""
    joined: list[Row] = []
    for rows in logs:
        done = joined[-1]["step"] if joined else 0.0
        shift = done if rows[0]["step"] <= done else 0.0
        joined += [{**row, "step": row["step"] + shift} for row in rows]
    return joined

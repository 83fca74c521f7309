"""The state of one training, and one step of it.

Note [Exact resuming]: a checkpoint holds the trained tensors, their average, the optimiser, the
generator that draws patches, and what the log has not been told yet. Two steps, a stop, and two
steps more are four steps, bit by bit, on the CPU. Everything else follows from the recipe.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.loss import loss_of
from training.optimiser import make_optimiser
from training.recipe import Recipe
from training.sampler import Sampler
from training.starts import State
from training.subject import Subject

__all__ = ["Trainer"]

_FIXED = ("no_norm",)
_KEPT = "what was saved before is kept"


class Trainer:
    """Tensors, their average, optimiser, generator, step.

    Args:
        recipe: what to train, and how.
        sampler: where patches come from.
        device: where to train.
        dtype: of the network's body, instead of the recipe's.
        compiled: run the forward and backward pass through torch.compile.
        resuming: a checkpoint is about to be loaded: what the recipe starts with is not needed.

    Attributes:
        origin: what was taken from the recipe's ``start``, in words; "" if nothing was.

    Raises:
        SystemExit: what the recipe starts with cannot be used.
    """

    def __init__(
        self, recipe: Recipe, sampler: Sampler, device: torch.device, *,
        dtype: str | None = None, compiled: bool = False, resuming: bool = False,
    ) -> None:  # fmt: skip
        torch.manual_seed(recipe.seed)
        self.recipe, self.sampler, self.device, self._dtype = recipe, sampler, device, dtype
        self.rng = np.random.default_rng(recipe.seed)
        self.subject = Subject(recipe)
        self.origin = ""
        self.state = self._initial_state(None if resuming else recipe.start)
        self.subject.network.to(device)
        self.subject.path = {
            name: (rows, values.to(device)) for name, (rows, values) in self.subject.path.items()
        }
        self.parameters = [v for v in self.state.values() if v.requires_grad]
        self.average = [v.detach().clone() for v in self.parameters]
        self.optimiser = make_optimiser(recipe, self.parameters)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._uses_fp16())
        self._loss_of = torch.compile(self._compute_loss) if compiled else self._compute_loss
        self.step = 0
        self._losses: list[Tensor] = []

    def _initial_state(self, start: str | None) -> State:
        sample = self.sampler.batch(4, self.rng)[0].cpu()
        state = self.subject.initial(sample)
        if start:
            state, self.origin = self.subject.begun(state, start)
        return {
            name: value.to(self.device).contiguous().requires_grad_(name not in _FIXED)
            for name, value in self.subject.opened(state).items()
        }

    def _uses_fp16(self) -> bool:
        return (self._dtype or self.recipe.dtype) == "float16"

    def _dtype_now(self) -> torch.dtype:
        rounded = self.step >= self.recipe.steps * (1 - self.recipe.rounded_share)
        chosen = "bfloat16" if rounded else self._dtype or self.recipe.dtype
        found: torch.dtype = getattr(torch, chosen)
        return found

    def advance(self) -> None:
        """One step."""
        recipe = self.recipe
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.learning_rate(self.step)
        low, high = self.sampler.batch(recipe.batch, self.rng)
        loss = self._loss_of(self.state, low, high, self._dtype_now())
        self.optimiser.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_(self.parameters, recipe.clip)
        self._scaler.step(self.optimiser)
        self._scaler.update()
        keep = min(recipe.ema, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - keep)
        self.step += 1
        self._losses.append(loss.detach())
        # A GPU is not waited for at every step.
        if self.device.type == "cpu" and not loss.isfinite():
            self.check_finite()

    def _compute_loss(self, state: State, low: Tensor, high: Tensor, dtype: torch.dtype) -> Tensor:
        out = self.subject.forward(self.subject.effective(state, dtype), low)
        return loss_of(out - high, self.recipe)

    def check_finite(self) -> None:
        """Make sure that the training has not diverged; the host waits for its steps here.

        Raises:
            SystemExit: a loss since the last call of :meth:`take_loss`, or a weight, is infinite
                or no number.
        """
        losses = torch.stack(self._losses).tolist() if self._losses else []
        for step, loss in enumerate(losses, self.step - len(losses) + 1):
            if not math.isfinite(loss):
                raise SystemExit(f"diverged: the loss of step {step} is {loss}; {_KEPT}")
        if not all(bool(v.isfinite().all()) for v in (*self.parameters, *self.average)):
            raise SystemExit(f"diverged: after step {self.step} weights are not finite; {_KEPT}")

    def take_loss(self) -> float:
        """The mean loss of the steps since the last call; the host waits for them here."""
        losses, self._losses = self._losses, []
        return float(torch.stack(losses).mean()) if losses else float("nan")

    def averaged(self) -> State:
        """The averaged weights in the published layout, as float32 on the CPU."""
        names = (name for name, value in self.state.items() if value.requires_grad)
        average = dict(zip(names, self.average, strict=True))
        state = {name: average.get(name, value).detach() for name, value in self.state.items()}
        closed = self.subject.closed(state)
        return {
            name: (value.float() if value.is_floating_point() else value).cpu().contiguous()
            for name, value in closed.items()
        }

    def save(self, path: Path) -> None:
        """Write everything that exact resuming needs, all at once or not at all.

        Raises:
            SystemExit: the training has diverged; nothing is written.
        """
        self.check_finite()
        values = {
            "state": self.state, "average": self.average, "optimiser": self.optimiser.state_dict(),
            "step": self.step, "rng": json.dumps(self.rng.bit_generator.state),
            "losses": [float(loss) for loss in self._losses], "scaler": self._scaler.state_dict(),
            "held": bool(self.subject.path), "recipe": self.recipe.to_json(),
        }  # fmt: skip
        torch.save(values, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)

    def load(self, path: Path) -> str:
        """Continue from a file that ``save`` wrote, on this device or another.

        Returns:
            What the recipe has changed since, in words; "" also where the file does not tell.

        Raises:
            SystemExit: the file is damaged, or made by a recipe that cannot go on as this one.
        """
        values = _read(path)
        try:
            changes = self.recipe.changes(values["recipe"]) if "recipe" in values else ""
        except ValueError as error:
            raise SystemExit(f"{path}: {error}; name another --out") from error
        if values["step"] > self.recipe.steps:
            raise SystemExit(
                f"{path}: {values['step']} steps are done, the recipe has {self.recipe.steps}"
            )
        try:
            self._restore(values)
        except (KeyError, ValueError, RuntimeError) as error:
            raise SystemExit(f"{path}: is of another recipe; name another --out") from error
        return changes

    def _restore(self, values: Mapping[str, Any]) -> None:
        for name, value in self.state.items():
            if values["state"][name].shape != value.shape:
                raise ValueError(name)
            with torch.no_grad():
                value.copy_(values["state"][name])
        self.average = [value.to(self.device) for value in values["average"]]
        self.optimiser.load_state_dict(values["optimiser"])
        self.rng.bit_generator.state = json.loads(values["rng"])
        self.step = values["step"]
        self._losses = [torch.tensor(loss, device=self.device) for loss in values["losses"]]
        if not values.get("held", True):  # what older checkpoints do not say
            self.subject.path = {}
        if values["scaler"] and self._scaler.is_enabled():
            self._scaler.load_state_dict(values["scaler"])


def _read(path: Path) -> dict[str, Any]:
    try:
        values = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a file of arbitrary bytes makes unpicklers raise anything
        raise SystemExit(f"{path}: no readable checkpoint; without it, one begins anew") from error
    if not isinstance(values, dict) or "step" not in values:
        raise SystemExit(f"{path}: no checkpoint of a training; name another --out")
    return values

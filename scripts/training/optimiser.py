"""What turns gradients into steps: AdamW, or Muon for the kernels.

Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024) replaces the
momentum of a matrix by the nearest orthogonal one, so that a step changes all directions of its
input alike. A kernel is the matrix of its outputs by all that each of them sees. Biases, and
kernels with a side too short to be turned, are left to AdamW.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from training.recipe import Recipe

__all__ = ["make_optimiser"]

_SHORTEST_SIDE = 8
"""Of a matrix for Muon."""


def make_optimiser(recipe: Recipe, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
    """The recipe's optimiser for ``parameters``, which have one group and its rate in common."""
    make = _Muon if recipe.optimiser == "muon" else _adamw
    return make(parameters, recipe.rate, recipe.weight_decay)


def _adamw(parameters: Sequence[Tensor], rate: float, decay: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        parameters, lr=rate, betas=(0.9, 0.99), weight_decay=decay, foreach=True
    )


class _Muon(torch.optim.Optimizer):
    """Muon for kernels, AdamW for the rest; a rate of AdamW suits both.

    Args:
        parameters: contiguous; Muon is given views of them.
        rate: of the first step; others are set in ``param_groups``, as of any optimiser.
        decay: of the weights.
    """

    def __init__(self, parameters: Sequence[Tensor], rate: float, decay: float) -> None:
        super().__init__(parameters, {"lr": rate})
        self._kernels = [p for p in parameters if _is_for_muon(p)]
        chosen = {id(kernel) for kernel in self._kernels}
        self._matrices = [p.detach().view(len(p), -1) for p in self._kernels]
        self._parts: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(
                self._matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
            ),
            _adamw([p for p in parameters if id(p) not in chosen], rate, decay),
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step of both, at the rate of this optimiser's group."""
        assert closure is None
        for matrix, kernel in zip(self._matrices, self._kernels, strict=True):
            matrix.grad = None if kernel.grad is None else kernel.grad.reshape(matrix.shape)
        for part in self._parts:
            part.param_groups[0]["lr"] = self.param_groups[0]["lr"]
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of both."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)


def _is_for_muon(p: Tensor) -> bool:
    return p.ndim == 4 and min(len(p), p[0].numel()) >= _SHORTEST_SIDE

"""What is trained: a registered network, and how its trained tensors become its weights.

Note [Folding at every step]: networks of three-branch convolutions (SPAN and its kin) are trained
by their branches, but run folded: the kernel is computed from the branches at each step, so that a
step costs one convolution where the published code runs four.

Note [What is trained is what will be run]: the body's weights are cast to the precision of a step
inside the graph, and the network casts its features to theirs, as it does in inference. The
parameters, the optimiser's state and the average stay in float32.
"""

from pathlib import Path
from typing import Any, cast, get_type_hints

import torch
from torch import Tensor, nn

from training.cells import onto_cells
from training.fields import problem_with
from training.recipe import Recipe
from training.starts import (
    State,
    agreeing,
    carries,
    hold,
    initial_state,
    picture_path,
    read_donor,
    transplant,
)
from vsr.networks import ARCHITECTURES, AnyScale, Architecture
from vsr.networks.blocks import branches, fold
from vsr.networks.spanf import SpanFConfig, infer_config

__all__ = ["Subject"]


class Subject:
    """A network in training.

    Args:
        recipe: says which.

    Raises:
        SystemExit: there is none of its shape.

    Attributes:
        network: the module; the weights of a step are passed to it, not stored in it.
        path: the weights that are held fixed.
        metadata: what the finished file says of itself.
    """

    def __init__(self, recipe: Recipe) -> None:
        (architecture,) = (a for a in ARCHITECTURES if a.name == recipe.network)
        config = _make_config(architecture, recipe)
        try:
            self.network = architecture.build(config).to(memory_format=torch.channels_last)
            self.path = picture_path(config)
        except (TypeError, ValueError, RuntimeError, AssertionError, LookupError) as error:
            words = str(error).splitlines() or ["impossible"]
            raise SystemExit(f"{recipe.network} cannot be of this shape: {words[0]}") from error
        self._config = config
        self.metadata = _metadata(recipe.network, config)
        self._scale = recipe.scale
        self._folds = architecture.prepare is fold
        self._body = tuple(f"{name}." if name else "" for name in config.body)

    def initial(self, sample: Tensor) -> State:
        """The published layout's state to begin with."""
        return initial_state(self.network, sample)

    def begun(self, state: State, file: str) -> tuple[State, str]:
        """``state`` with what ``file`` has for it; no path is held that its weights have not.

        Returns:
            The state, and one line that says what was taken.

        Raises:
            SystemExit: the file cannot be read, or nothing in it fits.
        """
        donor = self.adapted(read_donor(Path(file)))
        taken = len(agreeing(state, donor))
        if not taken:
            raise SystemExit(f"start: no tensor of {file} has a name and a shape of this network's")
        state = transplant(state, donor)
        words = f"begun with {taken} of {len(donor)} tensors of {file}"
        if not carries(state, self.path):
            self.path = {}
            words += ", which carries no picture past itself: nothing is held fixed"
        return state, words

    def adapted(self, donor: State) -> State:
        """``donor``'s weights on the grid of this network: see :mod:`training.cells`."""
        config = self._config
        on_cells = isinstance(config, SpanFConfig) and config.unshuffle > 1
        if not on_cells or "conv_near.weight" not in donor:
            return donor
        if infer_config(donor, {}).unshuffle != 1:
            return donor
        return onto_cells(donor, config.unshuffle)

    def opened(self, state: State) -> State:
        """The tensors to train: random branches whose fold is ``state``, or ``state`` itself."""
        return branches(state) if self._folds else dict(state)

    def effective(self, state: State, dtype: torch.dtype) -> State:
        """The weights of a step from the trained tensors, differentiable; the body in ``dtype``."""
        weights = hold(fold(state) if self._folds else state, self.path)
        return {
            name: value.to(dtype) if name.startswith(self._body) else value
            for name, value in weights.items()
        }

    def closed(self, state: State) -> State:
        """The published layout's state from the trained tensors, folded in float64."""
        doubled = {k: v.double() if v.is_floating_point() else v for k, v in state.items()}
        return hold(fold(doubled) if self._folds else doubled, self.path)

    def forward(self, weights: State, low: Tensor) -> Tensor:
        """(N, 3, H, W) float32 to (N, 3, scale * H, scale * W) float32."""
        run = _Rendering(self.network, self._scale) if _renders(self.network) else self.network
        if run is not self.network:
            weights = {f"network.{name}": value for name, value in weights.items()}
        if "" in self._body:
            low = low.to(next(iter(weights.values())).dtype)
        out: Tensor = torch.func.functional_call(run, weights, (low,))
        return out.float()


class _Rendering(nn.Module):
    """A network of any scale, at one."""

    def __init__(self, network: nn.Module, scale: int) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, x: Tensor) -> Tensor:
        height, width = (side * self.scale for side in x.shape[-2:])
        network = cast(AnyScale, self.network)
        return network.render(network.encode(x), x, (height, width))


def _renders(network: nn.Module) -> bool:
    return hasattr(network, "render")


def _make_config(architecture: Architecture, recipe: Recipe) -> Any:  # noqa: ANN401
    """The network's config, from the recipe's fields and its ``shape``."""
    kind = get_type_hints(architecture.build.__init__)["config"]
    shape = {k: tuple(v) if isinstance(v, list) else v for k, v in recipe.shape.items()}
    named: dict[str, Any] = {"scale": recipe.scale, "channels": recipe.channels}
    if recipe.network == "span":
        named |= {"fused_channels": recipe.channels, "norm": False}
    if recipe.network == "esc-lte":
        named |= {"scale": 0, "ending": "features"}
    if recipe.network == "span" and shape.get("norm"):
        raise SystemExit("shape of span: norm: what is trained takes pictures as they are")
    if problem := problem_with(kind, named | shape, {}):
        raise SystemExit(f"shape of {recipe.network}: {problem}")
    return kind(**(named | shape))


def _metadata(name: str, config: Any) -> dict[str, str]:  # noqa: ANN401
    metadata = {"norm": "none"} if name == "span" else {}
    if hasattr(config, "windows"):
        metadata["windows"] = ",".join(map(str, config.windows))
    elif hasattr(config, "rank") and config.rank:  # ESC-RIB
        metadata["windows"] = str(config.window)
    return metadata

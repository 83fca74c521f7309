"""Train a network from a recipe file; stop and resume at any time.

    python scripts/train.py scripts/recipes/span-x2.toml --data DATA --out runs/span-x2

Writes to --out: ``checkpoint.pt`` (everything that exact resuming needs), ``model.safetensors``
(averaged weights, folded, ready for ``--weights``) and ``log.csv``. The kernel of every
three-branch convolution is folded from its branches at each step, so a training step costs one
convolution where the published code runs four.
"""

import argparse
import csv
import json
import math
import os
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from evaluate import evaluate
from pictures import PatchSampler, Pool, load, make_pair, reduce_bicubic, render
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vsr.device import keep_freed_memory
from vsr.networks.blocks import branches, fold
from vsr.networks.span import Span, SpanConfig
from vsr.networks.sst import Sst, SstConfig

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One training, as its TOML file states it."""

    network: str
    """``span`` or ``sst``."""
    scale: int
    channels: int
    photographs: str
    rendered: int
    rendered_share: float
    validation: str
    patch: int
    batch: int
    choices: int
    steps: int
    warmup: int
    rate: float
    final_rate: float
    clip: float
    ema: float
    seed: int
    reduced_share: float = 0.0
    """Share of patches from the photographs at half their size: sharper, and free of JPEG."""
    start: str | None = None
    """A trained model.safetensors whose body to begin with, of the same width at any scale."""
    shape: dict[str, Any] = field(default_factory=dict)
    """Further hyper-parameters of the network, as its config names them."""

    @classmethod
    def read(cls, path: Path) -> "Recipe":
        """Parse a recipe file; unknown or missing fields are errors."""
        values = tomllib.loads(path.read_text())
        known = {f.name for f in fields(cls)}
        if unknown := set(values) - known:
            raise SystemExit(f"{path}: unknown fields {', '.join(sorted(unknown))}")
        if values["network"] not in SUBJECTS:
            raise SystemExit(f"{path}: network must be one of {', '.join(SUBJECTS)}")
        return cls(**values)

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine from ``rate`` to ``final_rate``."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return (
            self.final_rate + (self.rate - self.final_rate) * (1 + math.cos(math.pi * progress)) / 2
        )


def initial_state(network: Span, sample: Tensor) -> State:
    """Weights that enlarge bilinearly from the first step, with features of a useful size.

    The published network has no image skip, but can express one: three feature channels carry the
    picture through ``conv_1``, ``conv_cat`` and ``upsampler``. Other kernels are scaled on a batch
    so that ``c3_r`` reaches into the sigmoid's bend; with the usual start its factor
    (sigmoid - 1/2) shrinks the signal at each of six blocks to nothing.
    """
    gains = {"conv_1": 1.0, "c1_r": 1.0, "c2_r": 1.0, "c3_r": 2.0, "conv_2": 1.0}

    def rescale(name: str, gain: float) -> torch.utils.hooks.RemovableHandle:
        weight, bias = (network.get_parameter(f"{name}.{kind}") for kind in ("weight", "bias"))

        def hook(module: torch.nn.Module, args: tuple[Tensor], out: Tensor) -> Tensor:
            factor, mean = gain / out.std(), out.mean((0, 2, 3))
            weight.mul_(factor)
            bias.copy_((bias - mean) * factor)
            return (out - mean[:, None, None]) * factor

        return network.get_submodule(name).register_forward_hook(hook)

    handles = [
        rescale(f"{name}.eval_conv", gains[name.rsplit(".", 1)[-1]])
        for name, module in network.named_modules()
        if hasattr(module, "eval_conv")
    ]
    with torch.no_grad():
        network(sample)
        _carry_picture(network)
    for handle in handles:
        handle.remove()
    return {name: value.clone() for name, value in network.state_dict().items()}


def _carry_picture(network: Span) -> None:
    """Write the picture's path into ``network``: identity, identity, bilinear sub-pixels."""
    for name, (rows, values) in picture_path(network.config).items():
        parameter = network.get_parameter(name)
        parameter[rows] = values
    network.get_parameter("upsampler.0.weight")[:, network.config.in_channels :] *= 0.1
    network.get_parameter("upsampler.0.bias").zero_()


def bilinear_kernels(scale: int) -> Tensor:
    """(scale * scale, 3, 3): the kernel of each sub-pixel of a bilinear enlargement."""
    offsets = (torch.arange(scale) + 0.5) / scale - 0.5
    taps = torch.stack([(1 - (offsets - tap).abs()).clamp(min=0) for tap in (-1, 0, 1)], dim=1)
    return torch.einsum("au,bv->abuv", taps, taps).flatten(0, 1)


Slot = tuple[slice | tuple[slice, slice], Tensor]


def picture_path(config: SpanConfig) -> dict[str, Slot]:
    """The weights that carry the picture past the network: which part of a tensor, and its value.

    They stay fixed in training. Were they free, Adam's steps, all of one size, would shake the
    picture itself; fixed, they act as an image skip, yet the result is a plain SPAN.
    """
    colours, scale = config.in_channels, config.scale
    pick = torch.eye(colours, config.channels)[:, :colours]
    first = torch.zeros(colours, colours, 3, 3)
    first[:, :, 1, 1] = pick
    fuse = torch.zeros(colours, 4 * config.channels, 1, 1)
    fuse[:, :colours, 0, 0] = pick
    kernels = bilinear_kernels(scale)
    last = torch.einsum("ck,suv->cskuv", torch.eye(colours), kernels).flatten(0, 1)
    rows, none = slice(0, colours), torch.zeros(colours)
    return {
        "conv_1.eval_conv.weight": (rows, first),
        "conv_1.eval_conv.bias": (rows, none),
        "conv_cat.weight": (rows, fuse),
        "conv_cat.bias": (rows, none),
        "upsampler.0.weight": ((slice(None), rows), last),
    }


def hold(weights: State, path: Mapping[str, Slot]) -> State:
    """``weights`` with the picture's path put back; no gradient flows into those parts."""
    held = dict(weights)
    for name, (rows, values) in path.items():
        held[name] = weights[name].clone()
        held[name][rows] = values.to(held[name].dtype)
    return held


def transplant(state: State, donor: Mapping[str, Tensor]) -> State:
    """``donor``'s weights where the shapes agree: the body of a network of another scale."""
    return {
        name: donor[name].clone() if name in donor and donor[name].shape == value.shape else value
        for name, value in state.items()
    }


class Subject(Protocol):
    """What is trained: a network, and how its trained state becomes its weights."""

    metadata: dict[str, str]
    """What ``model.safetensors`` says of itself."""

    @property
    def network(self) -> nn.Module:
        """In the form in which it is trained."""

    def initial(self, sample: Tensor) -> State:
        """The published layout's state to begin with."""

    def opened(self, state: State) -> State:
        """The tensors to train, from the published layout's."""

    def effective(self, state: State) -> State:
        """The weights of a step from the trained tensors, differentiable."""

    def closed(self, state: State) -> State:
        """The published layout's state from the trained tensors."""

    def forward(self, weights: State, low: Tensor) -> Tensor:
        """The network on (N, 3, H, W) in the precision of training."""


class SpanSubject:
    """SPAN: three-branch convolutions, folded at each step, and a picture's path held fixed."""

    def __init__(self, recipe: Recipe, dtype: torch.dtype) -> None:
        config = SpanConfig(scale=recipe.scale, channels=recipe.channels,
                            fused_channels=recipe.channels, norm=False)  # fmt: skip
        self.path, self.dtype = picture_path(config), dtype
        self.network = Span(config).to(memory_format=torch.channels_last)
        self.metadata = {"norm": "none"}

    def initial(self, sample: Tensor) -> State:
        """Weights that enlarge bilinearly from the first step."""
        return initial_state(self.network, sample)

    def opened(self, state: State) -> State:
        """Random branches whose fold is ``state``."""
        return branches(state)

    def effective(self, state: State) -> State:
        """Folded; the body's weights in ``dtype``: what is trained is what will be run."""
        body = tuple(f"{name}." for name in self.network.config.body)
        weights = hold(fold(state), self.path)
        return {k: v.to(self.dtype) if k.startswith(body) else v for k, v in weights.items()}

    def closed(self, state: State) -> State:
        """Folded in float64."""
        return hold(fold({name: value.double() for name, value in state.items()}), self.path)

    def forward(self, weights: State, low: Tensor) -> Tensor:
        """The folded network."""
        out: Tensor = torch.func.functional_call(self.network, weights, (low,))
        return out


class SstSubject:
    """SST: trained as it is published, under autocast."""

    def __init__(self, recipe: Recipe, dtype: torch.dtype) -> None:
        shape: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in recipe.shape.items()
        }
        config = SstConfig(scale=recipe.scale, channels=recipe.channels, **shape)
        self.dtype = dtype
        self.network = Sst(config).to(memory_format=torch.channels_last)
        self.metadata = {"windows": ",".join(map(str, config.windows))}

    def initial(self, sample: Tensor) -> State:
        """Random layers around a bilinear enlargement, which three features carry to the end.

        The network's own skip is a nearest-neighbour enlargement; what is missing to a bilinear one
        is written into the last convolution.
        """
        network, colours = self.network, 3
        with torch.no_grad():
            network.proj.weight[:colours] = 0
            network.proj.weight[range(colours), range(colours), 1, 1] = 1
            assert network.proj.bias is not None
            network.proj.bias[:colours] = 0
            network.get_parameter(f"body.{network.config.blocks + 1}.weight").mul_(0.1)
            last = network.upsampler.up_conv.weight
            last *= 0.1
            kernels = bilinear_kernels(network.config.scale)
            kernels[:, 1, 1] -= 1
            last[:, :colours] = torch.einsum("ck,suv->cskuv", torch.eye(colours), kernels).flatten(
                0, 1
            )
        return {name: value.clone() for name, value in network.state_dict().items()}

    def opened(self, state: State) -> State:
        """As it is."""
        return dict(state)

    def effective(self, state: State) -> State:
        """As it is."""
        return state

    def closed(self, state: State) -> State:
        """As it is."""
        return state

    def forward(self, weights: State, low: Tensor) -> Tensor:
        """The network under autocast."""
        mixed = torch.autocast("cpu", self.dtype, enabled=self.dtype is not torch.float32)
        with mixed:
            out: Tensor = torch.func.functional_call(self.network, weights, (low,))
        return out.float()


SUBJECTS: dict[str, type[SpanSubject] | type[SstSubject]] = {
    "span": SpanSubject,
    "sst": SstSubject,
}


class Trainer:
    """The state of one training: tensors, their average, optimiser, generator, step."""

    def __init__(self, recipe: Recipe, sampler: PatchSampler, dtype: torch.dtype) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.sampler = recipe, sampler
        self.rng = np.random.default_rng(recipe.seed)
        self.subject: Subject = SUBJECTS[recipe.network](recipe, dtype)
        state = self.subject.initial(self.sampler.batch(4, self.rng)[0])
        if recipe.start:
            state = transplant(state, load_file(recipe.start))
        fixed = {"no_norm"}
        self.state = {
            k: v.clone().requires_grad_(k not in fixed)
            for k, v in self.subject.opened(state).items()
        }
        self.parameters = [v for v in self.state.values() if v.requires_grad]
        self.average = [v.detach().clone() for v in self.parameters]
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=recipe.rate, betas=(0.9, 0.99), weight_decay=1e-4, foreach=True
        )
        self.step = 0

    def advance(self) -> float:
        """One step; returns its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate(self.step)
        low, high = self.sampler.batch(self.recipe.batch, self.rng)
        low = low.contiguous(memory_format=torch.channels_last)
        out = self.subject.forward(self.subject.effective(self.state), low)
        loss = (out - high).abs().mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        self.optimiser.step()
        keep = min(self.recipe.ema, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - keep)
        self.step += 1
        return float(loss.detach())

    def averaged(self) -> State:
        """The averaged weights in the published layout, as float32."""
        names = (name for name, value in self.state.items() if value.requires_grad)
        average = dict(zip(names, self.average, strict=True))
        closed = self.subject.closed({k: average.get(k, v) for k, v in self.state.items()})
        return {name: value.detach().float().contiguous() for name, value in closed.items()}

    def save(self, path: Path) -> None:
        """Write everything that exact resuming needs, all at once or not at all."""
        values = {
            "state": self.state, "average": self.average, "optimiser": self.optimiser.state_dict(),
            "step": self.step, "rng": json.dumps(self.rng.bit_generator.state),
        }  # fmt: skip
        torch.save(values, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)

    def load(self, path: Path) -> None:
        """Continue from a file that ``save`` wrote."""
        values = torch.load(path, weights_only=True)
        with torch.no_grad():
            for name, value in self.state.items():
                value.copy_(values["state"][name])
        self.average = values["average"]
        self.optimiser.load_state_dict(values["optimiser"])
        self.rng.bit_generator.state = json.loads(values["rng"])
        self.step = values["step"]


def read_pictures(recipe: Recipe, data: Path) -> PatchSampler:
    """Photographs and rendered pictures as a sampler of patches."""
    photographs = sorted((data / recipe.photographs).glob("*.jpg"))
    if not photographs:
        raise SystemExit(f"no photographs in {data / recipe.photographs}")

    def pool(pictures: Iterable[Tensor], share: float) -> Pool:
        return Pool([make_pair(p, recipe.scale, recipe.patch) for p in pictures], share)

    rendered = render(recipe.rendered, 512, recipe.seed)
    shares = recipe.rendered_share, recipe.reduced_share
    pools = [pool(map(load, photographs), 1 - sum(shares)), pool(rendered, shares[0])]
    if recipe.reduced_share:
        halved = (reduce_bicubic(load(path), 2) for path in photographs)
        pools.append(pool(halved, recipe.reduced_share))
    return PatchSampler(pools, recipe.scale, recipe.patch, recipe.choices)


def validate(trainer: Trainer, folder: Path) -> float:
    """PSNR of the averaged weights in float32, dB on luma."""
    weights = trainer.averaged()

    @torch.no_grad()
    def upscale(x: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(trainer.subject.network, weights, (x,))
        return out

    return evaluate(upscale, folder, trainer.recipe.scale)[0]


def report(trainer: Trainer, out: Path, row: dict[str, float]) -> None:
    """Append ``row`` to the log, write the weights and the checkpoint."""
    print(" ".join(f"{name} {value:g}" for name, value in row.items()), flush=True)
    log = out / "log.csv"
    new = not log.exists()
    with log.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
    metadata = {"format": "pt", "arch": trainer.recipe.network, **trainer.subject.metadata,
                "recipe": json.dumps(asdict(trainer.recipe))}  # fmt: skip
    save_file(trainer.averaged(), out / "model.safetensors", metadata)
    trainer.save(out / "checkpoint.pt")


def train(trainer: Trainer, out: Path, validation: Path, every: int) -> None:
    """Run to the recipe's last step, reporting every ``every`` steps."""
    started, losses = time.monotonic(), []
    while trainer.step < trainer.recipe.steps:
        losses.append(trainer.advance())
        if trainer.step % every == 0 or trainer.step == trainer.recipe.steps:
            seconds = time.monotonic() - started
            row = {
                "step": trainer.step, "seconds": round(seconds, 1),
                "loss": round(sum(losses) / len(losses), 6),
                "rate": round(trainer.recipe.learning_rate(trainer.step), 9),
                "psnr": round(validate(trainer, validation), 3),
            }  # fmt: skip
            report(trainer, out, row)
            losses = []


def main() -> int:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the training pictures")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write to and resume from"
    )
    parser.add_argument("--every", type=int, default=250, help="steps between reports")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    options = parser.parse_args()
    keep_freed_memory()
    recipe = Recipe.read(options.recipe)
    options.out.mkdir(parents=True, exist_ok=True)
    sampler = read_pictures(recipe, options.data)
    trainer = Trainer(recipe, sampler, getattr(torch, options.dtype))
    if (checkpoint := options.out / "checkpoint.pt").exists():
        trainer.load(checkpoint)
        print(f"resumed at step {trainer.step}", flush=True)
    train(trainer, options.out, options.data / recipe.validation, options.every)
    return 0


if __name__ == "__main__":
    sys.exit(main())

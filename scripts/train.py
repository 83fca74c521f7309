"""Train a network from a recipe file; stop and resume at any time, on a CPU or a GPU.

    python scripts/train.py prepare scripts/recipes/span-video-x2.toml --data DATA
    python scripts/train.py scripts/recipes/span-video-x2.toml --data DATA --out runs/span-video-x2

``prepare`` makes the cache of patches (slow where codecs run) and may be stopped and resumed, too;
a training makes what it does not find. Written to --out: ``checkpoint.pt`` (everything that exact
resuming needs), ``model.safetensors`` (averaged weights, folded, ready for ``--weights``),
``log.csv`` and ``curve.png``.
"""

import argparse
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

import torch
from training.busy import busy_share
from training.cache import Cache, make_cache
from training.journal import write_report
from training.recipe import DTYPES, Recipe
from training.sampler import Pool, Sampler
from training.stills import plan_pools, plan_validation
from training.trainer import Trainer
from training.validation import Pairs, pairs_of_cache, pairs_of_folder, validate

from vsr.device import choose_device, keep_freed_memory

_STARTED = time.monotonic()  # imports and caches count: who lends a GPU counts them, too
_STOPPING = (signal.SIGINT, signal.SIGTERM)
_SPOKEN_EVERY = 100  # items of a cache


@dataclass
class Schedule:
    """When to report, to save, to stop."""

    every: int
    """Steps between reports."""
    save_seconds: float
    """Between checkpoints, at most."""
    seconds: float
    """How long to train before stopping; whoever gives the same command again goes on."""
    stopping: bool = False
    began: float = _STARTED
    saved: float = field(default_factory=time.monotonic)

    def stop_on_signals(self) -> None:
        """Finish the step and save when told to end."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.stopping = True

        for number in _STOPPING:
            signal.signal(number, stop)

    def is_over(self) -> bool:
        """Whether to stop here."""
        return self.stopping or time.monotonic() - self.began >= self.seconds

    def must_save(self) -> bool:
        """Whether the last checkpoint is too old."""
        if time.monotonic() - self.saved < self.save_seconds:
            return False
        self.saved = time.monotonic()
        return True


def prepare(recipe: Recipe, data: Path, folder: Path) -> tuple[dict[str, Cache], Cache | None]:
    """Make or open all that ``recipe`` draws from, below ``folder``; the last is to validate."""
    validation = plan_validation(recipe, data)
    planned = {name: items for name, (items, _) in plan_pools(recipe, data).items()}
    if validation is not None:
        planned["validation"] = validation
    made: dict[str, Cache] = {}
    for name, items in planned.items():
        began = time.monotonic()

        def say(index: int, name: str = name, count: int = items.count, t: float = began) -> None:
            if (index + 1) % _SPOKEN_EVERY == 0 or index + 1 == count:
                print(f"{name}: {index + 1} of {count}, {time.monotonic() - t:.0f} s", flush=True)

        made[name] = make_cache(folder / name, items, say)
    return made, made.pop("validation", None)


def make_sampler(
    recipe: Recipe, data: Path, caches: dict[str, Cache], device: torch.device
) -> Sampler:
    """Patches from ``caches``, which are moved to a GPU if that is where the training runs."""
    shares = {name: share for name, (_, share) in plan_pools(recipe, data).items()}
    pools = [Pool.of(cache, shares[name], recipe.patch, device) for name, cache in caches.items()]
    return Sampler(pools, recipe.scale, recipe.patch, recipe.choices, recipe.gray_share)


def train(trainer: Trainer, out: Path, pairs: Pairs, schedule: Schedule) -> None:
    """Run to the recipe's last step, or until the schedule says stop.

    Raises:
        SystemExit: the training has diverged.
    """
    recipe = trainer.recipe
    while trainer.step < recipe.steps and not schedule.is_over():
        trainer.advance()
        if trainer.step % schedule.every == 0 or trainer.step == recipe.steps:
            trainer.check_finite()
            weights = trainer.averaged()
            score = validate(trainer.subject, weights, pairs, recipe.scale, trainer.device)
            row = {
                "step": float(trainer.step), "seconds": round(time.monotonic() - schedule.began, 1),
                "loss": round(trainer.take_loss(), 6),
                "rate": round(recipe.learning_rate(trainer.step), 9), "psnr": round(score, 3),
            }  # fmt: skip
            write_report(trainer, out, row)
        elif schedule.must_save():
            trainer.save(out / "checkpoint.pt")
    trainer.save(out / "checkpoint.pt")


def _whole(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number from 1 on is wanted")
    return int(text)


def _amount(text: str) -> float:
    """A number from 0 on."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text}: a number from 0 on is wanted")
    return value


def _parse(arguments: list[str], *, preparing: bool) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="train.py", description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the training pictures")
    parser.add_argument("--cache", type=Path, help="folder of patches (default: cache/RECIPE)")
    if preparing:
        return parser.parse_args(arguments)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write to and resume from"
    )
    parser.add_argument("--every", type=_whole, default=250, help="steps between reports")
    parser.add_argument("--minutes", type=_amount, default=float("inf"), help="stop after so many")
    parser.add_argument("--save-seconds", type=_amount, default=240, help="between checkpoints")
    parser.add_argument("--dtype", choices=DTYPES, help="instead of the recipe's")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--busy", action="store_true", help="say first how much of the time a GPU works"
    )
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="default: on a GPU"
    )
    return parser.parse_args(arguments)


class Stopped(BaseException):
    """A signal came before there is a step to finish; its argument is the signal's number."""


def stop_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """A handler of signals.

    Raises:
        Stopped: always.
    """
    raise Stopped(number)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line; prepare or train."""
    arguments = sys.argv[1:] if arguments is None else arguments
    preparing = arguments[:1] == ["prepare"]
    options = _parse(arguments[preparing:], preparing=preparing)
    before = {number: signal.signal(number, stop_at_once) for number in _STOPPING}
    try:
        return _run(options, preparing=preparing)
    except Stopped as stopped:
        print(
            "train.py: stopped before the first step: the same command goes on with the cache",
            file=sys.stderr,
        )
        return 128 + int(stopped.args[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(options: argparse.Namespace, *, preparing: bool) -> int:
    keep_freed_memory()
    recipe = Recipe.read(options.recipe)
    folder = options.cache or Path("cache") / options.recipe.stem
    caches, validation = prepare(recipe, options.data, folder)
    if preparing:
        return 0
    device = choose_device(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    sampler = make_sampler(recipe, options.data, caches, device)
    compiled = device.type == "cuda" if options.compile is None else options.compile
    checkpoint = options.out / "checkpoint.pt"
    resuming = checkpoint.exists()
    trainer = Trainer(
        recipe, sampler, device, dtype=options.dtype, compiled=compiled, resuming=resuming
    )
    if trainer.origin:
        print(trainer.origin, flush=True)
    if resuming:
        changes = trainer.load(checkpoint)
        print(f"resumed at step {trainer.step}{changes and f', with {changes}'}", flush=True)
    if options.busy and device.type == "cuda":
        share, milliseconds = busy_share(trainer)
        print(f"the GPU works {share:.0%} of the time, {milliseconds:.1f} ms a step", flush=True)
    pairs = (
        pairs_of_folder(options.data / recipe.validation, recipe.scale)
        if validation is None
        else pairs_of_cache(validation)
    )
    schedule = Schedule(options.every, options.save_seconds, 60 * options.minutes)
    schedule.stop_on_signals()
    train(trainer, options.out, pairs, schedule)
    return 0


if __name__ == "__main__":
    sys.exit(main())

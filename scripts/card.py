"""Write the card of a model from what its training left, measured anew; see docs/training.md.

    python scripts/card.py span-video-x2 --run runs/span-video-x2 --data DATA \\
        --sets DATA/data/Set5 --reference DATA/weights/spanx2_ch48.safetensors \\
        --clips DATA/media/mdn/flower.mp4 …

Reads the run's log and the recipe that the weights name, measures pictures and the codec test, and
writes ``models/NAME.md``, with the curve and pictures of the worst places in ``docs/cards``: of
pictures that we rendered and of our own clip, since nobody else's are kept here. What only people
know stands in ``scripts/recipes/NAME.md``, or in a file of --notes: purpose, hours and
hardware, what was changed on the way, known failures in words; and ahead of that, between two lines
of +++, in TOML: ``weights``, their licence and what went into them, and ``photographs``, theirs.
"""

import argparse
import json
import os
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import batched
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from evaluate import LARGEST, SKIPPED, Upscale, evaluate, make_model, size_of
from pictures import look, reduce_bicubic, render, to_uint8
from safetensors import safe_open
from sheets import write_sheet
from torch import Tensor
from training.journal import Row, draw_curve, read_log
from training.stills import picture_files
from video import Result, read_clip, score_codecs

from vsr.errors import VsrError
from vsr.files import file_sha256

_CROP = 96
"""Side of a failure's picture, in pixels of the output."""
_SHOWN = 3
_RENDERED, _SEED = 12, 1
"""How many pictures are searched, of a seed that no recipe has."""
_SAMPLE = Path(__file__).resolve().parent.parent / "docs" / "sample.mp4"


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
        recipe = _recipe_in(weights or own) or _recipe_in(own)
        logs = [read_log(folder / "log.csv") for folder in folders]
        watched = [_recipe_in(f / "model.safetensors").get("validation") for f in folders[:-1]]
        alike = [log for log, v in zip(logs, watched, strict=False) if v == recipe["validation"]]
        return cls(
            weights=weights or own, recipe=recipe, rows=join_logs(logs), own=logs[-1],
            watched=join_logs([*alike, logs[-1]]), hours=sum(map(hours_of, logs)),
        )  # fmt: skip


def _recipe_in(weights: Path) -> dict[str, Any]:
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


# Tables.


Score = tuple[float, float]
"""PSNR in dB and SSIM."""


def picture_table(scores: Mapping[str, Sequence[Score]], sets: Sequence[str]) -> list[str]:
    """PSNR and SSIM of each model on each set, as lines of Markdown."""
    lines = ["| model | " + " | ".join(f"{name}, dB / SSIM" for name in sets) + " |"]
    lines.append("|---" * (1 + len(sets)) + "|")
    for name, row in scores.items():
        lines.append(f"| {name} | " + " | ".join(f"{p:.3f} / {s:.4f}" for p, s in row) + " |")
    return lines


def rounding_cost(exact: Sequence[Score], rounded: Sequence[Score], sets: Sequence[str]) -> str:
    """What bfloat16 costs in PSNR on each set, in words."""
    costs = (a[0] - b[0] for a, b in zip(exact, rounded, strict=True))
    said = ", ".join(f"{cost:.4f} dB on {name}" for cost, name in zip(costs, sets, strict=True))
    return f"The body in bfloat16 costs {said}."


def codec_table(results: Sequence[Result]) -> list[str]:
    """The codec test, means over the clips, as lines of Markdown."""
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for result in results:
        scores = result.scores
        row = (scores.psnr, scores.ssim, scores.vmaf, scores.flicker)
        found.setdefault((result.coding, result.model), []).append(row)
    lines = ["| coding | model | PSNR, dB | SSIM | VMAF | flicker |", "|---|---|---|---|---|---|"]
    for (coding, model), rows in found.items():
        psnr, ssim, vmaf, flicker = (fmean(column) for column in zip(*rows, strict=True))
        lines.append(
            f"| {coding} | {model} | {psnr:.2f} | {ssim:.4f} | {vmaf:.1f} | {flicker:.2f} |"
        )
    return lines


# Failures.


Crops = tuple[float, list[Tensor]]
"""How wrong a model is there, in codes, and what is seen there, each (3, h, w) uint8."""


Pair = tuple[Tensor, Tensor]
"""A picture reduced, and as it was: (3, h, w) and (3, H, W) uint8."""


def rendered_pairs(scale: int) -> Iterator[Pair]:
    """Pictures of ours that no training has seen."""
    for picture in render(_RENDERED, 2 * _CROP, _SEED):
        yield reduce_bicubic(picture, scale), picture


def worst_places(upscale: Upscale, pictures: Iterable[Pair], scale: int) -> list[Crops]:
    """Where a model is farthest from the truth, one place of each picture: input, output, truth."""
    found = []
    for low, high in pictures:
        out = to_uint8(upscale(low[None].float() / 255)[0].float() * 255)
        error, square = worst_square(out, high, scale)
        found.append((error, [part[square] for part in (_enlarged(low, scale), out, high)]))
    return found


def worst_square(out: Tensor, high: Tensor, scale: int) -> tuple[float, tuple[slice, ...]]:
    """The square in which (3, H, W) uint8 pictures differ most; by how many codes, on average."""
    error = (out.float() - high.float()).abs().mean(0, keepdim=True)
    side = min(_CROP, *out.shape[-2:])
    means = torch.nn.functional.avg_pool2d(error[None], side, scale)[0, 0]
    place = int(means.argmax())
    top, left = (scale * v for v in divmod(place, means.shape[1]))
    return float(means.max()), (slice(None), slice(top, top + side), slice(left, left + side))


def _enlarged(low: Tensor, scale: int) -> Tensor:
    """By nearest neighbour."""
    return low.repeat_interleave(scale, 1).repeat_interleave(scale, 2)


def worst_of_clip(results: Sequence[Result], truth: Tensor, scale: int) -> Crops:
    """Where the first model is farthest from a coded clip's truth: input, each output, truth."""
    middle = len(truth) // 2
    error, square = worst_square(results[0].output[middle], truth[middle], scale)
    outputs = [result.output[middle] for result in results]
    seen = [_enlarged(results[0].low[middle], scale), *outputs, truth[middle]]
    return error, [part[square] for part in seen]


# The card.


def write_card(
    name: str, facts: Mapping[str, str], tables: Mapping[str, list[str]], notes: str,
    pictures: Sequence[str], folder: str,
) -> str:  # fmt: skip
    """The text of a card; ``pictures`` are the kinds of those in ``folder``, as seen from it."""
    parts = [
        f"# {name}",
        notes.strip(),
        "\n".join(f"* **{title}.** {text}" for title, text in facts.items()),
        *("\n".join([f"**{title}**", "", *lines]) for title, lines in tables.items()),
        *(f"![{_SAID[kind]}]({folder}/{name}.{kind}.png)" for kind in pictures),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What only people know."""

    text: str = ""
    """Markdown."""
    weights: str = ""
    """Their licence, and what went into them."""
    photographs: str = ""
    """Their licence."""

    @classmethod
    def read(cls, path: Path) -> "Notes":
        """Read a file of notes, or nothing if it is not there.

        Raises:
            SystemExit: what stands ahead is no TOML, or says something else.
        """
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if not text.startswith(_FENCE):
            return cls(text=text)
        ahead, _, text = text.removeprefix(_FENCE).partition(_FENCE)
        try:
            return cls(text=text, **tomllib.loads(ahead))
        except (tomllib.TOMLDecodeError, TypeError) as error:
            raise SystemExit(f"{path}: {error}") from error


_FENCE = "+++\n"


def facts_of(
    run: Run, file: Path, dtype: str | None = None, *, notes: Notes, data: Path | None = None
) -> dict[str, str]:
    """What a run and its recipe say, by title.

    Args:
        run: the training.
        file: of the last stage's recipe.
        dtype: that the body was in, if not the recipe's.
        notes: what neither says.
        data: where the photographs lie; None leaves out how many there are, and how large.
    """
    recipe, size = run.recipe, run.weights.stat().st_size / 1e6
    told = f" --dtype {dtype}" if dtype else ""
    return {
        "Weights": f"{size:.1f} MB, sha256 `{file_sha256(run.weights)}`"
        + (f"; {notes.weights}" if notes.weights else "."),
        "Recipe": f"`{file}`, seed {recipe['seed']}.",
        "Command": f"`scripts/train.py {file} --data DATA --out runs/{file.stem}{told}`.",
        "Course": f"{run.rows[-1]['step']:.0f} steps ({run.own[-1]['step']:.0f} of this recipe's"
        f" {recipe['steps']}) of {recipe['batch']} patches of {recipe['patch']} pixels,"
        f" {run.hours:.1f} hours by the log.",
        "Method": f"{_method({**recipe, 'dtype': dtype} if dtype else recipe)}.",
        "Data": f"{_pictures(recipe, notes.photographs, data)}; {_degradation(recipe)}.",
        "Start": f"{recipe.get('start') or 'random, around a bilinear enlargement'}.",
    }


def _method(recipe: Mapping[str, Any]) -> str:
    """How the weights were moved, in words; recipes of old leave out what had one value."""
    loss = {"l1": "L1", "charbonnier": "Charbonnier"}[recipe.get("loss", "l1")]
    rates = f"from {recipe['rate']:g} to {recipe['final_rate']:g}"
    optimiser = {"adamw": "AdamW", "muon": "Muon"}[recipe.get("optimiser", "adamw")]
    said = (
        f"{loss}, {optimiser}, {recipe.get('schedule', 'cosine')} {rates}, patches flipped and"
        f" turned, the body in {recipe.get('dtype', 'bfloat16')}, average of the weights"
        f" {recipe['ema']:g}"
    )
    share = recipe.get("rounded_share", 0)
    return f"{said}, the last {share:.0%} of the steps in bfloat16" if share else said


def _pictures(recipe: Mapping[str, Any], licence: str, data: Path | None) -> str:
    """What a training learns from, in words."""
    said = [f"photographs of `{recipe['photographs']}`{licence and f' ({licence})'}"]
    if data is not None:
        said = [_photographs(picture_files(data / recipe["photographs"]), licence)]
    if recipe.get("reduced_share"):
        said.append("also at half their size")
    if recipe["rendered"] and recipe["rendered_share"]:
        said.append(
            f"and {recipe['rendered']} pictures rendered by `scripts/pictures.py` (text, line art,"
            f" patterns), which are {recipe['rendered_share']:.0%} of it"
        )
    return ", ".join(said)


def _photographs(files: Sequence[Path], licence: str) -> str:
    """How many there are, how large, and of what kinds."""
    sizes = [look(file)[0] for file in files]
    pixels = sum(height * width for height, width in sizes) / 1e6
    kinds = sorted({_KINDS[file.suffix.lower()] for file in files})
    about = [licence, f"at most {max(map(max, sizes))} pixels a side", " and ".join(kinds)]
    return (
        f"{len(files)} photograph{'s' if len(files) > 1 else ''}"
        f" ({pixels:.{0 if pixels >= 10 else 4}f} megapixels; {', '.join(filter(None, about))})"
    )


_KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}


def _degradation(recipe: Mapping[str, Any]) -> str:
    if recipe.get("degradation", "clean") == "clean":
        return "reduced by MATLAB's bicubic, on uint8"
    return "degradation: video (see docs/training.md)"


_SAID = {
    "curve": "PSNR and loss while training; of several stages those watched on the same pictures",
    "failures": "Rendered pictures, the worst places: input, output, truth",
    "codecs": "The sample clip, coded: input, the models in the order of the table, truth",
}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="card.py", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("name", help="of the model, as in models/index.toml")
    add("--run", type=Path, required=True, nargs="+", help="folders of train.py, stage by stage")
    add("--data", type=Path, help="as train.py was told, to count the photographs")
    add("--recipe", type=Path, help="of the last stage (default: scripts/recipes/NAME.toml)")
    add("--dtype", help="that train.py was told, if not the recipe's")
    add("--weights", type=Path, help="the file that ships, if it is not the run's own")
    add("--sets", type=Path, nargs="*", default=[], help="folders with HR and LRxN")
    add("--clips", type=Path, nargs="*", default=[], help="for the codec test")
    add("--frames", type=int, default=12, help="of each clip")
    add("--largest", type=size_of, default=LARGEST, metavar="WxH", help="crop larger clips")
    add("--reference", nargs="*", default=[], help="models or files to compare with")
    add("--notes", type=Path, help="Markdown that only people can write")
    add("--out", type=Path, default=Path("models"), help="folder for the card")
    add("--pictures", type=Path, default=Path("docs/cards"), help="folder for its pictures")
    add("--draw-only", action="store_true", help="draw the worst places anew, and nothing else")
    add("--device", default="auto")
    return parser.parse_args(arguments)


def _make_models(options: argparse.Namespace, run: Run) -> dict[str, Upscale]:
    make = partial(make_model, scale=int(run.recipe["scale"]), device=options.device)
    others = ("bicubic", "lanczos", *options.reference)
    return {options.name: make(str(run.weights))} | {Path(n).name: make(n) for n in others}


def _measure_pictures(
    options: argparse.Namespace, run: Run, models: Mapping[str, Upscale]
) -> list[str]:
    """The table of pictures."""
    scale = int(run.recipe["scale"])
    rounded = make_model(str(run.weights), scale, options.device, "bfloat16")
    own, short = models[options.name], f"{options.name}, bf16"
    compared = {options.name: own, short: rounded} | {
        name: model for name, model in models.items() if name != options.name
    }
    sets, names = options.sets, [folder.name for folder in options.sets]
    scores = {name: [evaluate(upscale, folder, scale) for folder in sets]
              for name, upscale in compared.items()}  # fmt: skip
    cost = rounding_cost(scores[options.name], scores[short], names)
    return [*picture_table(scores, names), "", cost]


def _measure_codecs(
    options: argparse.Namespace, run: Run, models: Mapping[str, Upscale]
) -> list[str]:
    """The table of the codec test."""
    scale = int(run.recipe["scale"])
    clips = {
        str(path): read_clip(path, options.frames, 4 * scale, options.largest, skip=SKIPPED)
        for path in options.clips
    }
    return codec_table(
        [replace(r, low=r.low[:0], output=r.output[:0]) for r in score_codecs(clips, models, scale)]
    )


def _draw(options: argparse.Namespace, run: Run, models: Mapping[str, Upscale]) -> list[str]:
    """Write the sheets of the worst places; their kinds."""
    scale = int(run.recipe["scale"])
    places = worst_places(models[options.name], rendered_pairs(scale), scale)
    _write_crops(places, options, "failures")
    if not options.clips:
        return ["failures"]
    truth = read_clip(_SAMPLE, 2, 4 * scale, options.largest, skip=SKIPPED)
    scored = score_codecs({_SAMPLE.name: truth}, models, scale)
    coded = [worst_of_clip(group, truth, scale) for group in batched(scored, len(models))]
    _write_crops(coded, options, "codecs")
    return ["failures", "codecs"]


def _write_crops(places: Sequence[Crops], options: argparse.Namespace, kind: str) -> None:
    worst = sorted(places, key=lambda item: -item[0])[:_SHOWN]
    write_sheet([crops for _, crops in worst], options.pictures / f"{options.name}.{kind}.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        for folder in (options.out, options.pictures):
            folder.mkdir(parents=True, exist_ok=True)
        _make_card(options)
    except OSError as error:
        print(f"card.py: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except VsrError as error:
        print(f"card.py: error: {error}", file=sys.stderr)
        return 1
    return 0


def _make_card(options: argparse.Namespace) -> None:
    """What needs no measuring comes first: hours are lost where it fails afterwards."""
    name, run = options.name, Run.read(options.run, options.weights)
    notes = Notes.read(options.notes or Path(f"scripts/recipes/{name}.md"))
    recipe = options.recipe or Path(f"scripts/recipes/{name}.toml")
    facts = facts_of(run, recipe, options.dtype, notes=notes, data=options.data)
    models = _make_models(options, run)
    pictures = ["curve", *_draw(options, run, models)]
    if options.draw_only:
        return
    tables = {}
    if options.sets:
        tables["Pictures"] = _measure_pictures(options, run, models)
    if options.clips:
        title = f"Codec test, means of {len(options.clips)} clips"
        tables[title] = _measure_codecs(options, run, models)
    draw_curve(run.watched, options.pictures / f"{name}.curve.png", run.recipe["validation"])
    folder = Path(os.path.relpath(options.pictures, options.out)).as_posix()
    card = write_card(name, facts, tables, notes.text, pictures, folder)
    (options.out / f"{name}.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

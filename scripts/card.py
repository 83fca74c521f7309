"""Write the card of a model from what its training left, measured anew; see docs/training.md.

    python scripts/card.py span-video-x2 --run runs/span-video-x2 --sets DATA/data/Set5 \\
        --reference DATA/weights/spanx2_ch48.safetensors --clips DATA/media/mdn/flower.mp4 …

Reads the run's recipe (out of its weights) and its log, measures pictures and the codec test, and
writes ``models/NAME.md``, with the curve and pictures of the worst places in ``docs/cards``. What
only people know stands in a file of --notes: purpose, hours and hardware, what was changed on the
way, known failures in words.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from evaluate import Upscale, evaluate, make_model, pairs
from pictures import to_uint8
from safetensors import safe_open
from sheets import write_sheet
from torch import Tensor
from training.journal import read_log
from video import read_clip, score_codecs

from vsr.cache import file_sha256
from vsr.errors import VsrError

_CROP = 48
"""Side of a failure's picture, in low-resolution pixels."""
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Run:
    """A finished training."""

    weights: Path
    recipe: Mapping[str, Any]
    rows: Sequence[Mapping[str, float]]
    curve: Path

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """Read what ``train.py`` wrote to ``folder``."""
        weights = folder / "model.safetensors"
        with safe_open(weights, framework="pt") as file:
            recipe = json.loads((file.metadata() or {}).get("recipe", "{}"))
        return cls(weights, recipe, read_log(folder / "log.csv"), folder / "curve.png")


# Tables.


def picture_table(models: Mapping[str, Upscale], folders: Sequence[Path], scale: int) -> list[str]:
    """PSNR and SSIM of each model on each folder, as lines of Markdown."""
    lines = ["| model | " + " | ".join(f"{folder.name}, dB / SSIM" for folder in folders) + " |"]
    lines.append("|---" * (1 + len(folders)) + "|")
    for name, upscale in models.items():
        scores = [evaluate(upscale, folder, scale) for folder in folders]
        lines.append(f"| {name} | " + " | ".join(f"{p:.3f} / {s:.4f}" for p, s in scores) + " |")
    return lines


def codec_table(
    models: Mapping[str, Upscale], clips: Mapping[str, Tensor], scale: int
) -> list[str]:
    """The codec test, means over the clips, as lines of Markdown."""
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for result in score_codecs(clips, models, scale):
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


def worst_places(
    upscale: Upscale, folder: Path, scale: int
) -> list[tuple[float, Tensor, Tensor, Tensor]]:
    """Where a model is farthest from the truth, one place of each picture, worst first.

    Returns:
        The mean absolute error in codes, and (3, h, w) uint8: the input enlarged by nearest
        neighbour, the output, the truth.
    """
    found = []
    for low, high in pairs(folder, scale):
        out = to_uint8(upscale(low[None].float() / 255)[0].float() * 255)
        error = (out.float() - high.float()).abs().mean(0, keepdim=True)
        side = min(_CROP, *low.shape[-2:]) * scale
        means = torch.nn.functional.avg_pool2d(error[None], side, scale)[0, 0]
        place = int(means.argmax())
        top, left = (scale * v for v in divmod(place, means.shape[1]))
        seen = low.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        square = (slice(None), slice(top, top + side), slice(left, left + side))
        found.append((float(means.max()), seen[square], out[square], high[square]))
    return sorted(found, key=lambda item: -item[0])


# The card.


def write_card(
    name: str, run: Run, tables: Mapping[str, list[str]], notes: str, *, failures: bool
) -> str:
    """The text of a card."""
    recipe, rows = run.recipe, run.rows
    shares = f"{recipe.get('rendered_share', 0):.0%} of it from rendered pictures"
    parts = [
        f"# {name}",
        notes.strip(),
        "\n".join([
            f"* **Weights.** sha256 `{file_sha256(run.weights)}`; Apache-2.0, like the project.",
            f"* **Recipe.** `scripts/recipes/{name}.toml`, seed {recipe.get('seed')}.",
            f"* **Command.** `scripts/train.py scripts/recipes/{name}.toml --data DATA"
            f" --out runs/{name}`.",
            f"* **Course.** {rows[-1]['step']:g} of {recipe.get('steps')} steps of"
            f" {recipe.get('batch')} patches of {recipe.get('patch')} pixels.",
            "* **Data.** 101 photographs (125 megapixels; CC0 or Unsplash licence, at most 1440"
            " pixels a side, JPEG), also at half their size, and pictures rendered by"
            f" `scripts/pictures.py`, {shares}; degradation: {recipe.get('degradation')}.",
            f"* **Start.** {recipe.get('start') or 'random, around a bilinear enlargement'}.",
        ]),
        f"![PSNR on {recipe.get('validation')} while training](../docs/cards/{name}.curve.png)",
        *("\n".join([f"**{title}**", "", *lines]) for title, lines in tables.items()),
        failures * f"![The worst places: input, output, truth](../docs/cards/{name}.failures.png)",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="card.py", description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the model, as in models/index.toml")
    parser.add_argument("--run", type=Path, required=True, help="folder that train.py wrote")
    parser.add_argument("--sets", type=Path, nargs="*", default=[], help="folders with HR and LRxN")
    parser.add_argument("--clips", type=Path, nargs="*", default=[], help="for the codec test")
    parser.add_argument("--frames", type=int, default=12, help="of each clip")
    parser.add_argument(
        "--reference", nargs="*", default=[], help="models or files to compare with"
    )
    parser.add_argument("--notes", type=Path, help="Markdown that only people can write")
    parser.add_argument("--out", type=Path, default=Path("models"), help="for the card")
    parser.add_argument(
        "--pictures", type=Path, default=Path("docs/cards"), help="for its pictures"
    )
    parser.add_argument("--device", default="auto")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    run = Run.read(options.run)
    scale = int(run.recipe["scale"])
    make = partial(make_model, scale=scale, device=options.device)
    try:
        ours = make(str(run.weights))
        models = {options.name: ours}
        for other in ("bicubic", "lanczos", *options.reference):
            models[Path(other).name] = make(other)
        clips = {
            str(path): read_clip(path, options.frames, 4 * scale, (960, 544), skip=0.4)
            for path in options.clips
        }
    except VsrError as error:
        print(f"card.py: error: {error}", file=sys.stderr)
        return 1
    tables = {}
    options.pictures.mkdir(parents=True, exist_ok=True)
    if options.sets:
        tables["Pictures"] = picture_table(models, options.sets, scale)
        places = [p for folder in options.sets for p in worst_places(ours, folder, scale)]
        write_sheet(
            [crops for _, *crops in places[:_SHOWN]],
            options.pictures / f"{options.name}.failures.png",
        )
    if clips:
        tables[f"Codec test, means of {len(clips)} clips"] = codec_table(models, clips, scale)
    shutil.copyfile(run.curve, options.pictures / f"{options.name}.curve.png")
    notes = options.notes.read_text() if options.notes else ""
    (options.out / f"{options.name}.md").write_text(
        write_card(options.name, run, tables, notes, failures=bool(options.sets))
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A card's text: what a training and its recipe say, and what people have noted."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pictures import look
from training.stills import picture_files

from cards.course import Run
from vsr.files import file_sha256

__all__ = ["Notes", "facts_of", "write_card"]

_FENCE = "+++\n"
_KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
_SAID = {
    "curve": "PSNR and loss while training; of several stages those watched on the same pictures",
    "failures": "Rendered pictures, the worst places: input, output, truth",
    "codecs": "The sample clip, coded: input, the models in the order of the table, truth",
}


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
    loss = {"l1": "L1", "charbonnier": "Charbonnier", "psnr": "mean square in decibels"}[
        recipe.get("loss", "l1")
    ]
    if share := recipe.get("luma_share"):
        loss += f" (of luma alone by {share:.0%})"
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
        sizes = [f"{size:g} of" for size in recipe.get("reductions", [0.5])]
        said.append(f"also at {' and '.join(sizes)} their size".replace("0.5 of", "half"))
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


def _degradation(recipe: Mapping[str, Any]) -> str:
    if recipe.get("degradation", "clean") == "clean":
        return "reduced by MATLAB's bicubic, on uint8"
    return "degradation: video (see docs/training.md)"

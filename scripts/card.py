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
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import batched
from pathlib import Path

from cards.course import Run
from cards.tables import codec_table, picture_table, rounding_cost
from cards.wording import Notes, facts_of, write_card
from cards.worst import Crops, rendered_pairs, worst_of_clip, worst_places
from evaluate import LARGEST, SKIPPED, Upscale, evaluate, make_model, size_of
from sheets import write_sheet
from training.journal import draw_curve
from video import read_clip, score_codecs

from vsr.errors import VsrError

_SHOWN = 3
"""Places that a picture of failures shows."""
_SAMPLE = Path(__file__).resolve().parent.parent / "docs" / "sample.mp4"


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

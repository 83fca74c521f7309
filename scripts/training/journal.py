"""What a training leaves behind: a CSV of its course, a picture of it, weights, a checkpoint."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from safetensors.torch import save

from training.trainer import Trainer
from vsr.converting.writing import new_file

__all__ = ["Row", "draw_curve", "read_log", "write_report"]

Row = dict[str, float]
_SIZE = (800, 480)
_MARGIN = (60, 20, 20, 40)  # left, top, right, bottom
_INKS = {"psnr": "#1f5fa8", "loss": "#b04a2f"}


def write_report(trainer: Trainer, out: Path, row: Row) -> None:
    """Append ``row`` to the log, draw the curve, write weights and checkpoint."""
    print(" ".join(f"{name} {value:g}" for name, value in row.items()), flush=True)
    log = out / "log.csv"
    new = _without_torn_line(log)
    with log.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
    draw_curve(read_log(log), out / "curve.png", trainer.recipe.validation)
    metadata = {"format": "pt", "arch": trainer.recipe.network, **trainer.subject.metadata,
                "recipe": trainer.recipe.to_json()}  # fmt: skip
    with new_file(out / "model.safetensors", overwrite=True) as part:
        part.write_bytes(save(trainer.averaged(), metadata))  # save_file lets nobody else read it
    trainer.save(out / "checkpoint.pt")


def _without_torn_line(log: Path) -> bool:
    """Cut off what a run that was killed left of its last line; whether nothing is there."""
    if not log.exists():
        return True
    data = log.read_bytes()
    if whole := data.rfind(b"\n") + 1:
        if whole < len(data):
            os.truncate(log, whole)
        return False
    os.truncate(log, 0)
    return True


def read_log(path: Path) -> list[Row]:
    """The rows of a log; a step that a resumed training repeated counts once, as it came last.

    A last line without an end, which a run that was killed leaves, does not count.
    """
    with path.open(newline="") as file:
        lines = [line for line in file if line.endswith("\n")]
    rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)]
    return list({row["step"]: row for row in rows}.values())


def draw_curve(rows: Sequence[Mapping[str, float]], path: Path, validation: str) -> None:
    """PSNR and loss over steps, each in its own range, as a PNG."""
    image = Image.new("RGB", _SIZE, "white")
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = _MARGIN
    box = (left, top, _SIZE[0] - right, _SIZE[1] - bottom)
    draw.rectangle(box, outline="#808080")
    last = max(row["step"] for row in rows)
    for place, (name, ink) in enumerate(_INKS.items()):
        values = [row[name] for row in rows]
        low, high = min(values), max(values)
        points = [_point(box, row["step"] / max(1, last), value, low, high)
                  for row, value in zip(rows, values, strict=True)]  # fmt: skip
        draw.line(points, fill=ink, width=2)
        for x, y in points:
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=ink)
        words = f"PSNR on {validation}, dB" if name == "psnr" else "loss"
        text = f"{words}: {low:.5g} to {high:.5g}, last {values[-1]:.5g}"
        draw.text((left + 10, top + 8 + 16 * place), text, fill=ink)
    draw.text((box[2] - 110, box[3] + 10), f"{last:g} steps", fill="black")
    image.save(path)


def _point(
    box: tuple[int, int, int, int], along: float, value: float, low: float, high: float
) -> tuple[float, float]:
    height = (value - low) / (high - low) if high > low else 0.5
    return box[0] + along * (box[2] - box[0]), box[3] - 10 - height * (box[3] - box[1] - 70)

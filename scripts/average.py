"""Average the weights of several trainings of one network, or round those of one.

    python scripts/average.py out.safetensors first.safetensors:0.4 second.safetensors:0.6
    python scripts/average.py out.safetensors only.safetensors --half

What stands behind the last ":" is a weight, unless all of it is the name of a file.
What a file says of itself (architecture, windows, recipe) is taken from the first one.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from vsr.checkpoints import read_checkpoint
from vsr.converting.writing import new_file
from vsr.errors import VsrError

State = dict[str, Tensor]


def average(parts: list[tuple[State, float]]) -> State:
    """The weighted mean of state dicts with the same names and shapes.

    Raises:
        ValueError: names or shapes differ, or the weights have no mean.
    """
    shapes = [{name: value.shape for name, value in state.items()} for state, _ in parts]
    if any(other != shapes[0] for other in shapes):
        raise ValueError("these are weights of different networks")
    total = sum(weight for _, weight in parts)
    if not math.isfinite(total) or total == 0:
        raise ValueError(f"their weights are {total:g} together")
    return {name: sum(s[name] * (w / total) for s, w in parts) for name in parts[0][0]}  # type: ignore[misc]


def split_part(part: str) -> tuple[Path, float]:
    """``FILE[:WEIGHT]`` as a file and a weight, 1 where none stands there.

    Raises:
        ValueError: the weight is no number.
    """
    name, _, weight = part.rpartition(":")
    if Path(part).exists() or not name:
        return Path(part), 1
    try:
        return Path(name), float(weight or 1)
    except ValueError as error:
        if not Path(name).exists():  # then it is no weight, but belongs to a name
            return Path(part), 1
        raise ValueError(f"{weight!r} is no number to weigh {name} with") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, average, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("parts", nargs="+", metavar="FILE[:WEIGHT]")
    parser.add_argument("--half", action="store_true", help="write float16: half as large")
    options = parser.parse_args(arguments)
    try:
        _write_average(options)
    except (ValueError, VsrError) as error:
        print(f"average.py: error: {error}", file=sys.stderr)
        return 1
    return 0


def _write_average(options: argparse.Namespace) -> None:
    parts: list[tuple[State, float]] = []
    said: list[dict[str, str]] = []
    files = [split_part(part) for part in options.parts]
    for path, weight in files:
        state, metadata = read_checkpoint(path)
        parts.append(({k: v.float() for k, v in state.items()}, weight))
        said.append(metadata)
    try:
        result = average(parts)
    except ValueError as error:
        raise ValueError(f"{', '.join(str(path) for path, _ in files)}: {error}") from error
    if options.half:
        result = {name: value.half() for name, value in result.items()}
    contiguous = {name: value.contiguous() for name, value in result.items()}
    with new_file(options.output, overwrite=True) as written:  # save_file lets nobody else read it
        written.write_bytes(save(contiguous, {"format": "pt", **said[0]}))


if __name__ == "__main__":
    sys.exit(main())

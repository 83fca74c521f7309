"""Average the weights of several trainings of one network, or round those of one.

    python scripts/average.py out.safetensors first.safetensors:0.4 second.safetensors:0.6
    python scripts/average.py out.safetensors only.safetensors --half

What a file says of itself (architecture, windows, recipe) is taken from the first one.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

State = dict[str, Tensor]


def average(parts: list[tuple[State, float]]) -> State:
    """The weighted mean of state dicts with the same names and shapes.

    Raises:
        ValueError: names or shapes differ.
    """
    shapes = [{name: value.shape for name, value in state.items()} for state, _ in parts]
    if any(other != shapes[0] for other in shapes):
        raise ValueError("these are weights of different networks")
    total = sum(weight for _, weight in parts)
    return {name: sum(s[name] * (w / total) for s, w in parts) for name in parts[0][0]}  # type: ignore[misc]


def read_metadata(path: str) -> dict[str, str]:
    """What a file says of itself."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, average, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("parts", nargs="+", metavar="FILE[:WEIGHT]")
    parser.add_argument("--half", action="store_true", help="write float16: half as large")
    options = parser.parse_args(arguments)
    parts, names = [], []
    for part in options.parts:
        name, _, weight = part.partition(":")
        names.append(name)
        parts.append(({k: v.float() for k, v in load_file(name).items()}, float(weight or 1)))
    try:
        result = average(parts)
    except ValueError as error:
        print(f"average.py: error: {', '.join(names)}: {error}", file=sys.stderr)
        return 1
    if options.half:
        result = {name: value.half() for name, value in result.items()}
    metadata = {"format": "pt", **read_metadata(names[0])}
    save_file({k: v.contiguous() for k, v in result.items()}, options.output, metadata)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Average the weights of several trainings of one network.

python scripts/average.py out.safetensors first.safetensors:0.4 second.safetensors:0.6
"""

import argparse
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

State = dict[str, Tensor]


def average(parts: list[tuple[State, float]]) -> State:
    """The weighted mean of state dicts with the same names and shapes."""
    total = sum(weight for _, weight in parts)
    return {name: sum(s[name] * (w / total) for s, w in parts) for name in parts[0][0]}  # type: ignore[misc]


def main() -> int:
    """Read, average, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("parts", nargs="+", metavar="FILE[:WEIGHT]")
    options = parser.parse_args()
    parts = []
    for part in options.parts:
        name, _, weight = part.partition(":")
        parts.append((load_file(name), float(weight or 1)))
    save_file(average(parts), options.output, {"format": "pt"})
    return 0


if __name__ == "__main__":
    sys.exit(main())

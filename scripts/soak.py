"""Long trials of what must not happen in a run of days.

    python scripts/soak.py kills [--times 30] [--seed 0] [--container mkv] [-- -c:v libx265]
    python scripts/soak.py memory [--frames 20000] [--slope 1.0]

Exit code 1 if anything was lost. Short forms of both run with the tests.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from soak_kills import survive_end, survive_kills
from soak_memory import watch_memory

__all__ = ["main"]


def _kills(options: argparse.Namespace, folder: Path) -> bool:
    failed = 0
    name = f"out.{options.container}"
    if options.last:
        trials = survive_end(options.last, folder, name, *options.command)
    else:
        trials = survive_kills(options.times, options.seed, folder, name, *options.command)
    number = -1
    for number, outcome in enumerate(trials):
        failed += not outcome.survived
        moments = ", ".join(map(str, outcome.kills))
        left = f", beside {', '.join(outcome.left)}" if outcome.left else ""
        print(f"{number}: killed {moments}: {outcome.problem or 'the same'}{left}", flush=True)
    print(f"{number + 1} runs killed, {number + 1 - failed} with the same result")
    return not failed


def _memory(options: argparse.Namespace, folder: Path) -> bool:
    found = watch_memory(options.frames, folder, leak=options.leak)
    print(found)
    return max(found.slope, found.allocated) < options.slope and not found.left


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    kills = commands.add_parser("kills")
    kills.add_argument("--times", type=int, default=30)
    kills.add_argument("--seed", type=int, default=0)
    kills.add_argument(
        "--last", type=int, default=0, help="instead: before each of the last N steps"
    )
    kills.add_argument("--container", default="mkv")
    kills.add_argument("command", nargs="*", default=["-c:v", "libx264", "--preset", "ultrafast"])
    kills.set_defaults(run=_kills)
    memory = commands.add_parser("memory")
    memory.add_argument("--frames", type=int, default=20_000)
    memory.add_argument("--slope", type=float, default=1.0, help="KB a frame that are too many")
    memory.add_argument("--leak", type=int, default=0, help="bytes a frame to lose on purpose")
    memory.set_defaults(run=_memory)
    return parser


def main() -> int:
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return 0 if options.run(options, Path(folder)) else 1


if __name__ == "__main__":
    sys.exit(main())

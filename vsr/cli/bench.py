"""vsr-bench: how fast this machine is, stage by stage and whole, beside other programs."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vsr.cli.command import DONE, Parser, open_standard_streams, run_command
from vsr.cli.values import parse_size
from vsr.config import PRECISIONS, RUNTIMES
from vsr.errors import ConfigError, SinkError, VsrError

if TYPE_CHECKING:
    from vsr.benchmarks import Wanted

__all__ = ["add_options", "main", "wanted_of"]

_DESCRIPTION = """\
Measures decoding, conversion, network and encoding, each alone and the whole command, and other
ways to run the same network: bare, and in the loop of existing tools. All of it in turn, in
processes of their own; medians are compared. Progress goes to stderr, results to stdout.
"""


def _build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="vsr-bench", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "clip", nargs="?", type=Path, metavar="FILE", help="a video (default: the sample clip)"
    )
    parser.add_argument("--size", type=parse_size, metavar="WxH", help="draw a clip of this size")
    parser.add_argument("--frames", type=int, default=24, help="frames to measure (default: 24)")
    add_options(parser)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write everything there too")
    parser.add_argument("--debug", action="store_true", help="show a traceback when it fails")
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add those that ``scripts/bench.py`` shares."""
    parser.add_argument("--rounds", type=int, default=3, help="turns of everything (default: 3)")
    parser.add_argument("--model", default="span", help="as for vsr-upscale (default: span)")
    parser.add_argument("--weights", type=Path, help="a checkpoint of your own")
    parser.add_argument("--scale", type=int, help="enlargement (default: the model's)")
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="of our own runs")
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto", help="of our own runs")
    parser.add_argument(
        "--peers",
        nargs="*",
        metavar="NAME",
        help="other ways to run the network: these alone, e.g. onnxruntime ncnn (default: all that "
        "are here; without a name: none)",
    )
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile too, which takes a minute to begin"
    )
    parser.add_argument(
        "--peers-python", type=Path, metavar="PYTHON",
        help="a Python of the same version, beside which further peers are installed",
    )  # fmt: skip


def wanted_of(options: argparse.Namespace, clip: Path | None, frames: int) -> "Wanted":
    """What the shared options ask for.

    Raises:
        ConfigError: they contradict each other, or name what is not there.
    """
    from vsr.benchmarks import Wanted

    return Wanted(
        clip=clip, size=options.size, frames=frames, rounds=options.rounds, model=options.model,
        peers=None if options.peers is None else tuple(options.peers), compiled=options.compile,
        packages=_packages(options.peers_python), weights=options.weights, scale=options.scale,
        device=options.device, precision=options.precision, runtime=options.runtime,
    )  # fmt: skip


def _packages(python: Path | None) -> tuple[str, ...]:
    """Where the packages of another Python lie."""
    if python is None:
        return ()
    code = "import sysconfig as s, sys; print(sys.version_info[:2], s.get_paths()['platlib'])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(f"--peers-python {python}: it is no Python that runs") from error
    version, _, folder = done.stdout.strip().partition(") ")
    if version + ")" != str(sys.version_info[:2]):
        raise ConfigError(f"--peers-python {python}: it is {version}), not {sys.version_info[:2]}")
    return (folder,)


def _require_place(path: Path) -> None:
    """See that a file can be written before minutes are spent on what goes into it.

    Raises:
        ConfigError: it cannot.
    """
    if path.is_dir():
        raise ConfigError(f"--json {path}: it is a folder")
    if not path.parent.is_dir():
        raise ConfigError(f"--json {path}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"--json {path}: it may not be written")


def _run(options: argparse.Namespace) -> int:
    from vsr.benchmarks import bench, tell

    if options.json:
        _require_place(options.json)
    wanted = wanted_of(options, options.clip, options.frames)
    results = bench(wanted, lambda line: print(line, file=sys.stderr, flush=True))
    for line in tell(results):
        print(line)
    if options.json:
        try:
            options.json.write_text(json.dumps(results, indent=2) + "\n")
        except OSError as error:
            raise SinkError(f"{options.json}: {error.strerror}") from error
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; None takes the process's.

    Returns:
        0 done, 1 failed, 2 usage, 130 interrupted.
    """
    open_standard_streams()
    options = _build_parser().parse_args(argv)
    known = (VsrError, OSError)
    return run_command("vsr-bench", lambda: _run(options), debug=options.debug, known=known)


if __name__ == "__main__":
    sys.exit(main())

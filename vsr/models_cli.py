"""vsr-models: list, fetch and check the models.

Each subcommand is one function ``_add_NAME(subparsers)``, which says what may be typed, and one
function that runs it: ``parser.set_defaults(run=...)``, from the parsed options to an exit code.
torch is imported only where a subcommand needs it.
"""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from vsr.errors import ConfigError, VsrError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction["_Parser"]

__all__ = ["main"]

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


class _Parser(argparse.ArgumentParser):
    """argparse, with one line for an error rather than the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: error: {message} (see --help)\n")


def _build_parser() -> _Parser:
    parser = _Parser(
        prog="vsr-models", description="List, fetch and check the models.", allow_abbrev=False
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback when it fails")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in _COMMANDS:
        add(subparsers)
    return parser


def _add_list(subparsers: "Subparsers") -> None:
    parser = subparsers.add_parser("list", help="list the models", allow_abbrev=False)
    parser.set_defaults(run=_list)


def _list(options: argparse.Namespace) -> int:
    from vsr.index import list_models

    for model in list_models():
        print(model.name)
    return DONE


_COMMANDS: tuple[Callable[["Subparsers"], None], ...] = (_add_list,)
"""In the order of ``--help``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; None takes the process's.

    Returns:
        0 done, 1 failed, 2 usage, 130 interrupted.
    """
    options = _build_parser().parse_args(argv)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("aborted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last line of defence against tracebacks
        message = " ".join(str(error).split()) or type(error).__name__
        if options.debug:
            traceback.print_exc()
        elif not isinstance(error, VsrError):
            message = f"internal error: {message} (--debug shows where)"
        print(f"vsr-models: error: {message}", file=sys.stderr)
        return USAGE if isinstance(error, ConfigError) else FAILED


if __name__ == "__main__":
    sys.exit(main())

"""vsr-models: list, fetch and check the models.

Each subcommand is one function ``_add_NAME(subparsers)``, which says what may be typed, and one
function that runs it: ``parser.set_defaults(run=...)``, from the parsed options to an exit code.
torch is imported only where a subcommand needs it.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from vsr.cli.command import DONE, FAILED, Parser, open_standard_streams, run_command
from vsr.cli.listing import is_here, models_table, place_of
from vsr.cli.values import parse_size
from vsr.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from tqdm import tqdm

    from vsr.index import Model

    Subparsers = argparse._SubParsersAction["Parser"]

__all__ = ["main"]


def _build_parser() -> Parser:
    parser = Parser(
        prog="vsr-models", description="List, fetch and check the models.", allow_abbrev=False
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback when it fails")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in _COMMANDS:
        add(subparsers)
    return parser


# Listing.


def _add_list(subparsers: "Subparsers") -> None:
    parser = subparsers.add_parser("list", help="list the models", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="all that is known of each, as JSON")
    parser.set_defaults(run=_list)


def _list(options: argparse.Namespace) -> int:
    from vsr.index import list_models

    if options.json:
        listed = [{**asdict(model), "where": place_of(model)} for model in list_models()]
        print(json.dumps(listed, indent=1, ensure_ascii=False))
        return DONE
    print(models_table(list_models()))
    return DONE


# Fetching.


def _add_pull(subparsers: "Subparsers") -> None:
    parser = subparsers.add_parser(
        "pull", help="fetch models into the cache", allow_abbrev=False,
        description="Fetch models into the cache, or the rest of them, and print where they are.",
    )  # fmt: skip
    parser.add_argument(
        "wanted", nargs="+", metavar="NAME|REF",
        help="a model, a family, hf:OWNER/REPO[/FILE][@REVISION], hf:OWNER/*/FILE, "
        "or the https URL of a file",
    )  # fmt: skip
    parser.add_argument(
        "--sha256", type=_hex, metavar="HEX", help="what the file of a REF must have"
    )
    parser.add_argument(
        "--force", action="store_true", help="fetch it again, whatever is cached and recorded"
    )
    parser.set_defaults(run=_pull)


def _hex(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no sha256; it has 64 hexadecimal digits")
    return text.lower()


def _pull(options: argparse.Namespace) -> int:
    from vsr.cache import is_reference
    from vsr.index import locate

    if options.sha256 and not (len(options.wanted) == 1 and is_reference(options.wanted[0])):
        raise ConfigError("--sha256 goes with one reference; those of models are in the index")
    for wanted in options.wanted:
        if is_reference(wanted) and not wanted.startswith("file:"):
            print(_fetch(wanted.rpartition("/")[2], wanted, options.sha256 or "", options.force))
            continue
        for model in _named(wanted):
            if model.source:
                print(_fetch(model.name, model.source, model.sha256, options.force))
            else:
                print(locate(model))
    return DONE


def _fetch(label: str, reference: str, sha256: str, force: bool) -> Path:
    from vsr.hub import fetch

    with _Bar(label) as bar:
        return fetch(reference, sha256=sha256, force=force, on_bytes=bar)


def _named(name: str) -> "list[Model]":
    """The model of this name, or all of this family, that have weights.

    Raises:
        ConfigError: there is none.
    """
    from vsr.index import find_model, list_models, looks_like_a_file

    known = {word for model in list_models() for word in (model.name, model.family)}
    if name not in known and looks_like_a_file(name):
        raise ConfigError(
            f"no model is called {name!r}; a file that is here is for vsr-upscale --weights"
        )
    find_model(name, None)
    found = [m for m in list_models() if name in (m.name, m.family) and not m.is_classical]
    if not found:
        raise ConfigError(f"{name!r} is a filter and has no weights")
    return found


class _Bar:
    """Bytes on stderr, if that is a terminal; it appears with the first of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, count: int, total: int | None) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                desc=self._name, initial=count, total=total, unit="B", unit_scale=True,
                dynamic_ncols=True, disable=None,
            )  # fmt: skip
        self._bar.total = total
        self._bar.update(count - self._bar.n)


# Looking after them.


def _add_verify(subparsers: "Subparsers") -> None:
    parser = subparsers.add_parser(
        "verify", help="check the files of models", allow_abbrev=False,
        description="Check the sha256 of models: all that ship and all that are cached, or NAMEs.",
    )  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help="a model or a family")
    parser.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    from vsr.cache import check

    code = DONE
    for name, path, sha256 in _files(options.names):
        try:
            check(path, sha256)
        except WeightsError as error:
            print(f"bad  {name:19} {path}")
            print(f"vsr-models: error: {error}", file=sys.stderr)
            code = FAILED
        else:
            print(f"ok   {name:19} {path}")
    return code


def _files(names: Sequence[str]) -> Iterator[tuple[str, Path, str]]:
    """Name, file and sha256 of the models ``names``; without any, of all that are here."""
    from vsr.cache import cached_files
    from vsr.index import list_models, locate

    if names:
        for model in [model for name in names for model in _named(name)]:
            yield model.name, locate(model), model.sha256
        return
    here = [model for model in list_models() if is_here(model) and not model.is_classical]
    found = {locate(model): model for model in here}
    for path, model in found.items():
        yield model.name, path, model.sha256
    for path in cached_files():
        if path not in found:
            yield "-", path, ""


def _add_path(subparsers: "Subparsers") -> None:
    parser = subparsers.add_parser(
        "path", help="say where a model or the cache is", allow_abbrev=False
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME|REF", help="whose files; left out: the cache folder"
    )
    parser.set_defaults(run=_path)


def _path(options: argparse.Namespace) -> int:
    from vsr.cache import cache_folder, cached, is_reference
    from vsr.index import find_model, locate

    if options.name is None:
        print(cache_folder())
    elif is_reference(options.name):
        print(cached(options.name))
    else:
        here = [model for model in _named(options.name) if is_here(model)]
        for model in here or [find_model(options.name, None)]:
            print(locate(model))
    return DONE


# Bringing them in, and taking them elsewhere.


def _add_import(subparsers: "Subparsers") -> None:
    parser = subparsers.add_parser(
        "import", help="turn a checkpoint into a folded safetensors file", allow_abbrev=False,
        description="Fold a checkpoint (.safetensors, .pth, or SPAN's .param and .bin for ncnn), "
        "write it as safetensors, and compare the outputs.",
    )  # fmt: skip
    parser.add_argument("file", type=Path, metavar="FILE", help="the checkpoint")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT", help="default: FILE as .safetensors"
    )
    parser.add_argument(
        "--variant", metavar="NAME", help="which variant it is, where its shapes fit several"
    )
    parser.add_argument("--half", action="store_true", help="store float16")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.set_defaults(run=_import)


def _import(options: argparse.Namespace) -> int:
    from vsr.converting.importing import import_checkpoint

    done = import_checkpoint(
        options.file, options.output, variant=options.variant, half=options.half,
        overwrite=options.force,
    )  # fmt: skip
    print(
        f"{done.path}: {done.architecture} x{done.scale}; differs from {options.file.name} "
        f"by {done.difference:.1e} of the output's standard deviation"
    )
    return DONE


def _add_export(subparsers: "Subparsers") -> None:
    parser = subparsers.add_parser(
        "export", help="write a model as ONNX or TorchScript", allow_abbrev=False,
        description="Write a model for other programs, run the file, and compare the outputs.",
    )  # fmt: skip
    parser.add_argument("model", metavar="NAME|FILE", help="a model, or a checkpoint")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="default: its name here")
    parser.add_argument("--format", choices=("onnx", "torchscript"), required=True)
    parser.add_argument("--opset", type=int, metavar="N", help="of ONNX (default: PyTorch's)")
    parser.add_argument(
        "--size", type=parse_size, metavar="WxH",
        help="for pictures of this size only (default: any)",
    )  # fmt: skip
    parser.add_argument("--scale", type=int, metavar="N", help="enlargement (default: the model's)")
    parser.add_argument(
        "--half", action="store_true", help="body in float16; input and output stay in float32"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    from vsr.converting.exporting import SUFFIXES, ExportConfig, export_network
    from vsr.index import find_model
    from vsr.weights import load_network

    path = Path(options.model)
    if path.suffix or path.exists():
        network = load_network(path, scale=options.scale)
    else:
        model = find_model(options.model, options.scale)
        if model.is_classical:
            raise ConfigError(f"{options.model!r} is a filter and has no weights")
        network = load_network(options.model, scale=options.scale)
        path = Path(model.name)
    output = options.output or Path(path.name).with_suffix(SUFFIXES[options.format])
    config = ExportConfig(
        format=options.format, opset=options.opset, size=options.size, half=options.half,
        source=path.name, overwrite=options.force,
    )  # fmt: skip
    done = export_network(network, output, config)
    opset = f", opset {done.opset}" if done.opset is not None else ""
    print(
        f"{done.path}: {network.name} x{network.scale}{opset}; differs from our output by "
        f"{done.difference:.1e} of its standard deviation"
    )
    return DONE


_COMMANDS: tuple[Callable[["Subparsers"], None], ...] = (
    _add_list,
    _add_pull,
    _add_verify,
    _add_path,
    _add_import,
    _add_export,
)
"""In the order of ``--help``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; None takes the process's.

    Returns:
        0 done, 1 failed, 2 usage, 130 interrupted.
    """
    open_standard_streams()
    options = _build_parser().parse_args(argv)
    return run_command("vsr-models", lambda: int(options.run(options)), debug=options.debug)


if __name__ == "__main__":
    sys.exit(main())

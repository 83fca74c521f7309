"""The house's order: a lower room never imports a higher one, siblings never import each other."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import vsr

PACKAGE = Path(vsr.__file__).resolve().parent

# Lowest first; the rooms of one line are siblings.
ORDER = [
    ("errors", "crc", "notes"),
    ("checking", "tags", "stdout", "unfinished", "completion", "places", "numbering", "shipped",
     "files", "memory", "sizes", "rationals"),
    ("ebml", "beside"),
    ("config", "hdr", "nut", "comparing", "constants", "stopwatch"),
    ("immersive",),
    ("frame",),
    ("icc", "orientation", "tagging"),
    ("resample",),
    ("colour",),
    ("ffmpeg",),
    ("encoding", "flags"),
    ("sources", "sinks"),
    ("cache", "outputs"),
    ("index", "hub", "timings"),
    ("choosing",),
    ("networks",),
    ("checkpoints",),
    ("weights",),
    ("converting", "kernels", "winograd", "judging"),
    ("health",),
    ("device", "runtimes", "reuse"),
    ("progress",),
    ("prefetch",),
    ("engine",),
    ("planning", "upscaler"),
    ("report",),
    ("inventory", "sync"),
    ("record", "resume"),
    ("pipeline",),
    ("dryrun", "benchmarks"),
    ("cli", "vapoursynth"),
    ("__main__",),
]  # fmt: skip
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}

SHARED_IN_ROOM = {
    "networks": {
        "shapes", "variants", "normalisation", "blocks", "attention", "attention_kernels",
        "conv_attention", "esc",
    }
}  # fmt: skip
"""Files that their siblings may import; each other file of these rooms stands alone."""


def modules() -> dict[str, Path]:
    """All modules of the package, by dotted name without ``vsr``; the package itself is ""."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(p for p in parts if p != "__init__")] = path
    return found


MODULES = modules()


def imports(path: Path, *, for_types: bool = True) -> Iterator[tuple[str, str]]:
    """Every ``from vsr… import name`` of a file, wherever it stands, as (module, name).

    ``for_types`` includes those that only a type checker sees.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unseen = set() if for_types else set(_seen_by_type_checkers(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and node not in unseen:
            assert not getattr(node, "level", 0), f"{path}: relative import"
            for alias in node.names:
                plain = isinstance(node, ast.Import)
                module = alias.name if plain else str(getattr(node, "module", ""))
                if module.partition(".")[0] == "vsr":
                    yield module.removeprefix("vsr").removeprefix("."), "" if plain else alias.name


def _seen_by_type_checkers(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from ast.walk(child)


def imported_modules(path: Path) -> set[str]:
    """The modules that a file imports, submodules taken from their package included."""
    found = set()
    for module, name in imports(path):
        inner = f"{module}.{name}".strip(".")
        found.add(inner if inner in MODULES else module)
    return found - {""}


ROOMS = sorted({name.partition(".")[0] for name in MODULES} - {""})


def test_every_room_has_its_place() -> None:
    assert set(ROOMS) <= set(LEVEL)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_lower_ones(room: str) -> None:
    for name, path in MODULES.items():
        if name.partition(".")[0] == room:
            for other in {module.partition(".")[0] for module in imported_modules(path)} - {room}:
                assert LEVEL[other] < LEVEL[room], f"vsr.{name} imports vsr.{other}"


@pytest.mark.parametrize("room", SHARED_IN_ROOM)
def test_siblings_stand_alone(room: str) -> None:
    for name, path in MODULES.items():
        if name.startswith(f"{room}."):
            inside = {m for m in imported_modules(path) if m.partition(".")[0] == room}
            allowed = {f"{room}.{shared}" for shared in SHARED_IN_ROOM[room]}
            assert inside <= allowed, f"vsr.{name}"


@pytest.mark.parametrize("room", [room for room in ROOMS if room in MODULES])
def test_no_circle_inside_a_room(room: str) -> None:
    edges = {
        name: {m for m in imported_modules(path) if m.startswith(f"{room}.")} - {name}
        for name, path in MODULES.items()
        if name.startswith(f"{room}.")
    }
    while edges:
        free = {name for name, needs in edges.items() if not needs & edges.keys()}
        assert free, f"circle among {sorted(edges)}"
        edges = {name: needs for name, needs in edges.items() if name not in free}


def _rank(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, as ruff sorts them."""
    return 0 if name.isupper() else 1 if name[0].isupper() else 2, name


@pytest.mark.parametrize("name", sorted(MODULES))
def test_all_is_sorted_and_true(name: str) -> None:
    if name == "__main__":
        return
    module = importlib.import_module(f"vsr.{name}".rstrip("."))
    listed = getattr(module, "__all__", None)
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    if listed is None:
        assert not any(isinstance(node, ast.ClassDef | ast.FunctionDef) for node in tree.body)
        return
    assert listed == sorted(set(listed), key=_rank)
    for public in listed:
        assert not public.startswith("_")
        assert hasattr(module, public)


def test_what_is_imported_is_public() -> None:
    """A name that another module uses when it runs stands in ``__all__`` of its home."""
    wrong = []
    for name, path in MODULES.items():
        for module, wanted in imports(path, for_types=False):
            inner = f"{module}.{wanted}".strip(".")
            if wanted and module and inner not in MODULES:
                listed = importlib.import_module(f"vsr.{module}").__all__
                if wanted not in listed:
                    wrong.append(f"vsr.{name}: from vsr.{module} import {wanted}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["vsr", "vsr.cli", "vsr.cli.models", "vsr.config", "vsr.errors"])
def test_starting_needs_no_torch(name: str) -> None:
    code = f"import sys, {name}; print(*sorted({{'torch', 'numpy', 'av'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_cpu_needs_no_triton() -> None:
    code = (
        "import sys, torch; from vsr.networks import classical; from vsr.runtimes import *\n"
        "make_runtime(classical('identity', 1), torch.device('cpu'), torch.float32)\n"
        "print('triton' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_errors_are_there_before_anything_is_used() -> None:
    code = "import vsr; print(vsr.errors.VsrError.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "VsrError\n", done.stderr


def test_public_names_are_there() -> None:
    for name in vsr.__all__:
        assert getattr(vsr, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vsr.nothing  # type: ignore[attr-defined]


def rooms_of_the_map(root: Path) -> dict[str, str]:
    """What docs/architecture.md, where a reader begins, says of each room, in its order.

    The map is the first block of code there. A room begins with two spaces and its name, which ends
    in ``.py`` or ``/``; what is indented further belongs to it, and what is not indented ends it.
    """
    text = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    told: dict[str, str] = {}
    room = ""
    for line in text.split("```")[1].splitlines():
        if begin := re.match(r"  (\w+)(?:\.py|/) ", line):
            room = begin[1]
            assert room not in told
            told[room] = line
        elif not line.startswith("   "):
            room = ""
        elif room:
            told[room] += f"\n{line}"
    return told


def test_the_map_has_every_room(root: Path) -> None:
    assert sorted({*rooms_of_the_map(root), "__main__"}) == ROOMS


@pytest.mark.parametrize("room", [room for room in ROOMS if (PACKAGE / room).is_dir()])
def test_the_map_names_every_file(root: Path, room: str) -> None:
    """Rooms have files of the same name, so each must be named in the lines of its own room."""
    paths = (PACKAGE / room).rglob("*.py")
    names = {path.name for path in paths if not path.name.startswith("__")}
    assert len(names) > 2
    told = set(re.findall(r"\b\w+\.py\b", rooms_of_the_map(root)[room]))
    assert told == names


def test_the_map_has_the_order_of_imports(root: Path) -> None:
    levels = [(LEVEL[room], room) for room in rooms_of_the_map(root)]
    above = [
        f"{upper} stands above {lower}"
        for (first, upper), (second, lower) in pairwise(levels)
        if first > second
    ]
    assert above == []


def test_every_note_is_there() -> None:
    """A comment that says "see note [X]" has a paragraph "Note [X]" in the package."""
    written: set[str] = set()
    wanted: dict[str, str] = {}
    for name, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        written |= set(re.findall(r"^\s*Note \[(.+?)\]", text, re.MULTILINE))
        flat = re.sub(r"\s*\n[ \t]*#?[ \t]*", " ", text)
        for cited in re.findall(r"\b[Nn]otes?((?:(?: and|,)? \[[A-Za-z][^\]\"']*\])+)", flat):
            wanted |= dict.fromkeys(re.findall(r"\[(.+?)\]", cited), f"vsr.{name}")
    assert min(len(written), len(wanted)) > 50
    assert {title: name for title, name in wanted.items() if title not in written} == {}

"""What is damaged, and who has to cope with it: one function for each kind of input.

Each takes a random generator and a :class:`Bench`, runs one case, and returns how it ended
(``done`` or ``refused``). What it must not do is raise :class:`Wrong` or anything else.
"""

import hashlib
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from fuzz_mutate import damage, damage_text
from fuzz_seeds import RESUMABLE

import vsr.index
from vsr.cli import main
from vsr.cli.models import main as models_main
from vsr.resume.manifest import seal
from vsr.sinks import avi, matroska, nut

__all__ = ["KINDS", "Bench", "Wrong"]


class Wrong(Exception):
    """What a run must not do; the message says it."""


class Bench:
    """The folders of one worker, emptied before each case.

    Args:
        folder: Where to work.
        seeds: What :func:`fuzz_seeds.make_seeds` made.
    """

    def __init__(self, folder: Path, seeds: Path) -> None:
        self.inputs, self.outputs = folder / "in", folder / "out"
        self.elsewhere, self.temporary = folder / "elsewhere", folder / "tmp"
        self.errors = folder / "stderr"
        self._seeds = seeds
        self._read: dict[str, list[tuple[str, bytes]]] = {}

    def clear(self) -> None:
        """Begin with nothing."""
        for folder in (self.inputs, self.outputs, self.elsewhere, self.temporary):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        sys.stderr.flush()
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)

    def seeds(self, kind: str, *suffixes: str) -> list[tuple[str, bytes]]:
        """Names and contents of the whole files of ``kind``."""
        if kind not in self._read:
            files = sorted((self._seeds / kind).iterdir())
            self._read[kind] = [(path.name, path.read_bytes()) for path in files]
        return [seed for seed in self._read[kind] if not suffixes or seed[0].endswith(suffixes)]

    def folder_of(self, kind: str) -> Path:
        """Where the whole files of ``kind`` lie."""
        return self._seeds / kind

    def damaged(self, rng: random.Random, kind: str, *suffixes: str) -> Path:
        """A damaged copy of one of them."""
        seeds = self.seeds(kind, *suffixes)
        name, data = rng.choice(seeds)
        path = self.inputs / name
        path.write_bytes(damage(rng, data, [other for _, other in seeds]))
        return path

    def upscale(self, *arguments: object, name: str = "out.mkv") -> str:
        """Run ``vsr-upscale``, and make sure that it ends as it says."""
        code = main([*map(str, arguments), "-o", str(self.outputs / name)])
        return self.judge(code, name)

    def judge(self, code: int, name: str) -> str:
        """Compare exit code, messages and files."""
        lines = self.errors.read_text(errors="replace").splitlines()
        blamed = [line for line in lines if ": error: " in line]
        if any("internal error" in line or "Traceback" in line for line in lines):
            raise Wrong(f"no error of ours: {[line for line in lines if 'rror' in line]}")
        if code not in (0, 1, 2) or len(blamed) != (code != 0):
            raise Wrong(f"exit code {code} with {len(blamed)} errors: {lines[-3:]}")
        left = sorted(path.name for path in self.outputs.iterdir())
        if any("--resume goes on" in line for line in blamed):
            left = [n for n in left if n != f"{name}.parts"]
        kept = [n for n in left if ".partial" in n and any(n in line for line in blamed)]
        if left != ([name] if code == 0 and name else kept):
            raise Wrong(f"exit code {code} left {left}")
        return "refused" if code else "done"


def _from_stdin(path: Path, run: Callable[[], str]) -> str:
    before = sys.stdin
    with path.open() as file:
        sys.stdin = file
        try:
            return run()
        finally:
            sys.stdin = before


_OUTPUTS = ("out.mkv", "out.mp4", "out.mov", "out.nut", "out.avi", "out.y4m")
_CHEAP = ("--model", "identity", "--device", "cpu", "--frames", "4", "-y")


def containers(rng: random.Random, bench: Bench) -> str:
    """Clips in every container, as files and through standard input."""
    path, name = bench.damaged(rng, "clips"), rng.choice(_OUTPUTS)
    codec = ["-c:v", "ffv1"] if name == "out.mkv" else []
    if name in ("out.mp4", "out.mov"):
        codec = ["-c:v", "libx264", "--preset", "ultrafast"]
    extra = rng.choice(((), (), (), ("-ss", "0.2"), ("--progressive",)))
    options = (*_CHEAP, *codec, *extra)
    if rng.random() < 0.15:
        return _from_stdin(path, lambda: bench.upscale("-", *options, name=name))
    return bench.upscale(path, *options, name=name)


def _y4m_header(rng: random.Random) -> str:
    numbers = ("0", "1", "16", "48", "17", "65536", "99999", "2147483648", "-4", "", "x")
    colours = ("420jpeg", "420", "444", "mono", "422p10", "420p16", "411", "444alpha", "p010", "")
    ratios = ("25:1", "0:0", "0:1", "1:0", "30000:1001", "1:99999999999", "-1:1", ":", "1:1")
    fields = [
        f"W{rng.choice(numbers)}", f"H{rng.choice(numbers)}", f"F{rng.choice(ratios)}",
        f"I{rng.choice('ptbm?x')}", f"A{rng.choice(ratios)}", f"C{rng.choice(colours)}",
        f"XCOLORRANGE={rng.choice(('FULL', 'LIMITED', '', 'x' * 300))}",
    ]  # fmt: skip
    plain = {"W": "W48", "H": "H32", "F": "F25:1"}
    wrong = rng.random() / 2
    kept = [field if rng.random() < wrong else plain.get(field[0], "") for field in fields]
    return " ".join(["YUV4MPEG2", *(field for field in kept if field and rng.random() < 0.98)])


def y4m(rng: random.Random, bench: Bench) -> str:
    """Headers of every wrong number and word, and frames that do not fit them."""
    path = bench.inputs / "in.y4m"
    frames = b"".join(b"FRAME\n" + rng.randbytes(48 * 32 * 3 // 2) for _ in range(3))
    header = _y4m_header(rng)
    if rng.random() < 0.3:
        header = damage_text(rng, header)
    data = header.encode() + b"\n" + frames
    path.write_bytes(damage(rng, data) if rng.random() < 0.3 else data)
    if rng.random() < 0.5:
        return bench.upscale(path, *_CHEAP, "-c:v", "ffv1")
    return _from_stdin(path, lambda: bench.upscale("-", *_CHEAP, "-c:v", "ffv1"))


def pictures(rng: random.Random, bench: Bench) -> str:
    """Pictures of every kind that is read."""
    path, name = bench.damaged(rng, "pictures"), rng.choice(("out.png", "out.tiff", "out.mkv"))
    codec = ("-c:v", "ffv1") if name == "out.mkv" else ()
    return bench.upscale(path, *_CHEAP, *codec, name=name)


def _damaged_header(rng: random.Random, data: bytes) -> bytes:
    """A safetensors file whose header is sound JSON, and wrong."""
    size = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    name = rng.choice([key for key in header if key != "__metadata__"])
    entry = header[name]
    match rng.randrange(6):
        case 0:
            entry["dtype"] = rng.choice(("F16", "BF16", "I64", "BOOL", "F8_E4M3", "U8", "X", 3))
        case 1:
            entry["shape"] = [rng.choice((0, 1, 3, 6, -1, 2**40)) for _ in entry["shape"]]
        case 2:
            entry["data_offsets"] = [rng.choice((0, 4, 2**40)), rng.choice((0, 4, 2**62))]
        case 3:
            header[rng.choice(("weight", "", "module." + name, "é\n\x1b[31m"))] = header.pop(name)
        case 4:
            del header[name]
        case _:
            words = ("span", "sst", "", "0", "-1", "nan", "x" * 10_000, "\n", "[1, 2]")
            keys = ("architecture", "scale", "variant", "norm", "img_range", "mean", "windows")
            header["__metadata__"] = {key: rng.choice(words) for key in keys}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def checkpoints(rng: random.Random, bench: Bench) -> str:
    """Weights: damaged bytes of both formats, and wrong headers."""
    if rng.random() < 0.4:
        name, data = rng.choice(bench.seeds("weights", ".safetensors"))
        path = bench.inputs / name
        path.write_bytes(_damaged_header(rng, data))
    else:
        path = bench.damaged(rng, "weights")
    if rng.random() < 0.2:
        code = models_main(["import", str(path), "-o", str(bench.outputs / "out.safetensors")])
        return bench.judge(code, "out.safetensors")
    clip = bench.inputs / "in.y4m"
    clip.write_bytes(b"YUV4MPEG2 W16 H16 F25:1\nFRAME\n" + rng.randbytes(384))
    cheap = ("--device", "cpu", "--runtime", "torch", "-c:v", "ffv1")
    return bench.upscale(clip, "--weights", path, *cheap)


def index(rng: random.Random, bench: Bench) -> str:
    """The index of models."""
    folder = bench.elsewhere
    original = (vsr.index.models_folder() / "index.toml").read_bytes()
    whole = b"\n\n".join(rng.sample(original.split(b"\n\n"), 4))
    words = damage_text(rng, whole.decode()).encode()
    (bench.inputs / "index.toml").write_bytes(words if rng.random() < 0.5 else damage(rng, whole))
    before = vsr.index.models_folder
    vsr.index.models_folder = lambda: bench.inputs
    vsr.index.list_models.cache_clear()
    clip = bench.inputs / "in.y4m"
    clip.write_bytes(b"YUV4MPEG2 W16 H16 F25:1\nFRAME\n" + bytes(384))
    try:
        if rng.random() < 0.3:
            return bench.judge(main(["--list-models"]), "")
        return bench.upscale(
            clip, "--model", rng.choice(("span", "identity", "sst")), "-c:v", "ffv1"
        )
    finally:
        vsr.index.models_folder = before
        vsr.index.list_models.cache_clear()
        assert not any(folder.iterdir())


_PROPS = (
    "_Matrix", "_Primaries", "_Transfer", "_ColorRange", "_Range", "_ChromaLocation", "_FieldBased",
    "_SARNum", "_SARDen", "_DurationNum", "_DurationDen", "_AbsoluteTime", "_PictType",
    "MasteringDisplayPrimariesX", "MasteringDisplayPrimariesY", "MasteringDisplayWhitePointX",
    "MasteringDisplayWhitePointY", "MasteringDisplayMinLuminance", "MasteringDisplayMaxLuminance",
    "ContentLightLevelMax", "ContentLightLevelAverage",
)  # fmt: skip
_VALUES = (
    "0", "1", "2", "3", "9", "255", "-1", "2**31", "2**62", "-2**62", "0.5", "1e308",
    "float('nan')", "float('inf')", "'text'", "b'\\xff'", "''", "[1, 2, 3]", "[0.1, 0.2]", "[]",
)  # fmt: skip


def vpy(rng: random.Random, bench: Bench) -> str:
    """Properties of frames that cannot be, and scripts with wrong words."""
    chosen = rng.sample(_PROPS, rng.randint(1, 6))
    props = ", ".join(f"{name}={rng.choice(_VALUES)}" for name in chosen)
    form = rng.choice(("YUV420P8", "YUV420P10", "YUV444PS", "RGB24", "GRAY16", "RGBS"))
    size = f"width={rng.choice((16, 32, 48))}, height={rng.choice((16, 32))}"
    rate = f"fpsnum={rng.choice((25, 0, 24000, 2**31))}, fpsden={rng.choice((1, 1001, 0))}"
    clip = f"core.std.BlankClip(format=vs.{form}, {size}, length=3, {rate})"
    set_props = f"c = c.std.SetFrameProps({props})"
    text = f"import vapoursynth as vs\ncore = vs.core\nc = {clip}\n{set_props}\nc.set_output()\n"
    path = bench.inputs / "in.vpy"
    if rng.random() < 0.3:
        text = damage_text(rng, text.replace("\n", " \n "))
    path.write_text(text, encoding="utf-8", errors="replace")
    name = rng.choice(("out.mkv", "out.mp4"))
    codec = ("ffv1",) if name == "out.mkv" else ("libx264", "--preset", "ultrafast")
    return bench.upscale(path, *_CHEAP, "-c:v", *codec, name=name)


def manifests(rng: random.Random, bench: Bench) -> str:
    """What is left of a run that was stopped: manifests and segments, gone on with."""
    seeds, work = bench.folder_of("work"), bench.outputs / "out.mkv.parts"
    clip = Path(shutil.copy2(seeds / "in.mkv", bench.inputs))
    shutil.copytree(seeds / work.name, work)
    files = sorted(work.iterdir())
    manifest = work / "manifest.json"
    path = manifest if rng.random() < 0.6 else rng.choice(files)
    sealed = path == manifest and rng.random() < 0.5
    if sealed:
        path.write_text(_damaged_json(rng, path.read_text()))
    elif rng.random() < 0.05:
        path.unlink()
    else:
        path.write_bytes(damage(rng, path.read_bytes(), [one.read_bytes() for one in files]))
    again = ("--resume",) if rng.random() < 0.9 else ()
    code = main([str(clip), str(bench.outputs / "out.mkv"), *RESUMABLE, *again])
    if code and work.exists():
        shutil.rmtree(work)  # as it may stay
    outcome = bench.judge(code, "out.mkv")
    if (
        not code
        and not sealed
        and _decoded(bench.outputs / "out.mkv") != _decoded(seeds / "whole.mkv")
    ):
        raise Wrong("went on to another film")
    return outcome


def _damaged_json(rng: random.Random, text: str) -> str:
    """``text`` with a value exchanged, and sealed again as if that had been written."""
    content = json.loads(text)
    holder: Any = content
    key = rng.choice(list(holder))
    while isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.9:
        holder = holder[key]
        key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    values: tuple[Any, ...] = (
        0,
        1,
        -1,
        3,
        2**63,
        0.5,
        True,
        None,
        "",
        "x" * 300,
        "../x",
        "1/0",
        [],
        {},
        "0" * 64,
    )
    holder[key] = rng.choice(values)
    content.pop("sha256", None)
    return json.dumps({**content, "sha256": seal(content)})


def _decoded(path: Path) -> str:
    """A hash of all pictures and their times."""
    told = hashlib.sha256()
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            told.update(f"{frame.pts} ".encode() + frame.to_ndarray().tobytes())
    return told.hexdigest()


_PATCHERS: dict[str, Callable[[Path, int, Fraction], None]] = {
    ".mkv": matroska.set_aspect_ratio, ".webm": matroska.set_aspect_ratio,
    ".nut": nut.set_aspect_ratio, ".avi": avi.set_aspect_ratio,
}  # fmt: skip


def patchers(rng: random.Random, bench: Bench) -> str:
    """What writes the aspect ratio into finished files: they stay untouched, or of equal length."""
    path = bench.damaged(rng, "clips", *_PATCHERS)
    before = path.read_bytes()
    sar = Fraction(rng.choice((1, 10, 64, 127, 128, 2**16, 2**31)), rng.choice((1, 11, 45, 2**20)))
    try:
        _PATCHERS[path.suffix](path, rng.choice((0, 1, 1, 2, 300)), sar)
    except ValueError as error:
        if path.read_bytes() != before:
            raise Wrong(f"refused ({error}), and changed the file") from error
        return "refused"
    if len(path.read_bytes()) != len(before):
        raise Wrong(f"{len(path.read_bytes())} bytes instead of {len(before)}")
    return "done"


Kind = Callable[[random.Random, Bench], str]
KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (containers, y4m, pictures, checkpoints, index, vpy, manifests, patchers)
}  # fmt: skip
_: Sequence[str] = tuple(KINDS)

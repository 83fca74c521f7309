"""How close models come to the truth: on folders of pictures, on coded clips, on finished videos.

    python scripts/evaluate.py DATA --scale 2 span path/to/weights.safetensors bicubic
    python scripts/evaluate.py codecs CLIP… --models span lanczos bicubic
    python scripts/evaluate.py video TRUTH OUTPUT…

Pictures: DATA holds ``HR`` and ``LRx<scale>`` with pictures of the same names, or pictures that are
reduced here, by MATLAB's bicubic. Protocol: output clamped and rounded to 8 bits, ``scale`` pixels
cropped at each side, PSNR and SSIM on BT.601 luma that is not rounded (BasicSR's convention).
Clips: see the notes of ``video.py``.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from metrics import luma, psnr, ssim
from pictures import load, load_pair, reduce_bicubic, to_uint8
from sheets import busiest_place, crop, write_sheet
from torch import Tensor
from training.stills import SUFFIXES
from video import CODINGS, Result, Scores, compare, read_clip, score_codecs

from vsr.config import Runtime
from vsr.device import choose_device, keep_freed_memory
from vsr.errors import VsrError
from vsr.resample import resize
from vsr.runtimes import make_runtime
from vsr.weights import load_network

Upscale = Callable[[Tensor], Tensor]
"""(1, 3, H, W) float32 in [0, 1] to (1, 3, s*H, s*W), both in main memory, wherever it computes."""

LARGEST = (960, 544)
_CROP = 96
"""Side of what --sheets shows, in pixels of the truth."""
SKIPPED = 0.4
"""Of a clip: the codec test takes pictures from its middle."""
_SMALLEST = 11
"""Side of SSIM's window."""
_ROW = "{:24} {:8.3f} {:7.4f} {:7.2f} {:8.3f}"
_HEAD = "{:24} {:>8} {:>7} {:>7} {:>8}"


def pairs_of(folder: Path, scale: int) -> list[Path]:
    """The reduced pictures of ``folder``, or those that are to be reduced."""
    if (folder / "HR").is_dir():
        return sorted((folder / f"LRx{scale}").glob("*.png"))
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)


def pairs(folder: Path, scale: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Low and high pictures of ``folder``, (3, H, W) uint8, the high one cropped to fit.

    Raises:
        SystemExit: one cannot be read, has no partner, or is too small to be compared.
    """
    ready = (folder / "HR").is_dir()
    for path in pairs_of(folder, scale):
        if ready:
            low, high = load_pair(path, folder / "HR" / path.name, scale)
        else:
            high = load(path)
            height, width = (side // scale * scale for side in high.shape[-2:])
            high = high[:, :height, :width]
        if min(high.shape[-2:]) < _SMALLEST + 2 * scale:
            raise SystemExit(f"{path}: too small: SSIM needs {_SMALLEST} pixels inside a border")
        yield (low if ready else reduce_bicubic(high, scale)), high


def evaluate(upscale: Upscale, folder: Path, scale: int) -> tuple[float, float]:
    """Mean PSNR (dB) and SSIM on luma over the pictures of ``folder``."""
    scores = []
    inner = slice(scale, -scale)
    for low, high in pairs(folder, scale):
        out = upscale(low[None].float() / 255)[0]
        a, b = (luma(p)[inner, inner] for p in (to_uint8(out.float() * 255), high))
        scores.append((psnr(a, b), ssim(a, b)))
    return fmean(score[0] for score in scores), fmean(score[1] for score in scores)


# Models.


def _classical(kernel: str, scale: int) -> Upscale:
    def upscale(x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return resize(x, scale * height, scale * width, kernel)  # type: ignore[arg-type]

    return upscale


def _network(name: str, scale: int, device: str, dtype: torch.dtype = torch.float32) -> Upscale:
    path = Path(name)
    chosen = load_network(path if path.suffix in (".safetensors", ".pth") else name, scale=scale)
    wanted: Runtime = "auto" if dtype == torch.float32 else "torch"  # others may take float32
    runtime = make_runtime(chosen, choose_device(device), dtype, wanted)
    return lambda picture: runtime(picture.to(runtime.device)).cpu()


def make_model(name: str, scale: int, device: str = "cpu", dtype: str = "float32") -> Upscale:
    """A model by name, checkpoint file, or ``bicubic`` or ``lanczos``.

    Raises:
        VsrError: there is no such model, or no such file.
    """
    if name in ("bicubic", "lanczos"):
        return _classical(name, scale)
    return _network(name, scale, device, getattr(torch, dtype))


def _make_models(options: argparse.Namespace) -> dict[str, Upscale]:
    make = partial(make_model, scale=options.scale, device=options.device, dtype=options.dtype)
    return {name: make(name) for name in options.models}


# Tables.


def run_pictures(options: argparse.Namespace) -> None:
    """One row a model, for a folder of pictures."""
    print(f"{'model':40} {'PSNR-Y':>8} {'SSIM':>7}   x{options.scale} on {options.data.name}")
    for name, upscale in _make_models(options).items():
        scores = evaluate(upscale, options.data, options.scale)
        print("{:40} {:8.4f} {:7.4f}".format(name, *scores), flush=True)


def run_codecs(options: argparse.Namespace) -> None:
    """For each coding one row a model: the mean over the clips; with --each, for each clip too."""
    clips = {
        str(path): read_clip(path, options.frames, 4 * options.scale, options.largest, skip=SKIPPED)
        for path in options.clips
    }
    found: dict[tuple[str, str], list[Scores]] = {}
    rows: dict[str, dict[str, list[Tensor]]] = {}
    for result in score_codecs(clips, _make_models(options), options.scale):
        found.setdefault((result.coding, result.model), []).append(result.scores)
        if options.each:
            words = f"{Path(result.clip).name} {result.coding} {result.rate:.3f} bit/pixel"
            print(f"{words:48}", _ROW.format(result.model, *_values(result.scores)), flush=True)
        if options.sheets:
            row = rows.setdefault(result.coding, {}).setdefault(result.clip, [])
            _add_crops(row, result, clips[result.clip])
    for coding, parts in rows.items():
        options.sheets.mkdir(parents=True, exist_ok=True)
        write_sheet(list(parts.values()), options.sheets / f"{coding}.png")
    for coding in CODINGS:
        print(f"\n{coding}, mean of {len(clips)} clips")
        print(_HEAD.format("model", "PSNR-Y", "SSIM", "VMAF", "flicker"))
        for model in options.models:
            print(_ROW.format(Path(model).name, *_values(_mean(found[coding, model]))))


def _add_crops(row: list[Tensor], result: Result, truth: Tensor) -> None:
    """Truth, input, and what each model makes of it."""
    middle = len(truth) // 2
    place, scale = busiest_place(truth[middle], _CROP), truth.shape[-1] // result.low.shape[-1]
    if not row:
        enlarged = result.low[middle].repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        row.extend(crop(picture, place, _CROP) for picture in (truth[middle], enlarged))
    row.append(crop(result.output[middle], place, _CROP))


def run_video(options: argparse.Namespace) -> None:
    """One row a video that is compared with the truth."""
    truth = read_clip(options.truth, options.frames, 2, (1 << 16, 1 << 16))
    print(_HEAD.format("video", "PSNR-Y", "SSIM", "VMAF", "flicker"))
    for path in options.outputs:
        output = read_clip(path, options.frames, 2, (1 << 16, 1 << 16))
        if output.shape != truth.shape:
            sizes = (f"{c.shape[0]} frames of {c.shape[3]}x{c.shape[2]}" for c in (output, truth))
            raise SystemExit("evaluate.py: error: {}: {}, the truth {}".format(path, *sizes))
        print(_ROW.format(path.name, *_values(compare(output, truth, 0))), flush=True)


def _values(scores: Scores) -> tuple[float, float, float, float]:
    return scores.psnr, scores.ssim, scores.vmaf, scores.flicker


def _mean(scores: Sequence[Scores]) -> Scores:
    psnrs, ssims, vmafs, flickers = zip(*map(_values, scores), strict=True)
    return Scores(psnr=fmean(psnrs), ssim=fmean(ssims), vmaf=fmean(vmafs), flicker=fmean(flickers))


# The command line.


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), default="float32",
        help="precision of the network's body",
    )  # fmt: skip


def size_of(text: str) -> tuple[int, int]:
    """``960x544`` as (960, 544)."""
    width, _, height = text.partition("x")
    return int(width), int(height)


def _parse_codecs(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="evaluate.py codecs", description="The codec test.")
    parser.add_argument("clips", type=Path, nargs="+", help="videos: the truth")
    parser.add_argument("--models", nargs="+", required=True, help="names, files, bicubic, lanczos")
    parser.add_argument("--frames", type=int, default=12, help="of each clip, at most")
    parser.add_argument(
        "--largest", type=size_of, default=LARGEST, metavar="WxH", help="crop what is larger"
    )
    parser.add_argument("--each", action="store_true", help="a row for each clip, too")
    parser.add_argument(
        "--sheets", type=Path, metavar="FOLDER",
        help="write crops side by side: truth, input, then each model; a row a clip",
    )  # fmt: skip
    _add_model_options(parser)
    return parser.parse_args(arguments)


def _parse_video(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="evaluate.py video", description="Compare videos.")
    parser.add_argument("truth", type=Path)
    parser.add_argument("outputs", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=250, help="compared, at most")
    return parser.parse_args(arguments)


def _parse_pictures(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="evaluate.py", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with HR and LRx<scale>, or of pictures")
    parser.add_argument("models", nargs="+", help="names, checkpoint files, bicubic or lanczos")
    _add_model_options(parser)
    options = parser.parse_args(arguments)
    if not list(pairs_of(options.data, options.scale)):
        parser.error(f"{options.data} holds neither LRx{options.scale}/*.png nor pictures alone")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table."""
    arguments = sys.argv[1:] if arguments is None else arguments
    keep_freed_memory()
    try:
        if arguments[:1] == ["codecs"]:
            run_codecs(_parse_codecs(arguments[1:]))
        elif arguments[:1] == ["video"]:
            run_video(_parse_video(arguments[1:]))
        else:
            run_pictures(_parse_pictures(arguments))
    except VsrError as error:
        print(f"evaluate.py: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How far right pictures are from their sources, and what looking at every frame costs.

    python scripts/bench_health.py MODEL_OR_FILE… [--photos FOLDER…] [--media FOLDER…] [--json OUT]
    python scripts/bench_health.py span --cost [--size 640x360]

The first form runs networks, in half precision as a run would, over difficult pictures drawn here,
over photographs, and over frames of videos, each cut or reduced to at most 160x128 pixels. It
prints how far the results are from their sources, how many exceed the strict limits of
``vsr.judging``, and how many the network's own; each of these would be a false alarm.

The second form prints the share that measuring has of a frame's time.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import torch
from pictures import load, render
from torch import Tensor

from vsr.cli.values import parse_size
from vsr.device import choose_device, choose_dtype, describe, keep_freed_memory
from vsr.errors import VsrError
from vsr.judging import Limits, Measures, choose_limits, draw_chart, judge, measure
from vsr.networks import Network
from vsr.resample import resize
from vsr.runtimes import EagerRuntime, make_runtime
from vsr.stopwatch import in_turn
from vsr.weights import load_network

WIDTH, HEIGHT = 160, 128
_FRAMES = (0, 8, 16)
"""Of each video."""

Pictures = Iterator[tuple[str, Tensor]]


def hard_pictures(height: int = 96, width: int = 128) -> Pictures:
    """Pictures that are difficult to enlarge or to judge, (1, 3, H, W) float32, and their names."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    gray: dict[str, Tensor] = {
        f"flat {level}": torch.full((height, width), level / 255)
        for level in (0, 1, 2, 3, 4, 6, 8, 16, 64, 128, 192, 254, 255)
    }
    for size in (1, 2, 3, 4, 8, 16):
        gray[f"checkerboard {size}"] = (x // size + y // size) % 2
    for size in (1, 2, 4):
        gray |= {f"columns {size}": x // size % 2, f"rows {size}": y // size % 2}
    gray |= {
        "faint checkerboard": 0.44 + (x + y) % 2 * 0.06, "ramp": x / width,
        "edge": x // (width // 2),
        "dots": (x % 4 == 0) & (y % 4 == 0),
        "zone plate": 0.5 + 0.5 * torch.cos(((x - width / 2) ** 2 + (y - height / 2) ** 2) / 40),
    }  # fmt: skip
    for name, picture in gray.items():
        yield name, picture.float().expand(1, 3, -1, -1)
    yield from _coloured_pictures((x + y) % 2)
    for index, picture in enumerate(render(6, max(height, width), seed=7)):
        yield f"drawing {index}", picture[None, :, :height, :width].float() / 255


def _coloured_pictures(checks: Tensor) -> Pictures:
    size = (1, 3, *checks.shape)
    for number in range(1, 7):
        colour = torch.tensor([number >> bit & 1 for bit in range(3)]).float()
        yield f"colour {number}", colour.view(1, 3, 1, 1).expand(size)
    yield "red and green", torch.stack([checks, 1 - checks, 0 * checks])[None].float()
    random = torch.rand(size, generator=torch.Generator().manual_seed(0))
    noise = {
        "noise": random,
        "dark noise": random * 6 / 255,
        "black and white noise": random.round(),
    }
    noise |= {"few bright": (random > 0.98).float(), "few dark": (random < 0.98).float()}
    yield from noise.items()


def photographs(folders: list[Path]) -> Pictures:
    """Pictures of folders: a reduction, and a part as it is, of each."""
    for path in sorted(path for folder in folders for path in folder.iterdir()):
        if path.suffix in (".png", ".jpg"):
            picture = load(path)[None].float() / 255
            yield path.name, picture[..., :HEIGHT, :WIDTH]
            yield f"{path.name}, reduced", _reduced(picture)


def video_frames(folders: list[Path]) -> Pictures:
    """Some frames of every video, reduced; what does not decode is left out."""
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        try:
            with av.open(str(path)) as container:
                frames = islice(container.decode(video=0), max(_FRAMES) + 1)
                for index, frame in enumerate(frames):
                    if index in _FRAMES:
                        rgb = torch.from_numpy(frame.to_ndarray(format="rgb24"))
                        yield f"{path.name} {index}", _reduced(rgb.permute(2, 0, 1)[None] / 255)
        except (av.FFmpegError, IndexError, OSError):
            continue


def _reduced(picture: Tensor) -> Tensor:
    height, width = picture.shape[-2:]
    factor = min(1.0, WIDTH / width, HEIGHT / height)
    rows, columns = (max(1, round(side * factor)) for side in (height, width))
    return resize(picture, rows, columns).clamp_(0, 1)


@dataclass(slots=True)
class Row:
    """What one network made of one set of pictures."""

    network: str
    pictures: str
    count: int = 0
    worst: float = 0.0
    mean: float = 0.0
    strict: int = 0
    """Beyond the strict limits."""
    alarms: int = 0
    """Beyond the network's own: what would be done again, and reported."""
    names: str = ""


def survey(name: str, network: Network, sets: dict[str, list[tuple[str, Tensor]]]) -> Iterator[Row]:
    """Run ``network`` over sets of pictures, in the precision of a run."""
    device = choose_device("auto")
    exact = EagerRuntime(network, device, torch.float32)
    fast = EagerRuntime(network, device, choose_dtype(device, "auto"))
    chart = draw_chart(device)
    own = choose_limits(_measured(chart, exact(chart)))
    for kind, pictures in sets.items():
        row, alarms = Row(name, kind, len(pictures)), []
        for title, picture in pictures:
            found = _measured(picture, fast(picture.to(device)))
            row.worst, row.mean = max(row.worst, found.worst), max(row.mean, found.mean)
            row.strict += judge(found, Limits()) is not None
            if judge(found, Limits()) and judge(found, own):
                alarms.append(title)
        row.alarms, row.names = len(alarms), "; ".join(alarms[:5])
        yield row


def _measured(source: Tensor, result: Tensor) -> Measures:
    return Measures(*measure(source.to(result.device), result)[0].tolist())


def cost(network: Network, size: tuple[int, int], rounds: int = 7) -> dict[str, float]:
    """Milliseconds of a frame through the network, and of measuring it; medians, in turn."""
    device = choose_device("auto")
    run = make_runtime(network, device, choose_dtype(device, "auto"))
    source = torch.rand(1, 3, size[1], size[0], device=device)
    result = run(source)
    calls = {
        "network_ms": lambda: run(source),
        "measure_ms": lambda: measure(source, result).tolist(),
    }
    found = in_turn(calls, device, rounds)
    return found | {"share": found["measure_ms"] / found["network_ms"]}


def _print_survey(options: argparse.Namespace) -> list[dict[str, object]]:
    sets = {
        "difficult": list(hard_pictures()), "photographs": list(photographs(options.photos)),
        "videos": list(video_frames(options.media)),
    }  # fmt: skip
    rows = []
    print("| network | pictures | | worst | mean | strict | alarms |")
    print("|---|---|---|---|---|---|---|")
    for name in options.models:
        network = load_network(Path(name) if Path(name).suffix else name)
        for row in survey(Path(name).stem, network, {k: v for k, v in sets.items() if v}):
            print(
                f"| {row.network} | {row.pictures} | {row.count} | {row.worst:.3f} "
                f"| {row.mean:.4f} | {row.strict} | {row.alarms} {row.names} |", flush=True,
            )  # fmt: skip
            rows.append({field: getattr(row, field) for field in Row.__slots__})
    return rows


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="names, or checkpoint files")
    parser.add_argument("--photos", type=Path, nargs="+", default=[])
    parser.add_argument("--media", type=Path, nargs="+", default=[])
    parser.add_argument("--cost", action="store_true", help="time instead")
    parser.add_argument("--size", type=parse_size, default=(640, 360))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    keep_freed_memory()
    try:
        if options.cost:
            found: object = cost(load_network(options.models[0]), options.size)
            print(
                f"{'x'.join(map(str, options.size))} on {describe(choose_device('auto'))}: {found}"
            )
        else:
            found = _print_survey(options)
    except VsrError as error:
        print(f"bench_health.py: error: {error}", file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

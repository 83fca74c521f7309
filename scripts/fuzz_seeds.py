"""Whole files to be damaged: made here, and real ones if there are any."""

import itertools
import subprocess
from pathlib import Path

import torch
from safetensors.torch import save_file

from vsr.cli.configuration import make_config
from vsr.cli.options import build_parser
from vsr.networks.span import Span, SpanConfig
from vsr.networks.spanf import SpanF, SpanFConfig
from vsr.networks.spanplus import SpanPlus, SpanPlusConfig
from vsr.networks.sst import Sst, SstConfig
from vsr.pipeline import upscale

__all__ = ["RESUMABLE", "make_seeds"]

RESUMABLE = (
    "--model", "identity", "--device", "cpu", "-c:v", "ffv1", "--segment-seconds", "0.125",
)  # fmt: skip
"""Options of runs that leave segments of three frames."""

_SMALL = 64 << 10  # bytes: of real files, those that are soon read
_CLIPS = {
    "h264.mkv": "-c:v libx264 -c:a aac", "h264.mp4": "-c:v libx264 -c:a aac",
    "h264.mov": "-c:v libx264 -c:a pcm_s16le", "h264.ts": "-c:v libx264 -c:a mp2",
    "h264.flv": "-c:v libx264 -c:a aac",
    "fragments.mp4": "-c:v libx264 -movflags frag_keyframe+empty_moov",
    "ffv1.mkv": "-c:v ffv1 -c:a flac", "ffv1.nut": "-c:v ffv1 -c:a pcm_s16le",
    "mpeg4.avi": "-c:v mpeg4 -c:a mp2", "mpeg2.mpg": "-c:v mpeg2video -c:a mp2",
    "vp8.webm": "-c:v libvpx -deadline realtime -cpu-used 8 -c:a libvorbis",
    "prores.mov": "-c:v prores -an",
    "plain.y4m": "-pix_fmt yuv420p -strict -1", "deep.y4m": "-pix_fmt yuv422p10le -strict -1",
}  # fmt: skip
_PICTURES = ("png", "tiff", "dpx", "exr", "jpg", "bmp", "webp")


def make_seeds(folder: Path, media: Path | None) -> None:
    """Fill ``folder`` with clips/, pictures/, weights/ and work/; clips of ``media`` are copied."""
    for name in ("clips", "pictures", "weights"):
        (folder / name).mkdir(parents=True)
    for name, options in _CLIPS.items():
        _ffmpeg(folder / "clips" / name, *options.split())
    for kind in _PICTURES:
        _ffmpeg(folder / "pictures" / f"1.{kind}", "-frames:v", "1")
    _make_weights(folder / "weights")
    _make_work(folder / "work")
    if media is not None:
        _copy_small(media, folder / "clips")


def _ffmpeg(path: Path, *options: str) -> None:
    picture = ("-f", "lavfi", "-i", "testsrc2=s=48x32:r=10:d=0.5")
    sound = () if "an" in options or "-frames:v" in options else ("-f", "lavfi", "-i", "sine=d=0.5")
    command = ["ffmpeg", "-v", "error", *picture, *sound, *options, str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _copy_small(media: Path, folder: Path) -> None:
    for path in sorted(media.rglob("*")):
        if path.is_file() and path.suffix != ".md" and path.stat().st_size < _SMALL:
            (folder / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())


def _make_work(folder: Path) -> None:
    """A clip, what it becomes, and what a run leaves that is stopped in the middle."""
    folder.mkdir()
    clip, count = folder / "in.mkv", itertools.count(1)
    _ffmpeg(clip, "-vf", "fps=24", "-c:v", "mpeg4", "-c:a", "flac")
    arguments = [str(clip), str(folder / "out.mkv"), *RESUMABLE]
    config = make_config(build_parser().parse_args(arguments))
    upscale(config)
    (folder / "out.mkv").rename(folder / "whole.mkv")
    upscale(config, should_stop=lambda: next(count) == 10)


def _make_weights(folder: Path) -> None:
    networks = {
        "span": Span(SpanConfig(channels=6, fused_channels=6, blocks=2)),
        "spanf": SpanF(SpanFConfig(channels=4)),
        "spanplus": SpanPlus(SpanPlusConfig(channels=8)),
        "sst": Sst(SstConfig(channels=8, blocks=1, windows=(8,), heads=1, ranks=(8,), inner=8)),
    }
    for name, network in networks.items():
        state = network.state_dict()
        save_file(state, folder / f"{name}.safetensors", {"architecture": name, "scale": "2"})
        torch.save({"params": state, "epoch": 3}, folder / f"{name}.pth")
        torch.save(state, folder / f"{name}-old.pth", _use_new_zipfile_serialization=False)

"""What an output depends on: compared before work is gone on with.

Note [What may differ between runs]
    A joined film must equal that of a run without a break. So everything that changes a picture or
    the file counts: every option of the run but those of :data:`_FREE`, what was decided from them
    (device, precision, encoder and its options), the contents of the weights, the input, and the
    versions of vsr and of FFmpeg, which decode and encode. PyTorch, OpenVINO and the model of the
    device change at most the last bit of a sample, and a driver that was mended is a good reason to
    have stopped: they are said, not refused.
    Of an input the size, the time of its last change and the hash of its first and last MiB are
    compared, so that a film of 100 GB is not read twice; of pictures the names, and of those that
    are finished size and time (:mod:`vsr.resume.inputs`). What is decoded is compared as well,
    frame by frame: times of all, pictures where segments end (:mod:`vsr.resume.feed`).
"""

import hashlib
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import av
import torch

import vsr
from vsr.config import PIPE, ScriptConfig, UpscaleConfig
from vsr.device import choose_device, describe, dtype_name
from vsr.inventory import colour_tags, find_weights
from vsr.planning import Plan
from vsr.resume.inputs import Pictures, stat_line

__all__ = ["can_be_read_again", "changes", "fingerprint", "settings_of", "versions_of"]

_HEAD_BYTES = 1 << 20
_SHOWN = 3

# Where a run goes, what it says, how fast it is; and what is compared as it was decided.
_FREE = {
    "input", "output", "muxer", "target", "overwrite", "resume", "restart", "segment_seconds",
    "record", "decode_threads", "encoder", "model", "weights", "scale", "size", "square", "device",
    "precision", "runtime", "audio_from", "framemd5", "tile",
}  # fmt: skip


def settings_of(plan: Plan, *, framemd5: bool) -> dict[str, str]:
    """Everything that changes the output of ``plan``, by name.

    Raises:
        OSError: the input or the weights cannot be read.
    """
    config, encoding = plan.config, plan.encoding
    found = dict(_options(config))
    found |= {f"encoder option {key}": value for key, value in encoding.options.items()}
    found |= {f"container option {key}": value for key, value in encoding.container_options.items()}
    weights = find_weights(plan)
    found |= {
        "input": _identity(config.input),
        "sound": fingerprint(config.audio_from) if config.audio_from else "",
        "network": f"{plan.network.name} x{plan.network.scale}",
        "weights": weights.sha256 if weights else "",
        "device": choose_device(config.device).type,
        "precision": dtype_name(plan.engine.dtype),
        "runtime": plan.engine.runtime,
        "tile": _tile(plan),
        "filters in use": plan.source.filters,
        "container": encoding.muxer,
        "encoder": encoding.codec,
        "framemd5": str(framemd5),
        "vsr": vsr.__version__,
        "FFmpeg": f"{av.ffmpeg_version_info} (PyAV {av.__version__})",
    }
    found |= {f"output {name}": value for name, value in _facts(plan)}
    return found


def _tile(plan: Plan) -> str:
    """Of a network that sees all of a picture, the tile that memory asks for changes the result."""
    tile = plan.engine.tile if plan.network.grid > 1 else plan.config.tile
    return "whole frames" if tile is None else str(tile)


def _options(config: UpscaleConfig) -> Iterator[tuple[str, str]]:
    """All fields of the configuration that count, those within others by dotted names."""
    for one in fields(config):
        if one.name not in _FREE:
            yield from _flat(one.name, getattr(config, one.name))


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401
    if is_dataclass(value):
        for one in fields(value):
            yield from _flat(f"{name}.{one.name}", getattr(value, one.name))
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield from _flat(f"{name}.{key}", value[key])
    else:
        yield name, "" if value is None else str(value)


def _facts(plan: Plan) -> Iterator[tuple[str, str]]:
    info = plan.info
    yield "size", f"{info.width}x{info.height}"
    yield "pixel format", plan.encoding.format.name
    tags = colour_tags(plan.encoding.colour)
    yield "colour", ", ".join(f"{name} {word}" for name, word in tags.items())
    yield "rate", str(info.rate)
    yield "time base", str(info.time_base)
    yield "aspect ratio", str(info.sar)
    yield "rotation", (info.display_matrix or b"").hex()
    yield "field order", info.field_order.name
    yield "HDR", str(info.hdr)


def versions_of(plan: Plan) -> dict[str, str]:
    """What may change the last bit of a picture."""
    return {
        "PyTorch": str(torch.__version__),
        "device": describe(choose_device(plan.config.device)),
        "machine": platform.machine(),
    }


def can_be_read_again(path: Path) -> bool:
    """Whether ``path`` names files; what comes out of a FIFO or a device is gone."""
    return path != PIPE and (path.is_file() or not path.exists() or path.is_dir())


def _identity(path: Path) -> str:
    """What ``path`` must be to be the same input; of pictures their names alone.

    See note [Mended pictures] in :mod:`vsr.resume.inputs`.

    Raises:
        OSError: it cannot be read.
    """
    if (pictures := Pictures.at(path)) is None:
        return fingerprint(path)
    digest = hashlib.sha256("\n".join(pictures.names).encode(errors="surrogateescape"))
    return f"{len(pictures.names)} pictures {digest.hexdigest()[:16]}"


def fingerprint(path: Path) -> str:
    """Size, time of the last change and hash of the first and last MiB of a file.

    Of pictures: of the list of their names, sizes and times. A script is hashed whole.

    Raises:
        OSError: it cannot be read.
    """
    if (pictures := Pictures.at(path)) is not None:
        listing = "\n".join([*pictures.states, *pictures.names])
        digest = hashlib.sha256(listing.encode(errors="surrogateescape"))
        return f"{len(pictures.names)} pictures {digest.hexdigest()[:16]}"
    if ScriptConfig.is_script(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_HEAD_BYTES))
        size = file.seek(0, os.SEEK_END)
        file.seek(max(_HEAD_BYTES, size - _HEAD_BYTES))
        digest.update(file.read())
    return f"{stat_line(path)} {digest.hexdigest()[:16]}"


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs, in words: ``crf was 17, is 20``; empty if nothing does."""
    names = dict.fromkeys([*before, *now])
    differing = [name for name in names if before.get(name, "") != now.get(name, "")]
    said = [
        f"{name} was {before.get(name) or 'not set'}, is {now.get(name) or 'not set'}"
        for name in differing[:_SHOWN]
    ]
    if len(differing) > _SHOWN:
        said.append(f"{len(differing) - _SHOWN} more")
    return "; ".join(said)

"""What an output depends on: compared before work is gone on with.

Note [What may differ between runs]
    A joined film must equal that of a run without a break. So everything that changes a picture or
    the file counts: every option of the run but those of :data:`_FREE`, what was decided from them
    (device, precision, encoder and its options), the contents of the weights, the input, and the
    versions of vsr and of FFmpeg, which decode and encode. PyTorch, OpenVINO and the model of the
    device change at most the last bit of a sample, and a driver that was mended is a good reason to
    have stopped: they are said, not refused.
    Of an input the size, the time of its last change and the hash of its first and last MiB are
    compared, so that a film of 100 GB is not read twice. A file of up to 2 MiB is hashed whole by
    that, so only then its time does not count: an edit in the middle of a larger one is known by
    nothing else. Of pictures the names, and of those that
    are finished size and time (:mod:`vsr.resume.inputs`). What is decoded is compared as well,
    frame by frame: times of all, pictures where segments end (:mod:`vsr.resume.feed`).
"""

import hashlib
import os
import platform
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
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

__all__ = [
    "can_be_read_again",
    "changes",
    "files_of",
    "fingerprint",
    "identity",
    "settings_of",
    "versions_of",
]

_HEAD_BYTES = 1 << 20
_SHOWN = 3
_FINGERPRINT = re.compile(r"(\d{1,20}) bytes of (-?\d{1,20}\.\d{6}) ([0-9a-f]{16})")
_OF_A_SCRIPT = re.compile(r"[0-9a-f]{64}")
_OF_PICTURES = re.compile(r"(\d{1,20} pictures) [0-9a-f]{16}")
_FILES = ("input", "sound")
"""Settings that are identities of files; a reader of messages is told of these without hashes."""

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
        "input": "",
        "sound": "",
        **{name: identity(path) for name, path in files_of(config).items()},
        "network": f"{plan.network.name} x{plan.network.scale}",
        "weights": weights.sha256 if weights else "",
        "device": choose_device(config.device).type,
        "precision": dtype_name(plan.engine.dtype),
        "runtime": plan.engine.runtime,
        "tile": _tile(plan),
        "filters in use": plan.source.filters,
        "container": encoding.muxer,
        "encoder": encoding.codec,
        "sound is for": encoding.sound,
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
    if info.immersive is not None:
        yield "3D and 360°", str(info.immersive)


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


def files_of(config: UpscaleConfig) -> dict[str, Path]:
    """What a run reads from its first frame to its last, by the names that settings have for it."""
    files = zip(_FILES, (config.input, config.audio_from), strict=True)
    return {name: path for name, path in files if path is not None}


def identity(path: Path) -> str:
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


def changes(
    before: Mapping[str, str],
    now: Mapping[str, str],
    files: Mapping[str, Path] | None = None,
) -> str:
    """What differs, in words: ``crf was 17, is 20``; empty if nothing does.

    Args:
        before: settings by name.
        now: the same of today.
        files: where the files are of which :func:`fingerprint` is a setting.
    """
    paths = files or {}
    pairs = {name: (before.get(name, ""), now.get(name, "")) for name in [*before, *now]}
    found = (_change(name, *pair, paths.get(name)) for name, pair in pairs.items())
    differing = [words for words in found if words is not None]
    said = differing[:_SHOWN]
    if len(differing) > _SHOWN:
        said.append(f"{len(differing) - _SHOWN} more")
    return "; ".join(said)


def _change(name: str, before: str, now: str, path: Path | None) -> str | None:
    """What has become of one setting, in words; None if it is what it was."""
    if before == now:
        return None
    if name not in _FILES:
        return f"{name} was {before or 'not set'}, is {now or 'not set'}"
    files = _FINGERPRINT.fullmatch(before), _FINGERPRINT.fullmatch(now)
    if files[0] is not None and files[1] is not None:
        return _file_change(name, files[0].groups(), files[1].groups(), path)
    if _OF_A_SCRIPT.fullmatch(before) and _OF_A_SCRIPT.fullmatch(now):
        return f"the text of {path or 'the script'} has changed"
    was, has_become = _kind(before), _kind(now)
    is_now = " of other names" if was == has_become else f", is {has_become}"
    return f"{name} was {was}{is_now}"


def _kind(identity: str) -> str:
    """What kind of input it is that :func:`identity` has told so."""
    if _OF_A_SCRIPT.fullmatch(identity):
        return "a script"
    if (file := _FINGERPRINT.fullmatch(identity)) is not None:
        return f"a file of {file[1]} bytes"
    pictures = _OF_PICTURES.fullmatch(identity)
    return pictures[1] if pictures is not None else identity or "not set"


def _file_change(
    name: str, before: Sequence[str], now: Sequence[str], path: Path | None
) -> str | None:
    """The same of a file, of which size, time and hash are given as :func:`fingerprint` does."""
    (size, time, digest), (size_now, time_now, digest_now) = before, now
    if size != size_now:
        return f"{name} was of {size} bytes, is of {size_now}"
    if digest != digest_now:
        return f"{name} was another of that size: its first or last MiB is not the same"
    if int(size) <= 2 * _HEAD_BYTES:  # all of it was hashed
        return None
    return (
        f"{name} was last changed {_moment(time)}, is of {_moment(time_now)}, with the same size "
        f"and the same first and last MiB: if nothing in it has changed, touch -d @{time} "
        f"{'FILE' if path is None else shlex.quote(str(path))} gives it its time again"
    )


def _moment(seconds: str) -> str:
    """A time since 1970 as people write it."""
    try:
        moment = datetime.fromtimestamp(float(seconds), UTC).astimezone()
    except (OverflowError, OSError, ValueError):  # a year that no calendar has
        return f"@{seconds}"
    return moment.isoformat(" ", "milliseconds")

"""The record of a run: what was read, decided, done and measured, as JSON beside the output.

Its schema is ``record.schema.json`` beside this module, for whoever reads records; the page "The
record of a run" of the documentation explains it. The result of a run is a derivative; the record
says of what, and how it came about.
"""

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import torch

import vsr
from vsr.beside import framemd5_path, record_path, unfinished_name
from vsr.device import choose_device, describe, dtype_name
from vsr.encoding.stills import IMAGES
from vsr.errors import SinkError
from vsr.files import take_after, written_whole
from vsr.flags import command_line
from vsr.health import Health
from vsr.inventory import (
    colour_tags,
    content_of,
    find_weights,
    input_colour,
    list_streams,
)
from vsr.planning import Plan, spelt_out
from vsr.report import Report
from vsr.sources import Companion, SourceReport
from vsr.sync import measure_displacement, read_timing

__all__ = ["SCHEMA", "make_record", "write_record"]

SCHEMA = "vsr-record/1"
"""Name and version of what is written; the schema takes no other."""

_LISTED = 1000
_DRIVER = Path("/proc/driver/nvidia/version")

Json = dict[str, Any]


def write_record(plan: Plan, report: Report) -> Path:
    """Write the record of a finished or interrupted run beside its output.

    A file of its name is replaced where the run may do so; one that goes on with earlier work may
    find its own.

    Raises:
        SinkError: it cannot be written, or one of the files cannot be read again; the message says
            that the output is there.
    """
    config = plan.config
    assert report.output is not None
    assert config.output is not None
    path = record_path(report.output)
    hidden = unfinished_name(config.output, path.parent)
    replace = config.overwrite or config.resume
    try:
        text = json.dumps(make_record(plan, report), indent=2, ensure_ascii=False)
        # A name that is no UTF-8 holds lone surrogates: escaped, they are JSON.
        with (  # durable: what it could be made of again is deleted next
            written_whole(path, durable=True, part=hidden, replace=replace) as part,
            part.open("xb") as file,
        ):
            file.write(f"{text}\n".encode("utf-8", "backslashreplace"))
            take_after(part, report.output)
    except OSError as error:
        reason = error.strerror or error
        raise SinkError(
            f"{path}: cannot be written: {reason}; {report.output} is complete"
        ) from error
    return path


def make_record(plan: Plan, report: Report) -> Json:
    """The record as plain data.

    Raises:
        OSError: the input, the output or the weights cannot be read again.
    """
    return {
        "schema": SCHEMA,
        "run": _run(plan, report),
        "input": _input(plan, report.source),
        "processing": _processing(plan, report),
        "output": _output(plan, report),
        "streams": _streams(plan),
        "timestamps": _timestamps(report.source),
        "damage": _damage(report.source),
        "health": _health(report.health),
        "sync": _sync(plan, report),
        "notes": list(_notes(plan, report)),
        "versions": _versions(),
    }


def _run(plan: Plan, report: Report) -> Json:
    from_the_start = replace(spelt_out(plan), resume=False, restart=False)
    return {
        "command": ["vsr-upscale", *command_line(from_the_start)],
        "target": plan.config.target,
        "started": _moment(report.started),
        "finished": _moment(report.finished),
        "interrupted": report.interrupted,
        "sittings": report.sittings,
    }


def _input(plan: Plan, read: SourceReport) -> Json:
    source, config = plan.source, plan.config
    info, fields = source.info, source.fields
    return {
        **_content(config.input),
        "codec": info.codec,
        "width": info.width, "height": info.height, "pixel_format": info.format.name,
        "colour": {
            name: {"value": tag.value, "origin": tag.origin}
            for name, tag in input_colour(plan).items()
        },
        "sample_aspect_ratio": _ratio(info.sar, ":"),
        "rate": _ratio(info.rate, "/"),
        "duration": _seconds(info.duration),
        "fields": None if fields is None else {"found": fields.kind, "seen": fields.describe()},
        "frames_read": read.read,
        "frames_delivered": read.frames,
    }  # fmt: skip


def _processing(plan: Plan, report: Report) -> Json:
    config, engine, weights = plan.config, plan.engine, find_weights(plan)
    return {
        "filters": plan.source.filters,
        "model": None if config.weights else config.model,
        "architecture": plan.network.name,
        "scale": plan.network.scale,
        "weights": None if weights is None else {
            "file": weights.path.name, "sha256": weights.sha256, "licence": weights.licence
        },
        "device": describe(choose_device(config.device)),
        "runtime": engine.runtime,
        "precision": dtype_name(engine.dtype),
        "tile": engine.tile,
        "dither": config.dither,
        "reuse_threshold": config.reuse_threshold,
        "reused": report.reused + report.reused_before,
    }  # fmt: skip


def _output(plan: Plan, report: Report) -> Json:
    assert report.output is not None
    info, encoding = plan.info, plan.encoding
    hashes = framemd5_path(report.output)
    return {
        **_content(report.output),
        "container": encoding.muxer,
        "encoder": encoding.codec,
        "encoder_options": encoding.options,
        "container_options": encoding.container_options,
        "width": info.width, "height": info.height, "pixel_format": encoding.format.name,
        "colour": colour_tags(encoding.colour),
        "sample_aspect_ratio": _ratio(info.sar, ":"),
        "frames": report.frames,
        "framemd5": hashes.name if plan.config.framemd5 else None,
    }  # fmt: skip


def _streams(plan: Plan) -> list[Json]:
    return [
        {
            "index": entry.index, "kind": entry.kind, "codec": entry.codec,
            "language": entry.language, "fate": entry.fate, "reason": entry.reason,
        }
        for entry in list_streams(plan)
    ]  # fmt: skip


def _timestamps(report: SourceReport) -> Json:
    return {"repaired": report.repaired_pts, "frames": report.repaired[:_LISTED]}


def _damage(report: SourceReport) -> Json:
    return {
        "concealed": report.corrupt_frames,
        "frames": report.damaged[:_LISTED],
        "refused_packets": report.decode_errors,
        "packets_ahead_of_key_frame": report.lost_ahead,
        "converted_frames": report.reformatted_frames,
        "unfound_seconds": _seconds(report.unfound_duration),
        "missing_seconds": _seconds(report.missing_duration),
    }


def _health(health: Health) -> Json:
    """What was found of the frames that came out; see :mod:`vsr.health`."""
    return {
        "checked": health.checked,
        "repaired": health.repaired,
        "kept": health.kept,
        "frames": [
            {
                "frame": incident.frame, "seconds": _seconds(incident.time),
                "fault": incident.fault, "repaired": incident.repaired,
            }
            for incident in health.incidents[:_LISTED]
        ],
    }  # fmt: skip


def _notes(plan: Plan, report: Report) -> Iterator[Json]:
    """Every note with its kind: what it is about, as the schema lists them."""
    for text in report.notes:
        kind = "output"
        if text in plan.source.notes:
            kind = "input"
        elif text in plan.notes:
            kind = "decision"
        elif text in report.losses:
            kind = "loss"
        yield {"kind": kind, "text": text}
    for text in report.warnings:
        yield {"kind": "warning", "text": text}


# Sync.


def _sync(plan: Plan, report: Report) -> Json | None:
    """Times of the frames delivered against those in the output, and where sound ends."""
    assert report.output is not None
    if plan.encoding.muxer == IMAGES:
        return None
    entries = list_streams(plan)
    picture = next(place for place, entry in enumerate(entries) if entry.fate == "upscale")
    before = [e for e in entries[:picture] if (e.kind, e.fate) == ("video", "copy")]
    found = read_timing(report.output, video=len(before))
    moved = measure_displacement(report.times, found.pts)
    audio = [entry for entry in entries if entry.kind == "audio"]
    ends_in = _input_audio_ends(plan, len(audio))
    kept = [
        (entry.index, end)
        for entry, end in zip(audio, ends_in, strict=True)
        if entry.fate in ("copy", "encode")
    ]
    return {
        "frames_in": len(report.times.pts),
        "frames_out": len(found.pts),
        "shift": _seconds(moved.shift) if moved else None,
        "largest_difference": _seconds(moved.largest) if moved else None,
        "video_end_in": _seconds(report.times.end),
        "video_end_out": _seconds(found.end),
        "audio": [
            _audio_sync(index, (report.times.end, end), (found.end, end_out))
            for (index, end), end_out in zip(kept, found.audio_ends, strict=True)
        ],
    }


Ends = tuple[Fraction | None, Fraction | None]
"""Where the picture and a sound end, in seconds."""


def _audio_sync(index: int, before: Ends, after: Ends) -> Json:
    return {
        "stream": index,
        "end_in": _seconds(before[1]),
        "end_out": _seconds(after[1]),
        "video_minus_audio_in": _seconds(_difference(*before)),
        "video_minus_audio_out": _seconds(_difference(*after)),
    }


def _difference(video: Fraction | None, audio: Fraction | None) -> Fraction | None:
    return None if video is None or audio is None else video - audio


def _input_audio_ends(plan: Plan, count: int) -> list[Fraction | None]:
    """Where the input's sounds end; unknown of a pipe, and where only a part was wanted."""
    config, others = plan.config, plan.source.others
    part = (config.start, config.end, config.frames) != (None, None, None)
    path = config.audio_from or config.input
    if not count or part or others is None or not path.is_file():
        return [None] * count
    if isinstance(others, Companion) and others.sound is not None:
        return [others.sound.length]
    return read_timing(path, video=None, start=others.start_time).audio_ends


# Facts.


def _content(path: Path) -> Json:
    return {"path": str(path), **asdict(content_of(path))}


def _versions() -> Json:
    driver = _DRIVER.read_text().splitlines()[0] if _DRIVER.exists() else None
    return {
        "vsr": vsr.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "driver": driver,
        "pyav": av.__version__,
        "ffmpeg": av.ffmpeg_version_info,
        "libraries": {
            name: ".".join(map(str, version)) for name, version in av.library_versions.items()
        },
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
    }


def _moment(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="seconds")


def _ratio(value: Fraction | None, sign: str) -> str | None:
    return None if value is None else f"{value.numerator}{sign}{value.denominator}"


def _seconds(value: Fraction | None) -> float | None:
    return None if value is None else round(float(value), 9)

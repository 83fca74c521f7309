"""How much room a run needs on its disk, before there is anything to judge by."""

import logging
import shutil
from pathlib import Path

from vsr.encoding.stills import IMAGES
from vsr.planning import Plan

__all__ = ["amount", "estimate_bytes", "tell_of_room"]

logger = logging.getLogger(__name__)

_OF_RAW = {"ffv1": 2, "prores_ks": 6, "prores": 6, "dnxhd": 6, "rawvideo": 1, "v210": 1}
"""Of encoders that need no frame before: how many times smaller their frames are than samples."""
_PICTURES_OF_RAW = 2


def estimate_bytes(plan: Plan) -> int | None:
    """About how large the picture of the output will be; None if nothing tells.

    Codecs that predict frames are taken to need as many bits for a pixel as the source has, others
    to reduce samples as they usually do. Twice or half as much is no surprise.
    """
    info, source, encoding = plan.info, plan.source, plan.encoding
    frames = source.info.frames
    if frames is None:
        return None
    times = _PICTURES_OF_RAW if encoding.muxer == IMAGES else _OF_RAW.get(encoding.codec)
    if times is not None:
        return frames * _raw_bits(plan) // 8 // times
    if source.bit_rate is None:
        return None
    enlarged = info.width * info.height / (source.info.width * source.info.height)
    return int(source.bit_rate * float(frames / info.rate) * enlarged / 8)


def tell_of_room(plan: Plan, folder: Path, *, copies: int) -> None:
    """Log a line if the output may not fit beside its segments, or if that cannot be told yet.

    It is not worth a line where even raw samples would fit. Nor is it where nobody knows how many
    frames there are: :class:`~vsr.resume.sink.SegmentSink` says so of what is longer than a
    segment.

    Args:
        plan: the run.
        folder: where segments go.
        copies: how often the picture is on the disk before segments are deleted.
    """
    size = estimate_bytes(plan)
    free, twice = shutil.disk_usage(folder).free, ""
    if size is None:
        if copies * (plan.source.info.frames or 0) * _raw_bits(plan) // 8 > free:
            logger.info("how much room is needed is not known before the first segment is finished")
        return
    if copies > 1:
        twice = ": segments and the finished file are there at once"
    if copies * size > free:
        logger.warning(
            "the disk of %s has %s free, and about %s may be needed, guessed from the source%s",
            folder, amount(free), amount(copies * size), twice,
        )  # fmt: skip


def _raw_bits(plan: Plan) -> int:
    """Bits of the samples of a frame of the output."""
    form, info = plan.encoding.format, plan.info
    shapes = (
        form.component_shape(index, info.width, info.height)
        for index in range(len(form.components))
    )
    return form.depth * sum(rows * columns for rows, columns in shapes)


def amount(size: int) -> str:
    """``size`` bytes in words: ``1.5 GB``."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"

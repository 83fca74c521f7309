"""The hash of every frame, beside the output, as ``ffmpeg -f framemd5`` writes them.

A lossless output can be checked against it at any time, with FFmpeg alone, and a damaged frame is
found by its number. FFmpeg's own muxer is not used: PyAV cannot tell it the aspect ratio, and the
format is a line of text for each frame.
"""

import hashlib
from array import array
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vsr.beside import framemd5_path, unfinished_name
from vsr.errors import SinkError
from vsr.files import take_after, written_whole
from vsr.frame import Frame, VideoInfo
from vsr.sinks.sink import Sink, SinkContext

__all__ = ["FrameHashes", "FrameMd5Sink", "digest"]

_COARSE = 4
"""Units a frame below which rounding to them hides whether frames come evenly."""


class FrameMd5Sink(SinkContext):
    """Hashes the frames on their way into another sink.

    The file appears when the other sink's does, and is named after it. Times are those of the
    frames: where all lie on the grid of the nominal rate they are counted in frames, as FFmpeg does
    when it reads the output, else in the source's time base.

    Args:
        sink: where the frames go; this one finishes, aborts and names it.
        info: facts about the output.
        output: the output as the run was told it, where what is kept of it may be called otherwise.
        overwrite: whether hashes that are there may be replaced.
    """

    def __init__(
        self, sink: Sink, info: VideoInfo, output: Path | None = None, *, overwrite: bool = True
    ) -> None:
        self._sink, self._output, self._overwrite = sink, output, overwrite
        self._rows = FrameHashes(info)

    @property
    def notes(self) -> list[str]:
        """The other sink's."""
        return self._sink.notes

    @property
    def frames(self) -> int:
        """Frames written so far."""
        return self._sink.frames

    def write(self, frame: Frame) -> None:
        """Hash ``frame`` and hand it on.

        Raises:
            SinkError: the other sink could not take it.
        """
        self._rows.add(frame)
        self._sink.write(frame)

    def _finish(self) -> Path | None:
        """Complete both files and give them their names.

        Raises:
            SinkError: writing failed; the message says whether the output is there.
        """
        return self._write_beside(self._sink.finish())

    def _keep_partial(self) -> Path | None:
        """Complete both with what there is, under names that say so."""
        return self._write_beside(self._sink.keep_partial())

    def _abort(self) -> None:
        self._sink.abort()

    def _write_beside(self, output: Path | None) -> Path | None:
        if output is not None:
            self._rows.write(output, run=self._output or output, replace=self._overwrite)
        return output


class FrameHashes:
    """Times and hashes: 32 bytes a frame, so that the clock can be chosen when all are known.

    Args:
        info: facts about the output.
    """

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        self._pts, self._durations = array("q"), array("q")
        self._hashes = bytearray()
        self._size = 0

    def add(self, frame: Frame) -> None:
        """Hash ``frame``."""
        unit = frame.time_base / self._info.time_base
        self.append(round(frame.pts * unit), round(frame.duration * unit), *digest(frame))

    def append(self, pts: int, duration: int, md5: str, size: int) -> None:
        """Add a frame that was hashed before.

        Args:
            pts: when it is shown, in the output's time base.
            duration: for how long.
            md5: its hash, as :func:`digest` gives it.
            size: bytes of its samples.
        """
        self._pts.append(pts)
        self._durations.append(duration)
        self._hashes += bytes.fromhex(md5)
        self._size = size

    def write(self, output: Path, *, run: Path, replace: bool) -> None:
        """Write the file that belongs to ``output`` under a hidden name, then give it its own.

        Args:
            output: what the frames have become, all of them or a part.
            run: the output of the run, which has its lock.
            replace: whether a file of its name may be replaced.

        Raises:
            SinkError: writing failed; the output is there all the same.
        """
        path, unit = framemd5_path(output), self._unit()
        hidden = unfinished_name(run, path.parent)
        try:
            with (  # durable: the segments that hold the hashes are deleted next
                written_whole(path, durable=True, part=hidden, replace=replace) as part,
                part.open("x", encoding="ascii", newline="\n") as file,
            ):
                file.writelines(_header(self._info, unit))
                file.writelines(self._lines(self._info.time_base / unit))
                take_after(part, output)
        except OSError as error:
            raise SinkError(
                f"{path}: cannot be written: {error.strerror}; {output} is complete"
            ) from error

    def _unit(self) -> Fraction:
        """Seconds of what times are best written in."""
        info = self._info
        step = 1 / (info.rate * info.time_base)
        on_grid = step == 1 if step < _COARSE else self._on_grid(step)
        return 1 / info.rate if on_grid else info.time_base

    def _lines(self, ratio: Fraction) -> Iterator[str]:
        """One line for each frame, with times in units of which ``ratio`` make one of ours."""
        for index, (pts, duration) in enumerate(zip(self._pts, self._durations, strict=True)):
            time, length = _nearest(pts, ratio), _nearest(duration, ratio)
            digest = self._hashes[16 * index : 16 * index + 16].hex()
            yield f"0, {time:10}, {time:10}, {length:8}, {self._size:8}, {digest}\n"

    def _on_grid(self, step: Fraction) -> bool:
        """Whether each time is a multiple of ``step``, within the rounding to a whole unit."""
        per_unit, units, parts = 1 / step, step.numerator, step.denominator
        return all(
            abs(value * parts - _nearest(value, per_unit) * units) <= parts
            for values in (self._pts, self._durations)
            for value in values
        )


def digest(frame: Frame) -> tuple[str, int]:
    """MD5 of the samples of ``frame`` as they lie in a raw video file, and how many bytes."""
    md5, size = hashlib.md5(usedforsecurity=False), 0
    for plane in _samples(frame):
        md5.update(plane)
        size += plane.nbytes
    return md5.hexdigest(), size


def _nearest(value: int, ratio: Fraction) -> int:
    """``value * ratio``, rounded; Fraction's own way takes ten times as long."""
    return (2 * value * ratio.numerator + ratio.denominator) // (2 * ratio.denominator)


def _samples(frame: Frame) -> Iterator[NDArray[Any]]:
    """The planes of ``frame`` without padding, in FFmpeg's order."""
    form = frame.format
    sizes = {
        component.plane: form.component_shape(index, frame.width, frame.height)
        for index, component in enumerate(form.components)
    }
    for number, plane in enumerate(frame.planes):
        rows, columns = sizes[number]
        yield plane[:rows, :columns].cpu().contiguous().numpy()


def _header(info: VideoInfo, unit: Fraction) -> Iterator[str]:
    sar = info.sar or Fraction(0)
    yield "#format: frame checksums\n#version: 2\n#hash: MD5\n"
    yield f"#tb 0: {unit.numerator}/{unit.denominator}\n"
    yield "#media_type 0: video\n#codec_id 0: rawvideo\n"
    yield f"#dimensions 0: {info.width}x{info.height}\n"
    yield f"#sar 0: {sar.numerator}/{sar.denominator}\n"
    yield "#stream#, dts,        pts, duration,     size, hash\n"

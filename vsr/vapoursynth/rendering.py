"""What a filter does to its frames."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby

import vapoursynth as vs  # type: ignore[import-untyped]

from vsr.engine import RenderTarget
from vsr.errors import UnsupportedFormatError
from vsr.frame import Frame, Matrix
from vsr.sources.props import colour_of, field_order_of, ignored
from vsr.tagging import convert_colour
from vsr.vapoursynth.frames import VideoFrame, complete, pixel_format, planes_of, write_props
from vsr.vapoursynth.messages import tell, told, warn
from vsr.vapoursynth.settings import FilterJob
from vsr.vapoursynth.streams import pool_for

__all__ = ["FilterRenderer"]


class FilterRenderer:
    """What one filter does to a batch of frames."""

    def __init__(self, job: FilterJob) -> None:
        self._pool, self._source = pool_for(job.setup), job.source
        self._format, self._size, self._dither = job.target, job.size, job.dither
        self._target = pixel_format(job.target)
        self._told: set[str] = set()

    def __call__(self, first: int, sources: Sequence[VideoFrame]) -> list[VideoFrame]:
        """Upscale consecutive frames, of which the first is number ``first``."""
        prepared = []
        for number, source in enumerate(sources, first):
            with told(f"frame {number}: "):
                prepared.append((source, *self._read(number, source)))
        with told(f"frame {first}: "):
            results = []
            for target, group in groupby(prepared, key=lambda item: item[2]):
                results += self._render([item[:2] for item in group], target)
            return results

    def _read(self, number: int, source: VideoFrame) -> tuple[Frame, RenderTarget]:
        """A frame in our terms, its number as time, and what it becomes.

        The planes stay VapourSynth's.
        """
        if field_order_of(source.props).interlaced:
            raise UnsupportedFormatError(
                "interlaced (_FieldBased is set); deinterlace the clip first, or set _FieldBased "
                "to 0 if it is progressive"
            )
        form = self._source
        subsampled = bool(form.chroma_w or form.chroma_h)
        for name, line in ignored(source.props, subsampled=subsampled).items():
            self._tell_once(name, line)
        given = colour_of(source.props, subsampled=subsampled)
        colour, notes = complete(given, form, source.width, source.height)
        if form.family == "yuv" and colour.matrix == Matrix.RGB:
            raise UnsupportedFormatError(
                "_Matrix is 0 (RGB) on a YUV clip; set the one that it has, e.g. "
                "std.SetFrameProps(_Matrix=1)"
            )
        for note in notes:
            self._tell_once(note, note)
        frame = Frame(
            planes=planes_of(source, form, source.get_read_ptr), format=form, width=source.width,
            height=source.height, colour=colour, pts=number, time_base=Fraction(1), duration=0,
        )  # fmt: skip
        width, height = self._size
        return frame, RenderTarget(
            width=width, height=height, format=self._target, dither=self._dither,
            colour=convert_colour(colour, form, self._target),
        )  # fmt: skip

    def _tell_once(self, key: str, line: str) -> None:
        if key not in self._told:
            self._told.add(key)
            tell(line)

    def _render(
        self, sources: Sequence[tuple[VideoFrame, Frame]], target: RenderTarget
    ) -> list[VideoFrame]:
        made = [vs.core.create_video_frame(self._format, *self._size) for _ in sources]
        into = [planes_of(frame, target.format, frame.get_write_ptr) for frame in made]
        with self._pool.taken() as stream:
            incidents = stream.render([frame for _, frame in sources], target, into)
        for incident in incidents:
            warn(incident.describe(f"frame {incident.pts}"))
        for (source, frame), result in zip(sources, made, strict=True):
            write_props(source, result, frame.format, target)
        return made

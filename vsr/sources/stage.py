"""Pictures on their way from a reader: made alike, filtered, their colour completed."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain

from av.video.frame import VideoFrame

from vsr.config import SourceConfig
from vsr.errors import SourceError, UnsupportedFormatError
from vsr.frame import Colour, PixelFormat, Siting
from vsr.orientation import enlarged_matrix
from vsr.sources.colours import FrameColours, contradiction
from vsr.sources.describe import frame_colour
from vsr.sources.filters import FilterChain, Geometry, Step
from vsr.sources.hardware import download, is_on_gpu, layout_name
from vsr.sources.lookahead import TimedFrame
from vsr.sources.planes import convert, native_format, same_layout
from vsr.sources.reader import Reader
from vsr.sources.rebasing import Rebasing
from vsr.sources.report import SourceReport
from vsr.sources.steps import FieldWatch, Note, choose_steps, first_layout
from vsr.sources.timestamps import Timeline

__all__ = ["FilteredPicture", "PictureStage"]

_STAYING = frozenset(
    """
    bilateral bm3d bwdif cas colorlevels colorspace copy curves deband deblock decimate deflicker
    eq estdif fieldmatch fieldorder format fps hqdn3d hue idet limiter lut3d median mpdecimate
    nlmeans noise null phase pullup scale select setdar setfield setparams setpts setsar smartblur
    spp tonemap unsharp vaguedenoiser w3fdif yadif zscale
    """.split()  # noqa: SIM905 - quoted words are no better
)
"""Filters after which each part of the picture is where it was, in parts of its sides."""
_OTHER_SHAPE = 0.01
"""Parts of a ratio of sides by which pictures may differ without looking squeezed."""


@dataclass(slots=True)
class FilteredPicture:
    """What comes out of the filters, and which decoded frames went in for it."""

    frame: VideoFrame
    pts: int
    """Counted from the start of the trim, any delay included."""
    time_base: Fraction
    taken: list[TimedFrame]


class PictureStage:
    """What a reader decodes, of the size and format of its first frame, through the filters.

    Args:
        reader: where the frames come from.
        config: what is done to them.
        report: where frames that had to be converted are counted.
        note: takes a line for each decision.
        delay: how much later the pictures come than by the reader's clock, in its time base.

    Attributes:
        clock: from the reader's times to those from the start of the trim.
        first: the first decoded frame.
        tags: colour as the input declares it, or the user does.
        fields: what was seen of interlacing in the first frames; None if nobody looked.
        filters: the chain that the pictures go through, as libavfilter writes it; may be empty.
        moves: names of filters among them that may change where in a picture things are seen.
        shape: size, aspect ratio and clock of what comes out.
        format: pixel format of what comes out, once iteration has begun.

    Raises:
        ConfigError: the frames are interlaced and nothing was chosen to be done, or a filter is
            refused.
        SourceError: no frame lies in the trim, or none comes out of the filters.
    """

    def __init__(
        self, reader: Reader, config: SourceConfig, report: SourceReport, note: Note,
        delay: int = 0,
    ) -> None:  # fmt: skip
        self._reader, self._config, self._report, self._note = reader, config, report, note
        facts = reader.facts
        self.clock = Rebasing(facts.time_base, facts.origin - delay * facts.time_base)
        self._taken: list[TimedFrame] = []
        self._chain: FilterChain | None = None
        self._begin = 0
        self.filters = ""
        timed = reader.peek(1, 1)[0]
        self.first = first = timed.frame
        self._first_sar = timed.sar
        self._layout = first_layout(reader)
        self._native = self._native_format(first)
        self._colours = FrameColours(reader, config.input, first, self._native)
        self.tags = self._colours.declared(first)
        self._compare_tags()
        self.shape = self._geometry()
        steps, self.fields = choose_steps(reader, config, self._native, note)
        self.moves = [name for name, _ in steps if name not in _STAYING]
        self._watch = FieldWatch(reader, config, self.fields, note)
        if steps:
            self._set_up_chain(steps)
        pictures = self._run()
        if (picture := next(pictures, None)) is None:
            raise SourceError(f"{reader.name}: {self._why_nothing()}")
        self.format = self._native if self._chain is None else self._native_format(picture.frame)
        self.first_picture = frame = picture.frame
        self.shape = replace(self.shape, width=frame.width, height=frame.height)
        self._pictures: Iterator[FilteredPicture] = chain([picture], pictures)

    @property
    def display_matrix(self) -> bytes | None:
        """FFmpeg's display matrix of what comes out, 36 bytes."""
        matrix, (width, height, _) = self._reader.display_matrix(self.first), self._layout
        size = self.shape.width, self.shape.height
        return matrix and enlarged_matrix(matrix, (width, height), size)

    @property
    def is_filtered(self) -> bool:
        """Whether pictures depend on more than one decoded frame."""
        return self._chain is not None

    def __iter__(self) -> Iterator[FilteredPicture]:
        return self._pictures

    def begin_again(self) -> None:
        """Go on with what the reader gives next; not for pictures that are filtered."""
        self._taken.clear()
        self._pictures = self._run()

    def last_duration(self) -> int:
        """Duration of the last picture, in units of ``shape.time_base``."""
        if self._chain is None:
            return self.clock.duration(self._reader.last_duration())
        return self._chain_clock.duration(self._timeline.last_duration())

    def conformed(self, picture: FilteredPicture) -> VideoFrame:
        """``picture`` in the size of ``shape`` and in ``format``.

        Raises:
            SourceError: filters change the size in mid-stream.
        """
        frame = picture.frame
        if self._chain is None:
            return self._conform(frame, picture.taken[-1].sar)
        shape, format = self.shape, self.format
        if (frame.width, frame.height) != (shape.width, shape.height):
            raise SourceError(
                f"{self._reader.name}: filter {self.filters} changes the size in mid-stream, from"
                f" {shape.width}x{shape.height} to {frame.width}x{frame.height}: add a scale to it"
            )
        if same_layout(layout_name(frame), format.name):
            return frame
        matrix = self._colours.of_filtered(frame, format).matrix
        return convert(frame, format, shape.width, shape.height, matrix=matrix)

    def colour_of(self, frame: VideoFrame) -> Colour:
        """How a picture is to be read; guesses are noted once."""
        filtered = self._chain is not None
        colours = self._colours
        colour = colours.of_filtered(frame, self.format) if filtered else colours.of(frame)
        self._note(*colours.guesses)
        return colour

    # Before the first frame.

    def _set_up_chain(self, steps: list[Step]) -> None:
        if is_on_gpu(self.first):
            self._note("frames are copied to main memory for the filters, and to the GPU again")
        self._chain = FilterChain(steps, self._prepared(self.first, self._first_sar), self.shape)
        shape = self._chain.result
        if self._config.fields is not None and self._config.fields.ivtc:
            # The chain counts in frames of film: it gets times from 0, and none is rounded.
            self._begin = self.clock.time(self._reader.peek(1, 1)[0].pts)
        self._chain_clock = Rebasing(shape.time_base, -self._begin * self.clock.time_base)
        self.shape = replace(shape, time_base=self._chain_clock.time_base)
        spacing = 1 / ((shape.rate or self._reader.facts.rate) * shape.time_base)
        self._timeline = Timeline(round(spacing))
        self.filters = ",".join(f"{name}={text}" if text else name for name, text in steps)

    def _compare_tags(self) -> None:
        facts, stream = self._reader.facts, frame_colour(self.first, Colour())
        if stream.siting == Siting.LEFT:
            stream = replace(stream, siting=facts.left_means)
        found = contradiction(facts.tags, stream, self._config.input)
        if found is not None:
            self._note(found, level=logging.WARNING)

    def _geometry(self) -> Geometry:
        width, height, _ = self._layout
        return Geometry(
            width=width, height=height, sar=self._config.input.sar or self._reader.facts.sar,
            time_base=self.clock.time_base, rate=self._reader.facts.rate,
        )  # fmt: skip

    def _native_format(self, frame: VideoFrame) -> PixelFormat:
        try:
            format = native_format(frame)
        except UnsupportedFormatError as error:
            raise UnsupportedFormatError(f"{self._reader.name}: {error}") from error
        if format.name != (name := layout_name(frame)):
            cut = ": X'Y'Z' becomes R'G'B' of BT.709, and colours outside it are cut"
            self._note(
                f"pixel format {name} is converted to {format.name}"
                + (cut if name.startswith("xyz") else "")
            )
        return format

    def _why_nothing(self) -> str:
        if self._taken:
            return f"no frame comes out of the filters {self.filters}"
        return "no frame lies between the start and the end"

    # Pictures.

    def _run(self) -> Iterator[FilteredPicture]:
        """What comes out of the filters."""
        base = self.clock.time_base
        while (timed := self._reader.next()) is not None:
            self._taken.append(timed)
            pts = self.clock.time(timed.pts)
            if timed.frame.interlaced_frame:
                self._watch.see_flagged(float(pts * base))
            if self._chain is None:
                yield self._picture(timed.frame, pts, base)
            else:
                frame = self._prepared(timed.frame, timed.sar)
                frame.pts, frame.time_base = pts - self._begin, base
                yield from self._out_of_chain(frame)
        if self._chain is not None:
            yield from self._out_of_chain(None)

    def _out_of_chain(self, frame: VideoFrame | None) -> Iterator[FilteredPicture]:
        assert self._chain is not None
        for out in self._chain.push(frame):
            pts, _ = self._timeline.place(out.pts, None, out.duration)
            clock = self._chain_clock
            yield self._picture(out, clock.time(pts), clock.time_base)

    def _picture(self, frame: VideoFrame, pts: int, time_base: Fraction) -> FilteredPicture:
        taken, self._taken = self._taken, []
        return FilteredPicture(frame, pts, time_base, taken)

    def _prepared(self, frame: VideoFrame, sar: Fraction | None) -> VideoFrame:
        """``frame`` as the filters get all of them: alike, and with complete tags."""
        return self._colours.tag(self._conform(download(frame), sar))

    def _conform(self, frame: VideoFrame, sar: Fraction | None) -> VideoFrame:
        """``frame`` in the size of the first one and in a pixel format that is handed on."""
        width, height, name = self._layout
        same = (frame.width, frame.height) == (width, height)
        if not (same and same_layout(layout_name(frame), name)):
            self._report.reformatted_frames += 1
            wider = Fraction(1)  # than the first frame's are its pixels, unless -sar says it of all
            if sar and self._first_sar and self._config.input.sar is None:
                wider = sar / self._first_sar
            shape = width / height / float(wider)
            self._report.conversion_losses.update(_losses(frame, self._native, shape))
        if same and same_layout(layout_name(frame), self._native.name):
            return frame
        matrix = self._colours.of(frame).matrix
        return convert(download(frame), self._native, width, height, matrix=matrix)


def _losses(frame: VideoFrame, format: PixelFormat, shape: float) -> Iterator[str]:
    """What ``frame`` loses in ``format``, and as wide as high times ``shape``."""
    own = native_format(frame)
    if own.family != "gray" and format.family == "gray":
        yield "the colours"
    if own.alpha and not format.alpha:
        yield "alpha"
    if own.depth > format.depth:
        yield f"the depth ({own.depth} bits)"
    if abs(frame.width / frame.height - shape) > _OTHER_SHAPE * shape:
        yield "the shape (stretched)"

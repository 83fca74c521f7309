"""Frames of a VapourSynth clip, made ahead on its threads and copied into FFmpeg's memory."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import vapoursynth as vs  # type: ignore[import-untyped]
from av.video.format import names as known_formats
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vsr.errors import SourceError, UnsupportedFormatError
from vsr.ffmpeg import write_tags
from vsr.frame import Colour, FieldOrder, Matrix, PixelFormat, pixel_format
from vsr.sources.filters import FilterChain, Geometry
from vsr.sources.planes import subsampling_name
from vsr.sources.props import colour_of, field_order_of, ignored, is_matrix, read_props
from vsr.sources.requests import FrameRequests, GivenUpError
from vsr.sources.script import Clip
from vsr.sources.script_errors import telling_line

__all__ = ["ClipFrame", "ClipFrames"]

_Samples = NDArray[Any]
_AHEAD_BYTES = 512 << 20
"""Of frames that VapourSynth makes ahead of the reader, or that the reader holds."""


@dataclass(slots=True)
class ClipFrame:
    """A frame of the clip, out of VapourSynth's memory."""

    frame: VideoFrame
    index: int
    props: Mapping[str, Any]
    """But for ``_Alpha``, which is part of ``frame`` if FFmpeg has a format for that."""


class ClipFrames:
    """Makes the frames of a clip, as often as wanted, one pass at a time.

    Args:
        clip: the clip; of a format that FFmpeg has not, its node is replaced.
        name: its script or file in a message.
        should_stop: polled while a frame is awaited; True ends the frames if it does not come.

    Attributes:
        given_up: whether they have ended because one was not waited for any longer.

    Raises:
        UnsupportedFormatError: FFmpeg has no such pixel format, nor one like it.
    """

    def __init__(self, clip: Clip, name: str, should_stop: Callable[[], bool]) -> None:
        self.given_up = False
        self._clip, self._name, self._should_stop = clip, name, should_stop
        self._ignored: set[str] = set()  # properties that were said to be
        self._flagging: dict[FieldOrder, FilterChain] = {}
        given = clip.node.format
        wanted = _format_name(given)
        if not _is_usable(wanted):
            with clip.environment.use():
                clip.node, wanted = _nearest(clip.node, name)
            clip.notes.append(f"{given.name} is converted to {wanted}: FFmpeg has no such format")
        self._colours = pixel_format(wanted)
        self._format: PixelFormat | None = None  # that of the first frame, which may have alpha

    def holdable(self, most: int) -> int:
        """How many frames may be kept at a time: at least one, ``most`` unless they are huge."""
        node = self._clip.node
        size: int = node.width * node.height * node.format.bytes_per_sample * node.format.num_planes
        return max(1, min(most, _AHEAD_BYTES // size))

    def close(self) -> None:
        """Let go of the filters."""
        self._flagging.clear()

    def make(self, first: int) -> Generator[ClipFrame]:
        """Frames from number ``first`` on, some of them made ahead; close it to stop that.

        Raises:
            SourceError: a frame cannot be made.
            UnsupportedFormatError: nobody knows what a frame's matrix means.
        """
        if first >= self._clip.node.num_frames:
            return
        requests, index = self._request(first), first
        try:
            while (frame := self._next(requests, index)) is not None:
                with frame:
                    props = read_props(frame.props)
                    alpha = props.pop("_Alpha", None)
                    copied = self._copy(frame, alpha, props, index)
                yield ClipFrame(copied, index, props)
                index += 1
        finally:
            try:
                requests.close()
            finally:
                self._clip.abandoned |= requests.abandoned

    def _next(self, requests: FrameRequests, index: int) -> Any:  # noqa: ANN401
        try:
            return requests.next()
        except vs.Error as error:
            raise SourceError(f"{self._name}: frame {index}: {telling_line(error)}") from None
        except GivenUpError:
            self.given_up = True
            return None

    def _request(self, first: int) -> FrameRequests:
        environment = self._clip.environment
        with environment.use():
            ahead = self.holdable(vs.core.num_threads)
        return FrameRequests(
            self._clip.node, environment, first=first, ahead=ahead, should_stop=self._should_stop
        )

    def _copy(
        self, frame: Any, alpha: Any, props: Mapping[str, Any], number: int  # noqa: ANN401
    ) -> VideoFrame:  # fmt: skip
        """``frame`` in FFmpeg's memory, with its tags and, of fields, the flags."""
        if self._format is None:
            self._format = self._choose_format(alpha)
        picture = VideoFrame(frame.width, frame.height, self._format.name)
        samples = [np.asarray(frame[index]) for index in range(frame.format.num_planes)]
        if self._format.alpha:
            samples.append(self._alpha_samples(samples[0], alpha, number))
        for component, values in zip(self._format.components, samples, strict=True):
            plane = picture.planes[component.plane]
            rows = np.frombuffer(plane, values.dtype).reshape(plane.height, -1)
            rows[:, component.offset :: component.step][:, : values.shape[1]] = values
        order = field_order_of(props)
        if order.interlaced:
            picture = self._flagged(picture, order)
        write_tags(picture, self._colour(self._format, props, number))
        return picture

    def _colour(self, format: PixelFormat, props: Mapping[str, Any], number: int) -> Colour:
        """The tags of a frame, as far as FFmpeg knows them; says once what is wrong with each."""
        subsampled = bool(format.chroma_w or format.chroma_h)
        for name, line in ignored(props, subsampled=subsampled).items():
            if name not in self._ignored:
                self._ignored.add(name)
                self._clip.notes.append(line)
        colour = colour_of(props, subsampled=subsampled)
        if is_matrix(colour.matrix):
            return colour
        if format.family == "rgb":  # which needs none
            return replace(colour, matrix=Matrix.UNSPECIFIED)
        raise UnsupportedFormatError(
            f"{self._name}: frame {number}: _Matrix {colour.matrix} is not known: set the right "
            "one in the script, by std.SetFrameProps"
        )

    def _choose_format(self, alpha: Any) -> PixelFormat:  # noqa: ANN401
        """That of all frames, by the first one's alpha."""
        if alpha is None:
            return self._colours
        name = _with_alpha(self._colours.name)
        if _is_usable(name):
            return pixel_format(name)
        reason = f"FFmpeg has no {self._colours.name} with it"
        self._clip.notes.append(f"alpha is dropped: {reason}")
        return self._colours

    def _alpha_samples(self, like: _Samples, alpha: Any, number: int) -> _Samples:  # noqa: ANN401
        """Alpha as deep as the colours in ``like``; without any, a frame is opaque."""
        highest = 1 if self._colours.floating else (1 << self._colours.depth) - 1
        if alpha is None:
            return np.full_like(like, highest)
        if alpha.format.color_family != vs.GRAY or (alpha.height, alpha.width) != like.shape:
            size = f"{alpha.format.name} of {alpha.width}x{alpha.height}"
            raise SourceError(f"{self._name}: frame {number}: its alpha is {size}")
        samples = np.asarray(alpha[0])
        if samples.dtype == like.dtype and alpha.format.bits_per_sample == self._colours.depth:
            return samples
        full = (1 << alpha.format.bits_per_sample) - 1 if samples.dtype.kind == "u" else 1
        scaled = np.clip(samples / full, 0, 1) * highest
        return (scaled if self._colours.floating else np.rint(scaled)).astype(like.dtype)

    def _flagged(self, picture: VideoFrame, order: FieldOrder) -> VideoFrame:
        """``picture`` flagged as interlaced, which PyAV lets only a filter do."""
        picture.pts, picture.time_base = 0, Fraction(1, 25)
        if order not in self._flagging:
            shape = Geometry(
                width=picture.width, height=picture.height, sar=None, time_base=Fraction(1, 25),
                rate=None,
            )  # fmt: skip
            steps = [("setfield", "tff" if order.top_first else "bff")]
            self._flagging[order] = FilterChain(steps, picture, shape)
        return next(self._flagging[order].push(picture))


def _format_name(format: Any) -> str:  # noqa: ANN401
    """FFmpeg's name of a VapourSynth format; maybe one that FFmpeg does not have."""
    families = {vs.GRAY: "gray", vs.RGB: "gbrp", vs.YUV: "yuv{}p"}
    sampling = subsampling_name(format.subsampling_w, format.subsampling_h) or "?"
    base = families[format.color_family].format(sampling)
    bits = format.bits_per_sample
    if format.sample_type == vs.FLOAT:
        return f"{base}f{bits}le"
    return base if bits == 8 else f"{base}{bits}le"


def _with_alpha(name: str) -> str:
    """FFmpeg's name of the format that also has alpha; maybe one that FFmpeg does not have."""
    if name.startswith("gray"):
        return {"gray": "ya8", "gray16le": "ya16le"}.get(name, name + "a")
    return name.replace("yuv", "yuva", 1).replace("gbrp", "gbrap", 1)


def _is_usable(name: str) -> bool:
    """Whether FFmpeg has the format, and we can read it."""
    try:
        return name in known_formats and bool(pixel_format(name))
    except UnsupportedFormatError:
        return False


def _nearest(node: Any, name: str) -> tuple[Any, str]:  # noqa: ANN401
    """The clip in the shallowest integer format that FFmpeg has and that holds every sample.

    Point resampling at the same size and subsampling moves no sample.
    """
    given = node.format
    floating = given.sample_type == vs.FLOAT
    least = 16 if floating else given.bits_per_sample
    for bits in (depth for depth in (8, 9, 10, 12, 14, 16) if depth >= least):
        wanted = vs.core.query_video_format(
            given.color_family, vs.INTEGER, bits, given.subsampling_w, given.subsampling_h
        )
        if _is_usable(_format_name(wanted)):
            return node.resize.Point(format=wanted.id), _format_name(wanted)
    raise UnsupportedFormatError(
        f"{name}: FFmpeg has no format like {given.name}: convert it in a script"
    )

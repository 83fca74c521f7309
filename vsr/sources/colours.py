"""How decoded frames are to be read: what the input says, overruled by the user, gaps filled.

Note [RGB that says it is limited]
    FFmpeg reads and writes RGB as full range, whatever it is tagged as, and its ``libx264rgb`` tags
    as limited what is full. So the tag of a file is not believed, which is said; the user is, and a
    VapourSynth clip, whose tag ``resize`` goes by. Filters of libavfilter leave the codes of RGB as
    they are and may lose the tag: RGB that comes out is of the range that went in.
"""

from dataclasses import fields, replace

from av.video.frame import VideoFrame

from vsr.config import InputConfig
from vsr.errors import ConfigError, UnsupportedFormatError
from vsr.ffmpeg import write_tags
from vsr.frame import Colour, Matrix, PixelFormat, Range, Siting
from vsr.sources.hardware import layout_name
from vsr.sources.planes import same_layout
from vsr.sources.reader import Reader
from vsr.tagging import VAPOURSYNTH, complete_colour
from vsr.tags import COLOUR_OPTIONS, word_for

__all__ = ["FrameColours", "contradiction"]

_UNSPECIFIED = {"range": (0,), "siting": (0,)}
_SAME = {"matrix": {5, 6}, "transfer": {1, 6, 14, 15}}
"""Numbers of H.273 that mean the same."""
_DOUBTED = (
    "tagged limited range: RGB is taken as full, as FFmpeg does (-color_range tv says otherwise)"
)
_MISREAD = "the filters have taken RGB of limited range for full"


class FrameColours:
    """Colour of the frames of one input.

    Args:
        source: where they come from.
        stated: what the user says, which overrules the input.
        first: the first frame; guesses depend on its size.
        native: the pixel format in which frames are handed on.

    Attributes:
        guesses: a line for each guess so far.

    Raises:
        ConfigError: the user says what cannot be.
    """

    def __init__(
        self, source: Reader, stated: InputConfig, first: VideoFrame, native: PixelFormat
    ) -> None:
        self._source, self._stated, self._native = source, stated, native
        if stated.matrix == Matrix.RGB and native.chroma_w + native.chroma_h:
            raise ConfigError(f"-colorspace rgb: {source.name} is {native.name}, which holds none")
        self._codec, self._size = source.facts.codec, (first.width, first.height)
        self._known: dict[tuple[Colour, str], Colour] = {}
        self._rgb_range = Range.FULL  # of what last went into filters
        self.guesses: list[str] = []

    def declared(self, frame: VideoFrame) -> Colour:
        """What the input says of ``frame``, overruled by what the user says."""
        tagged, stated = self._source.colour(frame), self._stated
        if tagged.siting == Siting.LEFT:
            tagged = replace(tagged, siting=self._source.facts.left_means)
        if stated.range is None and self._is_bitmap(frame) and not tagged.range:
            tagged = replace(tagged, range=Range.FULL)  # bitmaps and floats have no headroom
        return Colour(
            matrix=_first(stated.matrix, tagged.matrix),
            range=_first(stated.range, tagged.range),
            primaries=_first(stated.primaries, tagged.primaries),
            transfer=_first(stated.transfer, tagged.transfer),
            siting=_first(stated.siting, tagged.siting),
        )

    def of(self, frame: VideoFrame) -> Colour:
        """How a decoded frame is to be read."""
        return self._complete(self._believed(self.declared(frame)), self._native)

    def of_filtered(self, frame: VideoFrame, format: PixelFormat) -> Colour:
        """How a frame that comes out of filters is to be read: by the tags that they leave on it.

        What the user says was about the frames that went in.
        """
        colour = self._source.colour(frame)
        if format.family == "rgb":
            colour = replace(colour, range=self._rgb_range)
        elif self._rgb_range == Range.LIMITED:
            self._say(_MISREAD)
        return self._complete(colour, format)

    def tag(self, frame: VideoFrame) -> VideoFrame:
        """``frame`` with complete tags, for filters that look at them."""
        colour = self.of(frame)
        if self._native.family == "rgb":
            self._rgb_range = colour.range
        write_tags(frame, colour)
        return frame

    def _believed(self, colour: Colour) -> Colour:
        """``colour`` as far as it is to be trusted; see note [RGB that says it is limited]."""
        format = self._native
        doubted = format.family == "rgb" and not format.floating and colour.range == Range.LIMITED
        if not doubted or self._stated.range is not None or self._codec == VAPOURSYNTH:
            return colour
        self._say(_DOUBTED)
        return replace(colour, range=Range.FULL)

    def _say(self, line: str) -> None:
        if line not in self.guesses:
            self.guesses.append(line)

    def _complete(self, colour: Colour, format: PixelFormat) -> Colour:
        key = (colour, format.name)
        if key not in self._known:
            width, height = self._size
            try:
                self._known[key], guesses = complete_colour(
                    colour, width=width, height=height, format=format, codec=self._codec
                )
            except UnsupportedFormatError as error:
                raise UnsupportedFormatError(f"{self._source.name}: {error}") from error
            self.guesses += guesses
        return self._known[key]

    def _is_bitmap(self, frame: VideoFrame) -> bool:
        converted = not same_layout(layout_name(frame), self._native.name)
        return converted and self._native.family == "gray"


def contradiction(container: Colour, stream: Colour, stated: InputConfig) -> str | None:
    """A line about the tags in which container and stream differ; None if there are none.

    Args:
        container: tags of the container.
        stream: tags that the decoder found in the stream itself.
        stated: what the user says; there nothing is left to be said.
    """
    found = []
    for name in (field.name for field in fields(Colour)):
        theirs, own = getattr(container, name), getattr(stream, name)
        unspecified = _UNSPECIFIED.get(name, (0, 2))
        if theirs in unspecified or own in unspecified or getattr(stated, name) is not None:
            continue
        if theirs != own and not {theirs, own} <= _SAME.get(name, set()):
            found.append((COLOUR_OPTIONS[name], theirs, own))
    if not found:
        return None
    container_says = ", ".join(word_for(words, theirs) for (_, words), theirs, _ in found)
    stream_says = ", ".join(word_for(words, own) for (_, words), _, own in found)
    options = ", ".join(option for (option, _), _, _ in found)
    return (
        f"the container's colour tags say {container_says}, the stream's {stream_says}: the"
        f" stream's are used (to overrule: {options})"
    )


def _first[T](stated: T | None, tagged: T) -> T:
    return tagged if stated is None else stated

"""Which reader reads an input, what every reader offers, and how much will come of it."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Protocol

from av.video.frame import VideoFrame

from vsr.checking import check_part, file_name, number, whole
from vsr.config import DECODERS, PIPE, Decoder, FieldsConfig, InputConfig, ScriptConfig
from vsr.errors import ConfigError, SourceError
from vsr.frame import Colour, FieldOrder
from vsr.hdr import HdrMetadata
from vsr.sources.companion import MadeSound
from vsr.sources.hardware import accelerator, layout_name, why_not
from vsr.sources.images import ImageFrames, find_images
from vsr.sources.lookahead import TimedFrame
from vsr.sources.media import MediaReader
from vsr.sources.pictures import PictureReader
from vsr.sources.relay import PacketRelay
from vsr.sources.report import SourceReport

__all__ = ["Reader", "SourceConfig", "expected_length", "open_reader"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """Which part of an input is read, and what is done to its pictures on the way."""

    input: InputConfig = field(default_factory=InputConfig)
    script: ScriptConfig = field(default_factory=ScriptConfig)
    """How a VapourSynth script is run."""
    decoder: Decoder = "pyav"
    """What decodes media files."""
    audio_from: Path | None = None
    """A file whose other streams go beside the pictures, instead of the input's own."""
    start: Fraction | None = None
    """Skip to this position, in seconds from the start of the input."""
    end: Fraction | None = None
    """Stop before the first frame at or after this position."""
    frames: int | None = None
    """Stop after this many frames."""
    fields: FieldsConfig | None = None
    """What to do with interlaced frames; None does not even look for them."""
    filters: str | None = None
    """A chain of libavfilter's."""
    crop: bool = True
    """Apply the container's cropping."""
    threads: int | None = None
    """Threads of the decoder; None means one per processor, up to 4."""
    gpu: int | None = None
    """Number of the CUDA device that decodes, and keeps the frames, if it can; None for none."""
    should_stop: Callable[[], bool] = field(default=lambda: False, compare=False)
    """Polled while standard input is awaited; True ends the input as its end would."""

    def __post_init__(self) -> None:
        for name, convert in (
            ("start", number), ("end", number), ("frames", whole), ("threads", whole),
            ("audio_from", file_name),
        ):  # fmt: skip
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, convert(name, value))
        if self.decoder not in DECODERS:
            raise ConfigError(f"decoder must be one of {', '.join(DECODERS)}")
        check_part(self.start, self.end, self.frames)


class Reader(Protocol):
    """Decoded pictures in order, each with a sound timestamp, inside the trim."""

    name: str
    """The input in a message."""
    notes: list[str]
    """A line for each decision."""
    time_base: Fraction
    """Seconds per unit of the timestamps."""
    rate: Fraction
    """Nominal frames per second."""
    lead: Fraction
    """Seconds from the start of the input to its first picture, wanted or not."""
    start_time: Fraction
    """Seconds that are subtracted from every timestamp."""
    shift: int
    """The same in units of ``time_base``."""
    relay: PacketRelay
    """Packets of the input's other streams."""
    tags: Colour
    """Colour as the container tags it."""
    states_fields: bool
    """Whether a field order comes from who made the frames, rather than from who coded them."""

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec."""

    @property
    def count(self) -> int | None:
        """Frames of the whole input, if it says."""

    @property
    def length(self) -> Fraction | None:
        """Seconds of the whole input, if it says."""

    @property
    def sar(self) -> Fraction | None:
        """Sample aspect ratio, None if unknown."""

    @property
    def cropping(self) -> tuple[int, int, int, int]:
        """What is to be cut: top, bottom, left, right, in pixels."""

    @property
    def sound(self) -> MadeSound | None:
        """What goes beside the pictures of a script that makes it."""

    @property
    def has_side_data(self) -> bool:
        """Whether frames' side data can be looked at."""

    @property
    def decode_errors(self) -> int:
        """Packets that the decoder refused so far."""

    @property
    def not_finite(self) -> int:
        """Pictures so far with samples that are no numbers."""

    @property
    def broken(self) -> str | None:
        """How the input ends in the middle of a frame, once it has been read to its end."""

    def next(self) -> TimedFrame | None:
        """The next frame; None at the end of the input or of the trim."""

    @property
    def timing(self) -> list[int] | None:
        """What the duration of the last frame depends on; None while frames wait."""

    def resume_timing(self, state: list[int]) -> None:
        """Take over, after :meth:`skip`, what :attr:`timing` was when the same frame had come."""

    def skip(self, number: int, pts: int) -> bool:
        """Make a later frame the coming one, exactly.

        Args:
            number: counted from 0 from where reading begins.
            pts: its time, in units of ``time_base`` and not shifted.

        Returns:
            Whether that could be done; if not, :meth:`rewind` must follow.
        """

    def rewind(self) -> None:
        """Begin again with the frame that came first."""

    def peek(self, count: int, size: int) -> list[TimedFrame]:
        """Up to ``count`` of the coming frames, together about ``size`` bytes; they stay."""

    def colour(self, frame: VideoFrame) -> Colour:
        """Colour tags of ``frame``."""

    def display_matrix(self, frame: VideoFrame) -> bytes | None:
        """FFmpeg's display matrix, 36 bytes."""

    def field_order(self, frame: VideoFrame) -> FieldOrder:
        """The stream's field order."""

    def hdr(self, frame: VideoFrame) -> tuple[HdrMetadata | None, list[str]]:
        """Mastering display and content light, and a line for what is dropped."""

    def last_duration(self) -> int:
        """Duration of the last frame, in units of ``time_base``."""

    def finish(self, report: SourceReport, stopped_at: Fraction | None) -> None:
        """After the last frame, which ended at ``stopped_at`` if more would follow."""

    def close(self) -> None:
        """Close the input; harmless if done before."""


def expected_length(
    reader: Reader, config: SourceConfig, rate: Fraction
) -> tuple[int | None, Fraction | None]:
    """Frames and seconds that will come out, as far as the input says.

    Args:
        reader: what knows the length of the whole input.
        config: which part of it is wanted.
        rate: nominal frames per second of what comes out, behind filters.
    """
    length, count = reader.length, reader.count
    if count is not None and rate != reader.rate:
        count = round(count * rate / reader.rate)
    if length is not None and (config.start or config.end is not None):
        start, end = config.start or Fraction(0), config.end
        if end is None or end >= length:
            end, last = length, round(length * rate)
        else:
            last = _before(end, rate)
        count, length = max(1, last - _before(start, rate)), max(end - start, Fraction(0))
    elif count is None and length is not None:
        count = max(1, round(length * rate))
    if config.frames is not None and (count is None or count > config.frames):
        count, length = config.frames, config.frames / rate
    return count, length


def _before(time: Fraction, rate: Fraction) -> int:
    """How many frames of an even ``rate`` begin before ``time``, which may be rounded."""
    return ceil(time * rate - Fraction(1, 100))


def open_reader(path: Path, config: SourceConfig) -> Reader:
    """Open ``path`` with the reader that fits it, on the GPU if that is wanted and can be.

    Raises:
        SourceError: the input is missing, holds no video that decodes, or ends before the start.
        ConfigError: options do not fit the kind of input.
    """
    reader = _choose_reader(path, config)
    if config.gpu is not None and not (isinstance(reader, MediaReader) and path != PIPE):
        reader.notes.append("decoded in main memory, not on the GPU: only media files can be")
    return reader


def _choose_reader(path: Path, config: SourceConfig) -> Reader:
    start = config.start or Fraction(0)
    raw = config.input.raw_format is not None
    images = None if raw else find_images(path)
    is_file = not raw and images is None and path != PIPE
    is_script = is_file and config.script.is_script(path)
    _check_options(path, config, is_script=is_script, is_media=is_file and not is_script)
    if config.input.video_stream is not None and (is_script or images is not None):
        raise ConfigError(f"{path}: --video-stream is for media files")
    if is_script:
        return _open_script(path, config, start)
    if images is not None:
        frames = ImageFrames(path, config.input.rate)
        return PictureReader(frames, str(path), start=start, end=config.end)
    if config.decoder == "bestsource":
        return _open_bestsource(path, config, start)
    if config.gpu is None or path == PIPE:
        return _open_media(path, config, start)
    return _open_on_gpu(path, config, start, config.gpu)


def _open_media(
    path: Path, config: SourceConfig, start: Fraction, gpu: int | None = None
) -> MediaReader:
    return MediaReader(
        path, config.input, start=start, end=config.end, hold=config.frames is not None,
        threads=config.threads if gpu is None else 1, should_stop=config.should_stop,
        hwaccel=None if gpu is None else accelerator(gpu),
    )  # fmt: skip


def _open_on_gpu(path: Path, config: SourceConfig, start: Fraction, gpu: int) -> MediaReader:
    """A reader of what CUDA device ``gpu`` decodes; if it cannot, of the same in main memory."""
    reason: str | None = f"FFmpeg cannot use CUDA device {gpu}"
    with suppress(SourceError):  # one that is not about the GPU comes again
        reader = _open_media(path, config, start, gpu)
        first = reader.peek(1, 1)[0].frame
        if (reason := why_not(first, reader.codec)) is None:
            reader.notes.append(f"decoded on the GPU, in {layout_name(first)}")
            return reader
        reader.close()
    reader = _open_media(path, config, start)
    reader.notes.append(f"decoded in main memory, not on the GPU: {reason}")
    return reader


def _check_options(path: Path, config: SourceConfig, *, is_script: bool, is_media: bool) -> None:
    if config.script.given and not is_script:
        raise ConfigError(f"{path}: -a and --output-index are for VapourSynth scripts (.vpy)")
    if config.decoder == "bestsource" and not is_media:
        raise ConfigError(f"{path}: --source bestsource is for media files")


@contextmanager
def _vapoursynth(path: Path) -> Iterator[None]:
    """For imports: VapourSynth's library is missing on some systems, and few need it."""
    try:
        yield
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{path}: VapourSynth cannot be loaded: {reason}") from error


def _open_script(path: Path, config: SourceConfig, start: Fraction) -> Reader:
    with _vapoursynth(path):
        from vsr.sources.clips import ClipReader
        from vsr.sources.script import run_script
    clip = run_script(path, config.script.arguments, config.script.output)
    return ClipReader(
        clip, str(path), rate=config.input.rate, start=start, end=config.end, wanted=config.frames
    )


def _open_bestsource(path: Path, config: SourceConfig, start: Fraction) -> Reader:
    with _vapoursynth(path):
        from vsr.sources.bestsource import open_bestsource
        from vsr.sources.clips import ClipReader
    clip = open_bestsource(path, config.input.video_stream)
    return ClipReader(
        clip, str(path), rate=config.input.rate, start=start, end=config.end, wanted=config.frames
    )

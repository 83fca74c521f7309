"""Which reader reads an input."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

from vsr.checking import check_part, file_name, number, whole
from vsr.config import DECODERS, PIPE, Decoder, FieldsConfig, InputConfig, ScriptConfig
from vsr.errors import ConfigError, SourceError
from vsr.sources.hardware import accelerator, layout_name, why_not
from vsr.sources.images import ImageFrames
from vsr.sources.listing import find_images
from vsr.sources.media import MediaReader
from vsr.sources.pictures import PictureReader
from vsr.sources.reader import Reader

__all__ = ["SourceConfig", "open_reader"]


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
    """Threads of the decoder; None and 0 mean one per processor, up to 4."""
    gpu: int | None = None
    """Number of the CUDA device that decodes, and keeps the frames, if it can; None for none."""
    should_stop: Callable[[], bool] = field(default=lambda: False, compare=False)
    """Polled while standard input is awaited; True ends the input as its end would."""

    def __post_init__(self) -> None:
        for name, convert in (
            ("start", number), ("end", number), ("frames", whole),
            ("threads", partial(whole, least=0)), ("audio_from", file_name),
        ):  # fmt: skip
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, convert(name, value))
        if self.decoder not in DECODERS:
            raise ConfigError(f"decoder must be one of {', '.join(DECODERS)}")
        check_part(self.start, self.end, self.frames)


def open_reader(path: Path, config: SourceConfig) -> Reader:
    """Open ``path`` with the reader that fits it, on the GPU if that is wanted and can be.

    Raises:
        SourceError: the input is missing, holds no video that decodes, or ends before the start.
        ConfigError: options do not fit the kind of input.
    """
    reader = _choose_reader(path, config)
    if config.gpu is not None and (reader.container is None or path == PIPE):
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
    if is_script and config.input.self_contained:
        raise ConfigError(f"{path}: --self-contained: a script is executed, and may read anything")
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
        if (reason := why_not(first, reader.facts.codec)) is None:
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
        clip, str(path), rate=config.input.rate, start=start, end=config.end, wanted=config.frames,
        should_stop=config.should_stop,
    )  # fmt: skip


def _open_bestsource(path: Path, config: SourceConfig, start: Fraction) -> Reader:
    with _vapoursynth(path):
        from vsr.sources.bestsource import open_bestsource
        from vsr.sources.clips import ClipReader
    clip = open_bestsource(path, config.input)
    return ClipReader(
        clip, str(path), rate=config.input.rate, start=start, end=config.end, wanted=config.frames,
        should_stop=config.should_stop,
    )  # fmt: skip

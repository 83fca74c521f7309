"""Which reader reads an input."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

from vsr.config import PIPE, SourceConfig
from vsr.errors import ConfigError, SourceError
from vsr.sources.hardware import accelerator, layout_name, why_not
from vsr.sources.images import ImageFrames
from vsr.sources.listing import find_images
from vsr.sources.media import MediaReader
from vsr.sources.pictures import PictureReader
from vsr.sources.reader import Reader

__all__ = ["open_reader"]


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

"""Where the results of a run go: whether they can appear, and what lies beside them."""

from pathlib import Path

from vsr.beside import framemd5_path, lock_path, record_path, work_path
from vsr.config import PIPE, UpscaleConfig
from vsr.encoding.muxers import choose_muxer
from vsr.encoding.stills import Stills
from vsr.errors import ConfigError, OutputExistsError, SinkError
from vsr.sinks.destination import check_replaceable, check_target
from vsr.sources.listing import ImageList

__all__ = ["check_output", "companions", "files_read"]


def check_output(config: UpscaleConfig, images: ImageList | None, stills: Stills | None) -> None:
    """Find out ahead of all work what would keep the results of a run from appearing.

    Args:
        config: what is wanted.
        images: the pictures that are the input, if it is pictures.
        stills: where pictures go, if they are the output.

    Raises:
        ConfigError: there is no format of its extension, it is an input, or options do not fit it.
        SinkError: it cannot be written, or exists and may not be replaced.
    """
    _check_paths(config, images, stills)
    _check_companions(config, stills)
    _check_number(config, stills)


def files_read(config: UpscaleConfig) -> list[Path]:
    """What there is of the files and folders that a run reads."""
    read = (config.input, config.audio_from, config.weights)
    return [path for path in read if path is not None and path.exists()]


def companions(config: UpscaleConfig) -> list[Path]:
    """What a run writes beside its output: its record and its hashes, if they are wanted."""
    if config.output is None:
        return []
    wanted = ((config.record, record_path), (config.framemd5, framemd5_path))
    return [name(config.output) for on, name in wanted if on]


def _check_paths(config: UpscaleConfig, images: ImageList | None, stills: Stills | None) -> None:
    """Whether the output can appear, and is not the input."""
    output = config.output
    if output is None or output == PIPE:
        return
    if stills is None:
        _check_file(config, output)
        return
    _check_leftovers(config, output)  # what else is in their way is the sink's to find
    if images is not None and stills.overlap(images.paths):
        raise ConfigError(f"{output}: input and output are the same pictures")


def _check_file(config: UpscaleConfig, output: Path) -> None:
    """Whether a media file can appear as ``output``."""
    if output.is_symlink() and not output.exists():
        raise SinkError(f"{output}: is a link that leads nowhere")
    if not output.parent.is_dir():  # an extension that is wrong anywhere is said first
        choose_muxer(output, config.muxer)
    check_target(output, overwrite=True)  # whether it may be replaced is asked last
    if _is_read(config, output):
        raise ConfigError(f"{output}: input and output are the same file")
    _check_leftovers(config, output)
    check_target(output, overwrite=config.overwrite or _goes_on(output, config))


def _is_read(config: UpscaleConfig, path: Path) -> bool:
    """Whether ``path`` is a file that the run reads, by whatever name."""
    return path.exists() and any(read.samefile(path) for read in files_read(config))


def _check_leftovers(config: UpscaleConfig, output: Path) -> None:
    folder = work_path(output)
    if folder.exists() and not config.restart and not config.resume:
        raise SinkError(
            f"{output}: an earlier run has left its work in {folder.name}: --resume goes on with "
            "it, --restart throws it away"
        )


def _goes_on(output: Path, config: UpscaleConfig) -> bool:
    """Whether there is work to go on with; what lies beside the output may be that work's.

    The file of the lock may tell that the output is finished, to who has the lock.
    """
    if not config.resume or output == PIPE:
        return False
    return work_path(output).exists() or lock_path(output).exists()


def _check_companions(config: UpscaleConfig, stills: Stills | None) -> None:
    """Refuse hashes that FFmpeg would not get, and to replace files unless asked to."""
    if config.framemd5 and stills is not None:
        raise ConfigError("--framemd5 is for videos: the hash of a picture is that of its file")
    paths = companions(config)
    for path in paths:
        if _is_read(config, path):
            raise ConfigError(f"{path}: is an input, and would be written beside the output")
        if path.is_dir():
            raise SinkError(f"{path}: is a directory")
        check_replaceable(path, path)
    if config.output is None or config.overwrite or _goes_on(config.output, config):
        return
    for path in paths:
        if path.exists():
            raise OutputExistsError(f"{path}: already exists; -y replaces it")


def _check_number(config: UpscaleConfig, stills: Stills | None) -> None:
    if config.encoder.first_number is None:
        return
    if stills is None or stills.pattern is None:
        raise ConfigError("-start_number is for numbered pictures, e.g. out/%06d.png")

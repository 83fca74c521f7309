"""Where upscaled frames go."""

from collections.abc import Sequence
from pathlib import Path

from vsr.encoding import Encoding
from vsr.encoding.muxers import Y4M
from vsr.encoding.stills import IMAGES
from vsr.encoding.streams import StreamSource
from vsr.frame import VideoInfo
from vsr.sinks.destination import open_destination
from vsr.sinks.framemd5 import FrameMd5Sink
from vsr.sinks.images import ImageSink
from vsr.sinks.media import MediaSink
from vsr.sinks.null import NullSink
from vsr.sinks.sink import Sink
from vsr.sinks.y4m import Y4MSink
from vsr.stdout import Stdout

__all__ = ["FrameMd5Sink", "ImageSink", "MediaSink", "NullSink", "Sink", "Y4MSink", "open_sink"]


def open_sink(  # noqa: PLR0913 - all but the first three by keyword
    path: Path,
    encoding: Encoding,
    info: VideoInfo,
    *,
    source: StreamSource | None = None,
    overwrite: bool = False,
    stdout: Stdout | None = None,
    companions: Sequence[Path] = (),
) -> Sink:
    """Open what fits ``path`` and ``encoding``.

    Args:
        path: the output; :data:`~vsr.config.PIPE` is standard output.
        encoding: from :func:`vsr.encoding.choose_encoding`.
        info: facts about the *output*.
        source: where the other streams come from; None writes the picture alone.
        overwrite: whether an existing file may be replaced.
        stdout: the stream that :data:`~vsr.config.PIPE` stands for.
        companions: what the run will write beside the output: when that gets its name, files of
            these names are deleted, which tell of another.

    Raises:
        SinkError: the output cannot be created.
        ReaderGone: nobody reads the pipe.
    """
    if encoding.muxer == IMAGES:
        return ImageSink(
            path, encoding, info, source=source, overwrite=overwrite, companions=companions
        )
    if encoding.muxer == Y4M:
        destination = open_destination(
            path, overwrite=overwrite, stdout=stdout, companions=companions
        )
        return Y4MSink(destination, encoding, info, source=source)
    return MediaSink(
        path, encoding, info, source=source, overwrite=overwrite, stdout=stdout,
        companions=companions,
    )  # fmt: skip

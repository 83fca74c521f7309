"""Where upscaled frames go."""

from pathlib import Path

from vsr.encoding import Encoding
from vsr.frame import VideoInfo
from vsr.sinks.framemd5 import FrameMd5Sink
from vsr.sinks.null import NullSink
from vsr.sinks.pyav import PyAVSink
from vsr.sinks.sink import Sink
from vsr.streams import StreamSource

__all__ = ["FrameMd5Sink", "NullSink", "PyAVSink", "Sink", "open_sink"]


def open_sink(
    path: Path,
    encoding: Encoding,
    info: VideoInfo,
    *,
    source: StreamSource | None = None,
    overwrite: bool = False,
) -> Sink:
    """Open what fits ``path`` and ``encoding``.

    Args:
        path: the output.
        encoding: from :func:`vsr.encoding.choose_encoding`.
        info: facts about the *output*.
        source: where the other streams come from; None writes the picture alone.
        overwrite: whether an existing file may be replaced.

    Raises:
        SinkError: the output cannot be created.
    """
    return PyAVSink(path, encoding, info, source=source, overwrite=overwrite)

"""Which video stream of an input is processed."""

from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from vsr.encoding.streams import is_cover_art
from vsr.errors import SourceError

__all__ = ["choose_stream", "has_decoder"]


def choose_stream(
    container: InputContainer, name: str, wanted: int | None = None
) -> tuple[VideoStream, list[str]]:
    """The video stream to process, and a line if there was a choice.

    Args:
        container: the open input.
        name: of the input, in a message.
        wanted: its number among the streams of video that are no covers; None takes FFmpeg's best.

    Raises:
        SourceError: there is no such video stream, or no decoder for it, or it is a tile.
    """
    found = _videos(container, name)
    if wanted is None:
        _refuse_tiles(container, name, found)
        candidates = found
    else:
        candidates = [_numbered(found, name, wanted)]
    decodable = [stream for stream in candidates if has_decoder(stream)]
    if not decodable:
        raise SourceError(f"{name}: its video is in a format that FFmpeg has no decoder for")
    chosen = _best(container, decodable)
    had_choice = len(found) > 1 and wanted is None
    return chosen, [_choice_note(found, chosen)] if had_choice else []


def has_decoder(stream: Stream) -> bool:
    """Whether FFmpeg knows the codec of ``stream``."""
    # The stubs promise a context; a stream of unknown codec has none.
    context: object = stream.codec_context
    return context is not None


def _videos(container: InputContainer, name: str) -> list[VideoStream]:
    """The streams of video that are no covers; at least one."""
    found = [stream for stream in container.streams.video if not is_cover_art(stream)]
    if not found:
        covers = ", only cover art" if container.streams.video else ""
        raise SourceError(f"{name}: holds no video stream{covers}")
    return found


def _refuse_tiles(container: InputContainer, name: str, found: list[VideoStream]) -> None:
    tiles = sum(bool(stream.disposition & Disposition.dependent) for stream in found)
    if tiles and container.format.name.startswith("mov"):
        raise SourceError(
            f"{name}: one picture in {tiles} tiles, as HEIF and AVIF have it, which are not put"
            " together here: convert it first (heif-convert; ffmpeg from 7.1 on)"
        )


def _numbered(found: list[VideoStream], name: str, wanted: int) -> VideoStream:
    if wanted >= len(found):
        count = "one video stream" if len(found) == 1 else f"{len(found)} video streams"
        raise SourceError(f"{name}: holds {count}, and --video-stream counts from 0")
    return found[wanted]


def _best(container: InputContainer, decodable: list[VideoStream]) -> VideoStream:
    """FFmpeg's choice if it is among ``decodable``, else the largest of these."""
    best = container.streams.best("video")
    for stream in decodable:
        if best is not None and stream.index == best.index:
            return stream
    return max(decodable, key=lambda stream: stream.width * stream.height)


def _choice_note(found: list[VideoStream], chosen: VideoStream) -> str:
    sizes = ", ".join(f"{index}: {_size(stream)}" for index, stream in enumerate(found))
    return (
        f"{len(found)} video streams ({sizes}): number {found.index(chosen)} is upscaled; "
        "--video-stream chooses another"
    )


def _size(stream: VideoStream) -> str:
    return f"{stream.width}x{stream.height}" if has_decoder(stream) else "unknown codec"

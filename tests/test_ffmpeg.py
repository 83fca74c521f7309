import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction

import av
import av.logging
import pytest
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext

from vsr.errors import ConfigError
from vsr.ffmpeg import explain, listening


@pytest.fixture
def level() -> Iterator[None]:
    """A test may leave PyAV's log level as it likes."""
    before = av.logging.get_level()
    yield
    av.logging.set_level(before)


def decode_nothing(decoder: CodecContext) -> None:
    """FFmpeg says ``No JPEG data found in image``."""
    assert isinstance(decoder, VideoCodecContext)
    with suppress(av.FFmpegError):
        decoder.decode(av.Packet(bytes(64)))


def test_messages_of_other_threads_while_the_level_changes(
    capfd: pytest.CaptureFixture[str],
) -> None:
    end = time.monotonic() + 1.5

    def speak() -> None:
        decoder = CodecContext.create("mjpeg", "r")
        while time.monotonic() < end:
            decode_nothing(decoder)

    threads = [threading.Thread(target=speak) for _ in range(2)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        with listening():
            time.sleep(0)  # their turn, to begin a message
        time.sleep(0)  # and to end it
    for thread in threads:
        thread.join()
    assert capfd.readouterr().err == ""


def test_nothing_is_handed_to_python_while_nobody_listens(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with listening() as messages:
        av.logging.log(av.logging.ERROR, "test", "heard")
    assert messages == [(av.logging.ERROR, "test", "heard")]
    counted, _ = av.logging.get_last_error()
    av.logging.log(av.logging.ERROR, "test", "unheard")
    # by a level alone PyAV would count it, for which it takes the interpreter lock
    assert av.logging.get_last_error()[0] == counted
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("own", [av.logging.PANIC, av.logging.WARNING, av.logging.TRACE])
@pytest.mark.usefixtures("level")
def test_the_level_of_the_program_is_kept(own: int) -> None:
    av.logging.set_level(own)
    with listening(av.logging.INFO):
        assert av.logging.get_level() == max(own, av.logging.INFO)
        with listening(av.logging.VERBOSE):
            assert av.logging.get_level() == max(own, av.logging.VERBOSE)
    assert av.logging.get_level() == own


@pytest.mark.usefixtures("level")
def test_the_level_of_the_program_counts_after_silence(caplog: pytest.LogCaptureFixture) -> None:
    with listening():
        pass
    av.logging.set_level(av.logging.ERROR)
    decode_nothing(CodecContext.create("mjpeg", "r"))
    assert caplog.messages == ["No JPEG data found in image"]


def test_what_threads_add_is_no_reason() -> None:
    """They say last that they failed, and the encoder's own message is the cause."""
    context = CodecContext.create("cfhd", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = 62, 46, "yuv422p10le"
    context.time_base, context.thread_type = Fraction(1, 25), "AUTO"
    context.thread_count = 2
    with (
        pytest.raises(ConfigError, match="x: Width must be multiple of 16"),
        explain("x", ConfigError),
    ):
        context.open()

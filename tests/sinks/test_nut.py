"""The aspect ratio in NUT: exact, and nothing behind the headers changes."""

import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest

from vsr.sinks.nut import patched_head, set_aspect_ratio

RATIOS = [
    Fraction(16, 15), Fraction(127, 126), Fraction(128, 127), Fraction(1216, 1215), Fraction(1),
    Fraction(2_000_000_001, 2_000_000_003),
]  # fmt: skip


class Collector:
    """Bytes, front to back."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def make_nut(codec: str, frames: int, *, audio_first: bool = False, size=(640, 480)) -> bytes:
    output = Collector()
    noise = np.random.default_rng(3)
    with av.open(output, "w", format="nut") as container:
        container.metadata["title"] = "encoder\x02 " * 20  # looks like the writer's name
        sound = container.add_stream("pcm_s16le", rate=8000) if audio_first else None
        video = container.add_stream(codec, rate=25, width=size[0], height=size[1])
        assert isinstance(video, av.VideoStream)
        video.pix_fmt = "yuv420p"
        if isinstance(sound, av.AudioStream):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), "s16", "stereo")
            samples.sample_rate = 8000
            container.mux(sound.encode(samples))
        for index in range(frames):
            shape = (size[1] * 3 // 2, size[0])
            picture = noise.integers(0, 256, shape, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return bytes(output.data)


def patched(data: bytes, stream: int, sar: Fraction) -> bytes:
    new = patched_head(data, stream, sar)
    assert new is not None
    return new


def ask(data: bytes) -> tuple[str, list[str], str]:
    """The ratio that ffprobe sees, the frames' hashes and times, and what FFmpeg complains of."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v", "-of", "csv=p=0"]
    command += ["-show_entries", "stream=sample_aspect_ratio", "-"]
    shape = subprocess.run(command, input=data, capture_output=True, check=True)
    command = ["ffmpeg", "-v", "warning", "-i", "-", "-map", "0", "-c", "copy"]
    hashes = subprocess.run(
        [*command, "-f", "framemd5", "-"], input=data, capture_output=True, check=True
    )
    lines = [line for line in hashes.stdout.decode().splitlines() if not line.startswith("#")]
    complaints = (shape.stderr + hashes.stderr).decode()
    return shape.stdout.decode().strip(), lines, complaints


@pytest.fixture(scope="module")
def small() -> bytes:
    return make_nut("rawvideo", 3, size=(32, 16))


@pytest.mark.parametrize("sar", RATIOS, ids=str)
@pytest.mark.parametrize("codec", ["rawvideo", "ffv1", "libx264"])
def test_ratio_is_exact_and_all_else_stays(tmp_path, codec, sar):
    data = make_nut(codec, 3, size=(64, 48))
    (tmp_path / "a.nut").write_bytes(data)
    set_aspect_ratio(tmp_path / "a.nut", 0, sar)
    after = (tmp_path / "a.nut").read_bytes()
    syncpoint = data.index(b"NK\xe4\xad\xee\xca\x45\x69")
    assert after[syncpoint:] == data[syncpoint:]
    shape, hashes, complaints = ask(after)
    assert shape == f"{sar.numerator}:{sar.denominator}"
    assert hashes == ask(data)[1]
    assert complaints == ""


def test_patching_twice_replaces(small):
    twice = patched(patched(small, 0, RATIOS[1]), 0, RATIOS[0])
    assert twice == patched(small, 0, RATIOS[0])


def test_incomplete_heads_are_waited_for(small):
    end = small.index(b"NK\xe4\xad\xee\xca\x45\x69") + 8
    assert all(patched_head(small[:n], 0, RATIOS[0]) is None for n in range(end))
    assert patched_head(small[:end], 0, RATIOS[0]) is not None


def test_the_right_stream():
    data = make_nut("rawvideo", 2, audio_first=True, size=(32, 16))
    assert ask(patched(data, 1, RATIOS[0]))[0] == "16:15"
    for stream in (0, 7):
        with pytest.raises(ValueError, match=f"no video stream {stream}"):
            patched_head(data, stream, RATIOS[0])


def test_no_room_is_refused(small):
    huge = Fraction((1 << 62) + 1, 1 << 62)  # nine bytes each, and the name of the writer has 12
    with pytest.raises(ValueError, match="no room for these numbers"):
        patched_head(small, 0, huge)


@pytest.mark.parametrize("content", [b"", b"no NUT at all", b"nut/multimedia container\0"])
def test_other_files_are_refused_untouched(tmp_path, content):
    (tmp_path / "a.nut").write_bytes(content)
    with pytest.raises(ValueError, match=r"not a NUT|cut off"):
        set_aspect_ratio(tmp_path / "a.nut", 0, Fraction(1))
    assert (tmp_path / "a.nut").read_bytes() == content


def test_damage_is_noticed(small):
    place = small.index(b"NS\x11\x40") + 15
    damaged = small[:place] + bytes([small[place] ^ 1]) + small[place + 1 :]
    with pytest.raises(ValueError, match="not laid out"):
        patched_head(damaged, 0, RATIOS[0])

"""Raw video comes back as what it was, in every pixel format that a container is given."""

import hashlib
import io
import subprocess
from collections.abc import Callable

import av
import pytest
import torch
from av.codec import Codec

from vsr.encoding.formats import planar_formats, requested_format, stored_as
from vsr.errors import ConfigError
from vsr.ffmpeg import find_encoder
from vsr.frame import Frame, pixel_format
from vsr.sinks.pictures import wrap
from vsr.sources.planes import planes_of

CASES = [
    (muxer, form.name)
    for muxer in ("nut", "matroska", "avi")
    for form in planar_formats(find_encoder("rawvideo"), muxer)
]


@pytest.mark.parametrize(("muxer", "name"), CASES)
def test_raw_video_is_read_back(rng, muxer, name):
    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as container:
        stream = container.add_stream("rawvideo", rate=25, width=64, height=32)
        assert isinstance(stream, av.VideoStream)
        stream.pix_fmt = name
        frame = av.VideoFrame(64, 32, name)
        for plane in frame.planes:
            plane.update(rng.integers(0, 2, plane.buffer_size, dtype="uint8").tobytes())
        packets = stream.encode(frame)
        content = b"".join(map(bytes, packets))
        container.mux(packets)
    command = ["ffmpeg", "-v", "info", "-i", "-", "-f", "md5", "-"]
    result = subprocess.run(command, input=file.getvalue(), capture_output=True, check=True)
    assert result.stdout.decode().strip() == f"MD5={hashlib.md5(content).hexdigest()}"
    assert f", {name}" in result.stderr.decode().partition("Output")[0]


@pytest.mark.parametrize(
    ("codec", "name", "stored"),
    [("hevc_nvenc", "yuv420p10le", "p010le"), ("hevc_nvenc", "yuv420p", "yuv420p"),
     ("h264_qsv", "yuv420p", "nv12"), ("libx265", "yuv420p10le", "yuv420p10le"),
     ("rawvideo", "yuv420p", "yuv420p")],
)  # fmt: skip
def test_hardware_takes_interleaved_chroma(codec: str, name: str, stored: str) -> None:
    encoder = Codec(codec, "w")
    form = pixel_format(name)
    assert form in planar_formats(encoder)
    assert stored_as(codec, form) == stored
    assert requested_format(codec, planar_formats(encoder), stored) == form


def test_interleaved_chroma_is_not_promised_where_it_would_not_be_written() -> None:
    for codec in ("rawvideo", "libx264"):
        with pytest.raises(ConfigError, match=f"vsr does not write nv12, which {codec} takes"):
            requested_format(codec, planar_formats(Codec(codec, "w")), "nv12")


@pytest.mark.parametrize(("planar", "packed"), [("yuv420p", "nv12"), ("yuv420p10le", "p010le")])
def test_interleaving_changes_no_sample(
    make_frame: Callable[..., Frame], planar: str, packed: str
) -> None:
    """PyAV does it, with swscale, on the way to an encoder."""
    frame = make_frame(planar, 50, 34)
    found = wrap(frame).reformat(format=packed)
    form = pixel_format(packed)
    for ours, theirs in zip(
        frame.components, form.views(planes_of(found, form), 50, 34), strict=True
    ):
        assert torch.equal(ours.int(), theirs.int() >> form.shift)

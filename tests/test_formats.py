"""Raw video comes back as what it was, in every pixel format that a container is given."""

import hashlib
import io
import subprocess

import av
import pytest

from vsr.ffmpeg import find_encoder
from vsr.formats import planar_formats

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

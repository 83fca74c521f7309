"""Encoders with a thread for each picture, closed while these work: nothing may hang."""

import subprocess
import sys

import pytest

DROP = """
import sys
from fractions import Fraction
from pathlib import Path
import torch
from vsr.config import EncoderConfig
from vsr.encoding import choose_encoding
from vsr.frame import Colour, Frame, VideoInfo, pixel_format
from vsr.sinks import MediaSink

folder, codec, size = sys.argv[1], sys.argv[2], (1280, 720)
shape = {"width": size[0], "height": size[1], "colour": Colour(), "time_base": Fraction(1, 25)}
info = VideoInfo(format=pixel_format("yuv420p"), rate=Fraction(25), **shape)
path = Path(folder, "out.mov")
encoding = choose_encoding(path, info, *size, EncoderConfig(codec=codec))
form = encoding.format
sizes = [form.component_shape(index, *size) for index in range(len(form.components))]
for _ in range(10):
    sink = MediaSink(path, encoding, info, source=None, overwrite=True)
    for pts in range(4):
        planes = tuple(torch.full(size, 16 + pts, dtype=form.dtype) for size in sizes)
        sink.write(Frame(planes=planes, format=form, pts=pts, duration=1, **shape))
    sink.abort()
    del sink
print("done")
"""


@pytest.mark.parametrize("codec", ["prores_ks", "mjpeg"])
def test_an_encoder_that_is_closed_while_it_works(tmp_path, codec):
    command = [sys.executable, "-c", DROP, str(tmp_path), codec]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert list(tmp_path.iterdir()) == []

"""What fuzzing has found, kept: each of these once ended in a traceback, or ended the process."""

import struct
import subprocess

import pytest
from safetensors.torch import save_file

from tests.warm import PYTHON
from vsr import index as index_module
from vsr.cli import main
from vsr.networks.spanplus import SpanPlus, SpanPlusConfig
from vsr.sources.exr import is_complete

SCRIPT = """
import vapoursynth as vs
c = vs.core.std.BlankClip(format=vs.RGB24, width=32, height=16, length=3, fpsnum=25, fpsden=1)
c = c.std.SetFrameProps({})
c.set_output()
"""


def refused(arguments, capsys, *words):
    """Run the command, which must fail with one line that is no internal error."""
    model = () if "--weights" in arguments else ("--model", "identity")
    code = main([*map(str, arguments), *model, "-c:v", "ffv1"])
    err = capsys.readouterr().err
    assert code == 1
    assert err.count("\n") == 1, err
    assert "internal error" not in err
    for word in words:
        assert word in err


PROPS = [
    "_Range=0.5",  # R81 ends the process when it is then asked for _ColorRange
    "_ColorRange=0.5, _Range=b'\\xff'",
    "_Matrix=2**62, _Transfer='x', _Primaries=[1, 2]",
    "_ChromaLocation=1.5, _FieldBased='x'",
    "_SARNum=0.5, _SARDen=2**62",
    "_SARNum=2**40, _SARDen=3",
    "_DurationNum=1, _DurationDen=2**62",
    "_DurationNum=[2**62, 1], _DurationDen=''",
    "MasteringDisplayMinLuminance=0.0, MasteringDisplayMaxLuminance=float('inf')",
    "ContentLightLevelMax=2**62, ContentLightLevelAverage=float('nan')",
]
RUN_ALL = """
import sys
from vsr.cli import main
for script in sys.argv[1:]:
    code = main([script, script + ".mkv", "--model", "identity", "-c:v", "ffv1"])
    print("exit", code, flush=True)
"""


def test_properties_that_cannot_be(tmp_path):
    scripts = [tmp_path / f"{number}.vpy" for number in range(len(PROPS))]
    for script, props in zip(scripts, PROPS, strict=True):
        script.write_text(SCRIPT.format(props))
    command = [*PYTHON, "-c", RUN_ALL, *scripts]  # a process of its own: it may be ended
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout.split("\n")[:-1] == ["exit 0"] * len(PROPS), run.stderr
    assert len(list(tmp_path.glob("*.mkv"))) == len(PROPS)


def test_a_clip_faster_than_time_can_tell(tmp_path, capsys):
    script = tmp_path / "in.vpy"
    script.write_text(SCRIPT.format("a=1").replace("fpsnum=25", "fpsnum=2**31"))
    target = tmp_path / "out.mkv"
    assert main([str(script), str(target), "--model", "identity", "-c:v", "ffv1"]) == 0
    assert "25 a second" in capsys.readouterr().err


def test_a_decoder_that_cannot_be_opened(tmp_path, capsys):
    """PyAV has no codec for the packets after the first, and says so in a ValueError."""
    path = tmp_path / "in.avi"
    make = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=48x32:r=10:d=0.5", "-c:v"]
    subprocess.run([*make, "mpeg4", str(path)], check=True)
    data = path.read_bytes()
    head = data.index(b"strf") + 8  # BITMAPINFOHEADER: no compression, and no such depth
    broken = data[: head + 14] + struct.pack("<HI", 77, 0) + data[head + 20 :]
    path.write_bytes(broken.replace(b"vidsFMP4", b"vids\0\0\0\0"))
    refused([path, tmp_path / "out.mkv"], capsys, "in.avi")


def test_a_picture_whose_chunks_lie_beyond_the_universe():
    header = b"\x76\x2f\x31\x01" + struct.pack("<I", 2) + b"\0"
    assert not is_complete(header + b"\xff" * 8)


def test_dysample_whose_channels_fall_into_no_groups(tmp_path, capsys):
    weights, clip = tmp_path / "odd.safetensors", tmp_path / "in.y4m"
    save_file(SpanPlus(SpanPlusConfig(channels=6)).state_dict(), weights)
    clip.write_bytes(b"YUV4MPEG2 W16 H16 F25:1\nFRAME\n" + bytes(384))
    refused([clip, tmp_path / "out.mkv", "--weights", weights], capsys, "odd.safetensors", "groups")


GOOD = '[[model]]\nname = "a"\nfamily = "a"\nscale = 2\nsummary = ""\nfile = "a.safetensors"\n'


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\xff", b"[[model]", b"model = 3\n", b'[[model]]\nname = "a"\n',
        GOOD.replace("2", '"2"').encode(), GOOD.replace("2", "-2").encode(),
        GOOD.replace("2", "true").encode(), GOOD.replace("file", "fil").encode(),
        GOOD.replace('"a.safe', '"../../a.safe').encode(), b"a = " + b"[" * 5000,
    ],
)  # fmt: skip
def test_an_index_that_is_damaged(tmp_path, monkeypatch, capsys, text):
    (tmp_path / "index.toml").write_bytes(text)
    monkeypatch.setattr(index_module, "models_folder", lambda: tmp_path)
    index_module.list_models.cache_clear()
    try:
        code = main(["--list-models"])
    finally:
        index_module.list_models.cache_clear()
    out, err = capsys.readouterr()
    if text == b"":  # no model ships, which is no damage
        assert code == 0
        assert "lanczos" in out
        return
    assert code == 1
    assert err.count("\n") == 1
    assert "index.toml: damaged" in err

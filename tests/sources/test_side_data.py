"""HDR metadata of real files, and what is said of side data that cannot be carried."""

import json
import struct
import subprocess
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import pytest

from vsr.hdr import AmbientViewing, ContentLight, HdrMetadata
from vsr.sources import open_source
from vsr.sources.side_data import hdr_metadata


def read(path) -> tuple[HdrMetadata | None, list[str]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return hdr_metadata(stream, next(container.decode(stream)))


def ffprobe(path) -> dict[str, dict[str, Any]]:
    command = ["ffprobe", "-v", "error", "-of", "json", "-select_streams", "v", "-show_frames"]
    command += ["-read_intervals", "%+#1", str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(output)["frames"][0].get("side_data_list", [])
    return {entry["side_data_type"]: entry for entry in found}


def test_metadata_of_the_bitstream_is_what_ffprobe_says(shared):
    path = shared / "media/generated/hdr10_sei_only.mkv"
    found, notes = read(path)
    assert notes == []
    theirs = ffprobe(path)
    display, light = theirs["Mastering display metadata"], theirs["Content light level metadata"]
    assert found is not None
    assert found.mastering is not None
    for name in ("red", "green", "blue"):
        expected = tuple(Fraction(display[f"{name}_{axis}"]) for axis in "xy")
        assert getattr(found.mastering, name) == expected
    assert found.mastering.white[0] == Fraction(display["white_point_x"])
    assert found.mastering.white[1] == Fraction(display["white_point_y"])
    assert found.mastering.max_luminance == Fraction(display["max_luminance"])
    assert found.mastering.min_luminance == Fraction(display["min_luminance"])
    assert found.light == ContentLight(max_cll=light["max_content"], max_fall=light["max_average"])


def test_a_phone_that_sets_no_luminance(shared):
    found, notes = read(shared / "media/androidx/hdr10-video-with-sdr-container.mp4")
    assert found == HdrMetadata(light=ContentLight(max_cll=1000, max_fall=200))
    assert notes == [
        "mastering display metadata of the stream is ignored: its luminance is flagged as not set",
        "HDR10+ dynamic metadata is dropped",
    ]


def test_dolby_vision_leaves_its_base_layer(shared):
    path = shared / "media/androidx/dolbyVision-hdr.MOV"
    found, notes = read(path)
    data = path.read_bytes()
    lux, x, y = struct.unpack_from(">I2H", data, data.index(b"amve") + 4)
    light = (Fraction(x, 50_000), Fraction(y, 50_000))
    assert found == HdrMetadata(
        ambient=AmbientViewing(illuminance=Fraction(lux, 10_000), light=light)
    )
    assert notes == ["Dolby Vision metadata (profile 8.4) is dropped, the base layer (HLG) is kept"]


@pytest.mark.parametrize("name", ["androidx/hlg10-color-test.mp4", "mdn/friday.mp4"])
def test_nothing_is_said_where_there_is_nothing(shared, name):
    assert read(shared / "media" / name) == (None, [])


def test_dolby_vision_without_a_base_layer_is_a_warning():
    record = bytes([1, 0, 5, 6, 1, 0, 1, 0, 0])  # profile 5: no file of it was found
    context = SimpleNamespace(coded_side_data={"dovi_conf": record}, decoded_side_data={})
    stream: Any = SimpleNamespace(codec_context=context, metadata={})
    found, notes = hdr_metadata(stream, av.VideoFrame(16, 16, "yuv420p10le"))
    assert found is None
    assert notes == [
        "Dolby Vision metadata (profile 5) is dropped, and this base layer is not made to be seen "
        "without it: colours will be wrong"
    ]


@pytest.fixture(params=[("libvpx-vp9", "webm"), ("libvpx", "mkv")], ids=["vp9", "vp8"])
def transparent(request, ffmpeg, tmp_path):
    """A file with alpha beside its pictures, and the decoder that sees it."""
    codec, extension = request.param
    drawn = "testsrc2=size=64x48:rate=10:duration=1,format=rgba,geq=r=r(X\\,Y):a=4*X"
    coding = ("-c:v", codec, "-pix_fmt", "yuva420p", "-auto-alt-ref", 0, "-g", 4)
    path = ffmpeg.make(f"{codec}.{extension}", "-f", "lavfi", "-i", drawn, *coding)
    assert "1" in [
        v for key, v in ffmpeg.stream(path)["tags"].items() if key.lower() == "alpha_mode"
    ]
    return path, codec


def alpha_by(ffmpeg, path, *options):
    return ffmpeg.run(*options, "-i", path, "-vf", "alphaextract", "-f", "rawvideo", "-")


@pytest.mark.parametrize("start", [None, Fraction(1, 2)])
def test_alpha_beside_the_pictures_is_read(ffmpeg, transparent, start):
    path, codec = transparent
    with open_source(path, start=start) as source:
        frames = list(source)
    assert source.info.format.name == "yuva420p"
    found = b"".join(frame.components[-1].contiguous().numpy().tobytes() for frame in frames)
    wanted = alpha_by(ffmpeg, path, "-c:v", codec)
    assert len(wanted) == 10 * 64 * 48
    assert found == wanted[-len(frames) * 64 * 48 :]
    assert len(frames) == (10 if start is None else 5)


@pytest.mark.parametrize("name", ["out.webm", "out.mkv"])
def test_alpha_stays(ffmpeg, command, transparent, tmp_path, name):
    path, codec = transparent
    coding = ("-c:v", "ffv1") if name == "out.mkv" else ("-c:v", "libvpx-vp9")
    code, lines = command(path, tmp_path / name, *coding)
    assert code == 0
    assert not [line for line in lines if "alpha" in line and "one go" not in line]
    marked = [key.lower() for key in ffmpeg.stream(tmp_path / name).get("tags", {})]
    assert ("alpha_mode" in marked) == (name == "out.webm")  # means VP8 and VP9
    if name == "out.mkv":
        assert alpha_by(ffmpeg, tmp_path / name) == alpha_by(ffmpeg, path, "-c:v", codec)


def test_alpha_that_no_decoder_sees_is_named(command, transparent, tmp_path, monkeypatch):
    """As where FFmpeg was built without libvpx."""
    path, codec = transparent
    monkeypatch.setattr("vsr.sources.demuxer._WITH_ALPHA", {"vp8": "absent", "vp9": "absent"})
    code, lines = command(path, tmp_path / "out.mkv")
    assert code == 0
    (line,) = [line for line in lines if "alpha" in line]
    name = {"libvpx": "vp8", "libvpx-vp9": "vp9"}[codec]
    assert line.endswith(f"alpha is dropped: the decoder of {name} does not see it")


def test_the_active_format_is_named(tmp_path, caplog):
    """MPEG-2 has it in its user data (SMPTE ST 2016-1), ahead of the first slice of a picture."""
    with av.open(tmp_path / "plain.m2v", "w", format="mpeg2video") as out:
        stream: Any = out.add_stream("mpeg2video", rate=25, width=64, height=48)
        for pts in range(3):
            picture = av.VideoFrame(64, 48, "yuv420p")
            picture.pts = pts
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    data, slice_start = (tmp_path / "plain.m2v").read_bytes(), b"\0\0\1\1"
    described = data.replace(slice_start, b"\0\0\1\xb2DTG1\x41\xfa" + slice_start)
    (tmp_path / "afd.m2v").write_bytes(described)
    line = "the active format description (10) is dropped: no encoder here writes it"
    for name, said in (("plain.m2v", False), ("afd.m2v", True)):
        with open_source(tmp_path / name) as source:
            assert len(list(source)) == 3
        assert (line in source.notes) == said

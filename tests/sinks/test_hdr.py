"""HDR metadata in bitstreams and containers, as ffprobe reads it."""

import json
import struct
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from tests.warm import PYTHON
from vsr.config import EncoderConfig, UpscaleConfig
from vsr.frame import Colour, Range, Siting
from vsr.hdr import AmbientViewing, ContentLight, HdrMetadata, MasteringDisplay
from vsr.pipeline import upscale
from vsr.sources.side_data import hdr_metadata

HDR = HdrMetadata(
    mastering=MasteringDisplay(
        red=(Fraction("0.68"), Fraction("0.32")),
        green=(Fraction("0.265"), Fraction("0.69")),
        blue=(Fraction("0.15"), Fraction("0.06")),
        white=(Fraction("0.3127"), Fraction("0.329")),
        max_luminance=Fraction(1000),
        min_luminance=Fraction("0.005"),
    ),
    light=ContentLight(max_cll=1000, max_fall=400),
)
PQ = Colour(matrix=9, range=Range.LIMITED, primaries=9, transfer=16, siting=Siting.TOP_LEFT)
IRREGULAR = [(0, 40), (40, 60), (100, 33), (133, 250), (383, 40), (423, 17), (440, 40), (480, 40)]
IN_CONTAINER = [
    ("mkv", "libx265"), ("mp4", "libx265"), ("mov", "libx265"), ("mkv", "libx264"),
    ("mp4", "libx264"), ("mov", "libx264"), ("mkv", "libsvtav1"), ("mp4", "libsvtav1"),
    ("webm", "libsvtav1"), ("mkv", "ffv1"), ("mkv", "libvpx-vp9"), ("mov", "prores_ks"),
    ("mkv", "prores_ks"), ("mov", "dnxhd"), ("mov", "v210"),
]  # fmt: skip
IN_BITSTREAM = [(e, c) for e, c in IN_CONTAINER if c in ("libx265", "libx264", "libsvtav1")]
IN_BITSTREAM += [("ts", "libx265"), ("nut", "libx264")]


def make(
    tools, path, codec, *, hdr: HdrMetadata | None = HDR, times=IRREGULAR, options=None, **changes
) -> Any:
    if codec == "dnxhd":
        changes = {"width": 256, "height": 128, **changes}
    info = tools.info("yuv420p10le", colour=PQ, hdr=hdr, **changes)
    return tools.write(path, info, times, codec=codec, options=options or {})


def show(path: Path, *what: str) -> Any:
    command = ["ffprobe", "-v", "error", "-of", "json", "-select_streams", "v:0", *what, str(path)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def metadata(entry: dict[str, Any]) -> dict[str, Any]:
    """Static HDR metadata in ``side_data_list``, as numbers."""
    found: dict[str, Any] = {}
    for one in entry.get("side_data_list", []):
        if one["side_data_type"] == "Mastering display metadata":
            found |= {k: float(Fraction(v)) for k, v in one.items() if k != "side_data_type"}
        elif one["side_data_type"] == "Content light level metadata":
            found |= {key: one[key] for key in ("max_content", "max_average")}
    return found


EXPECTED = {
    "red_x": 0.68, "red_y": 0.32, "green_x": 0.265, "green_y": 0.69, "blue_x": 0.15,
    "blue_y": 0.06, "white_point_x": 0.3127, "white_point_y": 0.329, "min_luminance": 0.005,
    "max_luminance": 1000.0, "max_content": 1000, "max_average": 400,
}  # fmt: skip


@pytest.mark.parametrize(("extension", "codec"), IN_CONTAINER)
def test_container_holds_the_metadata(tmp_path, tools, extension, codec):
    path = tmp_path / f"a.{extension}"
    make(tools, path, codec)
    assert metadata(show(path, "-show_streams")["streams"][0]) == EXPECTED
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert hdr_metadata(stream, next(container.decode(stream))) == (HDR, [])


@pytest.mark.parametrize(("extension", "codec"), IN_BITSTREAM)
def test_every_key_frame_holds_the_metadata(tmp_path, tools, extension, codec):
    path = tmp_path / f"a.{extension}"
    make(tools, path, codec, options={"g": "4"})
    nowhere: Any = SimpleNamespace(coded_side_data={}, decoded_side_data={})
    stream: Any = SimpleNamespace(codec_context=nowhere, metadata={})
    with av.open(str(path)) as container:
        keys = [frame for frame in container.decode(video=0) if frame.key_frame]
    assert len(keys) == 2
    for frame in keys:
        found, _ = hdr_metadata(stream, frame)
        assert found is not None
        assert found.light == HDR.light
        assert found.mastering is not None
        assert HDR.mastering is not None
        assert found.mastering.in_units() == HDR.mastering.in_units()


@pytest.mark.parametrize("extension", ["mkv", "mp4", "ts"])
def test_ffprobe_finds_it_in_hevc(tmp_path, tools, extension):
    path = tmp_path / f"a.{extension}"
    make(tools, path, "libx265")
    frames = show(path, "-show_frames")["frames"]
    assert metadata(frames[0]) == EXPECTED


def without_metadata(tools, path, codec, **changes) -> Any:
    """The same file, its encoder in a stream that PyAV made."""
    make(tools, path, codec, hdr=None, **changes)
    return tools.probe(path)


@pytest.mark.parametrize(("extension", "codec"), IN_CONTAINER)
def test_nothing_else_changes(tmp_path, tools, extension, codec):
    plain, path = tmp_path / f"plain.{extension}", tmp_path / f"a.{extension}"
    make(tools, path, codec, sar=Fraction(16, 15))
    old, new = without_metadata(tools, plain, codec, sar=Fraction(16, 15)), tools.probe(path)
    differing = {"packets", "hashes", "side_data_list", "bit_rate", "extradata_size"}
    differing |= {"extradata_hash"}
    facts = [
        {key: value for key, value in one.video[0].items() if key not in differing}
        for one in (old, new)
    ]
    assert facts[0] == facts[1]
    times = [
        [(p["pts"], p.get("dts"), p.get("duration"), p["flags"]) for p in one.video[0]["packets"]]
        for one in (old, new)
    ]
    assert times[0] == times[1]
    if codec in ("ffv1", "libvpx-vp9", "prores_ks", "dnxhd", "v210"):
        assert old.video[0]["hashes"] == new.video[0]["hashes"]


def test_only_the_boxes_are_added(tmp_path, tools):
    plain, path = tmp_path / "plain.mov", tmp_path / "a.mov"
    make(tools, plain, "prores_ks", hdr=None)
    make(tools, path, "prores_ks")
    assert path.stat().st_size == plain.stat().st_size + 32 + 12
    assert path.read_bytes().count(b"mdcv") == path.read_bytes().count(b"clli") == 1


def test_apple_players_are_served(tmp_path, tools):
    make(tools, tmp_path / "a.mp4", "libx265")
    assert show(tmp_path / "a.mp4", "-show_streams")["streams"][0]["codec_tag_string"] == "hvc1"


@pytest.mark.parametrize("extension", ["mkv", "mp4", "mov"])
def test_rotation_stays_beside_it(tmp_path, tools, extension):
    quarter = struct.pack("<9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path = tmp_path / f"a.{extension}"
    make(tools, path, "libx265", display_matrix=quarter)
    stream = show(path, "-show_streams")["streams"][0]
    assert metadata(stream) == EXPECTED
    assert [one["rotation"] for one in stream["side_data_list"] if "rotation" in one] == [-90]


@pytest.mark.parametrize("extension", ["mkv", "mp4", "mov"])
@pytest.mark.parametrize("half", ["mastering", "light"])
def test_either_half_stands_alone(tmp_path, tools, extension, half):
    path = tmp_path / f"a.{extension}"
    make(tools, path, "libx265", hdr=HdrMetadata(**{half: getattr(HDR, half)}))
    found = metadata(show(path, "-show_streams")["streams"][0])
    wanted = {k: v for k, v in EXPECTED.items() if k.startswith(("max_c", "max_a"))}
    if half == "mastering":
        wanted = {key: value for key, value in EXPECTED.items() if key not in wanted}
    assert found == wanted


@pytest.mark.parametrize(
    ("extension", "codec"), [("mp4", "libx265"), ("mov", "libx265"), ("mov", "prores_ks")]
)
def test_surroundings_are_kept_in_a_box(tmp_path, tools, extension, codec):
    white = (Fraction("0.3127"), Fraction("0.329"))
    ambient = AmbientViewing(illuminance=Fraction(314), light=white)
    path = tmp_path / f"a.{extension}"
    make(tools, path, codec, hdr=HdrMetadata(ambient=ambient))
    box = struct.pack(">I4sI2H", 16, b"amve", 3_140_000, 15635, 16450)
    assert path.read_bytes().count(box) == 1


@pytest.mark.parametrize(
    ("extension", "codec"),
    [("mkv", "hevc"), ("mp4", "hevc"), ("mov", "hevc"), ("webm", "av1")],
)
@pytest.mark.parametrize("transfer", [16, 18])
def test_default_encoders_keep_ten_bits_and_tags(tmp_path, tools, extension, codec, transfer):
    path = tmp_path / f"a.{extension}"
    info = tools.info("yuv420p10le", colour=replace(PQ, transfer=transfer), hdr=HDR)
    preset = "12" if extension == "webm" else "ultrafast"
    tools.write(path, info, [(0, 40), (40, 40)], preset=preset)
    stream = show(path, "-show_streams")["streams"][0]
    names = ("codec_name", "pix_fmt", "color_range", "color_space", "color_primaries")
    assert [stream[name] for name in names] == [codec, "yuv420p10le", "tv", "bt2020nc", "bt2020"]
    assert stream["color_transfer"] == {16: "smpte2084", 18: "arib-std-b67"}[transfer]


@pytest.mark.parametrize("codec", ["libx265", "libx264", "libsvtav1"])
def test_the_users_own_words_win(tmp_path, tools, codec):
    key, value = {
        "libx265": ("x265-params", "max-cll=77,33"),
        "libx264": ("x264-params", "cll=77,33"),
        "libsvtav1": ("svtav1-params", "content-light=77,33"),
    }[codec]
    path = tmp_path / "a.mkv"
    info = tools.info("yuv420p10le", colour=PQ, hdr=HDR)
    with tools.open(path, info, codec=codec, options={key: value}) as sink:
        sink.write(tools.frame(info, 0))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        light = bytes(frame.side_data["CONTENT_LIGHT_LEVEL"])
    assert struct.unpack("<II", light) == (77, 33)


@pytest.mark.parametrize("extension", ["mkv", "mp4", "mov"])
@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("hdr", [HDR, None])
def test_shortest_clips_of_x265_have_times(tmp_path, tools, extension, frames, hdr):
    path = tmp_path / f"a.{extension}"
    make(tools, path, "libx265", hdr=hdr, times=IRREGULAR[:frames])
    found = [tools.milliseconds(p["pts_time"]) for p in show(path, "-show_packets")["packets"]]
    assert sorted(found) == [pts for pts, _ in IRREGULAR[:frames]]


FLAT = (
    "HDR (PQ) in 8 bits will show bands: it needs 10; and it is not mapped to SDR: screens without"
    " HDR show it flat"
)


def losses(tools, tmp_path, name, codec, **options) -> list[str]:
    info = tools.info("yuv420p10le", colour=PQ, hdr=HDR)
    with tools.open(tmp_path / name, info, codec=codec, **options) as sink:
        sink.write(tools.frame(replace(info, format=sink._encoding.format), 0))
    return [note for note in sink._encoding.notes if "HDR" in note]


def test_what_is_lost_is_said(tmp_path, tools):
    assert losses(tools, tmp_path, "a.mkv", "ffv1") == []
    assert losses(tools, tmp_path, "b.ts", "libx265") == []
    assert losses(tools, tmp_path, "c.nut", "ffv1") == [
        "HDR mastering metadata is lost: ffv1 in nut holds none",
        "HDR (PQ) will be shown as SDR: ffv1 in nut has no colour tags",
    ]
    assert losses(tools, tmp_path, "d.mp4", "libx264", pix_fmt="yuv420p") == [FLAT]
    assert losses(tools, tmp_path, "e.mp4", "mpeg4") == [
        "HDR mastering metadata is lost: mpeg4 in mp4 holds none",
        FLAT,
    ]


# -- Whole runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("muxer", ["matroska", "mp4"])
def test_pipes_hold_it_too(tmp_path, media, muxer):
    source = media("generated/hdr10_sei_only.mkv")
    command = [*PYTHON, "-m", "vsr", source, "-", "-f", muxer, "--model", "identity"]
    command += ["-c:v", "libx265", "--preset", "ultrafast"]
    path = tmp_path / "piped"
    # captured through a pipe, in which nobody can seek
    path.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    stream = show(path, "-show_streams")["streams"][0]
    frame = show(path, "-show_frames", "-read_intervals", "%+#1")["frames"][0]
    assert metadata(stream) == metadata(frame) == EXPECTED


REAL = [
    ("androidx/hdr10-av1.mp4", "smpte2084", {}),
    ("androidx/hlg10-color-test.mp4", "arib-std-b67", {}),
    ("androidx/dolbyVision-hdr.MOV", "arib-std-b67", {}),
    (
        "androidx/hdr10-video-with-sdr-container.mp4",
        "smpte2084",
        {"max_content": 1000, "max_average": 200},
    ),
]
EXTENSIONS = ["webm", "mkv", "mov", "mp4"]
EVERY_PAIR = [
    pytest.param(extension, *real, marks=[pytest.mark.slow] * (row != column))
    for row, real in enumerate(REAL)
    for column, extension in enumerate(EXTENSIONS)
]
"""Each file and each container once; the others are slow."""


@pytest.mark.parametrize(("extension", "name", "transfer", "light"), EVERY_PAIR)
def test_real_files_stay_hdr(tmp_path, media, extension, name, transfer, light):
    path = tmp_path / f"a.{extension}"
    encoder = EncoderConfig(preset="12" if extension == "webm" else "ultrafast")
    upscale(
        UpscaleConfig(
            input=media(name), output=path, model="identity", size=(320, 180), frames=2,
            encoder=encoder,
        )
    )  # fmt: skip
    stream = show(path, "-show_streams")["streams"][0]
    assert stream["pix_fmt"] == "yuv420p10le"
    assert stream["color_transfer"] == transfer
    assert (stream["color_space"], stream["color_primaries"]) == ("bt2020nc", "bt2020")
    assert metadata(stream) == light
    if extension in ("mp4", "mov"):
        assert path.read_bytes().count(b"amve") == (name == "androidx/dolbyVision-hdr.MOV")

"""3D and 360° in containers, as ffprobe and a second reading find them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import av
import pytest

from tests.warm import PYTHON
from vsr.cli import main
from vsr.immersive import Immersive, Packing, Projection, Sphere, parse_sphere, parse_stereo
from vsr.sinks import mp4
from vsr.sources import open_source

WHOLE = Sphere(
    projection=Projection.EQUIRECTANGULAR, pose=(45 << 16, -(10 << 16), 5 << 16),
    bounds=(0, 0, 0, 0),
)  # fmt: skip
TILE = Sphere(
    projection=Projection.EQUIRECTANGULAR_TILE, pose=(0, 0, 0), bounds=(1 << 30, 0, 1 << 30, 0)
)
CUBE = Sphere(projection=Projection.CUBEMAP, pose=(0, 90 << 16, 0), bounds=(0, 0, 0, 0))
BOTH = Immersive(packing=Packing.SIDE_BY_SIDE, sphere=WHOLE)
TIMES = [(0, 40), (40, 40), (80, 40)]
PACKINGS = {Packing.SIDE_BY_SIDE: "side by side", Packing.TOP_BOTTOM: "top and bottom"}
PROJECTIONS = {
    Projection.EQUIRECTANGULAR: "equirectangular", Projection.CUBEMAP: "cubemap",
    Projection.EQUIRECTANGULAR_TILE: "tiled equirectangular",
}  # fmt: skip


def told_by_ffprobe(path: Path) -> dict[str, dict[str, Any]]:
    command = ["ffprobe", "-v", "error", "-of", "json", "-select_streams", "v:0", "-show_streams"]
    found = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True).stdout
    entries = json.loads(found)["streams"][0].get("side_data_list", [])
    return {entry["side_data_type"]: entry for entry in entries}


def read(path: Path) -> Immersive | None:
    with open_source(path) as source:
        return source.info.immersive


@pytest.fixture(scope="module")
def film(tmp_path_factory, tools) -> Path:
    """A sphere for two eyes of a second, in MP4."""
    path: Path = tmp_path_factory.mktemp("film") / "in.mp4"
    tools.write(path, tools.info(immersive=BOTH), [(40 * n, 40) for n in range(25)])
    return path


@pytest.mark.parametrize(
    ("extension", "codec"),
    [("mp4", "libx264"), ("mkv", "libx264"), ("webm", "libvpx-vp9"), ("mkv", "ffv1")],
)
@pytest.mark.parametrize(
    ("packing", "sphere"),
    [
        (Packing.SIDE_BY_SIDE, WHOLE), (Packing.TOP_BOTTOM, CUBE), (None, WHOLE), (None, TILE),
        (Packing.SIDE_BY_SIDE, None), (Packing.TOP_BOTTOM, None),
    ],
)  # fmt: skip
def test_containers_say_it(tmp_path, tools, extension, codec, packing, sphere):
    path, told = tmp_path / f"a.{extension}", Immersive(packing=packing, sphere=sphere)
    tools.write(path, tools.info(immersive=told), TIMES, codec=codec)
    theirs = told_by_ffprobe(path)
    assert read(path) == told
    assert ("Stereo 3D" in theirs) == (packing is not None)
    assert ("Spherical Mapping" in theirs) == (sphere is not None)
    if packing is not None:
        assert theirs["Stereo 3D"]["type"] == PACKINGS[packing]
    if sphere is not None:
        entry = theirs["Spherical Mapping"]
        assert entry["projection"] == PROJECTIONS[sphere.projection]
        degrees = tuple(entry[key] << 16 for key in ("yaw", "pitch", "roll"))
        assert degrees == sphere.pose


@pytest.mark.parametrize("output", ["out.mkv", "out.mp4"])
def test_segments_say_what_a_run_in_one_go_does(tmp_path, film, output):
    pieces, whole = tmp_path / "pieces" / output, tmp_path / output
    pieces.parent.mkdir()
    plain = ["--model", "identity", "--no-record", "-bitexact"]
    assert main([str(film), str(pieces), *plain, "--segment-seconds", "0.4"]) == 0
    assert main([str(film), str(whole), *plain, "--segment-seconds", "0"]) == 0
    assert read(pieces) == read(whole) == BOTH
    assert told_by_ffprobe(pieces) == told_by_ffprobe(whole)


def test_a_sphere_is_found_behind_a_pipe(tmp_path, film):
    command = [*PYTHON, "-m", "vsr", str(film), "-", "-f", "mp4", "--model", "identity"]
    path = tmp_path / "piped.mp4"
    path.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    assert read(path) == BOTH


def test_what_cannot_be_said_is_named(tmp_path, film, capsys):
    assert main([str(film), str(tmp_path / "out.avi"), "--model", "identity"]) == 0
    told = capsys.readouterr().err
    assert "the description of stereoscopic 3D is lost: libx264 in avi holds none" in told
    assert "the description of a spherical (360°) picture is lost" in told


def test_a_tag_of_matroska_is_not_called_lost(tmp_path, tools, capsys):
    tools.write(tmp_path / "in.mkv", tools.info(immersive=BOTH), TIMES)
    assert main([str(tmp_path / "in.mkv"), str(tmp_path / "out.mp4"), "--model", "identity"]) == 0
    assert "stereo" not in capsys.readouterr().err
    assert read(tmp_path / "out.mp4") == BOTH


@pytest.mark.parametrize(
    ("chain", "kept"), [("crop=32:48", False), ("nlmeans,scale=96:72", True), ("hflip", False)]
)
@pytest.mark.parametrize("source", ["in.mp4", "in.mkv"])
def test_filters_that_move_things_take_it_away(tmp_path, tools, source, chain, kept, capsys):
    tools.write(tmp_path / source, tools.info(immersive=BOTH), TIMES)
    files = [str(tmp_path / source), str(tmp_path / "out.mkv")]
    assert main([*files, "--model", "identity", "--vf", chain]) == 0
    assert read(tmp_path / "out.mkv") == (BOTH if kept else None)
    dropped = f"dropped: filters change what it is said of ({chain.split('=')[0]})"
    assert (dropped in capsys.readouterr().err) == (not kept)


def test_nothing_is_made_of_what_is_cut_off_or_cannot_be_written():
    for data in (b"\1\0\0", b"\1\0\0\0\1\0\0\0", b"\5\0\0\0\0\0\0\0"):
        with pytest.raises(ValueError, match=r"cut off|swapped|neither"):
            parse_stereo(data)
    for data in (bytes(35), b"\7" + bytes(35), bytes(35) + b"\1", bytes(7) + b"\x7f" + bytes(28)):
        with pytest.raises(ValueError, match=r"cut off|projection|padded|no angle"):
            parse_sphere(data)


def test_only_a_whole_header_is_patched(film, tmp_path):
    data = film.read_bytes()
    start = data.index(b"moov") - 4
    assert mp4.patched_head(data[: start + 100]) is None
    assert mp4.patched_head(data) == data  # done when it was written
    (tmp_path / "cut.mp4").write_bytes(data[:start])
    with pytest.raises(ValueError, match="no header"):
        mp4.free_apples_box(tmp_path / "cut.mp4")


def test_apples_box_is_freed_where_ffmpeg_writes_it(film, tmp_path):
    path = tmp_path / "copy.mp4"
    with av.open(str(film)) as source, av.open(str(path), "w", options={"strict": "-1"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    before = path.read_bytes()
    assert b"vexu" in before
    mp4.free_apples_box(path)
    assert path.read_bytes() == before.replace(b"vexu", b"free")
    assert read(path) == BOTH

"""Pictures as files, read back by ffmpeg."""

import errno
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from vsr.config import EncoderConfig
from vsr.encoding.stills import choose_still_encoding, coded_format
from vsr.errors import SinkError
from vsr.frame import Colour, Frame, Matrix, Range, VideoInfo, pixel_format
from vsr.sinks.images import ImageSink
from vsr.sources import dpx
from vsr.sources.images import ImageFrames
from vsr.sources.planes import planes_of

FFMPEG, FFPROBE = shutil.which("ffmpeg"), shutil.which("ffprobe")
pytestmark = pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed")

RGB = Colour(matrix=Matrix.RGB, range=Range.FULL, primaries=9, transfer=16)
SIZE = (71, 50)  # rows that FFmpeg pads
GROWN = (4, 16, 24, 28, 808)
"""Fields of DPX with places and sizes."""

OpenSink = Callable[..., ImageSink]


def make_info(name: str, **changes: Any) -> VideoInfo:
    plain = VideoInfo(
        width=SIZE[0], height=SIZE[1], format=pixel_format(name), colour=RGB, rate=Fraction(24),
        time_base=Fraction(1, 24), sar=Fraction(16, 15),
    )  # fmt: skip
    return replace(plain, **changes)


def make_frame(name: str, pts: int, time_base: Fraction = Fraction(1, 24)) -> Frame:
    """Noise over all codes; of floats, far beyond black and white."""
    form, random = pixel_format(name), torch.Generator().manual_seed(pts)
    components = []
    for _ in form.components:
        if form.floating:
            values = 50 * torch.randn(SIZE[::-1], generator=random)
        else:
            values = torch.randint(0, 1 << form.depth, SIZE[::-1], generator=random)
        components.append(values.to(form.dtype))
    return Frame(
        planes=form.planes(tuple(components)), format=form, width=SIZE[0], height=SIZE[1],
        colour=RGB, pts=pts, time_base=time_base, duration=1,
    )  # fmt: skip


@pytest.fixture
def open_sink() -> Iterator[OpenSink]:
    sinks = []

    def make(
        path: Path, name: str = "gbrp", *, overwrite: bool = False, source: Any = None,
        config: EncoderConfig | None = None, **changes: Any,
    ) -> ImageSink:  # fmt: skip
        info = make_info(name, **changes)
        encoding = choose_still_encoding(path, info, *SIZE, config or EncoderConfig())
        info = replace(info, format=encoding.format, colour=encoding.colour)
        sinks.append(ImageSink(path, encoding, info, source=source, overwrite=overwrite))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.abort()


def write(sink: ImageSink, name: str = "gbrp", count: int = 3) -> list[Frame]:
    frames = [make_frame(name, pts) for pts in range(count)]
    for frame in frames:
        sink.write(frame)
    return frames


def decoded(path: Path, pix_fmt: str) -> NDArray[Any]:
    """What ffmpeg makes of a file, as samples in the order of its planes."""
    if pix_fmt == "gbrap":  # from rgba swscale makes it with an error of 1
        return decoded(path, "rgba").reshape(-1, 4).T[[1, 2, 0, 3]].ravel()
    assert FFMPEG is not None
    command = [FFMPEG, "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", pix_fmt, "-"]
    raw = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    kind = "<f4" if "f32" in pix_fmt else "<u2" if "16" in pix_fmt or "1" in pix_fmt else "u1"
    return np.frombuffer(raw, kind)


def probe(path: Path) -> dict[str, Any]:
    assert FFPROBE is not None
    command = [FFPROBE, "-v", "error", "-of", "json", "-show_streams", str(path)]
    found = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    return dict(json.loads(found)["streams"][0])


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# What is written.


@pytest.mark.parametrize(
    ("extension", "name"),
    [
        ("png", "gbrp"), ("png", "gbrap"), ("png", "gbrp16le"), ("png", "gbrap16le"),
        ("png", "gray"), ("png", "gray16le"), ("tif", "gbrp"), ("tif", "gbrap"),
        ("tif", "gbrp16le"), ("tif", "gbrap16le"), ("tif", "gray"), ("tif", "gray16le"),
        ("dpx", "gbrp"), ("dpx", "gbrap"), ("dpx", "gbrp10le"), ("dpx", "gbrp12le"),
        ("dpx", "gbrp16le"), ("dpx", "gbrap16le"), ("dpx", "gray"), ("dpx", "gray16le"),
        ("exr", "gbrpf32le"), ("exr", "gbrapf32le"), ("exr", "grayf32le"),
    ],
)  # fmt: skip
def test_ffmpeg_reads_every_sample(
    tmp_path: Path, open_sink: OpenSink, extension: str, name: str
) -> None:
    sink = open_sink(tmp_path / f"%03d.{extension}", name)
    frames = write(sink, name)
    assert sink.finish() == tmp_path / f"%03d.{extension}"
    assert left_in(tmp_path) == [f"{n:03}.{extension}" for n in (1, 2, 3)]
    for number, frame in enumerate(frames, 1):
        path = tmp_path / f"{number:03}.{extension}"
        expected = np.concatenate([plane.numpy().ravel() for plane in frame.planes])
        assert np.array_equal(decoded(path, name), expected)
        assert not ImageFrames(path).read(0).not_finite
    stream = probe(path)
    assert stream["sample_aspect_ratio"] == "16:15"
    coded = coded_format(sink._encoding)
    assert stream["pix_fmt"] == coded.replace("gbrp10be", "gbrp10le").replace("12be", "12le")


@pytest.mark.parametrize(
    ("extension", "name"),
    [("dpx", "gbrp"), ("dpx", "gbrp10le"), ("dpx", "gbrap16le"), ("exr", "gbrpf32le")],
)
@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(18)])
def test_the_rate_is_written_and_read_again(
    tmp_path: Path, open_sink: OpenSink, extension: str, name: str, rate: Fraction
) -> None:
    """DPX in both byte orders, whose headers grow."""
    sink = open_sink(tmp_path / f"%d.{extension}", name, rate=rate)
    frames = [make_frame(name, pts, 1 / rate) for pts in range(2)]
    for frame in frames:
        sink.write(frame)
    sink.finish()
    assert sink.notes == []
    images = ImageFrames(tmp_path)
    assert images.rate == rate
    assert "as their headers say" in images.notes[0]
    path = tmp_path / f"2.{extension}"
    expected = np.concatenate([plane.numpy().ravel() for plane in frames[1].planes])
    assert np.array_equal(decoded(path, name), expected)
    if extension == "dpx":
        assert dpx.headers(path.read_bytes()) == ["Creator"]
        order = "<" if path.read_bytes()[:4] == b"XPDS" else ">"
        fields = {at: struct.unpack_from(f"{order}I", path.read_bytes(), at)[0] for at in GROWN}
        assert fields == {4: 2048, 16: path.stat().st_size, 24: 1664, 28: 384, 808: 2048}


@pytest.mark.parametrize(("extension", "name"), [("dpx", "gbrp10le"), ("exr", "gbrpf32le")])
def test_a_rate_that_nobody_said_is_not_written(
    tmp_path: Path, open_sink: OpenSink, extension: str, name: str
) -> None:
    sink = open_sink(tmp_path / f"%d.{extension}", name, rate_is_guess=True)
    write(sink, name)
    sink.finish()
    images = ImageFrames(tmp_path)
    assert images.rate_is_guess
    assert "(-r)" in images.notes[0]


@pytest.mark.parametrize("name", ["gbrpf16le", "gbrapf16le", "grayf16le"])
def test_half_precision_is_written_as_such(tmp_path: Path, open_sink: OpenSink, name: str) -> None:
    sink = open_sink(tmp_path / "a.exr", name, frames=1)
    single = name.replace("f16", "f32")
    half = make_frame(name, 0)
    widened = tuple(plane.float() for plane in half.planes)
    sink.write(replace(half, format=pixel_format(single), planes=widened))
    sink.finish()
    frame = ImageFrames(tmp_path / "a.exr").first
    assert frame.format.name == name
    found = planes_of(frame, pixel_format(name))
    assert all(torch.equal(a[:, : SIZE[0]], b) for a, b in zip(found, half.planes, strict=True))


def test_png_carries_colour_tags(tmp_path: Path, open_sink: OpenSink) -> None:
    for name in ("gbrp16le", "gray16le"):
        sink = open_sink(tmp_path / "a.png", name, overwrite=True)
        write(sink, name, 1)
        sink.finish()
        data = (tmp_path / "a.png").read_bytes()
        assert b"cICP\x09\x10\x00\x01" in data
        tags = ImageFrames(tmp_path / "a.png").tags
        assert (tags.primaries, tags.transfer) == (9, 16)


def test_untagged_pictures_stay_so(tmp_path: Path, open_sink: OpenSink) -> None:
    sink = open_sink(tmp_path / "a.png", colour=Colour(matrix=Matrix.RGB, range=Range.FULL))
    write(sink, count=1)
    sink.finish()
    data = (tmp_path / "a.png").read_bytes()
    assert not any(chunk in data for chunk in (b"cICP", b"gAMA", b"cHRM", b"sRGB"))


@pytest.mark.parametrize("extension", ["png", "tif", "dpx", "exr"])
def test_pixels_of_unknown_shape_are_square(
    tmp_path: Path, open_sink: OpenSink, extension: str
) -> None:
    name = "gbrpf32le" if extension == "exr" else "gbrp"
    with open_sink(tmp_path / f"a.{extension}", name, sar=None) as sink:
        write(sink, name, 1)
    assert probe(tmp_path / f"a.{extension}")["sample_aspect_ratio"] == "1:1"


def test_options_reach_the_encoder(tmp_path: Path, open_sink: OpenSink) -> None:
    sizes = []
    for compression in ("raw", "deflate"):
        config = EncoderConfig(options={"compression_algo": compression})
        sink = open_sink(tmp_path / f"{compression}.tif", config=config)
        sink.write(replace(make_frame("gbrp", 0), planes=(torch.zeros(SIZE[::-1]).byte(),) * 3))
        sink.finish()
        sizes.append((tmp_path / f"{compression}.tif").stat().st_size)
    assert sizes[0] > 71 * 50 * 3
    assert sizes[1] < sizes[0] / 5


# Where it is written.


def test_nothing_is_there_before_the_end(tmp_path: Path, open_sink: OpenSink) -> None:
    folder = tmp_path / "out"
    for place in (folder, tmp_path):
        sink = open_sink(place / "%06d.png")
        write(sink)
        assert not folder.exists()
        assert not list(tmp_path.glob("*.png"))
        sink.abort()
        assert left_in(tmp_path) == []
        sink.abort()


def test_a_new_folder_appears_whole(tmp_path: Path, open_sink: OpenSink) -> None:
    with open_sink(tmp_path / "out" / "%06d.png") as sink:
        write(sink)
    assert left_in(tmp_path) == ["out", *(f"out/00000{n}.png" for n in (1, 2, 3))]
    assert sink.frames == 3
    assert sink.notes == []


@pytest.mark.parametrize("tags", [(1, 1), (5, 6), (6, 6), (1, 8), (9, 16), (1, 13)])
def test_tags_that_dpx_has_words_for(
    tmp_path: Path, open_sink: OpenSink, tags: tuple[int, int]
) -> None:
    primaries, transfer = tags
    colour = replace(RGB, primaries=primaries, transfer=transfer)
    encoding = choose_still_encoding(
        tmp_path / "a.dpx", make_info("gbrp10le", colour=colour), *SIZE, EncoderConfig()
    )
    with open_sink(tmp_path / "a.dpx", "gbrp10le", colour=colour) as sink:
        sink.write(replace(make_frame("gbrp10le", 0), colour=colour))
    with av.open(str(tmp_path / "a.dpx")) as container:
        frame = next(container.decode(video=0))
        found = (frame.color_primaries, frame.color_trc)
    lost = [note for note in encoding.notes if "colour tags are lost" in note]
    assert ("primaries" in str(lost)) == (found[0] != primaries)
    assert ("transfer" in str(lost)) == (found[1] != transfer)


def test_existing_folder_by_its_name(tmp_path: Path, open_sink: OpenSink) -> None:
    (tmp_path / "notes.txt").touch()
    with open_sink(tmp_path) as sink:
        write(sink, count=1)
    assert left_in(tmp_path) == ["000001.png", "notes.txt"]


def test_pictures_in_the_way(tmp_path: Path, open_sink: OpenSink) -> None:
    write(open_sink(tmp_path / "%d.png"), count=5)
    for number in range(1, 6):
        (tmp_path / f"{number}.png").write_bytes(b"old")
    with pytest.raises(SinkError, match=r"1\.png: already exists; -y replaces it"):
        open_sink(tmp_path / "%d.png")
    with open_sink(tmp_path / "%d.png", overwrite=True) as sink:
        write(sink, count=3)
    old = [n for n in range(1, 6) if (tmp_path / f"{n}.png").read_bytes() == b"old"]
    assert old == [4, 5]
    assert sink.notes == ["2 pictures of an earlier run remain, from 4.png on"]


def test_failure_leaves_what_was_there(tmp_path: Path, open_sink: OpenSink) -> None:
    (tmp_path / "1.png").write_bytes(b"old")
    sink = open_sink(tmp_path / "%d.png", overwrite=True)
    sink.write(make_frame("gbrp", 0))
    with pytest.raises(ValueError, match="opened for"), sink:
        sink.write(make_frame("gbrp16le", 1))
    assert left_in(tmp_path) == ["1.png"]
    assert (tmp_path / "1.png").read_bytes() == b"old"


@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_cannot_be_given_leaves_what_was_there(
    tmp_path: Path, open_sink: OpenSink, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    rename = os.replace

    def fail(source: Path, target: Path) -> None:
        if target == tmp_path / "3.png" and source.parent.name != "replaced":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    for number in (1, 3, 4):
        (tmp_path / f"{number}.png").write_bytes(b"old")
    sink = open_sink(tmp_path / "%d.png", overwrite=True)
    write(sink, count=4)
    kept = tmp_path / f"{tmp_path.name}.partial"
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        if not links:  # as on FAT
            patch.setattr(os, "link", fail_to_link)
        with pytest.raises(SinkError, match=rf"%d\.png: .*Input/output error.* is in {kept}"):
            sink.finish()
    sink.abort()
    old, new = ["1.png", "3.png", "4.png"], ["1.png", "2.png", "3.png", "4.png"]
    assert left_in(tmp_path) == sorted([*old, kept.name, *(f"{kept.name}/{name}" for name in new)])
    assert {(tmp_path / name).read_bytes() for name in old} == {b"old"}
    assert all((kept / name).read_bytes().startswith(b"\x89PNG") for name in new)


def test_what_cannot_be_given_back_is_not_deleted(
    tmp_path: Path, open_sink: OpenSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1.png").write_bytes(b"old")
    sink = open_sink(tmp_path / "%d.png", overwrite=True)
    write(sink, count=1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail_to_link)
        patch.setattr(os, "link", fail_to_link)
        with pytest.raises(SinkError, match=r"the result is in .*\.partial"):
            sink.finish()
    sink.abort()
    kept = f"{tmp_path.name}.partial"
    assert left_in(tmp_path) == [
        kept,
        f"{kept}/1.png",
        f"{kept}/replaced",
        f"{kept}/replaced/1.png",
    ]
    assert (tmp_path / kept / "replaced" / "1.png").read_bytes() == b"old"


def test_a_folder_that_cannot_have_its_name_is_kept(
    tmp_path: Path, open_sink: OpenSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fail(source: Path, target: Path) -> Path:
        if target.name == "out":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(source, target)

    sink = open_sink(tmp_path / "out" / "%d.png")
    write(sink, count=1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(SinkError, match=r"Input/output error; the result is in .*out\.partial"):
            sink.finish()
    sink.abort()
    assert left_in(tmp_path) == ["out.partial", "out.partial/1.png"]


def fail_to_link(source: Path, target: Path) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_picture_that_replaces_a_private_one_is_private(
    tmp_path: Path, open_sink: OpenSink
) -> None:
    (tmp_path / "2.png").touch(0o600)
    with open_sink(tmp_path / "%d.png", overwrite=True) as sink:
        write(sink, count=2)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("1.png", "2.png")]
    assert modes[1] == 0o600 != modes[0]


def test_a_folder_in_the_way_of_a_picture(tmp_path: Path, open_sink: OpenSink) -> None:
    (tmp_path / "2.png").mkdir()
    with pytest.raises(SinkError, match=r"2\.png: is a directory"):
        open_sink(tmp_path / "%d.png", overwrite=True)


def test_pictures_that_appear_meanwhile(tmp_path: Path, open_sink: OpenSink) -> None:
    sink = open_sink(tmp_path / "a_%d.png")
    write(sink)
    (tmp_path / "a_2.png").write_bytes(b"new")
    with pytest.raises(SinkError, match=r"appeared meanwhile; the result is in .*a\.partial"):
        sink.finish()
    partial = [f"a.partial/a_{n}.png" for n in (1, 2, 3)]
    assert left_in(tmp_path) == ["a.partial", *partial, "a_2.png"]
    assert (tmp_path / "a_2.png").read_bytes() == b"new"


def test_interrupted(tmp_path: Path, open_sink: OpenSink) -> None:
    for _ in range(2):
        sink = open_sink(tmp_path / "out" / "%02d.png")
        write(sink, count=2)
        kept = sink.keep_partial()
    assert kept is not None
    assert kept.name == "out.partial2"
    pictures = ["01.png", "02.png"]
    expected = [str(Path(f) / p) for f in ("out.partial", "out.partial2") for p in pictures]
    assert [name for name in left_in(tmp_path) if name.endswith("png")] == expected


def test_one_picture_takes_one_frame(tmp_path: Path, open_sink: OpenSink) -> None:
    with (
        pytest.raises(SinkError, match=r"one picture, .* call the output a%06d\.png"),
        open_sink(tmp_path / "a.png") as sink,
    ):
        write(sink, count=2)
    assert left_in(tmp_path) == []
    with open_sink(tmp_path / "a.png") as sink:
        write(sink, count=1)
    assert left_in(tmp_path) == ["a.png"]


@pytest.mark.parametrize("name", ["100%.png", "a%%06d.png"])
def test_what_is_advised_for_several_pictures_works(name, tmp_path, open_sink) -> None:
    with (
        pytest.raises(SinkError, match="one picture") as error,
        open_sink(tmp_path / name) as sink,
    ):
        write(sink, count=2)
    advised = str(error.value).split("call the output ")[1].removesuffix(", or add --frames 1")
    with open_sink(tmp_path / advised) as sink:
        write(sink, count=2)
    stem = name.removesuffix(".png")
    assert left_in(tmp_path) == [f"{stem}000001.png", f"{stem}000002.png"]


def test_no_frame_is_an_error(tmp_path: Path, open_sink: OpenSink) -> None:
    with pytest.raises(SinkError, match="no frame to write"):
        open_sink(tmp_path / "out" / "%d.png").finish()
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("name", ["no/where/%d.png", "nowhere/a.png", "file/%d.png"])
def test_places_that_cannot_be_written_to(tmp_path: Path, open_sink: OpenSink, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match=r"no directory|not a directory"):
        open_sink(tmp_path / name)
    assert left_in(tmp_path) == ["file"]


def test_a_folder_that_is_a_link_to_itself(tmp_path: Path, open_sink: OpenSink) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SinkError, match="loop: is a link that leads nowhere"):
        open_sink(tmp_path / "loop" / "%04d.png")


def test_a_full_disk_is_said_in_one_line(tmp_path: Path, open_sink: OpenSink) -> None:
    sink = open_sink(tmp_path / "%d.png")
    shutil.rmtree(sink._staging.folder)
    with pytest.raises(SinkError, match=r"%d\.png: cannot be written: No such file"):
        write(sink, count=64)  # the encoder works on some at a time


# How it lies.

TURNS = {  # EXIF's numbers, FFmpeg's matrices
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1), 5: (0, 1, 1, 0),
    6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip


@pytest.mark.parametrize("orientation", TURNS)
def test_pictures_are_turned_upright(tmp_path: Path, open_sink: OpenSink, orientation: int) -> None:
    """As Pillow does it, which knows EXIF."""
    a, b, c, d = (value << 16 for value in TURNS[orientation])
    matrix = struct.pack("<9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    with open_sink(tmp_path / "a.png", display_matrix=matrix) as sink:
        (frame,) = write(sink, count=1)
    green, blue, red = (plane.numpy() for plane in frame.planes)
    lying = Image.fromarray(np.stack([red, green, blue], axis=-1))
    lying.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(lying))
    with Image.open(tmp_path / "a.png") as written:
        assert np.array_equal(np.asarray(written), upright)
    swapped = orientation > 4
    assert probe(tmp_path / "a.png")["sample_aspect_ratio"] == ("15:16" if swapped else "16:15")
    turned = ["pictures are turned upright: png has no rotation"]
    assert sink.notes == (turned if orientation > 1 else [])


# What is lost.


def test_uneven_times_are_said_once(tmp_path: Path, open_sink: OpenSink) -> None:
    base = Fraction(1, 1000)
    sink = open_sink(tmp_path / "a%d.png", rate=Fraction(30), time_base=base)
    for pts in (0, 33, 67, 100):
        sink.write(make_frame("gbrp", pts, base))
    assert sink.notes == []
    for pts in (200, 233, 400):
        sink.write(make_frame("gbrp", pts, base))
    assert sink.notes == [
        "timestamps are lost: frames do not come evenly, and pictures hold no time"
    ]


def test_other_streams_are_named(shared: Path, tmp_path: Path, open_sink: OpenSink) -> None:
    path = shared / "media" / "generated" / "rich.mkv"
    with av.open(str(path)) as container:
        source = SimpleNamespace(container=container, stream=container.streams.video[0])
        sink = open_sink(
            tmp_path / "%d.png", source=source, display_matrix=bytes(36)
        )  # a matrix of zeros turns nothing
    holder = "png pictures cannot hold it"
    *notes, chapters = sink.notes
    assert all(note.endswith(holder) for note in notes)
    whats = ["rotation", "audio", "audio", "subtitle", "subtitle", "attachment", "cover art"]
    assert [note.partition(" stream ")[0].partition(" is ")[0] for note in notes] == whats
    assert chapters == "2 chapters are dropped: png pictures cannot hold them"

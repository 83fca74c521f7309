"""Pictures read one by one, against what ffmpeg decodes of the same files."""

import hashlib
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from PIL import ExifTags, Image, ImageCms

from vsr.config import FieldsConfig
from vsr.errors import SourceError
from vsr.frame import FieldOrder, Matrix, PixelFormat, Range
from vsr.sources import SourceConfig, open_source
from vsr.sources.images import ImageFrames
from vsr.sources.listing import find_images
from vsr.sources.planes import convert, native_format, planes_of

FFMPEG = shutil.which("ffmpeg")
pytestmark = pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed")

Make = Callable[..., Path]

FORMATS = [
    "rgb24.png", "rgb48be.png", "rgba.png", "rgba64be.png", "gray.png", "gray16be.png", "ya8.png",
    "ya16be.png", "rgb24.tif", "rgb48le.tif", "rgba64le.tif", "gray16le.tiff", "rgb24.dpx",
    "gbrp10le.dpx", "gbrp10be.dpx", "gbrp12le.dpx", "gbrp12be.dpx", "rgb48be.dpx", "rgb48le.dpx",
    "rgba64be.dpx", "gray.dpx", "gbrpf32le.exr", "gbrapf32le.exr", "grayf32le.exr", "bgr24.bmp",
    "yuvj420p.jpg", "yuvj444p.jpeg", "yuv420p.webp",
]  # fmt: skip


def ffmpeg(*arguments: str | Path) -> bytes:
    assert FFMPEG is not None
    command = [FFMPEG, "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Draw a picture with ffmpeg: ``make("a.png", "rgb24", size="70x50")``."""

    def draw(name: str, pix_fmt: str, *options: str, size: str = "71x50", seed: int = 0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        values = (f"{c}='mod(X*{k}*977+Y*{k}*131+{seed}*7,65536)'" for k, c in enumerate("rgba", 1))
        graph = f"color=s={size},format=gbrap16le,geq={':'.join(values)}"
        # -update: ffmpeg then takes the name as it is, % and all
        ffmpeg("-f", "lavfi", "-i", graph, "-frames:v", "1", "-pix_fmt", pix_fmt, "-strict", "-1",
               *options, "-update", "1", path)  # fmt: skip
        return path

    return draw


def samples(frame: VideoFrame) -> tuple[PixelFormat, list[torch.Tensor]]:
    """The components of ``frame`` in the format that sources hand on."""
    form = native_format(frame)
    if form.name != frame.format.name:
        frame = convert(frame, form, frame.width, frame.height, matrix=Matrix.UNSPECIFIED)
    return form, list(form.views(planes_of(frame, form), frame.width, frame.height))


def decoded_by_ffmpeg(path: Path, form: PixelFormat, width: int, height: int) -> list[torch.Tensor]:
    """The components that ffmpeg decodes; half precision as single, which it does not know."""
    name = form.name.replace("f16", "f32")
    raw = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", name, "-")
    kind = {torch.uint8: "u1", torch.uint16: "<u2"}.get(form.dtype, "<f4")
    rest = torch.from_numpy(np.frombuffer(raw, kind).copy())
    planes = []
    for plane in range(1 + max(c.plane for c in form.components)):
        index, part = next((i, c) for i, c in enumerate(form.components) if c.plane == plane)
        rows, columns = form.component_shape(index, width, height)
        planes.append(rest[: rows * columns * part.step].view(rows, -1))
        rest = rest[rows * columns * part.step :]
    assert not len(rest)
    return list(form.views(tuple(planes), width, height))


def all_of(images: ImageFrames) -> Iterator[VideoFrame]:
    return (images.read(index).frame for index in range(images.count))


def assert_like_ffmpeg(path: Path, *, distinct: int = 20) -> ImageFrames:
    images = ImageFrames(path)
    (frame,) = all_of(images)
    form, found = samples(frame)
    expected = decoded_by_ffmpeg(path, form, frame.width, frame.height)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.to(theirs.dtype), theirs)
        assert len(ours.unique()) > distinct
    return images


# What a picture holds.


@pytest.mark.parametrize("name", FORMATS)
def test_samples_are_ffmpegs(make: Make, name: str) -> None:
    path = make(name, name.partition(".")[0])
    images = assert_like_ffmpeg(path)
    form = native_format(images.first)
    assert images.single
    assert (images.count, images.paths) == (1, (path,))
    if form.family != "yuv":
        assert (images.tags.range, images.tags.matrix) == (Range.FULL, Matrix.RGB)
    assert form.floating == (path.suffix == ".exr")
    assert (images.tags.transfer == 8) == (path.suffix in (".exr", ".dpx"))


@pytest.mark.parametrize("compression", ["none", "rle", "zip1", "zip16"])
@pytest.mark.parametrize("kind", ["half", "float"])
def test_exr_of_every_kind(make: Make, compression: str, kind: str) -> None:
    path = make("a.exr", "gbrpf32le", "-compression", compression, "-format", kind)
    images = assert_like_ffmpeg(path)
    assert native_format(images.first).depth == (16 if kind == "half" else 32)
    assert images.notes == ["the pictures are tagged linear light: the network sees it as it is"]


def test_palettes_and_bitmaps_become_colours(make: Make) -> None:
    for name, plain in (("pal8.png", "rgba"), ("monob.png", "rgb24")):
        path = make(name, name.partition(".")[0])
        (frame,) = all_of(ImageFrames(path))
        form, found = samples(frame)
        packed = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", plain, "-")
        expected = np.frombuffer(packed, np.uint8).reshape(50, 71, -1)
        for index, component in enumerate(found):
            assert np.array_equal(component.numpy(), expected[..., index]), (name, form.name, index)


def test_aspect_ratio_is_read(make: Make) -> None:
    for name, pix_fmt in [("a.png", "rgb24"), ("a.dpx", "rgb24"), ("a.exr", "gbrpf32le")]:
        path = make(name, pix_fmt, "-vf", "setsar=16/15")
        assert ImageFrames(path).sar == Fraction(16, 15)
    assert ImageFrames(make("a.bmp", "bgr24")).sar is None


def test_orientation_in_exif_is_a_display_matrix(tmp_path: Path) -> None:
    picture = Image.new("RGB", (64, 48), (200, 30, 30))
    exif = picture.getexif()
    for number, orientation in enumerate((6, 6, 1), 1):
        exif[0x0112] = orientation
        picture.save(tmp_path / f"{number}.jpg", exif=exif)
    images = ImageFrames(tmp_path, Fraction(25))
    assert images.display_matrix is not None
    a, b, _, c, d, *_ = struct.unpack("<9i", images.display_matrix)
    assert (a, b, c, d) == (0, 1 << 16, -1 << 16, 0)  # a quarter clockwise
    images.read(1)
    assert images.notes == []
    list(all_of(images))
    assert images.notes == ["not all pictures lie the same way: the rotation of the first is used"]


PROFILED = """
import hashlib, sys
from pathlib import Path
from vsr.sources.images import ImageFrames
for path in map(Path, sys.argv[1:]):
    images = ImageFrames(path)
    list(images.first.side_data)
    print(path.suffix, images.first.width, hashlib.sha256(images.icc).hexdigest(), *images.notes)
    del images
"""


def test_icc_profiles_are_read_and_harmless(tmp_path: Path) -> None:
    """In a process of its own: PyAV crashes on the profile of a PNG."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    paths = [tmp_path / f"a{suffix}" for suffix in (".png", ".jpg", ".tif", ".webp")]
    for path in paths:
        Image.new("RGB", (64, 48), (200, 30, 30)).save(path, icc_profile=profile)
    command = [sys.executable, "-c", PROFILED, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    hashed = hashlib.sha256(profile).hexdigest()
    assert done.stdout.splitlines() == [f"{path.suffix} 64 {hashed}" for path in paths]
    assert_like_ffmpeg(paths[0], distinct=0)


def test_content_counts_not_the_name(make: Make) -> None:
    path = make("a.jpg", "yuvj420p")
    renamed = path.rename(path.with_suffix(".png"))
    assert ImageFrames(renamed).codec == "mjpeg"


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JIF"])
def test_names_that_jpeg_goes_by(tmp_path: Path, suffix: str) -> None:
    picture = Image.effect_noise((64, 48), 90)
    picture.save(tmp_path / f"a.{suffix}", "jpeg")
    assert ImageFrames(tmp_path).codec == "mjpeg"
    data = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match="cannot be decoded"):
        ImageFrames(tmp_path / f"a.{suffix}")


def test_no_number_and_infinity_are_counted(make: Make) -> None:
    path = make("a.exr", "grayf32le", "-compression", "none")
    assert not ImageFrames(path).read(0).not_finite
    data = bytearray(path.read_bytes())
    data[-8:-4] = np.array([np.nan], "<f4").tobytes()
    path.write_bytes(data)
    assert ImageFrames(path).read(0).not_finite
    with open_source(path) as source:
        assert len(list(source)) == 1
    assert source.report.not_finite == 1


@pytest.fixture
def spoilt(make: Make) -> Callable[..., Path]:
    """Make a sequence of ``count`` pictures; those numbered ``bad`` have a sample that is NaN."""

    def write(count: int, *bad: int) -> Path:
        for number in range(count):
            path = make(f"{number}.exr", "grayf32le", "-compression", "none")
            if number in bad:
                data = bytearray(path.read_bytes())
                data[-8:-4] = np.array([np.nan], "<f4").tobytes()
                path.write_bytes(data)
        return path.with_name("%d.exr")

    return write


def test_what_is_no_number_is_counted_once_and_if_it_is_handed_out(
    spoilt: Callable[..., Path],
) -> None:
    location = spoilt(5, 1, 2, 3)
    with open_source(location, SourceConfig(frames=1)) as source:
        source.preview(4)
        assert len(list(source)) == 1
    assert (source.report.read, source.report.not_finite) == (1, 0)
    with open_source(location) as source:
        assert not source.skip(2, 2, [], lambda frame: False)  # looks at some, and goes back
        assert len(list(source)) == 5
    assert (source.report.read, source.report.not_finite) == (5, 3)


def test_what_is_no_number_is_told_before_the_end(spoilt: Callable[..., Path]) -> None:
    """A run that is gone on with must not skip what the first one has told of."""
    with open_source(spoilt(3, 1)) as source:
        frames = iter(source)
        next(frames)
        next(frames)
        assert source.timing is None
        assert source.report.lines()[0].startswith("1 picture of 2 with samples that are no num")


# Sequences.


def test_pattern(make: Make) -> None:
    for number in (9, 10, 11):
        make(f"frames/{number}.png", "rgb24", seed=number)
    location = make("frames/x.png", "rgb24").with_name("%d.png")
    images = ImageFrames(location, Fraction(24000, 1001))
    assert [path.name for path in images.paths] == ["9.png", "10.png", "11.png"]
    assert (images.count, images.single, images.notes) == (3, False, [])
    assert images.rate == 1 / images.time_base == Fraction(24000, 1001)
    frames = list(all_of(images))
    assert [frame.pts for frame in frames] == [0, 1, 2]
    assert {frame.time_base for frame in frames} == {images.time_base}
    for frame, path in zip(frames, images.paths, strict=True):
        form, found = samples(frame)
        expected = decoded_by_ffmpeg(path, form, frame.width, frame.height)
        assert all(map(torch.equal, found, expected))
    again = [frame.planes[0] for frame in all_of(images)]
    assert [bytes(p) for p in again] == [bytes(frame.planes[0]) for frame in frames]


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def listed(location: Path | str) -> list[str]:
    found = find_images(Path(location))
    assert found is not None
    return [path.name for path in found.paths]


def test_numbers_may_start_anywhere(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{n:07}.dpx" for n in range(86400, 86403)), "86403.dpx", "0086400.png")
    expected = ["0086400.dpx", "0086401.dpx", "0086402.dpx"]
    assert listed(tmp_path / "%07d.dpx") == expected
    assert listed(tmp_path / "0*.dpx") == expected


def test_folder_in_natural_order(tmp_path: Path) -> None:
    folder = touch(
        tmp_path / "100% done [1]", "a10.tif", "a9.tiff", "a8.TIF", ".a7.tif", "notes.txt"
    )
    assert listed(folder) == ["a8.TIF", "a9.tiff", "a10.tif"]
    assert listed(f"{folder}/") == ["a8.TIF", "a9.tiff", "a10.tif"]
    assert listed(folder / "a?.tif*") == ["a9.tiff"]
    found = find_images(folder)
    assert found is not None
    assert found.kind == "TIFF"
    assert found.notes == ("1 files in 100% done [1] that are no pictures are ignored",)


def test_existing_files_win_over_patterns(tmp_path: Path) -> None:
    touch(tmp_path, "shot[1].png", "shot1.png", "%02d.png", "01.png", "a*.png", "ab.png")
    for name in ("shot[1].png", "%02d.png", "a*.png"):
        assert listed(tmp_path / name) == [name]
    (tmp_path / "shot[1].png").unlink()
    assert listed(tmp_path / "shot[1].png") == ["shot1.png"]


def test_not_consecutive_is_said(tmp_path: Path) -> None:
    found = find_images(touch(tmp_path, "12.png", "47.png", "90.png"))
    assert found is not None
    assert "natural order" in found.notes[0]


@pytest.mark.parametrize(
    "name", ["film.mkv", "missing.png", "%d.mp4", "*.mp4", "nowhere/*.png", "-"]
)
def test_what_is_no_place_of_pictures(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "film.mkv", "1.mkv", "a.mp4")
    location = Path(name) if name == "-" else tmp_path / name
    assert find_images(location) is None
    with pytest.raises(SourceError, match="no pictures"):
        ImageFrames(location)


ANIMATIONS = [("png", ["-f", "apng"]), ("webp", ["-c:v", "libwebp_anim", "-lossless", "1"])]


def animate(path: Path, *options: str, frames: int = 3) -> Path:
    source = f"testsrc2=s=64x48:r=10,trim=end_frame={frames}"
    ffmpeg("-f", "lavfi", "-i", source, *options, "-update", "1", path)
    return path


@pytest.mark.parametrize(("extension", "options"), ANIMATIONS)
def test_animations_are_read_as_video(tmp_path: Path, extension: str, options: list[str]) -> None:
    path = animate(tmp_path / f"several.{extension}", *options)
    assert find_images(path) is None
    with open_source(path) as source:
        assert [frame.pts * frame.time_base for frame in source] == [
            0,
            Fraction(1, 10),
            Fraction(1, 5),
        ]
    with pytest.raises(SourceError, match=rf"several.{extension}: is an animation, not a picture"):
        ImageFrames(path.parent)


def test_an_animation_of_one_frame_is_a_picture(tmp_path: Path) -> None:
    path = animate(tmp_path / "one.png", "-f", "apng", "-frames:v", "1")
    path.write_bytes(one_of(path.read_bytes()))
    assert ImageFrames(path).single


def one_of(data: bytes) -> bytes:
    """A PNG with a chunk that says that it is an animation of one frame."""
    content = b"acTL" + struct.pack(">II", 1, 0)
    chunk = struct.pack(">I", 8) + content + struct.pack(">I", zlib.crc32(content))
    assert b"acTL" not in data
    return data[:33] + chunk + data[33:]


def test_sequences_of_other_files_are_refused_by_their_kind(tmp_path: Path) -> None:
    touch(tmp_path, "j001.jxl", "j002.jxl")
    with pytest.raises(
        SourceError, match=r"%03d.jxl: sequences of \.jxl are not read, but of PNG,"
    ):
        find_images(tmp_path / "j%03d.jxl")
    assert find_images(tmp_path / "other%03d.jxl") is None


def test_rate_that_nobody_said_is_noted(make: Make) -> None:
    path = make("frames/1.png", "rgb24")
    shutil.copy(path, path.with_name("2.png"))
    images = ImageFrames(path.parent)
    assert images.rate == 25
    assert images.notes == ["2 PNG pictures are taken as 25 a second (-r)"]
    assert ImageFrames(path).notes == []


def test_other_sizes_are_handed_on(make: Make) -> None:
    make("frames/1.png", "rgb24")
    make("frames/2.png", "gray16be", size="30x20")
    location = make("frames/3.png", "rgba", size="32x20").parent
    found = [(f.width, f.height, f.format.name) for f in all_of(ImageFrames(location))]
    assert found == [(71, 50, "rgb24"), (30, 20, "gray16be"), (32, 20, "rgba")]


# What is wrong with them.


@pytest.mark.parametrize("location", ["f/%04d.png", "f/*.png", "f"])
def test_a_hole_names_the_first_missing_file(tmp_path: Path, location: str) -> None:
    touch(tmp_path / "f", *(f"{n:04}.png" for n in (1, 2, 3, 5, 6, 9)))
    with pytest.raises(SourceError, match=r"f/0004\.png: is missing .* goes on at 0005\.png"):
        find_images(tmp_path / location)


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("mixed", r"several kinds \(PNG, TIFF\): choose by .*/\*\.png"),
        ("text", "text: is a directory without pictures$"),
        ("targa", r"targa: sequences of \.tga are not read, but of PNG, TIFF, DPX, OpenEXR"),
        ("both", "both: is a directory without pictures$"),
        ("mixed/%03d.png", "no picture has such a name"),
        ("mixed/x*.png", "no picture has such a name"),
        ("mixed/*", "several kinds"),
    ],
)
def test_places_that_name_no_sequence(tmp_path: Path, location: str, reason: str) -> None:
    touch(tmp_path / "mixed", "1.png", "2.tif")
    touch(tmp_path / "text", "notes.txt")
    touch(tmp_path / "targa", "1.tga", "2.TGA")
    touch(tmp_path / "both", "1.tga", "notes.txt")
    with pytest.raises(SourceError, match=reason):
        find_images(tmp_path / location)


@pytest.mark.parametrize("ending", ["VOB", "vob"])
@pytest.mark.parametrize("above", [False, True])
def test_of_a_dvd_the_longest_title_is_named(tmp_path: Path, ending: str, above: bool) -> None:
    disc = tmp_path / "Opa's film"
    files = {"VIDEO_TS": b"1" * 99, "VTS_01_1": b"2", "VTS_02_0": b"3" * 99, "VTS_02_1": b"4",
             "VTS_02_2": b"5"}  # fmt: skip
    (disc / "VIDEO_TS").mkdir(parents=True)
    for name, data in files.items():
        (disc / "VIDEO_TS" / f"{name}.{ending}").write_bytes(data)
    (disc / "VIDEO_TS" / f"VTS_03_1.{ending}").symlink_to("gone")
    with pytest.raises(SourceError, match="is a DVD: join the parts of a title, cat ") as error:
        find_images(disc if above else disc / "VIDEO_TS")
    command = str(error.value).partition("title, ")[2].partition(" > title.vob,")[0]
    assert subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, check=True).stdout == b"45"


@pytest.mark.parametrize(
    "name",
    ["rgb24.png", "rgb48le.tif", "gbrp10be.dpx", "gbrpf32le.exr", "yuvj420p.jpg", "bgr24.bmp",
     "yuv420p.webp"],
)  # fmt: skip
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.97])
def test_cut_short(make: Make, name: str, share: float) -> None:
    path = make(name, name.partition(".")[0])
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(SourceError, match=f"{path.name}: (cannot be decoded|is empty|no picture)"):
        ImageFrames(path)


def test_exr_cut_short_in_every_kind_of_compression(make: Make) -> None:
    for compression in ("none", "rle", "zip1", "zip16"):
        path = make("a.exr", "grayf32le", "-compression", compression)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(SourceError, match="cut short"):
            ImageFrames(path)


@pytest.mark.parametrize("chunk", [b"IDAT", b"pHYs"])
def test_damage_inside_a_png_is_found(make: Make, chunk: bytes) -> None:
    path = make("a.png", "rgb24")
    data = bytearray(path.read_bytes())
    data[data.index(chunk) + 8] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"a\.png: cannot be decoded"):
        ImageFrames(path)


def test_damage_behind_the_first_picture_names_the_file(make: Make) -> None:
    make("frames/1.png", "rgb24")
    bad = make("frames/2.png", "rgb24")
    bad.write_bytes(b"a text file")
    frames = all_of(ImageFrames(bad.parent))
    next(frames)
    with pytest.raises(SourceError, match=r"frames/2\.png: no picture"):
        next(frames)
    bad.unlink()
    frames = all_of(ImageFrames(touch(bad.parent, "2.png")))
    next(frames)
    bad.unlink()
    with pytest.raises(SourceError, match=r"2\.png: cannot be read: No such file"):
        next(frames)


def test_what_headers_say_is_named(tmp_path: Path) -> None:
    picture, path = Image.new("RGB", (8, 8)), tmp_path / "a.tif"
    picture.save(path)
    assert not any("headers" in note for note in ImageFrames(path).notes)
    picture.save(path, tiffinfo={270: "reel 7", 315: "the lab", 306: "2020:01:01 00:00:00"})
    line = "the pictures' headers are not carried on: description, date, Artist"
    assert line in ImageFrames(path).notes


def test_what_cameras_and_programs_write_is_named(tmp_path: Path) -> None:
    picture, exif = Image.new("RGB", (8, 8)), Image.Exif()
    exif[ExifTags.Base.Make] = "maker"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2026:01:01 00:00:00"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    picture.save(tmp_path / "1.jpg", exif=exif)
    picture.save(tmp_path / "2.jpg", xmp=b"<x:xmpmeta/>", exif=exif)
    picture.save(tmp_path / "3.png", dpi=(300, 300))
    line = "the pictures' headers are not carried on:"
    images = ImageFrames(tmp_path / "%d.jpg")
    list(all_of(images))
    assert [note for note in images.notes if line in note] == [
        f"{line} Make, EXIF, GPS", f"{line} XMP (from 2.jpg on)"
    ]  # fmt: skip
    assert f"{line} resolution" in ImageFrames(tmp_path / "3.png").notes


def test_interlaced_png_holds_no_fields(make: Make) -> None:
    for number in range(12):
        make(f"scan/{number}.png", "rgb24", "-flags", "+ildct", size="64x480", seed=number)
    folder = make("one.png", "rgb24", "-flags", "+ildct", size="64x480").parent / "scan"
    assert ImageFrames(folder / "0.png").first.interlaced_frame
    for location in (folder, folder.parent / "one.png"):
        with open_source(location, SourceConfig(fields=FieldsConfig())) as source:
            assert source.info.field_order == FieldOrder.PROGRESSIVE

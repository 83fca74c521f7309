"""Closed captions, from the frames of a broadcast to the frames of the output."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch.utils.dlpack
from av.video.frame import PictureType

from vsr.config import EncoderConfig, FieldsConfig, UpscaleConfig
from vsr.pipeline import upscale
from vsr.sinks.pictures import wrap, wrap_with_captions

CLIP = "androidx/sd-hls0000000000.ts"  # three of its 60 frames carry CTA-608 captions
CAPTIONS = "A53_CC"


@pytest.fixture
def carrier(media) -> av.VideoFrame:
    """The first decoded frame of the clip; it has captions."""
    with av.open(str(media(CLIP))) as container:
        return next(container.decode(video=0))


def captions(path: Path) -> list[tuple[int, bytes]]:
    """Every payload, and its time after the first picture's in milliseconds."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = [frame.time for frame in frames]
    return [
        (round(1000 * (time - times[0])), bytes(frame.side_data[CAPTIONS]))
        for time, frame in zip(times, frames, strict=True)
        if CAPTIONS in frame.side_data
    ]


def captions_in_ffprobe(path: Path) -> list[int]:
    """Indices of the frames in which ffprobe sees captions."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-select_streams", "v", "-show_frames"]
    output = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
    frames = json.loads(output.stdout)["frames"]
    kinds = [[e["side_data_type"] for e in f.get("side_data_list", [])] for f in frames]
    return [i for i, kind in enumerate(kinds) if "ATSC A53 Part 4 Closed Captions" in kind]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mkv", "libx264"),
        ("a.mp4", "libx264"),
        ("a.ts", "libx264"),
        ("a.mkv", "libx265"),
        ("a.mp4", "libx265"),
    ],
)
@pytest.mark.parametrize(
    "size",
    [(320, 180), pytest.param(None, marks=pytest.mark.slow)],
    ids=["resized", "same size"],
)
def test_every_caption_arrives_in_order_and_on_time(tmp_path, media, name, codec, size):
    source, path = media(CLIP), tmp_path / name
    encoder = EncoderConfig(codec=codec, preset="ultrafast", options={"bf": "3"})
    report = upscale(
        UpscaleConfig(input=source, output=path, model="identity", size=size, encoder=encoder)
    )
    expected = captions(source)
    assert len(expected) == 3
    assert captions(path) == expected
    assert captions_in_ffprobe(path) == captions_in_ffprobe(source)
    assert not any("caption" in note for note in report.notes)


def subtitles(path: Path, target: Path) -> str:
    """What ffmpeg's own decoder of captions shows."""
    graph = f"movie={path}[out+subcc]"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", graph, "-map", "0:1", str(target)]
    subprocess.run(command, check=True)
    return target.read_text()


def said(path: Path) -> list[bytes]:
    """The characters and commands in all captions, two bytes each, without what fills them up."""
    triplets = [data[i : i + 3] for _, data in captions(path) for i in range(0, len(data), 3)]
    return [t[1:] for t in triplets if t[0] & 0b111 == 0b100 and t[1:] != b"\x80\x80"]


@pytest.mark.parametrize("rate", ["30000/1001", "25"])
def test_two_frames_made_of_one_have_its_captions_once(tmp_path, media, rate):
    source, path = tmp_path / "in.ts", tmp_path / "out.mkv"
    woven = ("-vf", "scale=320:240,setfield=tff", "-flags", "+ildct+ilme", "-top", "1")
    command = ("ffmpeg", "-v", "error", "-i", media(CLIP), "-r", rate, *woven, "-c:v", "mpeg2video")
    subprocess.run([*command, "-a53cc", "1", "-an", source], check=True)
    fields = FieldsConfig(deinterlace="bwdif", field_rate=True)
    encoder = EncoderConfig(codec="libx264", preset="ultrafast")
    upscale(
        UpscaleConfig(input=source, output=path, model="identity", fields=fields, encoder=encoder)
    )
    assert len(said(source)) > 10
    assert said(path) == said(source)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_viewers_read_the_same(tmp_path, media, codec):
    source, path = media(CLIP), tmp_path / "a.mp4"
    encoder = EncoderConfig(codec=codec, preset="ultrafast")
    upscale(
        UpscaleConfig(input=source, output=path, model="identity", size=(160, 90), encoder=encoder)
    )
    found = subtitles(path, tmp_path / "out.srt")
    assert "First subtitle" in found
    assert "Second subtitle" in found
    assert found == subtitles(source, tmp_path / "in.srt")


@pytest.mark.parametrize(
    ("name", "codec", "preset"), [("a.mkv", "libsvtav1", "12"), ("a.mkv", "ffv1", None)]
)
def test_lost_captions_are_one_note(tmp_path, media, name, codec, preset):
    encoder = EncoderConfig(codec=codec, preset=preset)
    path = tmp_path / name
    report = upscale(
        UpscaleConfig(
            input=media(CLIP), output=path, model="identity", size=(160, 90), encoder=encoder
        )
    )
    about = [note for note in report.notes if "caption" in note]
    assert about == [f"closed captions are lost: {codec} writes none"]
    assert captions(path) == []


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "yuv422p10le", "gbrp", "gray"])
@pytest.mark.parametrize("size", [(640, 360), (161, 121), (1280, 720)])
def test_samples_are_the_frames_own(tools, carrier, pix_fmt, size):
    frame = tools.frame(tools.info(pix_fmt, width=size[0], height=size[1]), 0)
    before = [bytes(plane) for plane in carrier.planes]
    picture = wrap_with_captions(frame, carrier)
    plain = wrap(frame)
    assert (picture.width, picture.height, picture.format.name) == (*size, pix_fmt)
    for mine, theirs in zip(picture.planes, plain.planes, strict=True):
        assert torch.equal(
            torch.utils.dlpack.from_dlpack(mine), torch.utils.dlpack.from_dlpack(theirs)
        )
    assert bytes(picture.side_data[CAPTIONS]) == bytes(carrier.side_data[CAPTIONS])
    assert picture.pict_type == PictureType.NONE
    assert [bytes(plane) for plane in carrier.planes] == before  # the decoder refers to it


def test_encoder_chooses_its_own_picture_types(tmp_path, tools, carrier):
    """A decoded frame says I, P or B; every caption would otherwise force that."""
    info = tools.info(width=640, height=360)
    types = []
    for name, given in (("plain.mkv", None), ("captions.mkv", carrier)):
        path = tmp_path / name
        with tools.open(path, info, codec="libx264") as sink:
            for index in range(8):
                sink.write(replace(tools.frame(info, index * 40), captions=given))
        with av.open(str(path)) as container:
            types.append([frame.pict_type for frame in container.decode(video=0)])
    assert carrier.pict_type == PictureType.I
    assert types[0] == types[1]
    assert types[0].count(PictureType.I) == 1

"""What targets come to, what overrules them, and which containers hold them."""

import json
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from vsr.cli import main
from vsr.cli.configuration import make_config
from vsr.cli.options import build_parser
from vsr.config import EncoderConfig, UpscaleConfig
from vsr.encoding.targets import TARGETS, resolve
from vsr.errors import ConfigError
from vsr.tags import Range

OUTPUTS = {
    "archive": "out.mkv", "edit": "out.mov", "web": "out.mp4", "hevc": "out.mp4", "av1": "out.mkv"
}  # fmt: skip


def documented(root):
    """Each target's row in docs/targets.md: its containers and its flags."""
    text = (root / "docs/targets.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| `(.+?)` \|$", text, re.MULTILINE)
    return {name: (containers.split(", "), shlex.split(flags)) for name, containers, flags in rows}


def config(target, output="out.mkv", **kw):
    return UpscaleConfig(input=Path("in.mkv"), output=Path(output), target=target, **kw)


def probe(path):
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_format", path]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def test_without_a_target_nothing_is_chosen():
    found = resolve(UpscaleConfig(input=Path("a.mkv"), output=Path("b.mkv")))
    assert found.encoder == EncoderConfig()
    assert (found.record, found.framemd5) == (False, False)


@pytest.mark.parametrize("target", TARGETS)
def test_twice_is_once(target):
    once = resolve(config(target, OUTPUTS[target]))
    assert resolve(once) == once


def test_the_documented_flags_are_the_target(root):
    rows = documented(root)
    assert list(rows) == list(TARGETS)
    for target, (containers, flags) in rows.items():
        assert [name.lower() for name in containers] == list(TARGETS[target].muxers)
        arguments = ["in.mkv", OUTPUTS[target], *flags]
        plain = make_config(build_parser().parse_intermixed_args(arguments))
        found = resolve(config(target, OUTPUTS[target]))
        if target == "archive":  # which leaves them to the encoding, and its odd sizes
            assert plain.encoder.options.pop("slices") == "16"
        assert found.encoder == plain.encoder
        assert found.square == plain.square
        assert (found.record, found.framemd5) == (bool(plain.record), bool(plain.framemd5))


def test_archive_is_ffv1_with_checks_beside_it():
    found = resolve(config("archive"))
    assert found.encoder.codec == "ffv1"
    assert found.encoder.pix_fmt is None  # the source's, exactly
    assert found.encoder.options == {
        "level": "3", "g": "1", "slicecrc": "1", "coder": "1", "context": "1"
    }  # fmt: skip
    assert (found.record, found.framemd5) == (True, True)
    plain = resolve(config("archive", record=False, framemd5=False))
    assert (plain.record, plain.framemd5) == (False, False)


def test_flags_overrule():
    given = EncoderConfig(crf=12, options={"tune": "film"}, pix_fmt="yuv444p")
    found = resolve(config("web", "out.mp4", encoder=given)).encoder
    assert (found.codec, found.crf, found.pix_fmt) == ("libx264", 12, "yuv444p")
    assert found.options == {"tune": "film"}
    assert found.muxer_options == {"movflags": "+faststart"}
    slices = resolve(config("archive", encoder=EncoderConfig(options={"slices": "4"}))).encoder
    assert slices.options["slices"] == "4"
    assert slices.options["slicecrc"] == "1"


def test_another_codec_leaves_the_targets_own_options_behind():
    found = resolve(config("archive", encoder=EncoderConfig(codec="libx265", crf=0))).encoder
    assert found == EncoderConfig(codec="libx265", crf=0)


def test_a_pixel_format_of_ones_own_takes_its_profile():
    found = resolve(config("edit", "a.mov", encoder=EncoderConfig(pix_fmt="yuv444p10le")))
    assert found.encoder.options == {"vendor": "apl0"}


@pytest.mark.parametrize(
    ("target", "name"), [("edit", "a.qt"), ("edit", "A.QT"), ("web", "a.m4v"), ("hevc", "a.mov")]
)
def test_every_extension_of_a_container_will_do(target, name):
    found = resolve(config(target, name))
    assert found.encoder.codec == TARGETS[target].encoder.codec
    assert found.encoder.muxer_options == TARGETS[target].mp4


def test_web_is_square_unless_a_size_is_given():
    assert resolve(config("web", "a.mp4")).square
    assert not resolve(config("web", "a.mp4", size=(640, 480))).square


def test_web_leaves_sound_and_range_to_those_who_choose_them():
    web = resolve(config("web", "a.mp4")).encoder
    assert (web.sound, web.range) == ("web", Range.LIMITED)
    own = EncoderConfig(sound="copy", range=Range.FULL)
    found = resolve(config("web", "a.mp4", encoder=own)).encoder
    assert (found.sound, found.range) == ("copy", Range.FULL)
    full = resolve(config("web", "a.mp4", encoder=EncoderConfig(pix_fmt="yuvj420p"))).encoder
    assert full.range is None
    other = resolve(config("web", "a.mp4", encoder=EncoderConfig(codec="libx265"))).encoder
    assert (other.sound, other.range) == ("web", Range.LIMITED)


@pytest.mark.parametrize("sound", [None, "copy"])
def test_browsers_play_what_web_makes(tmp_path, sound, capsys):
    """Of Motion JPEG with AC-3, as a camera might write it."""
    clip, output = tmp_path / "in.mkv", tmp_path / "out.mp4"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "color=white:s=64x48:r=25:d=0.4"]
    command += ["-f", "lavfi", "-i", "sine=440:d=0.4", "-c:a", "ac3", "-ac", "2"]
    subprocess.run([*command, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", clip], check=True)
    arguments = ["--model=identity", "--target=web", *(["--sound", sound] if sound else [])]
    assert main([str(clip), str(output), *arguments]) == 0
    video, audio = probe(output)["streams"]
    assert (video["pix_fmt"], video["color_range"]) == ("yuv420p", "tv")
    command = ["ffmpeg", "-v", "error", "-i", output, "-f", "rawvideo", "-frames:v", "1", "-"]
    luma = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout[: 64 * 48]
    assert 234 <= sum(luma) / len(luma) <= 236
    assert audio["codec_name"] == ("ac3" if sound else "aac")
    said = capsys.readouterr().err
    assert "range becomes limited" in said
    line = "(ac3) becomes aac of 256 kbit/s, which loses a little: browsers do not play it as it is"
    assert (line in said) == (sound is None)


def test_discarding_leaves_nothing_beside():
    found = resolve(replace(config("archive"), output=None))
    assert (found.record, found.framemd5) == (False, False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": "archive", "output": Path("out.mp4")},
         r"target archive is FFV1 in Matroska: name the output .mkv \(not out.mp4\)"),
        ({"target": "edit", "output": Path("out.mkv")}, "ProRes in MOV: name the output .mov"),
        ({"target": "av1", "output": Path("out.mov")}, "AV1 in Matroska or MP4 or WebM"),
        ({"target": "web", "output": Path("x.mp4"), "muxer": "nut"}, r"say -f mp4 \(not nut\)"),
        ({"target": "web", "output": Path("-")}, "say -f mp4$"),
        ({"target": "achive"}, "unknown target achive: did you mean archive"),
        ({"target": "youtube"}, "unknown target youtube; there are archive, edit"),
        ({"target": "archive", "output": Path("-"), "muxer": "matroska"},
         "--framemd5 and --record write files beside an output with a name: .* --no-framemd5"),
        ({"target": None, "output": None, "framemd5": True}, "--framemd5 writes a file beside"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(changes, words):
    with pytest.raises(ConfigError, match=words):
        resolve(replace(config("archive"), **changes))


@pytest.mark.parametrize(
    ("target", "name", "codec", "pix_fmt", "tag"),
    [
        ("archive", "out.mkv", "ffv1", "yuv422p", None),
        ("edit", "out.mov", "prores", "yuv422p10le", "apch"),
        ("web", "out.mp4", "h264", "yuv420p", "avc1"),
        ("hevc", "out.mov", "hevc", "yuv420p10le", "hvc1"),
        ("av1", "out.webm", "av1", "yuv420p10le", None),
    ],
)
def test_what_comes_out(make_clip, tmp_path, target, name, codec, pix_fmt, tag):
    source = make_clip("in.mkv", codec="ffv1", pix_fmt="yuv422p", frames=4, audio=target != "av1")
    arguments = ["--model", "identity", "--target", target]
    if target == "av1":
        arguments += ["--preset", "12"]
    assert main([str(source), str(tmp_path / name), *arguments]) == 0
    video = next(s for s in probe(tmp_path / name)["streams"] if s["codec_type"] == "video")
    assert (video["codec_name"], video["pix_fmt"]) == (codec, pix_fmt)
    if tag:
        assert video["codec_tag_string"] == tag


def test_web_starts_fast(make_clip, tmp_path):
    target = tmp_path / "out.mp4"
    assert main([str(make_clip("in.mp4")), str(target), "--model", "identity", "--target=web"]) == 0
    data = target.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_movflags_are_refused_elsewhere(make_clip, tmp_path, capsys):
    target = tmp_path / "out.mkv"
    arguments = [str(make_clip("in.mp4")), str(target), "--model=identity", "-movflags=+faststart"]
    assert main(arguments) == 2
    assert "movflags are for mp4 and mov" in capsys.readouterr().err
    assert not target.exists()

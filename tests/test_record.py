"""The record of a run: its schema, and each claim held against the files it speaks of."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import av
import pytest
from jsonschema import Draft202012Validator

from tests.warm import PYTHON
from vsr import pipeline
from vsr.cli import main
from vsr.cli.configuration import make_config
from vsr.cli.options import build_parser
from vsr.config import EncoderConfig, UpscaleConfig
from vsr.errors import SinkError
from vsr.pipeline import upscale
from vsr.progress import Progress
from vsr.record import SCHEMA
from vsr.report import FrameTimes
from vsr.sinks.framemd5 import FrameHashes
from vsr.sync import Displacement, measure_displacement, read_timing

pytestmark = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs ffprobe")


@pytest.fixture
def validate():
    schema = json.loads((files("vsr") / "record.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)

    def check(path: Path):
        record = json.loads(path.read_text())
        Draft202012Validator(schema).validate(record)
        return record

    return check


def run(source, target, *arguments):
    options = ["--model", "identity", "--progressive", "--log-level", "error", *arguments]
    assert main([str(source), str(target), *options]) == 0
    return target.with_name(target.name + ".json")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def ends(path):
    """Where the picture and each sound end, by ffprobe's packets."""
    command = ["ffprobe", "-v", "error", "-show_packets", "-of", "json", "-show_streams", path]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    kinds = {s["index"]: s["codec_type"] for s in found["streams"]}
    last: dict[int, float] = {}
    for packet in found["packets"]:
        end = float(packet["pts_time"]) + float(packet["duration_time"])
        last[packet["stream_index"]] = max(end, last.get(packet["stream_index"], 0))
    by_kind: dict[str, list[float]] = {"video": [], "audio": []}
    for index, end in sorted(last.items()):
        by_kind[kinds[index]].append(end)
    return by_kind


def test_it_says_what_happened(make_clip, tmp_path, validate):
    source, target = make_clip("in.mp4"), tmp_path / "out.mkv"
    record = validate(run(source, target, "--target", "archive"))
    assert record["schema"] == SCHEMA
    assert record["input"]["sha256"] == sha256(source)
    assert record["output"]["sha256"] == sha256(target)
    assert record["output"]["size"] == target.stat().st_size
    assert record["output"]["encoder_options"]["slicecrc"] == "1"
    assert (tmp_path / record["output"]["framemd5"]).exists()
    assert (record["input"]["frames_read"], record["output"]["frames"]) == (12, 12)
    assert (record["processing"]["reused"], record["processing"]["reuse_threshold"]) == (0, 0)
    assert record["input"]["colour"]["matrix"] == {"value": "smpte170m", "origin": "guessed"}
    assert [(s["kind"], s["fate"]) for s in record["streams"]] == [
        ("video", "upscale"), ("audio", "copy")
    ]  # fmt: skip
    guesses = [n["text"] for n in record["notes"] if n["kind"] == "input"]
    assert any("matrix not tagged" in text for text in guesses)
    assert record["versions"]["pyav"] == av.__version__


@pytest.mark.skipif(sys.platform != "linux", reason="other systems want UTF-8 in names")
def test_names_that_are_no_utf8_are_kept(make_clip, tmp_path, validate):
    source = make_clip("in.mp4").rename(tmp_path / os.fsdecode(b"caf\xe9.mp4"))
    record = validate(run(source, tmp_path / os.fsdecode(b"l\xe4rm.mkv"), "--record"))
    assert Path(record["input"]["path"]) == source
    assert os.fsencode(record["output"]["path"]).endswith(b"l\xe4rm.mkv")


def test_sync_is_what_ffprobe_sees(make_clip, tmp_path, validate):
    source, target = make_clip("in.mp4", frames=30, rate=30), tmp_path / "out.mkv"
    sync = validate(run(source, target, "--record"))["sync"]
    assert (sync["frames_in"], sync["frames_out"]) == (30, 30)
    assert sync["shift"] == 0
    assert 0 < sync["largest_difference"] <= 0.0005  # Matroska rounds to milliseconds
    before, after = ends(source), ends(target)
    audio = sync["audio"][0]
    for end, (found, kind) in {
        sync["video_end_in"]: (before, "video"), sync["video_end_out"]: (after, "video"),
        audio["end_in"]: (before, "audio"), audio["end_out"]: (after, "audio"),
    }.items():  # fmt: skip
        assert found[kind] == [pytest.approx(end, abs=2e-6)]
    assert audio["video_minus_audio_in"] == pytest.approx(
        sync["video_end_in"] - audio["end_in"], abs=1e-8
    )


@pytest.mark.parametrize("ahead", [4, 10, 11])
def test_the_end_behind_a_gap_is_the_last_frames(tmp_path, validate, ahead):
    """MP4 stores how far apart frames are decoded, and one ahead of the gap may be as long."""
    source, target = tmp_path / "in.mkv", tmp_path / "out.mp4"
    times = f"settb=1/1000,setpts='N*40+if(gt(N,{ahead}),60000,0)'"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=25", "-vf", times]
    command += ["-frames:v", "13", "-fps_mode", "passthrough", "-enc_time_base", "1/1000"]
    subprocess.run([*command, "-c:v", "ffv1", str(source)], check=True)
    sync = validate(run(source, target, "--record"))["sync"]
    assert sync["video_end_out"] == sync["video_end_in"] == 60.52


def test_sound_that_is_encoded_ends_somewhere_too(make_clip, tmp_path, validate):
    source, target = make_clip("in.mp4", frames=30, rate=30), tmp_path / "out.webm"
    (audio,) = validate(run(source, target, "--record", "-e", "cpu-used=8"))["sync"]["audio"]
    assert audio["end_out"] == pytest.approx(audio["end_in"], abs=0.03)  # Opus's last packet


def test_moved_frames_show():
    times = FrameTimes(time_base=Fraction(1, 1000))
    times.pts.extend([0, 40, 80])
    exact = [Fraction(0), Fraction(40, 1000), Fraction(80, 1000)]
    late = [time + Fraction(1, 50) for time in exact]
    assert measure_displacement(times, exact) == Displacement(Fraction(0), Fraction(0))
    assert measure_displacement(times, late) == Displacement(Fraction(1, 50), Fraction(0))
    last_late = [*exact[:2], Fraction(83, 1000)]
    assert measure_displacement(times, last_late) == Displacement(Fraction(0), Fraction(3, 1000))
    assert measure_displacement(times, exact[:2]) is None


def test_mpegts_moves_all_together(make_clip, tmp_path, validate):
    sync = validate(run(make_clip("in.mp4"), tmp_path / "out.ts", "--record"))["sync"]
    (audio,) = sync["audio"]
    assert sync["shift"] == pytest.approx(sync["video_end_out"] - sync["video_end_in"], abs=1e-4)
    packet = 1024 / 48000  # MP4 cuts the last one short, MPEG-TS cannot
    assert sync["shift"] == pytest.approx(audio["end_out"] - audio["end_in"], abs=packet)
    assert sync["shift"] > 2 * packet
    assert sync["largest_difference"] < 1e-4


def test_the_command_does_the_same(make_clip, tmp_path, validate):
    source = make_clip("in.mp4")
    first = validate(run(source, tmp_path / "a.mkv", "--target", "archive", "--frames", "5"))
    command = first["run"]["command"][1:]
    again = make_config(build_parser().parse_intermixed_args(command))
    assert again.encoder.codec == "ffv1"
    assert (again.frames, again.record, again.framemd5) == (5, True, True)
    assert first["sync"]["audio"][0]["end_in"] is None  # only a part was wanted


def test_colour_says_who_said_it(make_clip, tmp_path, validate):
    record = validate(
        run(make_clip("in.mp4"), tmp_path / "a.mkv", "--record", "-colorspace", "bt709")
    )
    colour = record["input"]["colour"]
    assert colour["matrix"] == {"value": "bt709", "origin": "given"}
    assert colour["range"]["origin"] == "guessed"
    assert record["output"]["colour"]["matrix"] == "bt709"


def test_weights_are_named(make_clip, tmp_path, validate, root):
    source, target = make_clip("in.mp4", frames=2), tmp_path / "a.mkv"
    config = UpscaleConfig(input=source, output=target, model="span", record=True)
    upscale(config)
    processing = validate(tmp_path / "a.mkv.json")["processing"]
    assert processing["weights"] == {
        "file": "span-x2.safetensors", "licence": "Apache-2.0",
        "sha256": sha256(root / "models" / "span-x2.safetensors"),
    }  # fmt: skip
    assert (processing["architecture"], processing["scale"]) == ("span", 2)


def test_an_interrupted_run_has_a_record_beside_its_part(make_clip, tmp_path, validate):
    source, target = make_clip("in.mp4"), tmp_path / "out.mkv"
    config = UpscaleConfig(
        input=source, output=target, model="identity", record=True,
        encoder=EncoderConfig(codec="ffv1"),
    )  # fmt: skip
    seen: list[Progress] = []
    upscale(config, on_progress=seen.append, should_stop=lambda: len(seen) == 4)
    record = validate(tmp_path / "out.partial.mkv.json")
    assert record["run"]["interrupted"]
    assert record["output"]["frames"] == record["sync"]["frames_out"] == 4
    assert not (tmp_path / "out.mkv.json").exists()


def test_an_input_that_breaks_off_leaves_a_part_and_its_record(tmp_path, validate, capsys):
    frame = bytes(64 * 48 * 3 // 2)
    head = b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420mpeg2\n"
    source = tmp_path / "in.y4m"
    source.write_bytes(head + 3 * (b"FRAME\n" + frame) + b"FRAME\n" + frame[:100])
    with source.open("rb") as stdin:
        command = [*PYTHON, "-m", "vsr", "-", str(tmp_path / "out.mkv"), "--record"]
        done = subprocess.run(
            [*command, "--model", "identity"], stdin=stdin, capture_output=True, text=True
        )
    assert done.returncode == 1
    record = validate(tmp_path / "out.partial.mkv.json")
    assert record["run"]["interrupted"]
    assert record["output"]["frames"] == record["sync"]["frames_out"] == 3
    assert (record["input"]["path"], record["input"]["sha256"]) == ("-", None)


def test_records_are_not_replaced_unless_asked(make_clip, tmp_path, capsys):
    (tmp_path / "out.mkv.json").write_text("mine")
    arguments = [str(make_clip("in.mp4")), str(tmp_path / "out.mkv"), "--model=identity"]
    assert main([*arguments, "--target", "archive"]) == 3
    assert "out.mkv.json: already exists; -y replaces it" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["out.mkv.json"]
    assert main([*arguments, "--target", "archive", "-y", "--log-level=error"]) == 0
    assert json.loads((tmp_path / "out.mkv.json").read_text())["schema"] == SCHEMA


def replacing(source, target, *arguments):
    """Files that a run is to replace, and its arguments."""
    old = [target]
    old += [target.with_name(f"{target.name}.{kind}") for kind in ("json", "framemd5")]
    options = ["--record", *([] if target.suffix == ".png" else ["--framemd5"])]
    for path in old:
        path.write_text(f"old {path.name}")
    plain = ["--model", "identity", "--frames", "1", "-y"]
    return old, [str(source), str(target), *plain, *options, *arguments]


@pytest.mark.parametrize("length", ["0", "0.1"], ids=["in one go", "in segments"])
@pytest.mark.parametrize("name", ["out.mkv", "out.y4m", "out.png"])
def test_a_new_file_never_has_the_record_of_the_old_one(
    make_clip, tmp_path, monkeypatch, name, length
):
    def die(*arguments, **named):
        raise KeyboardInterrupt

    frames = "1" if name == "out.png" else "6"
    options = ["--frames", frames, "--segment-seconds", length]
    old, arguments = replacing(make_clip("in.mp4"), tmp_path / name, *options)
    monkeypatch.setattr(pipeline, "write_record", die)
    monkeypatch.setattr(FrameHashes, "write", die)
    main(arguments)
    assert not old[0].read_bytes().startswith(b"old")
    # A picture has no hashes to be replaced.
    assert [path.exists() for path in old] == [True, False, name == "out.png"]


def test_a_file_that_cannot_be_replaced_keeps_its_record(make_clip, tmp_path, monkeypatch):
    replace = os.replace

    def replacing_others(source, target):
        if Path(target).name == "out.mkv":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        replace(source, target)

    old, arguments = replacing(make_clip("in.mp4"), tmp_path / "out.mkv")
    monkeypatch.setattr(os, "replace", replacing_others)
    assert main(arguments) == 1
    assert [path.read_text() for path in old] == [f"old {path.name}" for path in old]


def test_a_folder_in_the_place_of_the_record_is_refused_ahead(make_clip, tmp_path, capsys):
    (tmp_path / "out.mkv.json").mkdir()
    arguments = [str(make_clip("in.mp4")), str(tmp_path / "out.mkv"), "--model=identity"]
    assert main([*arguments, "--record", "-y", "--log-level=error"]) == 1
    assert capsys.readouterr().err.endswith("out.mkv.json: is a directory\n")
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv.json"]


def upscale_while(happens, source, output, **options):
    """Upscale; ``happens`` is called after the first frame."""
    config = UpscaleConfig(
        input=source, output=output, model="identity", segment_seconds=0.1, **options
    )
    events = iter([happens])
    return upscale(config, on_progress=lambda progress: next(events, lambda: None)())


def test_an_output_without_its_record_is_said_to_be_complete(make_clip, tmp_path):
    output = tmp_path / "out.mkv"
    with pytest.raises(SinkError, match=r"out.mkv.json: cannot be written.*out\.mkv is complete"):
        upscale_while(
            (tmp_path / "out.mkv.json").mkdir, make_clip("in.mp4"), output, record=True,
            overwrite=True,
        )  # fmt: skip
    assert len(read_timing(output).pts) == 12
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("kind", ["json", "framemd5"])
@pytest.mark.parametrize("name", ["out.mkv", "out.y4m"])
def test_what_appeared_meanwhile_is_no_old_record(make_clip, tmp_path, name, kind):
    """Where ``-y`` was not said."""
    output, other = tmp_path / name, tmp_path / f"{name}.{kind}"
    with pytest.raises(SinkError, match=rf"{kind}: cannot be written: it has appeared meanwhile"):
        upscale_while(
            lambda: other.write_text("precious"), make_clip("in.mp4"), output, record=True,
            framemd5=True,
        )  # fmt: skip
    assert other.read_text() == "precious"
    assert output.exists()


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("archivematica/0239.mpg", lambda r: r["timestamps"]["repaired"] > 0
         and r["timestamps"]["repaired"] == len(r["timestamps"]["frames"])),
        ("generated/corr_base.ts", lambda r: 0 < len(r["damage"]["frames"])
         == r["damage"]["concealed"]),
        ("generated/rich.mkv", lambda r: [s["fate"] for s in r["streams"]]
         == ["upscale", *["copy"] * 5, "attach"] and len(r["sync"]["audio"]) == 2),
        ("androidx/sample_with_invalid_nalu.mp4", lambda r: r["damage"]["refused_packets"] == 1),
        ("generated/cov.mp4", lambda r: r["streams"][-1]["kind"] == "cover art"),
        ("mdn/friday.mp4", lambda r: r["sync"]["audio"][0]["end_in"] is not None),
    ],
)  # fmt: skip
def test_real_files(shared, tmp_path, validate, name, check):
    source = shared / "media" / name
    record = validate(run(source, tmp_path / "out.mkv", "--record", "--preset", "ultrafast"))
    assert check(record), json.dumps(record, indent=1)
    sync = record["sync"]
    assert sync["frames_out"] == sync["frames_in"] == record["input"]["frames_delivered"]
    assert abs(sync["shift"]) <= 0.0005
    assert sync["largest_difference"] <= 0.001
    for audio in sync["audio"]:
        moved = audio["video_minus_audio_out"] - audio["video_minus_audio_in"]
        assert abs(moved) < 0.003


def test_pictures_have_the_hash_of_their_list(make_clip, tmp_path, validate):
    folder = tmp_path / "scans"
    folder.mkdir()
    clip = make_clip("in.mkv", codec="ffv1", frames=3, audio=False)
    run(clip, folder / "%03d.png")
    record = validate(run(folder, tmp_path / "out.mkv", "--target", "archive", "-r", "18"))
    listing = "".join(f"{sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()))
    found = record["input"]
    assert (found["pictures"], found["rate"]) == (3, "18/1")
    assert found["sha256"] == hashlib.sha256(listing.encode()).hexdigest()
    assert found["size"] == sum(path.stat().st_size for path in folder.iterdir())
    assert record["streams"][0]["fate"] == "upscale"
    pictures = validate(run(clip, tmp_path / "%d.png", "--record"))
    assert pictures["output"]["pictures"] == 3
    assert pictures["sync"] is None


def test_a_stream_that_stays_behind_is_named(shared, tmp_path, validate):
    source = shared / "media" / "generated" / "rich.mkv"
    record = validate(run(source, tmp_path / "out.mp4", "--record", "--frames", "5"))
    dropped = {s["index"]: s["reason"] for s in record["streams"] if s["fate"] == "drop"}
    assert "mp4 cannot hold it" in dropped[3]
    assert [n for n in record["notes"] if n["kind"] == "loss"]

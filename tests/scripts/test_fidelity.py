"""The table of promises: that it holds for every file at hand, and that it can fail."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

MEDIA = Path(__file__).resolve().parents[3] / "shared" / "media"
FILES = sorted(p for p in MEDIA.rglob("*") if p.is_file() and p.suffix != ".md")

# Files that deserve to fail, and the words that say why.
BROKEN = {
    "invalid-bitstream.webm": "could be decoded",
    "trunc_base.mp4": "not a media file",
}
# These take as long as all the others; each has smaller ones of its kind beside it.
LARGE = {
    "0239.mpg", "SampleVideo_1280x720_1mb.mkv", "bt709_full_range.mp4", "corr_base.mpg",
    "flower.mp4", "friday.mp4", "hdr10-av1.mp4", "hdr10-video-with-sdr-container.mp4",
    "hlg10-color-test.mp4", "internal_emulator_transformer_output_270_rotated.mp4", "milk.mkv",
    "sample_portrait.mp4", "sample_with_invalid_nalu.mp4", "sowt-with-video.mov",
}  # fmt: skip
INTERLACED = {"dv-pal-interlaced.mov", "il.mpg", "mpeg-imx-525-60.mov", "pal.dv", "tc.mpg"}

WITH_MARKS = [
    pytest.param(path, id=path.name, marks=pytest.mark.slow if path.name in LARGE else ())
    for path in FILES
]

pytestmark = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="ffmpeg is not here"
)


@pytest.fixture(scope="module")
def fidelity(scripts):
    return scripts("fidelity")


@pytest.fixture(scope="module")
def column_of(fidelity):
    """One container for each file, the one that has come up least: so all of them do."""
    used = {column.name: 0 for column in fidelity.COLUMNS}
    chosen = {}
    for path in FILES:
        wanted = [c for c in fidelity.COLUMNS if not c.only or path.name in c.only]
        chosen[path] = min(wanted, key=lambda column: used[column.name])
        used[chosen[path].name] += 1
    return chosen


@pytest.mark.skipif(not FILES, reason=f"reference media are not here ({MEDIA})")
class TestEveryFile:
    @pytest.mark.parametrize("path", WITH_MARKS)
    def test_keeps_its_promises(self, path, fidelity, column_of):
        column = column_of[path]
        rows = fidelity.check_file(path, [column])
        assert fidelity.lost(rows) == []
        if path.name in BROKEN:
            ((refusal,),) = [row.refusals for row in rows]
            assert BROKEN[path.name] in refusal  # the one line, and nothing was left behind
        assert all(bool(row.findings) == (path.name not in BROKEN) for row in rows)
        if path.name in INTERLACED:
            assert "--progressive" in rows[0].refusals[0]
            assert len(rows) == 1 + column.fields

    def test_every_container_comes_up(self, fidelity, column_of):
        assert set(column_of.values()) == set(fidelity.COLUMNS)


# -- The checks can fail ---------------------------------------------------------------------------

CHAPTERS = """;FFMETADATA1
title=Whole
[CHAPTER]
TIMEBASE=1/1000
START=0
END=400
title=One
[CHAPTER]
TIMEBASE=1/1000
START=400
END=1000
title=Two
"""
SUBTITLE = "1\n00:00:00,100 --> 00:00:00,600\n{}\n"
COPY = "-map 0 -c copy"
ENCODE = "-map 0 -c copy -c:v:0 libx264 -bf 0"
# For each promise what ffmpeg does to "whole.mkv" to break it.
DAMAGE = {
    "frames": rf"{ENCODE} -filter:v:0 'select=not(eq(n\,5))' -fps_mode passthrough",
    "times": rf"{COPY} -bsf:v:0 'setts=pts=PTS+15*eq(N\,10)'",
    "durations": rf"{COPY} -bsf:v:0 'setts=duration=DURATION*(1+3*eq(N\,24))'",
    "audio": f"{COPY} -c:a flac -filter:a:1 volume=0.5",
    "sync": "-itsoffset 0.2 -i whole.mkv -map 0:v -map 1:a -map 0:s -map 0:t -c copy",
    "subtitles": "-i other.srt -map 0:v -map 0:a -map 1:s -map 0:t -c copy",
    "attachments": "-map 0 -map -0:t -attach other.srt -metadata:s:t mimetype=font/ttf -c copy",
    "chapters": f"{COPY} -map_chapters -1",
    "tags": f"{COPY} -metadata:s:a:1 language=deu",
    "dispositions": f"{COPY} -disposition:s:0 0",
    "size": f"{ENCODE} -filter:v:0 scale=32:48",
    "format": f"{ENCODE} -pix_fmt:v:0 yuv422p",
    "aspect": f"{ENCODE} -filter:v:0 setsar=12/11",
    "fields": f"{COPY} -c:v:0 mpeg2video -flags:v:0 +ilme+ildct -top:v:0 1",
    "colour": f"{ENCODE} -colorspace:v:0 bt709",
}


def ffmpeg(folder, arguments):
    command = ["ffmpeg", "-v", "error", "-y", *shlex.split(arguments)]
    subprocess.run(command, check=True, cwd=folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small file that has a bit of everything."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "chapters.txt").write_text(CHAPTERS)
    (folder / "font.ttf").write_bytes(bytes(range(256)))
    (folder / "some.srt").write_text(SUBTITLE.format("Hello"))
    (folder / "other.srt").write_text(SUBTITLE.format("Goodbye"))
    ffmpeg(
        folder,
        "-f lavfi -i testsrc2=s=64x48:r=25:d=1,setsar=10/11 -f lavfi -i sine=d=1 "
        "-f lavfi -i sine=f=880:d=1 -i some.srt -i chapters.txt -map 0 -map 1 -map 2 -map 3 "
        "-map_metadata 4 -map_chapters 4 -pix_fmt yuv420p -c:v libx264 -bf 0 -c:a flac "
        "-color_range tv -colorspace smpte170m -color_primaries smpte170m -color_trc smpte170m "
        "-metadata:s:a:0 language=eng -metadata:s:a:1 language=fra -disposition:s:0 forced "
        "-attach font.ttf -metadata:s:t:0 mimetype=font/ttf whole.mkv",
    )
    return folder


@pytest.fixture
def judge(scripts):
    """The verdicts of two files that no run of ours connects."""
    case, facts = scripts("fidelity_case"), scripts("fidelity_facts")
    check = scripts("fidelity_promises").check

    def compare(before, after, *said, **more):
        found = check(
            case.Case(before=facts.read(before), after=facts.read(after), said=said, **more)
        )
        return {name: finding.verdict.name for name, finding in found.items()}

    return compare


def test_copy_of_ffmpegs_own_keeps_everything(whole, judge):
    ffmpeg(whole, f"-i whole.mkv {COPY} copy.mkv")
    verdicts = judge(whole / "whole.mkv", whole / "copy.mkv")
    assert {name for name, verdict in verdicts.items() if verdict == "OK"} >= DAMAGE.keys() - {
        "fields"  # of progressive video there is nothing to keep
    }
    assert "LOST" not in verdicts.values()


@pytest.mark.parametrize("promise", DAMAGE)
def test_damage_is_found(whole, judge, promise):
    ffmpeg(whole, f"-i whole.mkv {DAMAGE[promise]} damaged.mkv")
    verdicts = judge(whole / "whole.mkv", whole / "damaged.mkv")
    assert verdicts[promise] == "LOST"


def test_what_is_said_is_not_lost(whole, judge):
    ffmpeg(whole, "-i whole.mkv -map 0 -map -0:s -c copy silent.mkv")
    both = whole / "whole.mkv", whole / "silent.mkv"
    assert judge(*both)["subtitles"] == "LOST"
    other = "warning: subtitle stream 4 (subrip) is dropped: mov cannot hold it"
    assert judge(*both, other)["subtitles"] == "LOST"
    named = "warning: subtitle stream 3 (subrip) is dropped: mov cannot hold it"
    assert judge(*both, named)["subtitles"] == "SAID"


def test_other_samples_are_found(whole, judge):
    ffmpeg(whole, "-i whole.mkv -map 0:v:0 -c:v ffv1 exact.mkv")
    ffmpeg(whole, "-i whole.mkv -map 0:v:0 -c:v ffv1 -vf hue=b=0.1 brighter.mkv")
    source = whole / "whole.mkv"
    assert judge(source, whole / "exact.mkv", lossless=True)["picture"] == "OK"
    assert judge(source, whole / "brighter.mkv", lossless=True)["picture"] == "LOST"


def test_rgb_is_the_same_pixel_by_pixel(whole, judge):
    ffmpeg(whole, "-i whole.mkv -map 0:v:0 -c:v png -pix_fmt rgba alpha.mov")
    ffmpeg(whole, "-i alpha.mov -c:v ffv1 -pix_fmt bgra alpha.mkv")
    ffmpeg(whole, "-i alpha.mov -c:v ffv1 -pix_fmt bgr0 opaque.mkv")
    ffmpeg(whole, "-i alpha.mov -c:v ffv1 -pix_fmt bgra -vf negate alpha2.mkv")
    source = whole / "alpha.mov"
    ffmpeg(whole, "-i alpha.mov -c:v rawvideo -pix_fmt gbrap alpha.nut")
    for before, after in (("alpha.mov", "alpha.mkv"), ("alpha.nut", "alpha.mkv")):
        verdicts = judge(whole / before, whole / after, lossless=True)
        assert (verdicts["format"], verdicts["picture"]) == ("OK", "OK")
    assert judge(source, whole / "opaque.mkv")["format"] == "LOST"
    assert judge(source, whole / "alpha2.mkv", lossless=True)["picture"] == "LOST"


def test_lost_cover_is_found(whole, judge):
    ffmpeg(whole, "-f lavfi -i color=red:s=16x16 -frames:v 1 cover.png")
    ffmpeg(
        whole,
        "-i whole.mkv -i cover.png -map 0:v:0 -map 1 -c copy -disposition:v:1 attached_pic cov.mp4",
    )
    ffmpeg(whole, "-i cov.mp4 -map 0 -map -0:v:1 -c copy bare.mp4")
    assert judge(whole / "cov.mp4", whole / "cov.mp4")["covers"] == "OK"
    assert judge(whole / "cov.mp4", whole / "bare.mp4")["covers"] == "LOST"


def test_lost_rotation_is_found(whole, judge):
    ffmpeg(whole, "-i whole.mkv -map 0:v:0 -c copy -metadata:s:v rotate=90 turned.mp4")
    ffmpeg(whole, "-i turned.mp4 -c:v libx264 upright.mp4")
    assert judge(whole / "turned.mp4", whole / "turned.mp4")["rotation"] == "OK"
    assert judge(whole / "turned.mp4", whole / "upright.mp4")["rotation"] == "LOST"


def test_lost_hdr_metadata_is_found(shared, tmp_path, judge):
    source = shared / "media" / "generated" / "hdr10_sei_only.mkv"
    ffmpeg(tmp_path, f"-i {source} -c:v libx265 -x265-params log-level=none bare.mkv")
    ffmpeg(tmp_path, f"-i {source} -c copy copy.mkv")
    assert judge(source, tmp_path / "copy.mkv")["HDR"] == "OK"
    assert judge(source, tmp_path / "bare.mkv")["HDR"] == "LOST"


def test_lost_captions_are_found(shared, tmp_path, judge):
    source = shared / "media" / "androidx" / "sd-hls0000000000.ts"
    ffmpeg(tmp_path, f"-i {source} -c copy copy.mkv")
    ffmpeg(tmp_path, f"-i {source} -c copy -bsf:v filter_units=remove_types=6 bare.mkv")
    assert judge(source, tmp_path / "copy.mkv")["captions"] == "OK"
    assert judge(source, tmp_path / "bare.mkv")["captions"] == "LOST"


# -- The page --------------------------------------------------------------------------------------


def test_page_holds_the_tables_and_what_they_were_made_with(scripts):
    module = scripts("fidelity_page")
    text = module.page("| new |\n")
    assert text.startswith(f"{module.HEAD}\nMade with vsr ")
    assert "PyAV" in text
    assert "ffprobe version" in text
    assert text.endswith("\n\n| new |\n")


def test_the_page_of_the_tables_is_written_whole(scripts, fidelity):
    """No word of a person's in it, and a table for each container."""
    text = fidelity.RESULTS.read_text(encoding="utf-8")
    assert text.startswith(f"{scripts('fidelity_page').HEAD}\nMade with vsr ")
    titles = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert titles == [column.name for column in fidelity.COLUMNS]


def test_write_writes_the_page_of_the_tables(scripts, fidelity, tmp_path, monkeypatch):
    monkeypatch.setattr(fidelity, "RESULTS", tmp_path / "results.md")
    row = fidelity.Row(file="a.mkv", column="mp4", refusals=("vsr-upscale: error: no",))
    monkeypatch.setattr(fidelity, "check_all", lambda *_: [row])
    assert fidelity.main(["--media", str(tmp_path), "--write"]) == 0
    assert "\n## mp4\n" in (tmp_path / "results.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        fidelity.main(["--media", str(tmp_path), "--write", "--only", "a"])


def test_tables_show_every_verdict(scripts, fidelity):
    case = scripts("fidelity_case")
    verdicts = case.Verdict
    findings = {
        "frames": case.Finding(verdicts.OK),
        "audio": case.Finding(verdicts.SAID, "audio stream 1 (dts) is dropped"),
        "tags": case.Finding(verdicts.LOST, "tags of the file: title"),
    }
    rows = [
        fidelity.Row(file="a.mkv", column="mp4", flags=("--progressive",), findings=findings),
        fidelity.Row(file="b.mkv", column="mp4", refusals=("vsr-upscale: error: /x/b.mkv: no",)),
    ]
    table = fidelity.tables(rows)
    assert "| a.mkv `--progressive` | ok | said | **lost** |" in table
    assert "| b.mkv | refused | refused | refused |" in table
    assert "* b.mkv: stops: b.mkv: no" in table
    assert fidelity.lost(rows) == ["mp4, a.mkv `--progressive`: tags: tags of the file: title"]

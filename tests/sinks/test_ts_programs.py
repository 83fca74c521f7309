"""Programs of transport streams: their names go on, and several become one."""

import shutil
import subprocess
from pathlib import Path

import av
import pytest

from vsr.config import UpscaleConfig
from vsr.encoding.ts_programs import Program, programs_of
from vsr.pipeline import upscale

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")

NAMES = {"service_name": "Télé 1", "service_provider": "Bund"}
TEXTS = [  # as broadcasters write them, with what each means
    (b"Das Erste", "Das Erste"),
    (b"\x05T\xfcrk\xe7e \xdd", "Türkçe İ"),
    (b"\x10\x00\x02\xa1aj", "Ąaj"),
    (b"\x15\xc3\x89t\xc3\xa9", "Été"),
    (b"T\xc2el\xc2e \xa31 \x86N\x87", "Télé £1 N"),
    (b"\x11\x04\x1f", "П"),
    (b"\x1fodd", "odd"),
    (b"", ""),
]


def film(path: Path, *options: str, inputs: int = 1) -> Path:
    """A film of so many pictures, each with a sound."""
    command = ["ffmpeg", "-v", "error"]
    for _ in range(inputs):
        command += ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.4"]
        command += ["-f", "lavfi", "-i", "sine=r=48000:d=0.4"]
    for index in range(2 * inputs):
        command += ["-map", str(index)]
    command += ["-c:v", "mpeg2video", "-c:a", "mp2", *options, str(path)]
    subprocess.run(command, check=True)
    return path


def named(path: Path) -> Path:
    return film(path, *(word for pair in NAMES.items() for word in ("-metadata", "=".join(pair))))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return named(tmp_path_factory.mktemp("films") / "in.ts")


def programs(path: Path) -> list[Program]:
    with av.open(str(path)) as container:
        return programs_of(container)


@pytest.mark.parametrize("suffix", ["ts", "m2ts"])
def test_names_are_read_as_ffprobe_reads_them(tmp_path: Path, suffix: str) -> None:
    path = named(tmp_path / f"in.{suffix}")
    assert programs(path) == [Program("Télé 1", "Bund", [0, 1])]
    command = ["ffprobe", "-v", "error", "-show_programs", str(path)]
    shown = subprocess.run(command, check=True, capture_output=True).stdout.decode()
    assert all(f"TAG:{key}={value}\n" in shown for key, value in NAMES.items())


@pytest.mark.parametrize("size", [188, 192, 204])
@pytest.mark.parametrize(("text", "means"), TEXTS)
def test_texts_of_broadcasters(
    plain: Path, tmp_path: Path, size: int, text: bytes, means: str
) -> None:
    """A table of names that is put in the place of FFmpeg's."""
    data = plain.read_bytes()
    service = bytes([1, 0, len(text)]) + text
    entry = bytes([0x48, len(service)]) + service
    rest = bytes([0xFF, 1, 0xFF]) + bytes([0, 1, 0xFC, 0x80, len(entry)]) + entry + bytes(4)
    section = bytes([0x42, 0xF0, len(rest) + 5, 0, 1, 0xC1, 0, 0]) + rest
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    packets = [
        (p[:4] + b"\0" + section).ljust(188, b"\xff")[:188] if p[1:3] == b"\x40\x11" else p
        for p in packets
    ]
    ahead = 4 if size == 192 else 0
    path = tmp_path / "made.ts"
    path.write_bytes(b"".join(bytes(ahead) + p + bytes(size - 188 - ahead) for p in packets))
    assert programs(path) == [Program(means, "", [0, 1])]


def test_what_is_damaged_has_no_names(plain: Path, tmp_path: Path) -> None:
    data = plain.read_bytes()
    for at in range(188, 188 * 3, 31):
        path = tmp_path / "damaged.ts"
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x5A, 0x48, 255]) + data[at + 3 :])
        programs(path)


def test_names_go_on(plain: Path, tmp_path: Path) -> None:
    source, made = plain, []
    for suffix in ("ts", "mp4"):
        output = tmp_path / f"out.{suffix}"
        made.append(upscale(UpscaleConfig(input=source, output=output, model="identity")).notes)
    assert programs(tmp_path / "out.ts") == [Program("Télé 1", "Bund", [0, 1])]
    assert not [note for note in made[0] if "tags" in note]
    (lost,) = [note for note in made[1] if "tags are dropped" in note]
    assert lost.endswith("service_name (file), service_provider (file)")


def test_programs_that_become_one(tmp_path: Path) -> None:
    programs = ["title=First:st=0:st=1", "title=Second:program_num=2:st=2:st=3"]
    options = [word for program in programs for word in ("-program", program)]
    source, output = film(tmp_path / "in.ts", *options, inputs=2), tmp_path / "out.ts"
    config = UpscaleConfig(input=source, output=output, model="identity")
    (note,) = [note for note in upscale(config).notes if "programs" in note]
    assert note.endswith(
        "the 2 programs of the input become one: First (streams 0, 1), Second (streams 2, 3)"
    )
    with av.open(str(output)) as container:
        assert [program.name for program in programs_of(container)] == ["First"]


def test_what_is_made_up_is_not_called_lost(tmp_path: Path) -> None:
    source, output = film(tmp_path / "in.ts"), tmp_path / "out.mp4"
    report = upscale(UpscaleConfig(input=source, output=output, model="identity"))
    assert not [note for note in report.notes if "tags" in note]

"""What docs/ say of the command is what it does."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vsr.cli import main
from vsr.cli.options import build_parser
from vsr.encoding.muxers import default_codec
from vsr.encoding.options import _DEFAULTS
from vsr.frame import pixel_format


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "command.md").read_text(encoding="utf-8")


def rows(text: str, head: str) -> list[list[str]]:
    """The cells of the table whose first line begins with ``head``."""
    lines = text[text.index(head) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_option_is_named_somewhere(root: Path) -> None:
    pages = [root / "README.md", *(root / "docs").glob("*.md"), *root.glob("plugins/*/README.md")]
    told = "\n".join(path.read_text(encoding="utf-8") for path in pages)
    options = [name for action in build_parser()._actions for name in action.option_strings]
    assert len(options) > 60
    missing = [name for name in options if not re.search(rf"(?<![\w-]){name}(?![\w-])", told)]
    assert missing == []


def _anchors(page: Path) -> set[str]:
    """What a link can name of a page: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def test_links_lead_somewhere(root: Path) -> None:
    pages = [root / "README.md", root / "CHANGELOG.md", *(root / "docs").rglob("*.md")]
    broken, seen = [], 0
    for page in [*pages, *root.glob("plugins/*/README.md"), *root.glob("models/*.md")]:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^()\s]+)\)", text):
            name, _, anchor = target.partition("#")
            if "://" in name:
                continue
            seen += 1
            file = page.parent / name if name else page
            if not file.exists() or (anchor and anchor not in _anchors(file)):
                broken.append(f"{page.name}: {target}")
    assert seen > 80
    assert broken == []


def test_the_readme_names_every_page(root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    pages = [*(root / "docs").glob("*.md"), *root.glob("plugins/*/README.md")]
    assert len(pages) > 20
    names = [str(page.relative_to(root)) for page in pages]
    assert [name for name in names if f"]({name})" not in readme] == []


def test_the_encoders_are_those_that_are_taken(page: str) -> None:
    formats = ("yuv420p", "yuv420p10le", "yuva444p16le")
    muxers = {"mkv": "matroska", "ts": "mpegts"}
    checked = 0
    for containers, *cells in rows(page, "| container | 8 bits"):
        for name in containers.split(", "):
            for cell, form in zip(cells, formats, strict=True):
                found = default_codec(muxers.get(name, name), pixel_format(form), piped=False)
                if cell.startswith("`"):
                    assert cell.startswith(f"`{found}`"), (name, form)
                else:
                    assert cells[1] == f"`{found}`", (name, form)
                checked += 1
    assert checked == 21


def test_what_encoders_do_by_themselves(page: str) -> None:
    for encoder, said, _ in rows(page, "| encoder | by itself"):
        options = _DEFAULTS[encoder.strip("`")]
        for name, value in re.findall(r"(crf|preset|level) (\w+)", said):
            assert options[name] == value
    assert len(rows(page, "| encoder | by itself")) == 5


def test_progress_has_the_fields_that_are_told(page: str, make_clip, tmp_path, capsys) -> None:
    told, told_last = map(json.loads, re.findall(r"```json\n(.*)\n```", page))
    arguments = [str(make_clip("in.mkv")), str(tmp_path / "out.mkv"), "--progress", "json"]
    assert main([*arguments, "--model", "identity", "--log-level", "error"]) == 0
    *lines, last = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {tuple(line) for line in lines} == {tuple(told)}
    assert tuple(last) == tuple(told_last)
    assert {line["bottleneck"] for line in lines} <= {"decode", "upscale", "encode"}


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_hashes_are_compared_by_the_command_that_is_told(root, tmp_path) -> None:
    """The sample's sound begins before its picture."""
    text = (root / "docs" / "targets.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ffmpeg .*framemd5$", text, re.MULTILINE)
    arguments = ["--target", "archive", "--model", "identity", "--frames", "12"]
    assert main([str(root / "docs/sample.mp4"), str(tmp_path / "out.mkv"), *arguments]) == 0
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("ffmpeg", "ffmpeg -v error", 1)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    listing = tmp_path / "out.mkv.framemd5"
    listing.write_text(listing.read_text().replace("a", "b"))
    again = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=False)
    assert again.returncode == 1

"""What survives a run: every media file, into every container, promise by promise.

    python scripts/fidelity.py [--media DIR] [--only TEXT ...] [--columns NAME ...] [--write]

Runs ``vsr-upscale --model identity``, which changes nothing of its own, and compares source and
result as ffprobe and ffmpeg read them. A cell is "ok", "-" (there was nothing to keep), "said" (not
kept as it was, and the run said so) or **lost**. Exit code 1 if anything is lost. ``--write``
writes the tables to docs/fidelity-results.md, which docs/fidelity.md explains.
"""

import argparse
import io
import multiprocessing
import os
import shlex
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path

from fidelity_case import Case, Finding, Verdict
from fidelity_facts import Facts, Unreadable, read
from fidelity_promises import check

ROOT = Path(__file__).resolve().parent.parent
MEDIA = ROOT.parent / "shared" / "media"
RESULTS = ROOT / "docs" / "fidelity-results.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A container to write, and the encoder to do it with."""

    name: str
    suffix: str
    options: tuple[str, ...] = ()
    lossless: bool = False
    only: tuple[str, ...] = ()
    """Names of the files that are written to it; empty means all."""
    fields: bool = False
    """Also undo interlacing and telecine here."""


_FAST = ("--preset", "ultrafast")
_FFV1 = ("-c:v", "ffv1")
_DEEP = ("hdr10_sei_only.mkv", "h264_10bits.mp4")
_PLAIN = (
    "rich.mkv", "bt601.mp4", "sample_scte35.ts", "tc.mov", "vfr_irregular.mkv", "sample.avi",
    "il.mpg", "sample_with_chapters.mp4", "sd-hls0000000000.ts", "sample_rotate_and_reflect.mp4",
)  # fmt: skip
_SOME = (*_PLAIN, *_DEEP)
COLUMNS = (
    Column(name="mkv (ffv1)", suffix=".mkv", options=_FFV1, lossless=True, fields=True),
    Column(name="mkv", suffix=".mkv", options=_FAST),
    Column(name="mp4", suffix=".mp4", options=_FAST),
    Column(name="mov", suffix=".mov", options=_FAST),
    Column(name="mov (prores)", suffix=".mov", options=("-c:v", "prores_ks"), only=_SOME),
    Column(name="webm (vp9)", suffix=".webm", only=_SOME,
           options=("-c:v", "libvpx-vp9", "-e", "cpu-used=8", "-e", "deadline=realtime")),
    Column(name="webm (av1)", suffix=".webm", only=_SOME,
           options=("-c:v", "libsvtav1", "--preset", "12")),
    Column(name="ts", suffix=".ts", options=_FAST, only=_SOME),
    Column(name="nut", suffix=".nut", options=_FAST, only=_SOME),
    Column(name="nut (ffv1)", suffix=".nut", options=_FFV1, lossless=True, only=_SOME),
    Column(name="avi", suffix=".avi", options=_FAST, only=_PLAIN),
    Column(name="avi (ffv1)", suffix=".avi", options=_FFV1, lossless=True, only=_DEEP),
)  # fmt: skip

# What a refusal asks for, and the options that answer it.
ANSWERS = (
    ("--progressive", ("--progressive",)),
    ("needs an even size", ("--pix-fmt", "yuv444p")),
    ("ffv1 has no option preset", ("-c:v", "libx264")),  # the default for pictures with alpha
)
DEINTERLACED = ("--deinterlace", "bwdif")
TELECINED = {"tc.mpg": ("--ivtc",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run and the verdicts on it."""

    file: str
    column: str
    flags: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    """What the run said before it was given ``flags``, or instead of a result."""
    findings: dict[str, Finding] = field(default_factory=dict)
    """Empty if there was no result."""

    def details(self, verdict: Verdict) -> list[str]:
        """The reasons of all cells of that verdict."""
        return [
            f"{name}: {finding.detail}" for name, finding in self.findings.items()
            if finding.verdict == verdict
        ]  # fmt: skip


# Running.


def check_file(path: Path, columns: Sequence[Column] = COLUMNS) -> list[Row]:
    """Run one file into each of ``columns`` that wants it; one row for each run."""
    try:
        before: Facts | None = read(path)
    except Unreadable:
        before = None
    rows = []
    for column in columns:
        if not column.only or path.name in column.only:
            rows.append(_run_answering(path, before, column))
            if column.fields and "--progressive" in rows[-1].flags:
                flags = TELECINED.get(path.name, DEINTERLACED)
                rows.append(_row(path, before, column, flags))
    return rows


def _run_answering(path: Path, before: Facts | None, column: Column) -> Row:
    """Run, and give a run that stops with a question the answer."""
    flags: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    while True:
        row = _row(path, before, column, flags)
        said = " ".join(row.refusals)
        answers = [answer for words, answer in ANSWERS if words in said and answer[0] not in flags]
        if not answers:
            return Row(
                file=row.file, column=row.column, flags=flags,
                refusals=(*refusals, *row.refusals), findings=row.findings,
            )  # fmt: skip
        flags += answers[0]
        refusals += row.refusals


def _row(path: Path, before: Facts | None, column: Column, flags: tuple[str, ...]) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / f"out{column.suffix}"
        code, said = _upscale(path, target, *column.options, *flags)
        lines = tuple(line for line in said.splitlines() if line)
        findings: dict[str, Finding] = {}
        if code == 0 and before is not None:
            case = Case(
                before=before, after=read(target), said=lines, flags=flags,
                lossless=column.lossless,
            )  # fmt: skip
            findings = check(case)
        left = tuple(f"left behind: {p.name}" for p in Path(folder).iterdir())
    return Row(
        file=path.name, column=column.name, flags=flags, findings=findings,
        refusals=() if code == 0 else (*lines, *left),
    )  # fmt: skip


def _upscale(source: Path, target: Path, *options: str) -> tuple[int, str]:
    """The command in this process: its exit code and its lines on stderr."""
    from vsr.cli import main as command

    said = io.StringIO()
    with redirect_stderr(said):
        code = command([str(source), str(target), "--model", "identity", *options])
    return code, said.getvalue()


def check_all(paths: Iterable[Path], columns: Sequence[Column], jobs: int) -> list[Row]:
    """All files, large ones first, in ``jobs`` processes; rows in the order of the names."""
    largest_first = sorted(paths, key=lambda path: -path.stat().st_size)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start) as pool:
        pending = [pool.submit(check_file, path, columns) for path in largest_first]
        rows = [row for future in pending for row in future.result()]
    order = {column.name: index for index, column in enumerate(columns)}
    return sorted(rows, key=lambda row: (order[row.column], row.file.lower(), row.flags))


def _start() -> None:
    import torch

    torch.set_num_threads(1)  # one process for each core instead


# Showing.


def media_files(folder: Path) -> list[Path]:
    """Every media file below ``folder``."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".md")


def lost(rows: Iterable[Row]) -> list[str]:
    """A line for every broken promise."""
    return [
        f"{row.column}, {_titled(row)}: {detail}"
        for row in rows for detail in row.details(Verdict.LOST)
    ]  # fmt: skip


def tables(rows: Sequence[Row]) -> str:
    """Markdown: for each column a table of files and promises, and what was said."""
    names = dict.fromkeys(row.column for row in rows)
    parts = [_table(name, [row for row in rows if row.column == name]) for name in names]
    return "\n\n".join(parts) + "\n"


def _table(name: str, rows: Sequence[Row]) -> str:
    promises = list(next((row.findings for row in rows if row.findings), {}))
    lines = [
        f"## {name}", "", f"| file | {' | '.join(promises)} |", "|---" * (1 + len(promises)) + "|",
    ]  # fmt: skip
    for row in rows:
        cells = [row.findings[p].verdict.value for p in promises] if row.findings else []
        cells += ["refused"] * (len(promises) - len(cells))
        lines.append(f"| {_titled(row)} | {' | '.join(cells)} |")
    said = [line for row in rows for line in _said(row)]
    return "\n".join([*lines, *([""] if said else []), *said])


def _said(row: Row) -> list[str]:
    """What the run said of this row's cells, as items of a list."""
    lines = [f"stops: {_plain(refusal)}" for refusal in row.refusals]
    lines += [_plain(detail) for detail in row.details(Verdict.SAID)]
    lines += [f"**{_plain(detail)}**" for detail in row.details(Verdict.LOST)]
    return [f"* {_titled(row)}: {line}" for line in lines]


def _titled(row: Row) -> str:
    return f"{row.file} `{shlex.join(row.flags)}`" if row.flags else row.file


def _plain(line: str) -> str:
    """Without the folder that this machine keeps the file in, and without Markdown's signs."""
    words = line.removeprefix("vsr-upscale: error: ").split(" ")
    shown = (word.rpartition("/")[2] if word.startswith("/") else word for word in words)
    return " ".join(shown).replace("_", "\\_").replace("*", "\\*").replace("|", "\\|")


# The command.


def main(argv: Sequence[str] | None = None) -> int:
    """Run the table; 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--media", type=Path, default=MEDIA, help="folder of media files")
    parser.add_argument("--only", nargs="+", default=[], help="files whose names hold one of these")
    parser.add_argument("--columns", nargs="+", default=[c.name for c in COLUMNS])
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4))
    parser.add_argument("--write", action="store_true", help="write docs/fidelity-results.md")
    options = parser.parse_args(argv)
    if options.write and (options.only or len(options.columns) < len(COLUMNS)):
        parser.error("--write wants the whole table")
    paths = [
        path for path in media_files(options.media)
        if not options.only or any(text in path.name for text in options.only)
    ]  # fmt: skip
    columns = [column for column in COLUMNS if column.name in options.columns]
    rows = check_all(paths, columns, options.jobs)
    _report(rows)
    if options.write:
        from fidelity_page import page

        RESULTS.write_text(page(tables(rows)), encoding="utf-8")
    return int(bool(lost(rows)))


def _report(rows: Sequence[Row]) -> None:
    for row in rows:
        for refusal in row.refusals:
            print(f"{row.column}, {row.file}: stops: {refusal}")
        for detail in row.details(Verdict.SAID):
            print(f"{row.column}, {_titled(row)}: said: {detail}")
    for line in (broken := lost(rows)):
        print(f"LOST {line}")
    cells = [finding.verdict for row in rows for finding in row.findings.values()]
    counts = ", ".join(f"{cells.count(v)} {v.name.lower()}" for v in Verdict)
    print(f"{len(rows)} runs, {counts}; {len(broken)} broken promises")


if __name__ == "__main__":
    sys.exit(main())

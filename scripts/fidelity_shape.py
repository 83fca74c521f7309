"""Promises about the picture's shape and colour, and what goes with them."""

import re
from fractions import Fraction

from fidelity_case import NONE, OK, Case, Finding, Verdict, excused, lost, worst
from fidelity_facts import Facts, Record

__all__ = ["aspect", "captions", "colour", "fields", "form", "hdr", "rotation", "size"]

_COLOUR = {
    "color_space": ("colour tags", "matrix becomes"),
    "color_range": ("colour tags", "range becomes"),
    "color_primaries": ("colour tags",),
    "color_transfer": ("colour tags",),
    "chroma_location": ("siting", "colour tags", "subsampling changes"),
}
"""Tags, and words of the lines that may excuse a change."""
_INTERLACED = ("tt", "bb", "tb", "bt")


def size(case: Case) -> Finding:
    """As many pixels as before: the network used here enlarges nothing."""
    before, after = (size_of(facts) for facts in (case.before, case.after))
    if before == after:
        return OK
    wrong = "{}x{} became {}x{}".format(*before, *after)
    return excused(case, ("crop",), wrong)


def size_of(facts: Facts) -> tuple[int, int]:
    return facts.video.facts["width"], facts.video.facts["height"]


def form(case: Case) -> Finding:
    """Bit depth, chroma subsampling and alpha."""
    before, after = (format_of(facts) for facts in (case.before, case.after))
    if before == after:
        return OK
    words = ("becomes", "become ", "is stored as", "is converted to", "subsampling changes")
    return excused(case, words, f"{before} became {after}")


def format_of(facts: Facts) -> str:
    return facts.planar_format.replace("yuvj", "yuv")


def aspect(case: Case) -> Finding:
    """The shape of a pixel, exactly."""
    before, after = (_aspect(facts) for facts in (case.before, case.after))
    if before == after:
        return OK if before != 1 else NONE
    return excused(case, ("aspect ratio",), f"pixels of {before} became {after}")


def _aspect(facts: Facts) -> Fraction:
    """The sample aspect ratio; where none is given, players take pixels for square."""
    ratio = Fraction(facts.video.facts.get("sample_aspect_ratio", "0:1").replace(":", "/"))
    return ratio or Fraction(1)


def rotation(case: Case) -> Finding:
    """The display matrix: rotated and mirrored as before."""
    before, after = (facts.side_data("Display Matrix") for facts in (case.before, case.after))
    if before is None:
        return NONE if after is None else lost("a rotation appeared")
    same = after is not None and _matrix(before) == _matrix(after)
    return OK if same else excused(case, ("rotation",), "rotation is gone or another")


def _matrix(record: Record) -> list[int]:
    """The part that turns and mirrors; the rest moves the picture on a canvas."""
    rows = [line.split(":")[1].split() for line in record["displaymatrix"].strip().splitlines()]
    return [int(value) for row in rows[:2] for value in row[:2]]


def fields(case: Case) -> Finding:
    """Fields are made into frames where asked for; else the order is the source's, or nobody's."""
    before, after = (facts.video.facts.get("field_order") for facts in (case.before, case.after))
    flagged = any(frame.get("interlaced_frame") for frame in case.after.frames)
    if set(case.flags) & {"--deinterlace", "--ivtc"}:
        whole = after not in _INTERLACED and not flagged
        return OK if whole else lost(f"frames are still marked as interlaced ({after})")
    if before not in _INTERLACED and not any(f["interlaced_frame"] for f in case.before.frames):
        return NONE if after not in _INTERLACED else lost(f"{before} became {after}")
    if after in _INTERLACED and before in _INTERLACED and after[0] != before[0]:
        return lost(f"field order {before} became {after}")
    return OK


def colour(case: Case) -> Finding:
    """Every declared tag; matrix and range that were guessed have been named."""
    return worst(_compare_colour(case, tag) for tag in _COLOUR)


def _compare_colour(case: Case, tag: str) -> Finding:
    if tag == "chroma_location" and not re.search("42[02]|411|410", format_of(case.before)):
        return NONE  # no chroma, or a sample of it for every pixel
    if _is_rgb(case.before) != _is_rgb(case.after):
        return form(case)
    before, after = case.before.colour(tag), case.after.colour(tag)
    if before is None:
        return _judge_guess(case, tag, after)
    if before == after or (tag == "chroma_location" and _is_same_place(case, before, after)):
        return OK
    return excused(case, _COLOUR[tag], f"{tag}: {before} became {after}")


def _is_same_place(case: Case, before: str, after: str | None) -> bool:
    """Whether two names mean one place: in 4:2:2 chroma has every line, whatever is said of it."""
    names = [name.removeprefix("top").removeprefix("bottom") for name in (before, after or "")]
    across = [{"": "center"}.get(name, name) for name in names]
    return "422" in format_of(case.before) and across[0] == across[1]


def _judge_guess(case: Case, tag: str, found: str | None) -> Finding:
    """Of matrix and range, what the source does not say is guessed aloud."""
    line = {"color_space": "matrix not tagged", "color_range": "range not tagged"}.get(tag)
    if found is None or line is None or _is_rgb(case.after):  # RGB can be nothing else
        return NONE
    said = case.heard(line)
    return Finding(Verdict.GUESSED, said) if said else lost(f"{tag}: invented {found}")


def _is_rgb(facts: Facts) -> bool:
    return format_of(facts).startswith(("rgb", "bgr", "gbr", "argb", "abgr", "pal8"))


def hdr(case: Case) -> Finding:
    """Mastering display and light levels, value by value; dynamic metadata is named if dropped."""
    static = (("Mastering display", "mastering"), ("Content light", "light level"))
    dynamic = (
        ("HDR Dynamic", "HDR10+"),
        ("DOVI", "Dolby Vision"),
        ("Dolby Vision", "Dolby Vision"),
    )
    return worst(
        _compare_hdr(case, kind, word) for kind, word in (*static, *dynamic)
    )  # fmt: skip


def _compare_hdr(case: Case, kind: str, word: str) -> Finding:
    before, after = (facts.side_data(kind) for facts in (case.before, case.after))
    if before is None:
        return NONE if after is None else lost(f"{word} metadata appeared")
    if after is not None and _values(before) == _values(after):
        return OK
    what = "is gone" if after is None else f"changed: {before} became {after}"
    return excused(case, (word, "HDR mastering metadata"), f"{word} metadata {what}")


def _values(record: Record) -> dict[str, Fraction | str]:
    """Numbers as numbers, to five digits: containers count in different fractions."""
    found: dict[str, Fraction | str] = {}
    for key, value in record.items():
        number = str(value).replace("/", "", 1).isdigit()
        found[key] = round(Fraction(str(value)), 5) if number else str(value)
    return found


def captions(case: Case) -> Finding:
    """Closed captions: each frame's, byte for byte."""
    if not case.before.captions:
        return NONE
    same = case.before.captions == case.after.captions
    return OK if same else excused(case, ("captions",), "closed captions are gone or changed")

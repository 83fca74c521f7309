"""Promises about the other streams, and about what describes file and streams."""

import re
from collections.abc import Callable
from fractions import Fraction

from fidelity_case import (
    MILLISECOND,
    NONE,
    OK,
    Case,
    Finding,
    Verdict,
    dropped,
    excused,
    kept_streams,
    lost,
    tick,
    worst,
)
from fidelity_facts import Record, Stream

__all__ = [
    "attachments",
    "audio",
    "chapters",
    "covers",
    "dispositions",
    "subtitles",
    "sync",
    "tags",
]

# Statements about the source's own packing, which would be wrong of the result.
_STALE = {
    "encoder", "duration", "major_brand", "minor_version", "compatible_brands", "vendor_id",
    "handler_name",
}  # fmt: skip
_ANYWHERE = ("timecode", "creation_time")  # of a stream or of the file: containers differ
_UNKNOWN = ("language", "und")
# ISO 639-2's names of these languages in themselves and in English: MOV has one of them.
_LANGUAGES = {
    "bod": "tib", "ces": "cze", "cym": "wel", "deu": "ger", "ell": "gre", "eus": "baq",
    "fas": "per", "fra": "fre", "hye": "arm", "isl": "ice", "kat": "geo", "mkd": "mac",
    "msa": "may", "mya": "bur", "nld": "dut", "ron": "rum", "slk": "slo", "sqi": "alb",
    "zho": "chi",
}  # fmt: skip
_STATISTICS = ("_statistics", "bps", "duration-", "number_of_frames", "number_of_bytes")


def audio(case: Case) -> Finding:
    """Every byte of every audio stream."""

    def compare(before: Stream, after: Stream) -> Finding:
        same = before.digest == after.digest and bool(before.digest)
        wrong = f"audio stream {before.index} has other content"
        return OK if same else excused(case, (f"audio stream {before.index}",), wrong)

    return _each(case, "audio", compare)


def sync(case: Case) -> Finding:
    """Sound is where it was beside the picture."""

    def compare(before: Stream, after: Stream) -> Finding:
        if not before.times or not after.times:
            return NONE
        last = len(before.times) == len(after.times)  # else packets are cut in other places
        places = (before.times[0], before.times[-1] if last else before.end)
        found = (after.times[0], after.times[-1] if last else after.end)
        off = max(abs(a - case.shift - b + case.offset) for a, b in zip(places, found, strict=True))
        if off <= tick(after) + tick(before) + MILLISECOND:
            return OK
        wrong = f"audio stream {before.index} is {float(off):.3f} s off beside the picture"
        return excused(case, (f"audio stream {before.index}", "no timestamps"), wrong)

    return _each(case, "audio", compare)


def subtitles(case: Case) -> Finding:
    """Every subtitle: pictures byte for byte, text letter for letter, each at its time."""

    def compare(before: Stream, after: Stream) -> Finding:
        same = before.text == after.text if before.text else before.digest == after.digest
        if not same:
            return lost(f"subtitle stream {before.index} has other content")
        pairs = zip(before.times, after.times, strict=False)
        late = [abs(a - case.shift - b + case.offset) > 2 * MILLISECOND for a, b in pairs]
        if any(late) or len(before.times) != len(after.times):
            return lost(f"subtitle stream {before.index} is shown at other times")
        return OK

    return _each(case, "subtitle", compare)


def attachments(case: Case) -> Finding:
    """Fonts and other files, by name, type and content."""

    def describe(stream: Stream) -> tuple[str | None, ...]:
        tags = stream.tags
        return tags.get("filename"), tags.get("mimetype"), stream.facts.get("extradata_hash")

    def compare(before: Stream, after: Stream) -> Finding:
        same = describe(before) == describe(after)
        return OK if same else lost(f"attachment stream {before.index} has other content")

    return _each(case, "attachment", compare)


def covers(case: Case) -> Finding:
    """Cover art, byte for byte."""

    def compare(before: Stream, after: Stream) -> Finding:
        same = before.digest == after.digest
        return OK if same else lost(f"cover art stream {before.index} has other content")

    return _each(case, "cover", compare, "cover art")


def _each(
    case: Case, kind: str, compare: Callable[[Stream, Stream], Finding], word: str = ""
) -> Finding:
    """``compare`` each kept stream of a kind with its copy; the others must have been named."""
    word = word or kind
    lines = [dropped(case, stream, word) for stream in case.before.of(kind)]
    findings = [Finding(Verdict.SAID, line) for line in lines if line]
    kept, copies = lines.count(None), len(case.after.of(kind))
    if kept != copies:
        findings.append(lost(f"{kept} {word} streams became {copies}"))
    else:
        findings += [compare(before, after) for before, after in kept_streams(case, kind)]
    return worst(findings)


# What describes them.


def chapters(case: Case) -> Finding:
    """Each chapter's title, start and end, to a millisecond."""
    before, after = ([*map(_chapter, facts.chapters)] for facts in (case.before, case.after))
    if not before:
        return NONE if not after else lost(f"{len(after)} chapters came out of none")
    if line := case.heard("chapters are dropped"):
        return Finding(Verdict.SAID, line)
    if [title for *_, title in before] != [title for *_, title in after]:
        return lost(f"{len(before)} chapters became {len(after)}, or have other titles")
    for (start, end, _), (new_start, new_end, _) in zip(before, after, strict=True):
        wrong = max(abs(start - case.shift - new_start), abs(end - case.shift - new_end))
        if wrong > MILLISECOND:
            return lost(f"a chapter starts or ends {float(wrong):.3f} s off")
    return OK


def _chapter(record: Record) -> tuple[Fraction, Fraction, str]:
    title = record.get("tags", {}).get("title", "")
    return Fraction(record["start_time"]), Fraction(record["end_time"]), title


def tags(case: Case) -> Finding:
    """Metadata of file and streams: titles, languages, timecode and all the rest."""
    findings = [_compare_tags(case, case.before.tags, case.after.tags, "the file")]
    for before, after in _pairs(case):
        place = f"{before.kind} stream {before.index}"
        findings.append(_compare_tags(case, before.tags, after.tags, place))
    return worst(findings)


def _is_stale(key: str, value: str) -> bool:
    """Whether a tag says how the source was packed; ``software`` does if it is FFmpeg's own."""
    writer = key == "software" and value.startswith("Lavf")
    return writer or key in _STALE or key.startswith(_STATISTICS)


def _compare_tags(
    case: Case, before: dict[str, str], after: dict[str, str], place: str
) -> Finding:  # fmt: skip
    kept = {
        key: value for key, value in before.items()
        if not _is_stale(key, value) and (key, value) != _UNKNOWN
    }  # fmt: skip
    elsewhere = {**case.after.video.tags, **case.after.tags}
    if "mp4" in case.after.format["format_name"] and "handler_name" in after:
        after = {"title": after["handler_name"], **after}  # where players look for it
    if "location" in after:  # what MP4 calls it, and QuickTime in its own keys
        after = {"com.apple.quicktime.location.iso6709": after["location"], **after}
    found = {key: elsewhere[key] for key in _ANYWHERE if key in elsewhere} | after
    missing = [key for key, value in kept.items() if not _same_tag(found.get(key), value)]
    if not missing:
        return OK if kept else NONE
    silent = [key for key in missing if not case.heard("dropped", key)]
    if silent:
        return lost(f"tags of {place}: {', '.join(silent)}")
    return Finding(Verdict.SAID, case.heard("dropped", missing[0]) or "")


def _same_tag(found: str | None, wanted: str) -> bool:
    """Equal, or the same instant, place or language: containers write these differently."""
    return found is not None and _plain(found) == _plain(wanted)


def _plain(text: str) -> str:
    if place := re.fullmatch(r"([+-][\d.]+)([+-][\d.]+)([+-][\d.]+)?/", text):
        return " ".join(f"{float(degrees):.3f}" for degrees in place.groups()[:2])
    text = _LANGUAGES.get(text, text)
    return text.replace("T", " ").removesuffix("Z").removesuffix(".000000")


def dispositions(case: Case) -> Finding:
    """Which streams are forced, default, a commentary…; mp4 makes one of each kind default."""
    findings = []
    for before, after in _pairs(case):
        gone = before.dispositions - after.dispositions
        place = f"{before.kind} stream {before.index}"
        if sum(stream.kind == before.kind for stream in case.before.streams) == 1:
            gone -= {"default"}  # the only one of its kind is the default anyway
        if silent := [word for word in sorted(gone) if not case.heard(word, "dropped")]:
            findings.append(lost(f"{place} is no longer {', '.join(silent)}"))
        elif gone:
            line = case.heard(min(gone), "dropped") or ""
            findings.append(Finding(Verdict.SAID, line))
        elif before.dispositions:
            findings.append(OK)
    return worst(findings)


def _pairs(case: Case) -> list[tuple[Stream, Stream]]:
    """Every stream that has metadata of its own, with its copy."""
    picture = (case.before.video, case.after.video)
    return [picture, *kept_streams(case, "audio", "subtitle", "attachment")]

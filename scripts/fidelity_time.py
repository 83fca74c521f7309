"""Promises about frames, their samples and their time."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median

from fidelity_case import MILLISECOND, NONE, OK, Case, Finding, Verdict, excused, lost, tick
from fidelity_facts import Facts, decodes_cleanly, picture_hashes
from fidelity_shape import form, size

__all__ = ["durations", "frames", "picture", "times"]

_MICROSECOND = Fraction(1, 1_000_000)  # ffprobe's precision
_DAMAGED = ("damaged in the source", "could not be decoded", "are missing: the file ends early")


def frames(case: Case) -> Finding:
    """As many frames as ffprobe decodes of the source; of telecined ones, four in five."""
    count = len(case.before.frames)
    expected = count * 4 // 5 if "--ivtc" in case.flags else count
    found = len(case.after.frames)
    if found == expected:
        return OK
    return excused(case, _DAMAGED, f"{expected} frames became {found}")


def picture(case: Case) -> Finding:
    """Every code value, where network and encoder change none."""
    changed = form(case).verdict != Verdict.OK or size(case).verdict != Verdict.OK
    if not case.lossless or changed or set(case.flags) & {"--deinterlace", "--ivtc"}:
        return NONE
    before, after = (picture_hashes(facts) for facts in (case.before, case.after))
    if before == after:
        return OK
    if not decodes_cleanly(case.before):
        return NONE  # decoders conceal damage each in its own way
    differing = sum(a != b for a, b in zip(before, after, strict=False))
    return excused(case, _DAMAGED, f"{differing} of {len(after)} frames have other samples")


def times(case: Case) -> Finding:
    """Every frame at its time, to half a tick of the result's clock, or where that was rounded."""
    after = [time - case.offset for time in case.after.times]
    if any(b <= a for a, b in pairwise(after)):
        return lost("timestamps do not rise")
    if "--ivtc" in case.flags:
        return _film_times(after)
    if line := case.heard("had a missing or backward"):
        return Finding(Verdict.SAID, line)
    return _compare_times(case, [time - case.shift for time in case.before.times], after)


def _compare_times(case: Case, before: Sequence[Fraction], after: Sequence[Fraction]) -> Finding:
    if len(before) != len(after):
        return excused(case, _DAMAGED, f"{len(before)} timestamps became {len(after)}")
    error = max((abs(a - b) for a, b in zip(before, after, strict=True)), default=Fraction(0))
    rounding = 2 * _MICROSECOND + (50 * _MICROSECOND if case.offset else 0)  # of another clock
    if error <= tick(case.after.video) / 2 + rounding or _are_restored(case, before, after):
        return OK
    wrong = f"timestamps are up to {float(error):.4f} s off"
    return excused(case, ("timestamps were rounded", "no timestamps"), wrong)


def _are_restored(case: Case, before: Sequence[Fraction], after: Sequence[Fraction]) -> bool:
    """Whether MP4 and MOV have frames at their rate that the source's clock had rounded."""
    rate, coarse = Fraction(case.after.video.facts["r_frame_rate"]), tick(case.before.video)
    return case.after.format["format_name"].startswith("mov") and all(
        abs(found - time) <= coarse and _off_grid(found - after[0], rate) <= 2 * _MICROSECOND
        for time, found in zip(before, after, strict=True)
        if abs(found - time) > tick(case.after.video)
    )


def _off_grid(time: Fraction, rate: Fraction) -> Fraction:
    return abs(time * rate - round(time * rate)) / rate


def _film_times(after: Sequence[Fraction]) -> Finding:
    """Frames of film, evenly spaced at 24000/1001 a second."""
    steps = [b - a for a, b in pairwise(after)]
    even = all(abs(step - Fraction(1001, 24000)) <= MILLISECOND for step in steps)
    return OK if even else lost("film frames are not 1001/24000 s apart")


def durations(case: Case) -> Finding:
    """The picture lasts as long as it did, to half a frame; in Matroska each frame does."""
    before, after = case.before, case.after
    if case.heard("had a missing or backward") or len(before.times) != len(after.times):
        return NONE
    if after.format["format_name"] == "mpegts" or times(case).verdict == Verdict.SAID:
        return NONE  # no durations there, or no times to measure by
    ends = [end - case.shift for end in (_shown_end(before), _declared_end(before)) if end]
    found = (_declared_end(after) or _shown_end(after)) - case.offset
    step = Fraction(median(b - a for a, b in pairwise(before.times)))
    if min(abs(found - end) for end in ends) > step / 2 + tick(after.video):
        wrong = f"{float(ends[0]):.3f} s of picture became {float(found):.3f} s"
        return excused(case, ("last frame",), wrong)
    if "matroska" in after.format["format_name"] and not _frame_durations_hold(after):
        return lost("durations of frames are not their distances")
    return OK


def _shown_end(facts: Facts) -> Fraction:
    """When the last frame is over; its duration is that of a usual frame if it says nonsense."""
    step = Fraction(median(b - a for a, b in pairwise(facts.times)))
    told = Fraction(facts.frames[-1].get("pkt_duration_time", 0))
    return facts.times[-1] + (told if step / 2 <= told <= 2 * step else step)


def _declared_end(facts: Facts) -> Fraction | None:
    """When the picture is over, if the container says so: Matroska in a tag, MP4, AVI outright."""
    video, kind = facts.video, facts.format["format_name"]
    if "matroska" in kind and "duration" in video.tags:
        hours, minutes, seconds = video.tags["duration"].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    if ("mp4" in kind or kind == "avi") and "duration" in video.facts:
        return Fraction(video.facts.get("start_time", 0)) + Fraction(video.facts["duration"])
    return None


def _frame_durations_hold(facts: Facts) -> bool:
    told = [Fraction(frame.get("pkt_duration_time", 0)) for frame in facts.frames]
    steps = (b - a for a, b in pairwise(facts.times))
    return all(abs(d - step) <= MILLISECOND for d, step in zip(told, steps, strict=False))

"""What a run promises to keep, as checks of a result against its source.

Each promise is a function from a :class:`~fidelity_case.Case` to a
:class:`~fidelity_case.Finding`; :data:`PROMISES` lists them in the order of the table. A check
fails where something was there, is gone or changed, and the run did not say so in a line that
names it.
"""

from collections.abc import Callable

from fidelity_case import Case, Finding
from fidelity_shape import aspect, captions, colour, fields, form, hdr, rotation, size
from fidelity_streams import (
    attachments,
    audio,
    chapters,
    covers,
    dispositions,
    subtitles,
    sync,
    tags,
)
from fidelity_time import durations, frames, picture, times

__all__ = ["PROMISES", "check"]

PROMISES: tuple[tuple[str, Callable[[Case], Finding]], ...] = (
    ("frames", frames), ("picture", picture), ("times", times), ("durations", durations),
    ("audio", audio), ("sync", sync), ("subtitles", subtitles), ("attachments", attachments),
    ("covers", covers), ("chapters", chapters), ("tags", tags), ("dispositions", dispositions),
    ("size", size), ("format", form), ("aspect", aspect), ("rotation", rotation),
    ("fields", fields), ("colour", colour), ("HDR", hdr), ("captions", captions),
)  # fmt: skip
"""Name and check of every promise, in the order of the table."""


def check(case: Case) -> dict[str, Finding]:
    """The verdict on every promise."""
    return {name: promise(case) for name, promise in PROMISES}

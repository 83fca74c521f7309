"""The manifest of a work folder: what is finished, and what it was made of and with."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

from vsr.errors import SinkError
from vsr.resume.account import pack_report, unpack_report
from vsr.resume.disk import write_json
from vsr.resume.plain import SMALLEST, lines, number, words
from vsr.sources import SourceReport

__all__ = ["FORMAT", "MANIFEST", "End", "Entry", "Manifest", "Published", "seal"]

FORMAT = "vsr-resume/2"
"""Name and version of what is written; the number rises when the meaning of a field changes."""
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A finished segment."""

    number: int
    """Counted from 0; names its file."""
    first: int
    """Its first frame, counted from 0."""
    frames: int
    packets: int
    start: int
    """When its first frame is shown, in units of the source's time base."""
    end: int
    """When its last frame ends."""
    size: int
    """Bytes of its file."""
    sha256: str
    anchor: str = ""
    """Hash of the last frame that the source gave for it; empty for the film's last segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Where the film ends, known since the source has been read to its end."""

    frames: int
    stopped: bool
    """More frames would follow, but no more were wanted (``--frames``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What the output looks like that is about to get its name."""

    size: int
    mtime_ns: int


@dataclass(slots=True, kw_only=True)
class Manifest:
    """All that a later run has to know.

    Raises:
        SinkError: (from :meth:`load`) it is missing, or not what :meth:`save` wrote.
    """

    settings: dict[str, str]
    """What the output depends on, by name; a run with others may not go on."""
    versions: dict[str, str]
    """What may change the last bit of a picture; a run with others is warned."""
    asked: dict[str, str]
    """What the first run was told of runtime and precision, for the record. A run that goes on
    takes what was decided instead (:func:`vsr.resume.matching.as_before`)."""
    segment_frames: int
    time_base: Fraction
    """Seconds of a unit of the source's time."""
    started: str
    """When the first run began, as ISO 8601 writes it."""
    segments: dict[int, Entry] = field(default_factory=dict)
    end: End | None = None
    published: Published | None = None
    finished: bool = False
    """Whether the output and all beside it are there, and nothing but this folder is left to do."""
    sittings: int = 1
    """How many runs have worked on it."""
    source: SourceReport | None = None
    """What there is to say of the source, since it has been read to its end."""
    notes: list[str] = field(default_factory=list)
    """What the encoders of segments have lost, a line each."""
    engine: list[str] = field(default_factory=list)
    """What the engine had to say, a line each: that memory ran out."""

    @property
    def frames(self) -> int:
        """Frames in finished segments."""
        return sum(entry.frames for entry in self.segments.values())

    @property
    def complete(self) -> bool:
        """Whether all segments there will be are finished."""
        if self.end is None:
            return False
        return len(self.segments) == math.ceil(self.end.frames / self.segment_frames)

    def save(self, folder: Path) -> None:
        """Write it into ``folder``, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        write_json(folder / MANIFEST, self.content())

    def content(self) -> dict[str, Any]:
        """All of it as plain data, with its own hash."""
        content = asdict(self)
        content["segments"] = [asdict(self.segments[number]) for number in sorted(self.segments)]
        content["source"] = self.source and pack_report(self.source)
        base = self.time_base
        content |= {"format": FORMAT, "time_base": f"{base.numerator}/{base.denominator}"}
        return {**content, "sha256": seal(content)}

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            SinkError: it is missing or damaged, or of another version.
        """
        path = folder / MANIFEST
        try:
            text = path.read_bytes()
        except OSError as error:
            raise SinkError(
                f"{path}: cannot be read: {error.strerror}: --restart begins again"
            ) from error
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: bytes | str, path: Path) -> Self:
        """The manifest that ``text`` from the file ``path`` is, as JSON.

        Raises:
            SinkError: it is damaged, or of another version.
        """
        try:
            # JSON may be in UTF-16 as well, and zeros look like it.
            return cls._parse(json.loads(text if isinstance(text, str) else text.decode("utf-8")))
        except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
            raise SinkError(f"{path}: is damaged ({error}): --restart begins again") from error

    @classmethod
    def _parse(cls, content: Any) -> Self:  # noqa: ANN401
        """What :meth:`content` made; raises one of many errors if it is anything else."""
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise ValueError(f"it is not {FORMAT}")
        if content.pop("sha256") != seal({**content, "format": FORMAT}):
            raise ValueError("it is not what was written")
        source = content.pop("source")
        entries = [_record(Entry, values) for values in content.pop("segments")]
        manifest = cls(
            settings=words(content.pop("settings")), versions=words(content.pop("versions")),
            asked=words(content.pop("asked", {})),
            segment_frames=number(content.pop("segment_frames"), least=1),
            time_base=Fraction(content.pop("time_base")), started=str(content.pop("started")),
            segments={entry.number: entry for entry in entries},
            end=_optional(End, content.pop("end")),
            published=_optional(Published, content.pop("published")),
            finished=content.pop("finished", False) is True,
            sittings=number(content.pop("sittings"), least=1),
            source=None if source is None else unpack_report(source),
            notes=lines(content.pop("notes")), engine=lines(content.pop("engine")),
        )  # fmt: skip
        manifest._forget_last_if_short()
        manifest._check()
        return manifest

    def _forget_last_if_short(self) -> None:
        """Without the film's end, nobody knows that a short segment is all there was to come.

        It is entered before the end is, and where an input broke off.
        """
        if self.end is None and self.segments:
            last = self.segments[max(self.segments)]
            if last.frames < self.segment_frames:
                del self.segments[last.number]

    def _check(self) -> None:
        if self.time_base <= 0:
            raise ValueError("time base must be above 0")
        count = self.segment_frames
        for entry in self.segments.values():
            last = self.end is not None and entry.first + entry.frames == self.end.frames
            whole = entry.frames == count or (last and 0 < entry.frames <= count)
            if entry.first != entry.number * count or not whole or entry.packets != entry.frames:
                raise ValueError(f"segment {entry.number} does not fit")


def seal(content: dict[str, Any]) -> str:
    """The hash of ``content``: nothing else in a manifest tells a damaged number from another."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _record[T](kind: type[T], values: dict[str, Any]) -> T:
    """A frozen dataclass of numbers and words, each of the type that it is declared with."""
    checked: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]
        value = values[one.name]
        if one.type is int or one.type == "int":
            least = SMALLEST if one.name in ("start", "end") else 0
            checked[one.name] = number(value, least=least)
        elif type(value) is one.type:
            checked[one.name] = value
        else:
            raise ValueError(f"{one.name} is {value!r}")
    return kind(**checked)


def _optional[T](kind: type[T], values: dict[str, Any] | None) -> T | None:
    return None if values is None else _record(kind, values)

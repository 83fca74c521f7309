"""What describes a file and its streams: metadata and dispositions, and who can hold them.

FFmpeg's muxers leave out in silence what their container has no place for. What each of them keeps
was found by writing every key and reading it back; ``tests/test_labels.py`` does so again.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from fractions import Fraction

from av.stream import Disposition

__all__ = [
    "copied_metadata",
    "holds_reel_name",
    "holds_timecode",
    "is_undescribed",
    "kept_metadata",
    "lost_chapter_tags",
    "lost_dispositions",
    "lost_tags",
    "metadata_flags",
    "stream_metadata",
    "way_to_keep",
]

_MOV = ("mp4", "mov")
_THREE_LETTERS = re.compile("[a-z]{3}")
_TIMECODE_RATES = {24, 25, 30, 48, 50, 60, 100, 120, 150}

# Statements about the file that the packets came from.
_STALE_TAGS = {
    "encoder", "duration", "major_brand", "minor_version", "compatible_brands", "vendor_id",
    "bps", "number_of_frames", "number_of_bytes",
}  # fmt: skip
_STALE_PREFIXES = ("_statistics_", "bps-", "duration-", "number_of_frames-", "number_of_bytes-")

_WRITER = "software"
"""Under which AVI keeps what has written it: of an output, FFmpeg's libavformat, as any name that
begins so was of the source."""

_TIMECODE_TAGS = ("timecode", "reel_name")  # in capitals in Matroska, where MOV has a track
# Keys that come back from each container; the others take any. Of the file:
_FILE_TAGS = {
    "mp4": {
        "title", "artist", "album_artist", "composer", "album", "date", "comment", "genre",
        "copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id",
        "network", "keywords", "episode_sort", "season_number", "media_type", "hd_video",
        "gapless_playback", "compilation", "track", "disc", "location", "location-eng",
        "creation_time", "timecode",
    },
    "mov": {
        "title", "artist", "album", "date", "comment", "genre", "copyright", "location",
        "location-eng", "creation_time", "make", "model", "timecode",
    },
    "avi": {
        "title", "artist", "date", "comment", "genre", "copyright", "track", "timecode", "language",
        "encoded_by",
    },
    "mpegts": {"service_name", "service_provider"},
}  # fmt: skip
# Of a stream (the title of one in mp4 or mov goes by the name "name", and by handler_name):
_STREAM_TAGS = {
    "mp4": {"title", "handler_name", "language", "timecode"},
    "mov": {"title", "handler_name", "language", "timecode", "reel_name"},
    "avi": {"title"},
    "mpegts": {"language"},
}  # fmt: skip
# Of a chapter, where there are any:
_CHAPTER_TAGS = {
    "mp4": {"title"},
    "mov": {"title"},
    "webm": {"title"},
    "avi": set(),
    "mpegts": set(),
}
# MOV numbers languages as the Macintosh did. FFmpeg names the numbers by these words, and writes
# none for any other:
_MOV_LANGUAGES = frozenset(
    """
    alb amh ara arm asm aym aze baq bel ben bul bur cat ces chi dan dut dzo eng epo est fin fra geo
    ger gre grn guj heb hin hun ice ind iri ita jav jpn kan kas kaz khm kin kir kor kur lao lat lav
    lit mac mal mar may mlg mlt mol mon nep nor nya ori orm per pol por pus que ron run rus san sin
    slk slv smi snd som spa sve swa tam tat tel tgk tgl tha tib tir tuk tur uig ukr urd uzb vie wel
    yid
    """.split()  # noqa: SIM905 - a list of 97 quoted words is no better
) | {"fo ", "hr ", "pa ", "sr "}
# Six that it numbers rightly, but calls as ISO 639-2 does not, in writing and in reading.
_ODD_NAMES = {
    "fao": "fo ", "gle": "iri", "hrv": "hr ", "pan": "pa ", "srp": "sr ", "swe": "sve",
}  # fmt: skip
_PROPER_NAMES = {odd: proper for proper, odd in _ODD_NAMES.items()}
# The same languages by what else they are called. ISO 639-2 has two names for twenty of them (B
# after the English name, T after their own); of these, one is a word of FFmpeg's, but for Maori,
# which has no number.
_MOV_NAMES = {
    "bod": "tib", "cym": "wel", "cze": "ces", "deu": "ger", "ell": "gre", "eus": "baq",
    "fas": "per", "fre": "fra", "hye": "arm", "isl": "ice", "kat": "geo", "mkd": "mac",
    "msa": "may", "mya": "bur", "nld": "dut", "rum": "ron", "slo": "slk", "sqi": "alb",
    "zho": "chi",
    **_ODD_NAMES,
}  # fmt: skip
_APPLES_PLACE = "com.apple.quicktime.location.iso6709"  # what MP4 calls location
_FREE_KEYS = ("com.apple.quicktime.", "com.android.")  # as cameras write them
_DATELESS_STREAMS = ("matroska", "webm")  # the file as a whole has a date there
_NAME_ENCODERS = ("matroska", "webm", "nut")
"""Containers that hold any tag of a stream."""

_DISPOSITIONS = {
    "matroska": {
        "default", "dub", "original", "comment", "forced", "hearing_impaired", "visual_impaired",
    },
    "webm": {"default", "forced"},
    "mp4": {
        "default", "dub", "comment", "forced", "hearing_impaired", "visual_impaired", "captions",
        "descriptions",
    },
    "mov": {"default"},
    "nut": {"default", "dub", "original", "comment", "lyrics", "karaoke"},
    "avi": set(),
    "mpegts": set(),
}  # fmt: skip
_TS_AUDIO_TYPES = ("clean_effects", "hearing_impaired", "visual_impaired")
"""Of these FFmpeg writes the first that applies (ISO/IEC 13818-1, 2.6.19)."""
_TS_DESCRIBED = ("dvb_subtitle", "dvb_teletext")
"""Subtitles of which FFmpeg writes a language; of sound it does, whatever the codec."""
_DVB_KIND = 4
"""The byte, in the header of DVB's subtitles, that says for whom they are."""
_DVB_FOR_THE_DEAF = range(0x20, 0x26)


def kept_metadata(metadata: Mapping[str, str], muxer: str) -> dict[str, str]:
    """``metadata`` without what was true of the source file only."""
    kept = {}
    for key, value in metadata.items():
        plain = key.lower()
        named = plain if plain in _TIMECODE_TAGS else key
        stale = plain in _STALE_TAGS or plain.startswith(_STALE_PREFIXES)
        stale = stale or (plain == _WRITER and (muxer == "avi" or value.startswith("Lavf")))
        if not stale and (plain != "handler_name" or muxer in _MOV):
            kept[named] = _first_date(value) if plain == "creation_time" else value
    if muxer == "mp4" and "location" not in kept:
        place = next((key for key in kept if key.lower() == _APPLES_PLACE), None)
        if place is not None:
            kept["location"] = kept.pop(place)
    return kept


def copied_metadata(metadata: Mapping[str, str], muxer: str) -> dict[str, str]:
    """What of a stream's ``metadata`` is true of its packets wherever they are: what made them.

    Where ``muxer`` has no place for that it is no loss to speak of. The counts that mkvmerge writes
    hold for whole copies as well, but whether one is whole is known at its end, and readers take
    them for out of date in a file that another program wrote.
    """
    if muxer not in _NAME_ENCODERS:
        return {}
    return {key: value for key, value in metadata.items() if key.lower() == "encoder"}


def _first_date(value: str) -> str:
    """FFmpeg joins a date that stands in two places of MOV, and then reads it no more."""
    return value.split(";")[0]


def stream_metadata(metadata: Mapping[str, str], muxer: str) -> dict[str, str]:
    """:func:`kept_metadata` of one stream, title and language as ``muxer`` knows them.

    mp4 and mov call a stream's title "name"; many players show the handler's name instead. FFmpeg
    has one name for a language in mov, where ISO 639-2 may have two (``deu``, ``ger``).
    """
    kept = kept_metadata(metadata, muxer)
    if "language" in kept:
        kept["language"] = _PROPER_NAMES.get(kept["language"], kept["language"])
    if "name" in kept and "title" not in kept:
        kept["title"] = kept.pop("name")
    if muxer in _MOV and "title" in kept:
        kept.setdefault("handler_name", kept["title"])
    if muxer == "mov" and "language" in kept:
        kept["language"] = _MOV_NAMES.get(kept["language"], kept["language"])
    return kept


def metadata_flags(metadata: Mapping[str, str], muxer: str) -> str:
    """What ``movflags`` needs so that QuickTime's own keys of a file survive; mostly nothing.

    MOV has two places for metadata: one with a few fixed names, which all players read, and one
    with any names, which cameras use. FFmpeg writes either the one or the other.
    """
    free = any(key.lower().startswith(_FREE_KEYS) for key in metadata)
    return "+use_metadata_tags" if muxer == "mov" and free else ""


def lost_tags(
    metadata: Mapping[str, str],
    muxer: str,
    *,
    of_file: Mapping[str, str] | None = None,
    undescribed: bool = False,
    any_key: bool = False,
) -> list[str]:
    """The keys of ``metadata`` that a container leaves out.

    Args:
        metadata: what is to be written, of a file or of a stream.
        muxer: FFmpeg's name of the container.
        of_file: where ``metadata`` is a stream's, the file's: what it only repeats is not lost.
        undescribed: see :func:`is_undescribed`, of the stream.
        any_key: MP4 or MOV was told to write a file's keys as they are.
    """
    if of_file is None and (any_key or metadata_flags(metadata, muxer)):
        return []
    new = _not_repeated(metadata, of_file or {})
    if undescribed and muxer == "mpegts":
        return list(new)
    return [
        key for key, value in new.items()
        if (not _holds(muxer, key.lower(), of_file is None) or _is_unknown(key, value, muxer))
    ]  # fmt: skip


def is_undescribed(kind: str, codec: str) -> bool:
    """Whether FFmpeg's muxer of MPEG-TS tells no language of a stream: video, subtitles of discs.

    Args:
        kind: the stream's type.
        codec: FFmpeg's name of its codec.
    """
    return kind == "video" or (kind == "subtitle" and codec not in _TS_DESCRIBED)


def lost_chapter_tags(
    metadata: Mapping[str, str], muxer: str, of_file: Mapping[str, str]
) -> list[str]:
    """The keys of a chapter's ``metadata`` that a container leaves out.

    Args:
        metadata: as read from the source.
        muxer: FFmpeg's name of the container.
        of_file: the file's metadata: what the chapter only repeats of it is not lost.
    """
    new = _not_repeated(kept_metadata(metadata, muxer), of_file)
    if (held := _CHAPTER_TAGS.get(muxer)) is not None:
        return [key for key in new if key.lower() not in held]
    return [key for key in new if not _holds(muxer, key.lower(), of_file=False)]


def way_to_keep(lost: Iterable[str], muxer: str) -> str:
    """In words, how such keys of a file as cameras write can be kept; empty if there are none.

    Args:
        lost: of :func:`lost_tags` of a file.
        muxer: FFmpeg's name of the container that leaves them out.
    """
    if muxer != "mp4" or not any(key.lower().startswith(_FREE_KEYS) for key in lost):
        return ""
    return "; mov keeps the camera's own, and so does mp4 with -movflags use_metadata_tags"


def _not_repeated(metadata: Mapping[str, str], of_file: Mapping[str, str]) -> dict[str, str]:
    """What of ``metadata`` says something, and something else than the file does."""
    repeated = {(key, _meaning(key, value)) for key, value in of_file.items()}
    repeated.add(("language", "und"))
    return {key: v for key, v in metadata.items() if (key, _meaning(key, v)) not in repeated}


def _meaning(key: str, value: str) -> str | datetime:
    """``value``, or the instant that it is: ``…12Z`` and ``…12.000000Z`` are the same."""
    if key.lower() != "creation_time":
        return value
    try:
        found = datetime.fromisoformat(_first_date(value))
    except ValueError:
        return value
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _is_unknown(key: str, value: str, muxer: str) -> bool:
    """Whether it is a language that ``muxer`` has no code for; most take three letters."""
    if key != "language" or muxer not in (*_MOV, "mpegts"):
        return False
    if muxer == "mov":
        return value not in _MOV_LANGUAGES
    return len(value) != 3 if muxer == "mpegts" else not _THREE_LETTERS.fullmatch(value)


def _holds(muxer: str, key: str, of_file: bool) -> bool:
    held = (_FILE_TAGS if of_file else _STREAM_TAGS).get(muxer)
    if held is not None:
        return key in held
    return of_file or muxer not in _DATELESS_STREAMS or key != "creation_time"


def lost_dispositions(
    disposition: int, muxer: str, *, alone: bool, kind: str = "video", header: bytes = b""
) -> list[str]:
    """The names in ``disposition`` that a container leaves out.

    Args:
        disposition: FFmpeg's bit mask.
        muxer: FFmpeg's name of the container.
        alone: the stream is the only one of its kind: that it is the default goes without saying.
        kind: its type: Matroska knows more of subtitles, and MPEG-TS of sound and of those.
        header: what its codec says of a whole stream, ahead of the packets (its extradata).
    """
    held = _DISPOSITIONS.get(muxer, set()) | ({"default"} if alone else set())
    if muxer == "mpegts":
        held = held | _held_by_ts(disposition, kind, header)
    elif "hearing_impaired" in held and disposition & Disposition.hearing_impaired:
        held = held | {"captions"}  # FFmpeg reads mp4's one mark as both
    if kind == "subtitle" and muxer == "matroska":
        held = held | {"descriptions"}
    return [name for name in _names(disposition) if name not in held]


def _held_by_ts(disposition: int, kind: str, header: bytes) -> set[str]:
    """What of ``disposition`` MPEG-TS says: of sound one thing, of DVB's subtitles another.

    Both have one number for it, of which those of subtitles (ETSI EN 300 468, 6.2.43) travel in
    the codec's header, if there is one. Sound for the blind is read as descriptions as well.
    """
    if kind == "subtitle":
        told = len(header) <= _DVB_KIND or header[_DVB_KIND] in _DVB_FOR_THE_DEAF
        return {"hearing_impaired"} if told else set()
    for name in _TS_AUDIO_TYPES if kind == "audio" else ():
        if disposition & Disposition[name]:
            return {name, "descriptions"} if name == "visual_impaired" else {name}
    return set()


def _names(disposition: int) -> Iterable[str]:
    """Names of the set bits; those that say what a stream is, not how it is meant, are left out."""
    for one in Disposition:
        name = (one.name or "").lower()
        if disposition & one and name not in ("attached_pic", "timed_thumbnails", "still_image"):
            yield name


def holds_reel_name(muxer: str) -> bool:
    """Whether ``muxer`` can hold the name of the reel that a timecode is of."""
    return _holds(muxer, "reel_name", of_file=False)


def holds_timecode(muxer: str, rate: Fraction) -> bool:
    """Whether ``muxer`` can hold a timecode at ``rate`` frames per second.

    mp4 and mov make a track of it, and refuse the whole file if the rate has no timecode.
    """
    return muxer not in _MOV or round(rate) in _TIMECODE_RATES

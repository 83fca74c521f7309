"""What is said of an encoding: what was chosen, and everything that is lost by it."""

from av.codec import Codec

from vsr.encoding.carried import (
    carries,
    has_number,
    in_container,
    lost_tags,
    matrices_of,
    opening_number,
    range_of,
    same_place,
    sitings_of,
)
from vsr.encoding.encoding import Encoding
from vsr.encoding.muxers import Y4M, default_codec
from vsr.encoding.parameters import rate_control
from vsr.frame import Colour, PixelFormat, VideoInfo
from vsr.hdr import HDR_TRANSFERS, lost_metadata
from vsr.immersive import can_say
from vsr.tags import COLOUR_OPTIONS, MATRICES, SITINGS, word_for

__all__ = ["losses", "sample_losses", "summary"]

_ANY_DEPTH = 32
_HOLD_AV1 = ("matroska", "webm", "mp4")
_KEEP_ALPHA = ("ffv1", "rawvideo")
"""Those encoders for deep samples that are chosen by themselves and keep alpha."""
_ELSEWHERE = "mov and mkv can hold it"
_WITH_ALPHA = {
    "mov": "-c:v prores_ks --pix-fmt yuva444p10le keeps it",
    "webm": "-c:v libvpx-vp9 --pix-fmt yuva420p keeps it, in 8 bits",
    "mp4": _ELSEWHERE, "mpegts": _ELSEWHERE, Y4M: _ELSEWHERE,
}  # fmt: skip
"""What keeps alpha, where no encoder that does is chosen by itself."""
_LINEAR = 8
"""H.273 transfer characteristics."""


def summary(encoding: Encoding) -> str:
    """One line that says what the output is."""
    given, codec, piped = encoding.options, encoding.codec, encoding.piped
    details = [f"{key} {given[key]}" for key in ("crf", "preset", "profile") if key in given]
    details = [*rate_control(given), *details]
    where = f"{encoding.muxer} to standard output" if piped else encoding.muxer
    note = f"output: {codec} in {where}, {', '.join([encoding.format.name, *details])}"
    lossless = piped and codec in ("rawvideo", "ffv1")
    return f"{note} (lossless: what reads it encodes)" if lossless else note


def losses(encoding: Encoding, info: VideoInfo) -> list[str]:
    """What the output cannot hold of the source ``info``, or holds otherwise, one line each."""
    source, form, colour = info.format, encoding.format, encoding.colour
    notes = sample_losses(
        source, form, form.name, f"{encoding.codec} with {form.name}",
        limit=_limit_of_depth(encoding, source), remedy=_WITH_ALPHA.get(encoding.muxer),
    )  # fmt: skip
    if form.family != source.family:
        by = f", by the matrix {word_for(MATRICES, colour.matrix)}" if form.family == "yuv" else ""
        notes.append(f"{source.name} becomes {form.name}{by}")
    elif source.family == "rgb" and form.depth > source.depth:
        notes.append(f"{source.name} is stored as {form.name}")
    else:
        notes += _chroma_notes(encoding, info)
    notes += _code_notes(encoding, info)
    if info.icc is not None:
        notes.append("the ICC profile of the pictures is dropped: colours are not converted")
    if info.immersive is not None and not can_say(encoding.muxer, encoding.standard):
        where = f"{encoding.codec} in {encoding.muxer}"
        notes += [
            f"the description of {part} is lost: {where} holds none"
            for part in info.immersive.parts
        ]
    notes += _numberless(encoding)
    return notes + _untold(encoding) + _hdr_notes(encoding, info) + _seldom_played(encoding)


def sample_losses(
    source: PixelFormat, form: PixelFormat, stored: str, holder: str, *,
    limit: str | None = None, remedy: str | None = None,
) -> list[str]:  # fmt: skip
    """What samples lose on their way from ``source`` to ``form``, one line each.

    Args:
        source: of the input.
        form: of the output.
        stored: ``form`` as the encoder calls it.
        holder: what has no place for alpha, in words.
        limit: why there are no more bits, in words, if that is not for ``form``.
        remedy: what would keep alpha, in words.
    """
    notes = []
    if source.alpha and not form.alpha:
        instead = f"; {remedy}" if remedy else ""
        notes.append(f"alpha is dropped: {holder} cannot hold it{instead}")
    if source.floating and not form.floating:
        notes.append(f"what lies below 0 or above 1 is cut: {stored} holds whole numbers")
    elif form.depth < source.depth:
        why = limit or f"{stored} holds no more"
        notes.append(f"{source.depth} bits become {form.depth}: {why}")
    return notes


def _limit_of_depth(encoding: Encoding, source: PixelFormat) -> str | None:
    """In words, that the encoder takes no more bits, and which one does; None if it takes more."""
    codec, depth = encoding.codec, encoding.format.depth
    if _deepest(codec) > depth:
        return None
    of_vp9 = codec.startswith("libvpx") and encoding.muxer in _HOLD_AV1
    other = "libsvtav1" if of_vp9 else default_codec(encoding.muxer, source, piped=encoding.piped)
    kept = min(_deepest(other), source.depth)
    better = kept > depth and (other in _KEEP_ALPHA or not encoding.format.alpha)
    return f"{codec} takes no more here" + (f"; {other} keeps {kept}" if better else "")


def _deepest(codec: str) -> int:
    """Bits of a sample in the deepest format that FFmpeg's encoder ``codec`` takes."""
    formats = Codec(codec, "w").video_formats
    if formats is None:  # rawvideo and its like take everything
        return _ANY_DEPTH
    return max(component.bits for form in formats for component in form.components)


def _chroma_notes(encoding: Encoding, info: VideoInfo) -> list[str]:
    form, source, siting = encoding.format, info.format, encoding.colour.siting
    if (form.chroma_w, form.chroma_h) != (source.chroma_w, source.chroma_h):
        return [f"chroma subsampling changes from {source.name} to {form.name}"]
    if same_place(form, siting, info.colour.siting):
        return []
    word, where = word_for(SITINGS, siting), f"{encoding.codec} in {encoding.muxer}"
    return [f"chroma moves to siting {word}: {where} names no other for {form.name}"]


def _code_notes(encoding: Encoding, info: VideoInfo) -> list[str]:
    """Lines on codes that are not counted as in the source."""
    colour, source, codec = encoding.colour, info.colour, encoding.standard
    notes = []
    if encoding.format.family == info.format.family == "yuv" and colour.matrix != source.matrix:
        word = word_for(MATRICES, colour.matrix)
        held = [word_for(MATRICES, known) for known in matrices_of(codec) or ()]
        listed = " and ".join([*([", ".join(held[:-1])] if held[1:] else []), *held[-1:]])
        why = f": {encoding.codec} has {listed} alone" if held else ""
        notes.append(f"matrix becomes {word}{why}")
    alike = (info.format.family == "rgb") == (encoding.format.family == "rgb")
    if alike and colour.range != source.range:
        untold = range_of(codec) is None and not carries(codec, encoding.muxer, "range")
        why = f": {encoding.codec} in {encoding.muxer} cannot name it" if untold else ""
        notes.append(f"range becomes {colour.range.name.lower()}{why}")
    return notes


def _seldom_played(encoding: Encoding) -> list[str]:
    """A line on chroma that MP4's usual players lack: GIFs and screens have it whole."""
    form, coded = encoding.format, encoding.standard in ("h264", "hevc")
    usual = form.family == "gray" or (form.chroma_w, form.chroma_h) == (1, 1)
    if encoding.muxer != "mp4" or not coded or usual:
        return []
    plain = "yuv420p" if form.depth == 8 else "yuv420p10le"
    return [f"browsers and phones seldom play {form.name}: --pix-fmt {plain} is for them"]


def _hdr_notes(encoding: Encoding, info: VideoInfo) -> list[str]:
    codec, muxer, depth = encoding.codec, encoding.muxer, encoding.format.depth
    where = f"{codec} in {muxer}"
    lost = lost_metadata(info.hdr, codec, encoding.standard, muxer)
    notes = [f"{what} is lost: {where} holds none" for what in lost]
    if encoding.colour.transfer == _LINEAR:
        notes.append("linear light stays so: players that do not heed the tag show it too dark")
    if (name := HDR_TRANSFERS.get(encoding.colour.transfer)) is None:
        return notes
    if depth < 10:
        notes.append(
            f"HDR ({name}) in {depth} bits will show bands: it needs 10; and it is not mapped to"
            " SDR: screens without HDR show it flat"
        )
    if not carries(encoding.standard, muxer, "transfer"):
        notes.append(f"HDR ({name}) will be shown as SDR: {where} has no colour tags")
    return notes


def _untold(encoding: Encoding) -> list[str]:
    """What nothing tells the reader of the colour, one line each."""
    if encoding.muxer == Y4M:
        return _y4m_losses(encoding)
    where, colour = f"{encoding.codec} in {encoding.muxer}", encoding.colour
    lost, displaced = lost_tags(encoding.standard, encoding.muxer), _displaced(encoding)
    told = _restated(colour, [*lost, *(["siting"] if displaced else [])])
    if {"matrix", "primaries", "transfer"} <= {*lost}:
        return [f"colour tags are lost: {where} has none; {told or 'none is known'}"]
    lost = [tag for tag in lost if _restated(colour, [tag])]
    where_to_look = f"chroma siting {word_for(SITINGS, colour.siting)}"
    if displaced and not lost:
        return [f"{where_to_look} is lost: {where} has no tag for it; {told}"]
    lost += [where_to_look] if displaced else []
    return [f"colour tags are lost ({', '.join(lost)}): {where} has none; {told}"] if lost else []


def _numberless(encoding: Encoding) -> list[str]:
    """A line for each tag that the encoder has no number for."""
    codec, muxer, notes = encoding.codec, encoding.muxer, []
    for tag in ("primaries", "transfer"):
        number = getattr(encoding.colour, tag)
        if has_number(codec, tag, number):
            continue
        what = f"{tag} {word_for(COLOUR_OPTIONS[tag][1], number)}"
        held = opening_number(codec, tag, number) == number and in_container(muxer, tag)
        why = f"{codec} has no number for that"
        notes.append(
            f"only the container's colour tags say {what}: {why}"
            if held
            else f"colour tags are lost ({what}): {why}"
        )
    return notes


def _restated(colour: Colour, tags: list[str]) -> str:
    """How the reader is told those ``tags`` of a colour, in FFmpeg's words; empty if none is."""
    told = []
    for tag in tags:
        (option, words), number = COLOUR_OPTIONS[tag], getattr(colour, tag)
        if (word := word_for(words, number)) not in ("0", "unknown"):
            told.append(f"{option} {word}")
    return f"tell its reader {' '.join(told)}" if told else ""


def _displaced(encoding: Encoding) -> bool:
    """Whether readers look for the chroma elsewhere."""
    form, siting = encoding.format, encoding.colour.siting
    if not form.chroma_w + form.chroma_h:
        return False
    known = sitings_of(encoding.standard, encoding.muxer, form, encoding.colour)
    return siting not in known and not same_place(form, siting, known[0])


def _y4m_losses(encoding: Encoding) -> list[str]:
    """What a header of Y4M cannot say, one line each."""
    form, colour = encoding.format, encoding.colour
    told = _restated(colour, ["matrix", "primaries", "transfer"]) or "none is known"
    lost = [f"matrix, primaries and transfer are lost: {Y4M} has none; {told}"]
    if _displaced(encoding):
        word = colour.siting.name.lower()
        lost.append(f"chroma siting {word} is lost: {Y4M} has none in {form.name}")
    return lost

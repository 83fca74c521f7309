"""What is said of an encoding: what was chosen, and everything that is lost by it."""

from av.codec import Codec

from vsr.encoding.encoding import Encoding
from vsr.encoding.muxers import Y4M, Y4M_SITINGS
from vsr.frame import Colour, PixelFormat, VideoInfo
from vsr.hdr import HDR_TRANSFERS, lost_metadata
from vsr.tags import MATRICES, PRIMARIES, RANGES, TRANSFERS, Siting, word_for

__all__ = ["losses", "sample_losses", "summary"]

_LINEAR = 8
"""H.273 transfer characteristics."""


def summary(encoding: Encoding) -> str:
    """One line that says what the output is."""
    given, codec, piped = encoding.options, encoding.codec, encoding.piped
    details = [f"{key} {given[key]}" for key in ("crf", "preset", "profile") if key in given]
    where = f"{encoding.muxer} to standard output" if piped else encoding.muxer
    note = f"output: {codec} in {where}, {', '.join([encoding.format.name, *details])}"
    lossless = piped and codec in ("rawvideo", "ffv1")
    return f"{note} (lossless: what reads it encodes)" if lossless else note


def losses(encoding: Encoding, info: VideoInfo) -> list[str]:
    """What the output cannot hold of the source ``info``, or holds otherwise, one line each."""
    source, form, colour = info.format, encoding.format, encoding.colour
    notes = sample_losses(source, form, form.name, f"{encoding.codec} with {form.name}")
    if form.family != source.family:
        by = f", by the matrix {word_for(MATRICES, colour.matrix)}" if form.family == "yuv" else ""
        notes.append(f"{source.name} becomes {form.name}{by}")
    elif source.family == "rgb" and form.depth > source.depth:
        notes.append(f"{source.name} is stored as {form.name}")
    else:
        notes += _chroma_notes(encoding, info)
    alike = (source.family == "rgb") == (form.family == "rgb")
    if alike and colour.range != info.colour.range:
        notes.append(f"range becomes {colour.range.name.lower()}")
    if info.icc is not None:
        notes.append("the ICC profile of the pictures is dropped: colours are not converted")
    return notes + _untold(encoding) + _hdr_notes(encoding, info) + _seldom_played(encoding)


def sample_losses(source: PixelFormat, form: PixelFormat, stored: str, holder: str) -> list[str]:
    """What samples lose on their way from ``source`` to ``form``, one line each.

    Args:
        source: of the input.
        form: of the output.
        stored: ``form`` as the encoder calls it.
        holder: what has no place for alpha, in words.
    """
    notes = []
    if source.alpha and not form.alpha:
        notes.append(f"alpha is dropped: {holder} cannot hold it")
    if source.floating and not form.floating:
        notes.append(f"what lies below 0 or above 1 is cut: {stored} holds whole numbers")
    elif form.depth < source.depth:
        notes.append(f"{source.depth} bits become {form.depth}: {stored} holds no more")
    return notes


def _chroma_notes(encoding: Encoding, info: VideoInfo) -> list[str]:
    form, source = encoding.format, info.format
    if (form.chroma_w, form.chroma_h) != (source.chroma_w, source.chroma_h):
        return [f"chroma subsampling changes from {source.name} to {form.name}"]
    if not form.chroma_w or encoding.colour.siting == info.colour.siting:
        return []
    return [f"chroma moves to siting left: {encoding.codec} names no other for {form.name}"]


def _seldom_played(encoding: Encoding) -> list[str]:
    """A line on chroma that MP4's usual players lack: GIFs and screens have it whole."""
    form, codec = encoding.format, encoding.codec
    coded = Codec(codec, "w").canonical_name in ("h264", "hevc")
    usual = form.family == "gray" or (form.chroma_w, form.chroma_h) == (1, 1)
    if encoding.muxer != "mp4" or not coded or usual:
        return []
    plain = "yuv420p" if form.depth == 8 else "yuv420p10le"
    return [f"browsers and phones seldom play {form.name}: --pix-fmt {plain} is for them"]


def _hdr_notes(encoding: Encoding, info: VideoInfo) -> list[str]:
    codec, muxer, depth = encoding.codec, encoding.muxer, encoding.format.depth
    where = f"{codec} in {muxer}"
    lost = lost_metadata(info.hdr, codec, Codec(codec, "w").canonical_name, muxer)
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
    if not _tagged(muxer, codec):
        notes.append(f"HDR ({name}) will be shown as SDR: {where} has no colour tags")
    return notes


def _tagged(muxer: str, codec: str) -> bool:
    """Whether container or bitstream hold colour tags."""
    return muxer not in ("avi", "nut", Y4M) or codec in ("libx264", "libx265")


def _untold(encoding: Encoding) -> list[str]:
    """What the container cannot tell its reader of the colour, one line each."""
    muxer, codec, colour = encoding.muxer, encoding.codec, encoding.colour
    if muxer == Y4M:
        return _y4m_losses(encoding.format, colour)
    if _tagged(muxer, codec):
        return []
    return [f"colour tags are lost: {codec} in {muxer} has none; {_restated(colour)}"]


def _restated(colour: Colour, *, with_range: bool = True) -> str:
    """How the reader of a container without colour tags is told of them, in FFmpeg's words."""
    words = {
        "-color_range": word_for(RANGES, colour.range) if colour.range and with_range else "",
        "-colorspace": word_for(MATRICES, colour.matrix),
        "-color_primaries": word_for(PRIMARIES, colour.primaries),
        "-color_trc": word_for(TRANSFERS, colour.transfer),
    }
    known = " ".join(f"{key} {word}" for key, word in words.items() if word not in ("", "unknown"))
    return f"tell its reader {known}" if known else "none is known"


def _y4m_losses(form: PixelFormat, colour: Colour) -> list[str]:
    """What a header of Y4M cannot say, one line each."""
    told = _restated(colour, with_range=False)
    lost = [f"matrix, primaries and transfer are lost: {Y4M} has none; {told}"]
    if (form.chroma_w, form.chroma_h) == (1, 1):
        known = Y4M_SITINGS if form.depth == 8 else (Siting.LEFT,)  # what readers assume
        if colour.siting not in known:
            word = colour.siting.name.lower()
            lost.append(f"chroma siting {word} is lost: {Y4M} has none in {form.name}")
    return lost

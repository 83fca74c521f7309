"""What people, cameras and programs have written into a picture file beside the picture.

None of it is carried on, so it has to be named: FFmpeg's decoders show tags of TIFF and EXIF, and
texts of PNG; the rest is found in the file's own bytes. What DPX has is found in
:mod:`vsr.sources.dpx`.

Sources: CIPA DC-008 (EXIF), ISO 16684-1 and Adobe's "XMP Specification Part 3" (where it lies in
which file), IPTC-IIM in Photoshop's resources, JFIF 1.02, PNG (third edition), TIFF 6.0.
"""

from collections.abc import Iterator, Mapping

__all__ = ["headers_of"]

_TEXTS = {
    "description", "imagedescription", "artist", "date", "copyright", "title", "comment", "creator",
    "project", "input device", "make", "model", "documentname", "timecode",
}  # fmt: skip
"""What is named by FFmpeg's own name of it, whatever the case."""
_GROUPS = {"ExifIFD/": "EXIF", "GPSInfo/": "GPS"}
_TIFF_TAGS = {"0x02BC": "XMP", "0x83BB": "IPTC"}
"""Tags that FFmpeg knows by number alone."""
_JP2_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
"""What a box ``uuid`` of JPEG 2000 begins with."""
_MARKS = {
    b"http://ns.adobe.com/xap/1.0/\0": "XMP", b"XML:com.adobe.xmp\0": "XMP",
    b"Photoshop 3.0\0": "IPTC", _JP2_XMP: "XMP",
}  # fmt: skip
_HEAD = 1 << 20
"""Bytes of a file that hold its headers, mostly."""
_METRES = b"\1"
"""The unit of a PNG's pixels, where they are more than a shape."""
_SCREEN = ("72:1", "96:1")
"""Dots an inch that stand for none."""


def headers_of(data: bytes, metadata: Mapping[str, str]) -> list[str]:
    """What a picture file holds beside its picture, in words, each once.

    Args:
        data: the file.
        metadata: what FFmpeg's decoder has found.
    """
    return list(dict.fromkeys([*_told(metadata), *_marked(data[:_HEAD])]))


def _told(metadata: Mapping[str, str]) -> Iterator[str]:
    for key, value in metadata.items():
        if key == "ImageDescription" and "description" in metadata:
            continue  # FFmpeg tells it twice
        if key.lower() in _TEXTS:
            yield key
        elif key in _TIFF_TAGS:
            yield _TIFF_TAGS[key]
        elif key == "XResolution" and value.strip() not in _SCREEN:
            yield "resolution"
        else:
            yield from (name for group, name in _GROUPS.items() if key.startswith(group))


def _marked(head: bytes) -> Iterator[str]:
    yield from (name for mark, name in _MARKS.items() if mark in head)
    _, found, content = head.partition(b"IDAT")[0].partition(b"pHYs")
    if head.startswith(b"\x89PNG") and found and content[8:9] == _METRES:
        yield "resolution"

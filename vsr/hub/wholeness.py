"""Whether a file that nobody knows the hash of is whole, as far as its format tells."""

import json
import zipfile
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

__all__ = ["flaw"]

_CHECKPOINTS = (".pth", ".pt", ".ckpt")
_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""The number that begins what PyTorch wrote before it wrote archives, as every pickle spells it."""
_LONGEST_HEADER = 100_000_000
"""Bytes of a safetensors header, by the format's own library."""


def flaw(part: Path, url: str) -> str:
    """What is wrong with a file that was downloaded, in words; empty if nothing is seen.

    A safetensors file says how long it is, and a zip archive ends with its directory. Of the
    checkpoints that PyTorch wrote before 1.6 only the beginning is looked at, and of formats that
    are not known, nothing.

    Args:
        part: the file.
        url: where it came from; what it should be is told by the name there, if by anything.
    """
    suffix = PurePosixPath(urlsplit(url).path).suffix.lower()
    with part.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"PK\x03\x04") and suffix != ".safetensors":
        return _flaw_of_archive(part)
    if head.lstrip()[:1] in (b"{", b"[") and b"\0" not in head:
        return "a JSON text, not weights"
    if suffix == ".safetensors" or head[8:9] == b"{":
        return _flaw_of_safetensors(part)
    if suffix in _CHECKPOINTS and _LEGACY not in head:
        return "it does not begin as a checkpoint does"
    return ""


def _flaw_of_archive(part: Path) -> str:
    try:
        with zipfile.ZipFile(part) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return f"an archive that is damaged, or cut off after {part.stat().st_size} bytes"
    if not any(PurePosixPath(name).name == "data.pkl" for name in names):
        return "a zip archive, not weights"
    return ""


def _flaw_of_safetensors(part: Path) -> str:
    size = part.stat().st_size
    with part.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _LONGEST_HEADER:
            return "no safetensors file"
        header = file.read(length)
    if len(header) < length:
        return f"cut off after {size} bytes, in its header"
    try:
        tensors = [value for name, value in json.loads(header).items() if name != "__metadata__"]
        whole = 8 + length + max((int(tensor["data_offsets"][1]) for tensor in tensors), default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "no safetensors file"
    return "" if size == whole else f"{size} bytes came of {whole}"

"""From a reference to a file in the cache, whole and checked."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from vsr.cache import (
    Reference,
    beside,
    cache_folder,
    parse,
    record,
    recorded_sha256,
    trusted_sha256,
)
from vsr.errors import ConfigError, WeightsError
from vsr.files import file_sha256
from vsr.hub.downloading import OnBytes, accept, download
from vsr.hub.library import download_by_library, is_installed
from vsr.hub.link import Limits, Link, is_protected
from vsr.hub.searching import find_file

__all__ = ["fetch"]

_PATIENT = Limits()


def fetch(
    reference: str, *, sha256: str = "", force: bool = False,
    on_bytes: OnBytes | None = None, limits: Limits = _PATIENT,
) -> Path:  # fmt: skip
    """Bring a file into the cache, unless it is there.

    Args:
        reference: what to fetch (see :mod:`vsr.cache`).
        sha256: what the file must have; where empty, it is recorded and holds from then on.
        force: fetch it again, whatever was recorded; what was there stays until the new file is
            whole.
        on_bytes: called as bytes arrive.
        limits: patience.

    Returns:
        The file, whole and checked.

    Raises:
        ConfigError: that is no reference, or a URL without protection and without sha256.
        WeightsError: it cannot be reached or written, and what arrived is kept for the next time;
            or the Hub has no such file, or several.
        CorruptWeightsError: what came is not what was asked for; nothing is kept.
    """
    parsed = parse(reference)
    if not is_protected(parsed.url, sha256):
        raise ConfigError(
            f"{parsed.in_words}: only https can be trusted, or http with a known sha256"
        )
    target = cache_folder().joinpath(*parsed.place)
    words = f"{parsed.in_words} elsewhere and put it at {target}"
    of_hub = parsed.hub is not None or parsed.search is not None
    link = Link(parsed.url, words, sha256, limits, of_hub)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            wanted = sha256.lower() or ("" if force else recorded_sha256(target))
            if force or not _is_there(target, wanted):
                part = beside(target, ".part")
                url = _bring(parsed, link, part, on_bytes)
                digest = accept(part, url, wanted)
                part.replace(target)
                record(target, digest)
    except OSError as error:
        raise WeightsError(f"{error.filename or target}: {error.strerror or error}") from error
    return target


def _bring(parsed: Reference, link: Link, part: Path, on_bytes: OnBytes | None) -> str:
    """Fetch what is meant into ``part``; returns its address."""
    if parsed.search is not None:
        parsed = find_file(parsed, parsed.search, link)
        link = replace(link, url=parsed.url)
    if parsed.hub is not None and is_installed():
        download_by_library(link, parsed.hub, part)
    else:
        download(link, part, on_bytes)
    return link.url


def _is_there(target: Path, wanted: str) -> bool:
    """Whether the cache holds the file, undamaged."""
    return target.is_file() and file_sha256(target) == (wanted or trusted_sha256(target))


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Wait until no other process fetches the same file.

    The file that carries the lock stays: who removed it would take it from those who wait.
    """
    with beside(target, ".lock").open("a") as file:
        if sys.platform == "win32":
            import msvcrt

            while True:
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                    break
                except OSError:
                    continue
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield

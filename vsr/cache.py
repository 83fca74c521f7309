"""The cache of downloaded weights: what a reference is, where its file lies, whether it is whole.

A reference is ``hf:OWNER/REPO/FILE[@REVISION]`` or the https URL of a file. ``hf:OWNER/REPO`` means
the one weights file there, ``hf:OWNER/*/FILE`` the file of that name in whichever repository of the
owner's holds it. Each has one place in the cache, known before anything is looked up. Importing
this module needs neither torch nor a connection.
"""

import hashlib
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, unquote, urlsplit

from vsr.errors import ConfigError, CorruptWeightsError, WeightsError
from vsr.files import file_sha256, written_whole

__all__ = [
    "Reference",
    "Search",
    "beside",
    "cache_folder",
    "cache_path",
    "cached",
    "cached_files",
    "check",
    "how_to_get",
    "is_cached",
    "is_reference",
    "local_file",
    "parse",
    "record",
    "recorded_sha256",
    "trusted_sha256",
    "without_query",
]

_ITS_OWN = (".part", ".etag", ".sha256", ".lock", ".hub")
"""Endings of what lies beside weights in the cache."""


# References.


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked up on the Hugging Face Hub, as the reference leaves it open."""

    owner: str
    repository: str = ""
    """Empty: whichever of the owner's holds ``file``."""
    file: str = ""
    """Empty: the one that holds weights."""
    revision: str = "main"


@dataclass(frozen=True, slots=True)
class Reference:
    """A file that can be fetched."""

    text: str
    """As it was typed."""
    url: str
    """Of the file, or with ``search`` of what the Hub's API answers it."""
    place: tuple[str, ...]
    """Where it lies below the cache folder."""
    in_words: str
    """What a person is to fetch, and from where."""
    hub: tuple[str, str, str] | None = None
    """Repository, file and revision on the Hugging Face Hub."""
    search: Search | None = None
    """What must be looked up first."""


def is_reference(text: str) -> bool:
    """Whether ``text`` names something to download rather than a file on this machine."""
    return text.startswith("hf:") or "://" in text


def parse(text: str) -> Reference:
    """Take a reference apart.

    Raises:
        ConfigError: it is none.
    """
    if text.startswith("hf:"):
        return _parse_hub(text)
    try:
        parts = urlsplit(text)
        whole = parts.hostname and parts.path.strip("/") and not parts.path.endswith("/")
        known = parts.scheme in ("https", "http") and "@" not in parts.netloc
        _ = parts.port
    except ValueError:
        whole = known = False
    if not (whole and known):
        _refuse(text)
    place = _place(text, parts.netloc, *parts.path.split("/"), alike=bool(parts.query))
    return Reference(text, text, place, in_words=without_query(text))


def _parse_hub(text: str) -> Reference:
    path, at, revision = text.removeprefix("hf:").partition("@")
    names = path.split("/")
    anywhere = len(names) == 3 and names[1] == "*" and not at
    named = [names[0], names[2]] if anywhere else [*names, *(revision.split("/") if at else ())]
    if len(names) < 2 or not all(re.fullmatch(r"(?!\.\.?$)[\w.+ -]+", name) for name in named):
        _refuse(text)
    owner, repository, *file = names
    if anywhere:
        return _in_any_repository(text, owner, file[0])
    if not file:
        return _any_file(text, owner, repository, revision or "main")
    return _hub_file(text, f"{owner}/{repository}", "/".join(file), revision or "main")


def _hub_file(text: str, repository: str, file: str, revision: str) -> Reference:
    url = f"{_endpoint()}/{repository}/resolve/{quote(revision, safe='')}/{quote(file)}"
    place = _place(text, "huggingface.co", *repository.split("/"), revision, *file.split("/"))
    return Reference(text, url, place, in_words=url, hub=(repository, file, revision))


# No name of another reference's becomes @any or @weights: see _place, which leaves no @ in any.


def _in_any_repository(text: str, owner: str, file: str) -> Reference:
    url = f"{_endpoint()}/api/models?author={quote(owner, safe='')}&full=true"
    *folders, name = _place(text, "huggingface.co", owner, file)
    words = f"{file} from {_endpoint()}/{quote(owner)}"
    search = Search(owner, file=file)
    return Reference(text, url, (*folders, "@any", name), in_words=words, search=search)


def _any_file(text: str, owner: str, repository: str, revision: str) -> Reference:
    page = quote(f"{owner}/{repository}")
    url = f"{_endpoint()}/api/models/{page}"
    if revision != "main":
        url += f"/revision/{quote(revision, safe='')}"
    place = (*_place(text, "huggingface.co", owner, repository, revision), "@weights")
    words = f"the weights from {_endpoint()}/{page}"
    search = Search(owner, repository, revision=revision)
    return Reference(text, url, place, in_words=words, search=search)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def _refuse(text: str) -> NoReturn:
    raise ConfigError(
        f"{text!r} is no reference to a file; write hf:OWNER/REPO/FILE, hf:OWNER/REPO, "
        "hf:OWNER/*/FILE or https://HOST/PATH"
    )


def without_query(url: str) -> str:
    """``url`` for people and records: a query, which often holds a key, is left out, and shown."""
    address, mark, _ = url.partition("?")
    return f"{address}?…" if mark else address


def _place(text: str, *segments: str, alike: bool = False) -> tuple[str, ...]:
    """Names for folders and the file; where one must be altered, a digest keeps them apart.

    Args:
        text: the reference.
        segments: of its path.
        alike: whether other references have the same ones.
    """
    wanted = [unquote(segment) for segment in segments if segment]
    names = [re.sub(r"[^\w.+-]", "_", name).strip(".")[-80:] or "_" for name in wanted]
    if alike or names != wanted:
        last = Path(names[-1])
        names[-1] = f"{last.stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}{last.suffix}"
    return tuple(names)


# The cache.


def cache_folder() -> Path:
    """Where downloads are kept: ``vsr/models`` in the platform's cache folder, or in $VSR_CACHE.

    Raises:
        ConfigError: the platform's is in the home folder, and there is none.
    """
    try:
        chosen = os.environ.get("VSR_CACHE")
        base = Path(chosen).expanduser() if chosen else _platform_cache()
    except RuntimeError as error:
        raise ConfigError("there is no home folder; let VSR_CACHE name one for caches") from error
    return base / "vsr" / "models"


def _platform_cache() -> Path:
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return chosen if chosen.is_absolute() else Path.home() / ".cache"


def cache_path(reference: str) -> Path:
    """Where the file that ``reference`` names is kept; it is not said that it exists.

    Raises:
        ConfigError: that is no reference.
    """
    return cache_folder().joinpath(*parse(reference).place)


def is_cached(reference: str) -> bool:
    """Whether the file of a reference is there, checked or not; nowhere to keep it, it is not.

    Raises:
        ConfigError: that is no reference.
    """
    place = parse(reference).place
    try:
        return os.path.isfile(cache_folder().joinpath(*place))
    except ConfigError:
        return False


def cached(reference: str) -> Path:
    """The file of a reference that was fetched before, checked against its recorded sha256.

    Raises:
        ConfigError: that is no reference.
        WeightsError: it was not fetched; the message says how to get it.
        CorruptWeightsError: the file is not the one that was fetched.
    """
    path = cache_path(reference)
    if not is_cached(reference):
        raise WeightsError(f"{reference} is not on this machine; {how_to_get(reference)}")
    check(path)
    return path


def local_file(text: str) -> Path:
    """The file that ``text`` names: of a reference, the one fetched before; else the path itself.

    Raises:
        ConfigError: that looks like a reference and is none.
        WeightsError: it was not fetched, or has changed since (see :func:`cached`).
    """
    return cached(text) if is_reference(text) else Path(text)


def how_to_get(reference: str, name: str | None = None) -> str:
    """What to do for a file that is not there, online and offline.

    Args:
        reference: what to fetch.
        name: the model it belongs to, which is easier to type.
    """
    parsed = parse(reference)
    return (
        f"run 'vsr-models pull {name or reference}', "
        f"or fetch {parsed.in_words} elsewhere and put it at {cache_path(reference)}"
    )


def cached_files() -> list[Path]:
    """All weights in the cache, in order; nothing that is unfinished."""
    try:
        folder = cache_folder()
    except ConfigError:
        return []
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.endswith(_ITS_OWN) for part in path.relative_to(folder).parts)
    )


def beside(path: Path, suffix: str) -> Path:
    """The file that says more of ``path``: its name with ``suffix`` added."""
    return path.with_name(path.name + suffix)


def trusted_sha256(path: Path) -> str:
    """What the sha256 of a cached file of unknown origin must be.

    Where nothing was recorded, as for a file that somebody put there, it is trusted as it is now,
    and that is recorded.
    """
    return recorded_sha256(path) or record(path, file_sha256(path))


def recorded_sha256(path: Path) -> str:
    """What was recorded when ``path`` was fetched; empty if nothing was."""
    try:
        return beside(path, ".sha256").read_text(encoding="utf-8").partition(" ")[0]
    except (OSError, ValueError):
        return ""


def record(path: Path, digest: str) -> str:
    """Write the digest where ``sha256sum --check`` reads it; a read-only cache stays as it is."""
    with suppress(OSError), written_whole(beside(path, ".sha256")) as draft:
        draft.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    return digest


def check(path: Path, sha256: str = "") -> None:
    """Compare a file with ``sha256``, or with what was recorded when it was fetched.

    Raises:
        WeightsError: it cannot be read.
        CorruptWeightsError: it has changed.
    """
    try:
        wanted = (sha256 or trusted_sha256(path)).lower()
        damaged = file_sha256(path) != wanted
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}") from error
    if damaged:
        known = "the known one" if sha256 else "the one recorded when it was fetched"
        raise CorruptWeightsError(f"{path}: damaged, its sha256 is not {known}")

"""What a reference leaves open, looked up on the Hugging Face Hub."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from vsr.cache import Reference, Search, parse
from vsr.errors import ConfigError, WeightsError
from vsr.hub.library import token
from vsr.hub.link import Link, blocks, is_protected

__all__ = ["find_file"]

_WEIGHTS = (".safetensors", ".pth", ".pt")
_MOST_PAGES = 100
"""Of a list; at a thousand repositories a page, nobody has more."""
_MOST_BYTES = 1 << 26
"""Of one page."""
_SHOWN = 6
"""Files named in a message."""


def find_file(reference: Reference, search: Search, link: Link) -> Reference:
    """The file that is meant, in the place of ``reference``.

    Raises:
        WeightsError: there is none, or there are several.
    """
    there = _files_of(search, link)
    fitting = _fitting(search, there)
    if len(fitting) == 1:
        revision = "" if search.revision == "main" else f"@{search.revision}"
        return replace(
            parse(f"hf:{fitting[0]}{revision}"), text=reference.text, place=reference.place
        )
    if fitting:
        trouble = f"{len(fitting)} files fit: {_named(fitting, search)}; say which"
    elif weights := [name for name in there if name.lower().endswith(_WEIGHTS)]:
        trouble = f"no such file; there are {_named(weights, search)}; say which"
    else:
        trouble = "no weights there"
    raise WeightsError(f"{reference.text}: {trouble}")


def _fitting(search: Search, there: list[str]) -> list[str]:
    """Files that may be meant."""
    if search.file:
        return [name for name in there if name.rpartition("/")[2] == search.file]
    weights = [Path(name) for name in there if name.lower().endswith(_WEIGHTS)]
    safe = {path.with_suffix("") for path in weights if path.suffix.lower() == _WEIGHTS[0]}
    return [
        path.as_posix()
        for path in weights
        if path.suffix.lower() == _WEIGHTS[0] or path.with_suffix("") not in safe
    ]


def _named(names: list[str], search: Search) -> str:
    """References to files, those first whose names are most like the wanted one."""
    from difflib import SequenceMatcher

    def unlike(name: str) -> float:
        return -SequenceMatcher(None, search.file, name.rpartition("/")[2]).ratio()

    shown = [f"hf:{name}" for name in sorted(names, key=unlike)[:_SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _files_of(search: Search, link: Link) -> list[str]:
    """All files of the repository, or of all of the owner's, as OWNER/REPO/FILE.

    What cannot be asked for by such a name is left out.
    """
    found = []
    for repository, file in _listed(link, "repository" if search.repository else "owner"):
        # A repository that was renamed answers under its new name.
        where = f"{search.owner}/{search.repository}" if search.repository else repository
        if where.partition("/")[0].lower() == search.owner.lower() and _is_file(f"{where}/{file}"):
            found.append(f"{where}/{file}")
    return found


def _is_file(name: str) -> bool:
    try:
        return parse(f"hf:{name}").hub is not None
    except ConfigError:
        return False


def _listed(link: Link, sought: str) -> Iterator[tuple[str, str]]:
    """Repositories and files, from all pages of what the Hub's API answers.

    Raises:
        WeightsError: it is not to be had, or is something else, or does not end.
    """
    for _ in range(_MOST_PAGES):
        content, others = link.persist(partial(_page, link, sought))
        yield from _entries(content, link.url)
        following = re.search(r'<([^>]*)>[^<,]*;\s*rel="?next\b', others)
        if not following:
            return
        # Of the address only the query counts: a mirror may pass on that of the original.
        query = urlsplit(following[1]).query
        link = replace(link, url=urlsplit(link.url)._replace(query=query).geturl())
    raise WeightsError(f"{link.url}: the list does not end")


def _page(link: Link, sought: str) -> tuple[bytes, str]:
    """One page of a list, and its ``Link`` header, which names the next."""
    from urllib.error import HTTPError

    shown = token() if is_protected(link.url, "") else ""
    try:
        with link.ask("GET", {"Accept-Encoding": "identity"}, shown) as response:
            content = bytearray()
            for block in blocks(response):
                content += block
                if len(content) > _MOST_BYTES:
                    raise WeightsError(f"{link.url}: more than a list of files")
            return bytes(content), response.headers.get("Link", "")
    except HTTPError as error:
        with error:
            link.explain_status(error.code, error, sought)


def _entries(content: bytes, url: str) -> list[tuple[str, str]]:
    try:
        answer = json.loads(content)
        repositories = answer if isinstance(answer, list) else [answer]
        held = [(str(entry["id"]), entry.get("siblings") or ()) for entry in repositories]
        return [(name, str(file["rfilename"])) for name, files in held for file in files]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{url}: the server answers something else than files") from error

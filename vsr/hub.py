"""Downloads of weights that arrive whole or not at all.

A download grows under ``.part`` beside its place in the cache, goes on where it was cut off, and
takes its final name only after it was checked. Where a reference leaves the repository or the file
open, the Hub is asked first. Importing this module needs neither torch nor a connection.
"""

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from vsr.cache import (
    Reference,
    Search,
    beside,
    cache_folder,
    file_sha256,
    parse,
    record,
    recorded_sha256,
    trusted_sha256,
)
from vsr.errors import ConfigError, CorruptWeightsError, WeightsError

if TYPE_CHECKING:
    from http.client import HTTPMessage, HTTPResponse
    from urllib.error import URLError
    from urllib.request import OpenerDirector

__all__ = ["Limits", "OnBytes", "fetch"]

type OnBytes = Callable[[int, int | None], None]
"""Called while bytes arrive, with how many there are and how many there will be, if known."""

_BLOCK = 1 << 18
_SMALLEST = 1024
"""Bytes; less than that holds no weights."""
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_PAGE = "an HTML page, not weights; give the link of the file itself"
_WEIGHTS = (".safetensors", ".pth", ".pt")
_MOST_PAGES = 100
"""Of a list; at a thousand repositories a page, nobody has more."""
_MOST_BYTES = 1 << 26
"""Of one page."""
_SHOWN = 6
"""Files named in a message."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient a download is."""

    timeout: float = 30.0
    """Seconds without a byte after which a connection counts as dead."""
    tries: int = 5
    backoff: float = 1.0
    """Seconds before the second try; doubled before each further one."""
    redirects: int = 10
    size: int = 1 << 34
    """Bytes that no file of weights has; what claims or sends more is refused."""


_PATIENT = Limits()


class _Transient(Exception):
    """What may be gone at the next try; the text says what it was."""


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


# Fetching.


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
    if not _is_protected(parsed.url, sha256):
        raise ConfigError(f"{parsed.url}: only https can be trusted, or http with a known sha256")
    target = cache_folder().joinpath(*parsed.place)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            wanted = sha256.lower() or ("" if force else recorded_sha256(target))
            if force or not _is_there(target, wanted):
                part = beside(target, ".part")
                link = _Link(parsed.url, f"{parsed.in_words} elsewhere and put it at {target}",
                             sha256, limits)  # fmt: skip
                if parsed.search is not None:
                    parsed = _found(parsed, parsed.search, link)
                    link = replace(link, url=parsed.url)
                _Download(parsed, part, on_bytes, link).run()
                digest = _accept(part, parsed, wanted)
                part.replace(target)
                record(target, digest)
    except OSError as error:
        raise WeightsError(f"{error.filename or target}: {error.strerror or error}") from error
    return target


def _is_there(target: Path, wanted: str) -> bool:
    """Whether the cache holds the file, undamaged."""
    return target.is_file() and file_sha256(target) == (wanted or trusted_sha256(target))


def _is_protected(url: str, sha256: str) -> bool:
    """Whether nobody on the way can exchange the file unnoticed."""
    parts = urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return parts.scheme == "https" or (parts.scheme == "http" and bool(local or sha256))


def _accept(part: Path, parsed: Reference, wanted: str) -> str:
    """The digest of a finished download; one that is not what was asked for is removed.

    Raises:
        CorruptWeightsError: it is an HTML page, a Git LFS pointer, too small, or another file.
    """
    digest = file_sha256(part)
    with part.open("rb") as file:
        head = file.read(512).lstrip().lower()
    reason = ""
    if head.startswith((b"<!doctype html", b"<html")):
        reason = _PAGE
    elif head.startswith(b"version https://git-lfs"):
        reason = "a Git LFS pointer, not weights"
    elif wanted and digest != wanted:
        reason = f"its sha256 is {digest}, not {wanted}"
    elif not wanted and part.stat().st_size < _SMALLEST:
        reason = f"only {part.stat().st_size} bytes, which holds no weights"
    if reason:
        _forget(part)
        raise CorruptWeightsError(f"{parsed.url}: {reason}; nothing was kept")
    beside(part, ".etag").unlink(missing_ok=True)
    return digest


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    beside(part, ".etag").unlink(missing_ok=True)


# Talking to a server.


@dataclass(frozen=True, slots=True)
class _Link:
    """Requests for one address, and what goes wrong with them in words."""

    url: str
    by_hand: str
    """What to fetch elsewhere, offline, and where to put it."""
    sha256: str
    limits: Limits

    def persist[T](self, attempt: Callable[[], T]) -> T:
        """What ``attempt`` returns, tried again as long as its trouble may pass.

        Raises:
            WeightsError: it did not pass.
        """
        for number in range(self.limits.tries):
            if number:
                time.sleep(self.limits.backoff * 2 ** (number - 1))
            try:
                return attempt()
            except _Transient as error:
                trouble = str(error)
        raise WeightsError(
            f"{self.url}: {trouble}, {self.limits.tries} times; run the same again to go on"
        )

    def ask(self, method: str, headers: dict[str, str], token: str = "") -> "HTTPResponse":
        """Send a request; a status that is no success remains an HTTPError."""
        from http.client import HTTPException
        from urllib.error import HTTPError, URLError
        from urllib.request import Request

        request = Request(self.url, headers={"User-Agent": "vsr", **headers}, method=method)
        if token:  # which no other server is told, wherever this one redirects to
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        try:
            response: HTTPResponse = self._opener().open(request, timeout=self.limits.timeout)
        except HTTPError:
            raise
        except URLError as error:
            self._explain_connection(error)
        except (HTTPException, OSError) as error:
            raise _Transient(_in_words(error)) from error
        else:
            return response

    def _opener(self) -> "OpenerDirector":
        from urllib.request import HTTPRedirectHandler, Request, build_opener

        sha256 = self.sha256

        class Redirects(HTTPRedirectHandler):
            max_redirections = self.limits.redirects

            def redirect_request(
                self, req: Request, fp: IO[bytes], code: int, msg: str,
                headers: "HTTPMessage", newurl: str,
            ) -> Request | None:  # fmt: skip
                if not _is_protected(newurl, sha256):
                    fp.close()
                    raise WeightsError(f"{req.full_url}: redirected to {newurl}, unprotected")
                return super().redirect_request(req, fp, code, msg, headers, newurl)

        return build_opener(Redirects)

    def explain_status(self, code: int, error: Exception, sought: str = "file") -> NoReturn:
        """Say what a status means that is no success.

        Raises:
            _Transient: it may be had later.
            WeightsError: it may not.
        """
        if code in _TRANSIENT:
            raise _Transient(f"the server answers {code}") from error
        if 300 <= code < 400:
            raise WeightsError(
                f"{self.url}: redirected in circles, too often, or nowhere"
            ) from error
        if code in (401, 403):
            raise WeightsError(
                f"{self.url}: not allowed ({code}), or no such {sought}; for a private or gated "
                "repository install 'vsr[hub]' and log in with 'hf auth login'"
            ) from error
        words = {404: f" (no such {sought})", 410: " (no longer there)"}.get(code, "")
        raise WeightsError(f"{self.url}: the server answers {code}{words}") from error

    def _explain_connection(self, error: "URLError") -> NoReturn:
        from ssl import SSLCertVerificationError

        reason = error.reason
        if isinstance(reason, TimeoutError | ConnectionResetError | ConnectionAbortedError):
            raise _Transient(_in_words(reason)) from error
        if isinstance(reason, SSLCertVerificationError):
            raise WeightsError(f"{self.url}: its certificate is not trusted") from error
        self.unreachable(reason, error)

    def unreachable(self, reason: object, error: Exception) -> NoReturn:
        """Say that nobody answers, and the way out."""
        words = getattr(reason, "strerror", None) or _first_line(reason)
        raise WeightsError(
            f"cannot reach {urlsplit(self.url).netloc} ({words}); offline, fetch {self.by_hand}"
        ) from error


def _blocks(response: "HTTPResponse", offset: int = 0) -> Iterator[bytes]:
    """What comes, of a file that goes on at ``offset``.

    Raises:
        _Transient: the connection broke.
    """
    expected = _length(response)
    count = 0
    while block := _read(response):
        yield block
        count += len(block)
    if expected is not None and count < expected:
        raise _Transient(
            f"the connection ended after {offset + count} of {offset + expected} bytes"
        )


def _length(response: "HTTPResponse") -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _read(response: "HTTPResponse") -> bytes:
    """What has come; nothing at the end.

    Raises:
        _Transient: the connection broke.
    """
    from http.client import HTTPException

    try:
        return response.read1(_BLOCK)
    except (HTTPException, OSError) as error:
        raise _Transient(_in_words(error)) from error


def _in_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no byte came in time"
    return "the connection broke off"


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_line(error: object) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# Looking up what a reference leaves open.


def _found(reference: Reference, search: Search, link: _Link) -> Reference:
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


def _files_of(search: Search, link: _Link) -> list[str]:
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


def _listed(link: _Link, sought: str) -> Iterator[tuple[str, str]]:
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


def _page(link: _Link, sought: str) -> tuple[bytes, str]:
    """One page of a list, and its ``Link`` header, which names the next."""
    from urllib.error import HTTPError

    token = _token() if _is_protected(link.url, "") else ""
    try:
        with link.ask("GET", {"Accept-Encoding": "identity"}, token) as response:
            content = bytearray()
            for block in _blocks(response):
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


def _token() -> str:
    """What shows the Hub who asks, if huggingface_hub knows; private repositories need it."""
    if not find_spec("huggingface_hub"):
        return ""
    from huggingface_hub import get_token

    return get_token() or ""


# Downloading.


@dataclass(frozen=True, slots=True)
class _Download:
    """One file on its way to ``part``."""

    parsed: Reference
    part: Path
    on_bytes: OnBytes | None
    link: _Link

    def run(self) -> None:
        """Try until it is there.

        Raises:
            WeightsError: it is not to be had, or not now.
            CorruptWeightsError: the server sends something else.
        """
        if self.parsed.hub and find_spec("huggingface_hub"):
            repository, file, revision = self.parsed.hub
            self.link.persist(partial(self._from_hub, repository, file, revision))
        else:
            self.link.persist(self._from_url)

    def _from_url(self) -> None:
        """Fetch what is missing of the file, over one connection."""
        offset, etag = self._resume_point()
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers |= {"Range": f"bytes={offset}-", "If-Range": etag}
        with self._open(headers) as response:
            self._refuse_impostors(response)
            if response.status == 206:
                self._append(response, offset)
            else:
                self._begin(response.headers)
                self._append(response, 0)

    def _refuse_impostors(self, response: "HTTPResponse") -> None:
        """Look at what the server says that it is going to send.

        Raises:
            CorruptWeightsError: a page, more than weights can have, or what would have to be
                unpacked first, which was not asked for.
        """
        headers = response.headers
        if headers.get_content_type() == "text/html":
            raise CorruptWeightsError(f"{self.parsed.url}: {_PAGE}")
        if (coding := headers.get("Content-Encoding", "identity").lower()) != "identity":
            raise CorruptWeightsError(f"{self.parsed.url}: the server sends it as {coding}")
        self._refuse_giants(_length(response) or 0)

    def _refuse_giants(self, size: int) -> None:
        if size > self.link.limits.size:
            _forget(self.part)
            gigabytes = self.link.limits.size / 1e9
            raise CorruptWeightsError(
                f"{self.parsed.url}: more than {gigabytes:.3g} GB, which are no weights; nothing "
                "was kept"
            )

    def _resume_point(self) -> tuple[int, str]:
        """How many bytes are there, and what the server called that version of the file."""
        try:
            etag = beside(self.part, ".etag").read_text(encoding="ascii").strip()
            return (self.part.stat().st_size, etag) if etag else (0, "")
        except (OSError, ValueError):
            return 0, ""

    def _begin(self, headers: "HTTPMessage") -> None:
        """Start the file anew; only a strong ETag lets a later connection continue it."""
        _forget(self.part)
        etag = headers.get("ETag", "")
        if etag.startswith('"'):
            beside(self.part, ".etag").write_text(etag, encoding="ascii")

    def _append(self, response: "HTTPResponse", offset: int) -> None:
        """Add what comes to what is there.

        Raises:
            _Transient: the connection broke, or continues at the wrong place.
        """
        begins = response.headers.get("Content-Range", f"bytes {offset}-")
        if not begins.startswith(f"bytes {offset}-"):
            _forget(self.part)
            raise _Transient("the server continued at the wrong place")
        expected = _length(response)
        total = None if expected is None else offset + expected
        count = offset
        with self.part.open("ab", buffering=0) as file:
            for block in _blocks(response, offset):
                count += len(block)
                self._refuse_giants(count)
                file.write(block)
                if self.on_bytes is not None:
                    self.on_bytes(count, total)

    def _open(self, headers: dict[str, str]) -> "HTTPResponse":
        """Ask for the file.

        Raises:
            _Transient: it may be had later.
            WeightsError: it may not.
        """
        from urllib.error import HTTPError

        try:
            return self.link.ask("GET", headers)
        except HTTPError as error:
            with error:
                self._explain_status(error.code, error)

    def _explain_status(self, code: int, error: Exception) -> NoReturn:
        if code == 416:  # what is there is not the beginning of what the server has
            _forget(self.part)
            raise _Transient("the file has changed on the server") from error
        self.link.explain_status(code, error)

    def _from_hub(self, repository: str, file: str, revision: str) -> None:
        """Fetch by huggingface_hub, which knows tokens and the Hub's faster protocols.

        It resumes and shows its own bar; what it keeps for that stays beside ``part``.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        self._require_answer()
        staging = beside(self.part, ".hub")
        endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
        try:
            fetched = hf_hub_download(
                repository, file, revision=revision, local_dir=staging, endpoint=endpoint,
                etag_timeout=self.link.limits.timeout, library_name="vsr",
            )  # fmt: skip
        except (HfHubHTTPError, LocalEntryNotFoundError) as error:
            response = getattr(_first_cause(error), "response", None)
            if response is None:
                self.link.unreachable(_first_cause(error), error)
            shutil.rmtree(staging, ignore_errors=True)
            self._explain_status(response.status_code, error)
        except OSError:
            raise
        except Exception as error:  # its HTTP library's own errors, which are no OSError
            raise _Transient(_first_line(error)) from error
        Path(fetched).replace(self.part)
        shutil.rmtree(staging, ignore_errors=True)

    def _require_answer(self) -> None:
        """Find out at once that nobody answers: huggingface_hub tries for half a minute, aloud.

        What the answer says does not matter; the library may have a token, and this has none.
        """
        from urllib.error import HTTPError

        try:
            self.link.ask("HEAD", {}).close()
        except HTTPError as error:
            error.close()

"""One file on its way from a server: begun, gone on with, or begun again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vsr.cache import beside
from vsr.errors import CorruptWeightsError
from vsr.files import file_sha256
from vsr.hub.link import Link, TransientError, blocks, content_length
from vsr.hub.wholeness import flaw

if TYPE_CHECKING:
    from http.client import HTTPMessage, HTTPResponse

__all__ = ["OnBytes", "accept", "download"]

type OnBytes = Callable[[int, int | None], None]
"""Called while bytes arrive, with how many there are and how many there will be, if known."""

_SMALLEST = 1024
"""Bytes; less than that holds no weights."""
_PAGE = "an HTML page, not weights; give the link of the file itself"


def download(link: Link, part: Path, on_bytes: OnBytes | None = None) -> None:
    """Fetch a file into ``part``, or what is missing of it.

    Args:
        link: the file's address, patience, words for trouble.
        part: what is written; what is there of an earlier try is gone on with, if it may be.
        on_bytes: called as bytes arrive.

    Raises:
        WeightsError: it is not to be had, or not now.
        CorruptWeightsError: the server sends something else.
    """
    link.persist(_Download(link, part, on_bytes).run)


def accept(part: Path, url: str, sha256: str = "") -> str:
    """The digest of a finished download; one that is not what was asked for is removed.

    Args:
        part: the file.
        url: where it came from, for the message.
        sha256: what it must have, if that is known.

    Raises:
        CorruptWeightsError: it is an HTML page, a Git LFS pointer, too small, or another file; or
            nobody knows what it must have, and it is not whole.
    """
    digest = file_sha256(part)
    with part.open("rb") as file:
        head = file.read(512).lstrip().lower()
    reason = ""
    if head.startswith((b"<!doctype html", b"<html")):
        reason = _PAGE
    elif head.startswith(b"version https://git-lfs"):
        reason = "a Git LFS pointer, not weights"
    elif sha256 and digest != sha256:
        reason = f"its sha256 is {digest}, not {sha256}"
    elif not sha256 and part.stat().st_size < _SMALLEST:
        reason = f"only {part.stat().st_size} bytes, which holds no weights"
    elif not sha256:
        reason = flaw(part, url)
    if reason:
        _forget(part)
        raise CorruptWeightsError(f"{url}: {reason}; nothing was kept")
    beside(part, ".etag").unlink(missing_ok=True)
    return digest


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    beside(part, ".etag").unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Download:
    """One file on its way to ``part``."""

    link: Link
    part: Path
    on_bytes: OnBytes | None

    def run(self) -> None:
        """Fetch what is missing of the file, over one connection.

        Raises:
            TransientError: there is more to come, or it may be had later.
            WeightsError: it may not.
        """
        offset, etag = self._resume_point()
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers |= {"Range": f"bytes={offset}-", "If-Range": etag}
        response = self._open(headers, offset)
        if response is None:
            if self.on_bytes is not None:
                self.on_bytes(offset, offset)
            return
        with response:
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
            raise CorruptWeightsError(f"{self.link.name}: {_PAGE}")
        if (coding := headers.get("Content-Encoding", "identity").lower()) != "identity":
            raise CorruptWeightsError(f"{self.link.name}: the server sends it as {coding}")
        self._refuse_giants(content_length(response) or 0)

    def _refuse_giants(self, size: int) -> None:
        try:
            self.link.refuse_giants(size)
        except CorruptWeightsError:
            _forget(self.part)
            raise

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
            TransientError: the connection broke, or continues at the wrong place.
        """
        begins = response.headers.get("Content-Range", f"bytes {offset}-")
        if not begins.startswith(f"bytes {offset}-"):
            _forget(self.part)
            raise TransientError("the server continued at the wrong place")
        expected = content_length(response)
        total = None if expected is None else offset + expected
        count = offset
        with self.part.open("ab") as file:
            for block in blocks(response, offset):
                count += len(block)
                self._refuse_giants(count)
                file.write(block)
                file.flush()  # a run that is killed loses nothing
                if self.on_bytes is not None:
                    self.on_bytes(count, total)

    def _open(self, headers: dict[str, str], offset: int) -> "HTTPResponse | None":
        """Ask for the file, from ``offset`` on; None if that is its end, and all of it is there.

        Raises:
            TransientError: it may be had later.
            WeightsError: it may not.
        """
        from urllib.error import HTTPError

        try:
            return self.link.ask("GET", headers)
        except HTTPError as error:
            with error:
                if error.code == 416:
                    if offset and error.headers.get("Content-Range") == f"bytes */{offset}":
                        return None  # a run was killed between the last byte and what follows
                    _forget(self.part)  # it is not the beginning of what the server has
                self.link.explain_status(error.code, error)

"""Requests to a server, and in words what goes wrong with them."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from vsr.cache import without_query
from vsr.errors import CorruptWeightsError, WeightsError

if TYPE_CHECKING:
    from http.client import HTTPMessage, HTTPResponse
    from urllib.error import URLError
    from urllib.request import OpenerDirector

__all__ = [
    "Limits",
    "Link",
    "TransientError",
    "blocks",
    "content_length",
    "first_line",
    "is_protected",
]

_BLOCK = 1 << 18
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


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


class TransientError(Exception):
    """What may be gone at the next try; the text says what it was."""


def is_protected(url: str, sha256: str) -> bool:
    """Whether nobody on the way can exchange the file unnoticed."""
    parts = urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return parts.scheme == "https" or (parts.scheme == "http" and bool(local or sha256))


@dataclass(frozen=True, slots=True)
class Link:
    """Requests for one address, and what goes wrong with them in words."""

    url: str
    by_hand: str
    """What to fetch elsewhere, offline, and where to put it."""
    sha256: str
    limits: Limits
    of_hub: bool = False
    """Whether it is the Hugging Face Hub that is asked, where one can log in."""

    @property
    def name(self) -> str:
        """The address in a message."""
        return self.url if self.of_hub else without_query(self.url)

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
            except TransientError as error:
                trouble = str(error)
        raise WeightsError(
            f"{self.name}: {trouble}, {self.limits.tries} times; run the same again to go on"
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
            raise TransientError(_in_words(error)) from error
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
                if not is_protected(newurl, sha256):
                    fp.close()
                    raise WeightsError(f"{req.full_url}: redirected to {newurl}, unprotected")
                return super().redirect_request(req, fp, code, msg, headers, newurl)

        return build_opener(Redirects)

    def explain_status(self, code: int, error: Exception, sought: str = "file") -> NoReturn:
        """Say what a status means that is no success.

        Raises:
            TransientError: it may be had later.
            WeightsError: it may not.
        """
        if code == 416:
            raise TransientError("the file has changed on the server") from error
        if code in _TRANSIENT:
            raise TransientError(f"the server answers {code}") from error
        if 300 <= code < 400:
            if away := _leads_away(error):
                raise WeightsError(f"{self.name}: redirected to {away}, away from http") from error
            raise WeightsError(
                f"{self.name}: redirected in circles, too often, or nowhere"
            ) from error
        if code in (401, 403):
            hint = "; for a private or gated repository pip install huggingface_hub and log in with"
            hint = f"{hint} 'hf auth login'" if self.of_hub else ""
            raise WeightsError(
                f"{self.name}: not allowed ({code}), or no such {sought}{hint}"
            ) from error
        words = {404: f" (no such {sought})", 410: " (no longer there)"}.get(code, "")
        raise WeightsError(f"{self.name}: the server answers {code}{words}") from error

    def _explain_connection(self, error: "URLError") -> NoReturn:
        from ssl import SSLCertVerificationError

        reason = error.reason
        if isinstance(reason, TimeoutError | ConnectionResetError | ConnectionAbortedError):
            raise TransientError(_in_words(reason)) from error
        if isinstance(reason, SSLCertVerificationError):
            raise WeightsError(f"{self.name}: its certificate is not trusted") from error
        self.unreachable(reason, error)

    def refuse_giants(self, size: int, announced: int | None = None) -> None:
        """Look at how much there is, before it is written.

        Args:
            size: bytes that came, or are said to come.
            announced: how many were said to come, if that is known.

        Raises:
            CorruptWeightsError: that is more than announced, or than weights can have.
        """
        if size > self.limits.size:
            too_many = f"{self.limits.size / 1e9:.3g} GB, which are no weights"
        elif announced is not None and size > announced:
            too_many = f"the {announced} bytes that were announced"
        else:
            return
        raise CorruptWeightsError(f"{self.name}: more than {too_many}; nothing was kept")

    def unreachable(self, reason: object, error: Exception) -> NoReturn:
        """Say that nobody answers, and the way out."""
        words = getattr(reason, "strerror", None) or first_line(reason)
        raise WeightsError(
            f"cannot reach {urlsplit(self.url).netloc} ({words}); offline, fetch {self.by_hand}"
        ) from error


def blocks(response: "HTTPResponse", offset: int = 0) -> Iterator[bytes]:
    """What comes, of a file that goes on at ``offset``.

    Raises:
        TransientError: the connection broke.
    """
    expected = content_length(response)
    count = 0
    while block := _read(response):
        yield block
        count += len(block)
    if expected is not None and count < expected:
        raise TransientError(
            f"the connection ended after {offset + count} of {offset + expected} bytes"
        )


def content_length(response: "HTTPResponse") -> int | None:
    """Bytes that the server announces; None if it does not."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _read(response: "HTTPResponse") -> bytes:
    """What has come; nothing at the end.

    Raises:
        TransientError: the connection broke.
    """
    from http.client import HTTPException

    try:
        return response.read1(_BLOCK)
    except (HTTPException, OSError) as error:
        raise TransientError(_in_words(error)) from error


def _in_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no byte came in time"
    return "the connection broke off"


def _leads_away(error: Exception) -> str:
    """Where a redirect leads that Python refuses to follow; empty if it could be followed."""
    headers = getattr(error, "headers", None)
    where = (headers.get("Location") or "") if headers is not None else ""
    try:
        return where if urlsplit(where).scheme not in ("", "http", "https") else ""
    except ValueError:  # no address at all
        return ""


def first_line(error: object) -> str:
    """An error's text up to its first line break; of one without, its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]

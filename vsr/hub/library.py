"""huggingface_hub, where it is installed: it knows tokens and the Hub's faster protocols."""

import os
import shutil
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsr.cache import beside
from vsr.errors import CorruptWeightsError
from vsr.hub.link import Link, TransientError, first_line

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["download_by_library", "is_installed", "token"]


def is_installed() -> bool:
    """Whether huggingface_hub is there; nothing is imported."""
    return find_spec("huggingface_hub") is not None


def token() -> str:
    """What shows the Hub who asks, if the library knows; private repositories need it."""
    if not is_installed():
        return ""
    from huggingface_hub import get_token

    return get_token() or ""


def download_by_library(link: Link, place: tuple[str, str, str], part: Path) -> None:
    """Fetch a file of the Hub into ``part``.

    The library resumes and shows its own bar; what it keeps for that stays beside ``part``.

    Args:
        link: the file's address, patience, words for trouble.
        place: repository, file and revision.
        part: what is written.

    Raises:
        WeightsError: it is not to be had, or not now.
        CorruptWeightsError: it is more than weights can have, or than was announced.
    """
    link.persist(partial(_try, link, place, part))


def _try(link: Link, place: tuple[str, str, str], part: Path) -> None:
    """Fetch once; the library's errors become ours.

    Raises:
        TransientError: it may be had later.
        WeightsError: it may not.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    _require_answer(link)
    repository, file, revision = place
    staging = beside(part, ".hub")
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    try:
        fetched = hf_hub_download(
            repository, file, revision=revision, local_dir=staging, endpoint=endpoint,
            etag_timeout=link.limits.timeout, library_name="vsr", tqdm_class=_bar(link),
        )  # fmt: skip
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        response = getattr(_first_cause(error), "response", None)
        if response is None:
            link.unreachable(_first_cause(error), error)
        shutil.rmtree(staging, ignore_errors=True)
        link.explain_status(response.status_code, error)
    except OSError as error:
        if error.errno is None:  # not the system's: fewer bytes came than were announced
            shutil.rmtree(staging, ignore_errors=True)
            raise TransientError(first_line(error)) from error
        raise
    except (CorruptWeightsError, TransientError):
        shutil.rmtree(staging, ignore_errors=True)
        raise
    except Exception as error:  # its HTTP library's own errors, which are no OSError
        raise TransientError(first_line(error)) from error
    Path(fetched).replace(part)
    shutil.rmtree(staging, ignore_errors=True)


def _bar(link: Link) -> "type[tqdm[Any]]":
    """The library's progress bar, which also ends a download that it would not end itself.

    The library (1.33) writes what comes, unpacks it if it is packed, counts when it is over, and
    begins again without end where a server breaks off after each 10 MB. It tells the bar of each
    block before it writes it.
    """
    from huggingface_hub.utils.tqdm import tqdm as shown

    class Bar(shown):  # type: ignore[type-arg, misc, unused-ignore]
        def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - tqdm's
            self._announced: int | None = options.get("total")
            self._count, self._restarts = options.get("initial") or 0, 0
            self.disable = True  # a bar that never was is none to close
            link.refuse_giants(self._announced or 0)
            super().__init__(*arguments, **options)  # type: ignore[no-untyped-call, unused-ignore]

        def update(self, n: float | None = 1) -> bool | None:
            self._count += int(n or 0)
            self._restarts += (n or 0) < 0
            if self._restarts >= link.limits.tries:
                raise TransientError("the connection broke off")
            link.refuse_giants(self._count, self._announced)
            return super().update(n)

    return Bar


def _require_answer(link: Link) -> None:
    """Find out at once that nobody answers: the library tries for half a minute, aloud.

    What the answer says does not matter; the library may have a token, and this has none.
    """
    from urllib.error import HTTPError

    try:
        link.ask("HEAD", {}).close()
    except HTTPError as error:
        error.close()


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error

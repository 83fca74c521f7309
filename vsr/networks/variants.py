"""Which variant a checkpoint is, where its shapes fit more than one.

The window sizes of SST and SST+ leave no trace in a checkpoint. Its metadata may name them
(``windows``); else what is known besides is asked in this order: the model index, the file's
metadata, the file's name, the user.
"""

import logging
import re
from collections.abc import Mapping, Sequence

from vsr.errors import ConfigError

__all__ = ["choose_variant", "parse_windows"]

logger = logging.getLogger(__name__)

_ORIGINS = {
    "variant": "the index or the file's metadata",
    "file_name": "the file's name",
    "requested_variant": "your choice",
}


def _plain(text: str) -> str:
    """Letters and digits only: ``SSTLarge_Plus`` and ``sst-l+`` are the same."""
    spelled = text.lower().replace("+", "plus").replace("large", "l")
    return re.sub(r"[^a-z0-9]", "", spelled)


def _is_named(candidate: str, name: str) -> bool:
    """Whether every part of a variant's name occurs in a file's: ``sst+`` in ``SST-base-plus``."""
    return all(_plain(part) in _plain(name) for part in re.findall(r"[a-z]+|\+", candidate))


def choose_variant(
    candidates: Sequence[str], metadata: Mapping[str, str], default: str | None = None
) -> str:
    """The one of ``candidates`` (all of which fit the shapes) that ``metadata`` speaks for.

    Args:
        candidates: names of variants, e.g. ``sst`` and ``sst+``.
        metadata: may hold ``variant``, ``file_name`` and ``requested_variant``.
        default: what it is if nothing decides.

    Raises:
        ConfigError: nothing decides, and there is no default.
    """
    if len(candidates) == 1:
        return candidates[0]
    requested = metadata.get("requested_variant", "")
    for origin, words in _ORIGINS.items():
        hint = metadata.get(origin, "")
        fits = _is_named if origin == "file_name" else _is_called
        fitting = [candidate for candidate in candidates if fits(candidate, hint)]
        if fitting:
            chosen = max(fitting, key=len)
            ignored = requested and not _is_called(chosen, requested)
            logger.log(
                logging.WARNING if ignored else logging.INFO, "variant %s, according to %s%s",
                chosen, words, f"; your choice of {requested} is ignored" if ignored else "",
            )  # fmt: skip
            return chosen
    if default is None:
        raise ConfigError(f"its shapes fit {' and '.join(candidates)}; say which variant it is")
    return default


def _is_called(candidate: str, name: str) -> bool:
    """Whether ``name`` is the variant's, however it is spelt."""
    return _plain(candidate) == _plain(name)


def parse_windows(text: str) -> tuple[int, ...]:
    """Sides of windows as a file's metadata names them: ``16,32,48``.

    Raises:
        ValueError: these are no sides of windows.
    """
    sides = tuple(int(side) for side in text.split(","))
    if min(sides) < 1:
        raise ValueError(f"windows of {text} pixels do not exist")
    return sides

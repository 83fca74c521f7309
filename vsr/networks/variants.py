"""Which variant a checkpoint is, where its shapes fit more than one.

The window sizes of SST and SST+ leave no trace in a checkpoint. What else is known is asked in this
order: the model index, the file's metadata, the file's name, the user.
"""

import logging
import re
from collections.abc import Mapping, Sequence

from vsr.errors import ConfigError

__all__ = ["choose_variant"]

logger = logging.getLogger(__name__)

_ORIGINS = {
    "variant": "the index or the file's metadata",
    "file_name": "the file's name",
    "requested_variant": "--variant",
}


def _plain(text: str) -> str:
    """Letters and digits only: ``SSTLarge_Plus`` and ``sst-l+`` are the same."""
    spelled = text.lower().replace("+", "plus").replace("large", "l")
    return re.sub(r"[^a-z0-9]", "", spelled)


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
    for origin, words in _ORIGINS.items():
        hint = _plain(metadata.get(origin, ""))
        exact = origin != "file_name"
        fitting = [c for c in candidates if _plain(c) == hint or (not exact and _plain(c) in hint)]
        if fitting:
            chosen = max(fitting, key=len)
            logger.info("variant %s, according to %s", chosen, words)
            return chosen
    if default is None:
        raise ConfigError(f"its shapes fit {' and '.join(candidates)}; say which by --variant")
    return default

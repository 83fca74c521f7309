"""Lines that a run has to say of what it lost, repaired or changed on its way."""

import logging
from collections.abc import Iterable

__all__ = ["Notes"]

_logger = logging.getLogger(__name__)


class Notes(list[str]):
    """Such lines, kept for the report; each is logged once, as soon as it is known.

    Args:
        lines: what is known already, and not logged.
        logger: what the others go to.
    """

    def __init__(self, lines: Iterable[str] = (), *, logger: logging.Logger = _logger) -> None:
        super().__init__(lines)
        self._logger = logger

    def warn(self, line: str) -> None:
        """Keep ``line``, and log it as a warning, unless it is among them."""
        if line not in self:
            self.append(line)
            self._logger.warning("%s", line)

"""What was measured on a device, kept from one run to the next.

A file for each device below the cache folder; whoever measures again replaces it whole. A file that
is damaged or cannot be written only means that it is measured again.
"""

import json
import logging
import math
import platform
import re
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from vsr.cache import cache_folder
from vsr.errors import ConfigError
from vsr.files import written_whole

__all__ = ["compare", "processor_name", "remember", "remembered", "timings_path"]

logger = logging.getLogger(__name__)


@cache
def processor_name() -> str:
    """What the CPU is called."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def timings_path(device: str) -> Path:
    """Where the timings of a device lie.

    Raises:
        ConfigError: there is no place for caches.
    """
    return cache_folder().parent / "timings" / (re.sub(r"[^\w.+-]+", "-", device) + ".json")


def remembered(device: str, key: str) -> Any:  # noqa: ANN401 - JSON
    """What :func:`remember` was given for ``key``; None if nothing, or nothing readable."""
    return _read(device).get(key)


def remember(device: str, key: str, value: object) -> None:
    """Keep ``value``, JSON, for the next run; a cache that cannot be written stays as it is."""
    try:
        path = timings_path(device)
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as draft:
            draft.write_text(json.dumps({**_read(device), key: value}, indent=2) + "\n", "utf-8")
    except (ConfigError, OSError) as error:
        logger.info("timings are not kept: %s", error)


def compare(
    device: str, key: str, timers: Mapping[str, Callable[[], float]], turns: int = 1
) -> dict[str, float]:
    """How long each of several ways takes: as remembered for ``key``, or as measured now.

    Of processes that measure at the same time, all take what the first remembers, so that they
    come to one choice.

    Args:
        device: as for :func:`remember`.
        key: under which the times are kept; measured again if one of ``timers`` is not among them.
        timers: measure milliseconds; what they raise makes a way infinitely slow.
        turns: how often all are asked, one after another; the best of each counts. Whatever else
            the machine does then slows all candidates alike.
    """
    known = _known_times(device, key, timers)
    if known is not None:
        return known
    rounds = [{name: _time(name, timer) for name, timer in timers.items()} for _ in range(turns)]
    times = {name: min(times[name] for times in rounds) for name in timers}
    known = _known_times(device, key, timers)
    if known is not None:
        return known
    told = ", ".join(f"{name} {taken:.1f}" for name, taken in times.items())
    logger.info("measured once on %s, %s: %s ms", device, key, told)
    if any(math.isfinite(taken) for taken in times.values()):  # else it may be another day
        remember(device, key, {n: t if math.isfinite(t) else None for n, t in times.items()})
    return times


def _known_times(device: str, key: str, names: Collection[str]) -> dict[str, float] | None:
    """The remembered times of ``names``; None if one is missing or is no time."""
    known = remembered(device, key)
    if not isinstance(known, dict):
        return None
    times = {name: known.get(name, "missing") for name in names}
    if not all(time is None or isinstance(time, float) for time in times.values()):
        return None
    return {name: math.inf if time is None else time for name, time in times.items()}


def _time(name: str, timer: Callable[[], float]) -> float:
    try:
        return timer()
    except Exception as error:  # noqa: BLE001 - compilers and drivers raise anything
        logger.debug("%s is not compared: %s", name, error)
        return math.inf


def _read(device: str) -> Mapping[str, Any]:
    try:
        known = json.loads(timings_path(device).read_text("utf-8"))
    except (ConfigError, OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}

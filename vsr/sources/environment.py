"""VapourSynth's environments: a core, plugins and outputs for every script, apart from each other.

VapourSynth asks a *policy* which environment is meant, and there is one policy in a process. Ours
is registered unless there is one already: under vspipe, or in a session that has used
``vapoursynth.core`` before. There, scripts run in the environment that exists.
"""

import atexit
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import vapoursynth as vs  # type: ignore[import-untyped]

from vsr.errors import SourceError

__all__ = ["Environment", "make_environment"]

logger = logging.getLogger(__name__)
_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
"""Python's for VapourSynth's message types, by number."""
_HARMLESS = ("no return value(s) named", "index progress")
"""A plugin gives back more than it has declared, as BestSource does with timestamps; and how far it
had come, which is read when it is long over: messages wait for the first frame."""


class _Policy(vs.EnvironmentPolicy):  # type: ignore[misc]
    """An environment for every script, and one for whoever asks outside of all scripts."""

    def __init__(self) -> None:
        self.api: Any = None
        self._here = threading.local()
        self._alive: list[Any] = []
        self._kept: list[Any] = []
        self._session: Any = None
        self._lock = threading.Lock()

    def on_policy_registered(self, special_api: Any) -> None:  # noqa: ANN401
        """VapourSynth hands over what only a policy may do."""
        self.api = special_api

    def on_policy_cleared(self) -> None:
        """VapourSynth is done with this policy."""
        self.api = None

    def get_current_environment(self) -> Any:  # noqa: ANN401
        """The environment of this thread; outside of all, the session's, made when first asked."""
        found = getattr(self._here, "environment", None)
        return self._of_session() if found is None else found

    def set_environment(self, environment: Any) -> Any:  # noqa: ANN401
        """Make ``environment`` this thread's; returns the one before."""
        before = getattr(self._here, "environment", None)
        self._here.environment = environment
        return before

    def is_alive(self, environment: Any) -> bool:  # noqa: ANN401
        """Whether it has not been destroyed."""
        return environment in self._alive

    def create(self) -> Any:  # noqa: ANN401
        """A new environment."""
        environment = self.api.create_environment(0)
        self.api.set_logger(environment, _pass_on)
        self._alive.append(environment)
        return environment

    def destroy(self, environment: Any) -> None:  # noqa: ANN401
        """Free its core; what still holds a clip of it holds nothing."""
        self._alive.remove(environment)
        self.api.destroy_environment(environment)

    def keep(self, environment: Any) -> None:  # noqa: ANN401
        """Do not destroy it at the end of the process, either."""
        self._kept.append(environment)

    def close(self) -> None:
        """At the end of the process: VapourSynth warns of environments that are left."""
        self._session = None
        while self.api is not None and (left := self._to_destroy()):  # which may make another
            self.destroy(left[-1])

    def _to_destroy(self) -> list[Any]:
        return [environment for environment in self._alive if environment not in self._kept]

    def _of_session(self) -> Any:  # noqa: ANN401
        with self._lock:
            if self._session is None:
                self._session = self.create()
            return self._session


def _pass_on(kind: int, message: str) -> None:
    """A message of VapourSynth's or of a plugin's, which would go to stderr past the log."""
    level = _LEVELS[min(int(kind), len(_LEVELS) - 1)]
    harmless = any(part in message for part in _HARMLESS)
    logger.log(logging.DEBUG if harmless else level, "VapourSynth: %s", message)


class Environment:
    """Where a script runs; to be closed when its clips are not needed any more.

    Attributes:
        shared: whether the environment existed before and goes on afterwards.
    """

    def __init__(self, policy: _Policy | None) -> None:
        self.shared = policy is None
        self._policy = policy
        self._data = policy.create() if policy is not None else None
        self._present: Any = vs.get_current_environment() if policy is None else None

    @contextmanager
    def use(self) -> Iterator[None]:
        """In this block, ``vapoursynth.core`` is this environment's, whatever the thread."""
        if self._policy is None:
            with self._present.use() if self._present.alive else nullcontext():
                yield
            return
        before = self._policy.set_environment(self._data)
        try:
            yield
        finally:
            self._policy.set_environment(before)

    @contextmanager
    def fresh_outputs(self) -> Iterator[None]:
        """In this block there are no outputs but those made in it; afterwards those from before."""
        with self.use():
            before = dict(vs.get_outputs())
            vs.clear_outputs()
            try:
                yield
            finally:
                vs.clear_outputs()
                for index, output in before.items():
                    _set_again(output, index)

    def keep(self) -> None:
        """Never destroy it: frames are being made in it that nobody can wait for."""
        if self._policy is not None and self._data is not None:
            self._policy.keep(self._data)

    def close(self) -> None:
        """Destroy the environment, unless it is shared; harmless if done before."""
        data, self._data = self._data, None
        if self._policy is not None and data is not None and self._policy.is_alive(data):
            self._policy.destroy(data)


def _set_again(output: Any, index: int) -> None:  # noqa: ANN401
    if isinstance(output, vs.VideoOutputTuple):
        output.clip.set_output(index, alpha=output.alpha, alt_output=output.alt_output)
    else:
        output.set_output(index)


_policy: _Policy | None = None
_registering = threading.Lock()


def make_environment(path: Path) -> Environment:
    """An environment for the script ``path``: its own where that is allowed, else the present one.

    Raises:
        SourceError: there is none, and none of our own is allowed.
    """
    global _policy
    with _registering:
        if _policy is None and not vs.has_policy():
            _policy = _Policy()
            vs.register_policy(_policy)
            atexit.register(_policy.close)
    try:
        return Environment(_policy)
    except RuntimeError:  # of vapoursynth.get_current_environment
        raise SourceError(
            f"{path}: another program has set VapourSynth's environment policy in this process, "
            "and no environment is active: open it inside of one"
        ) from None

import inspect
import re

import pytest

from vsr import errors
from vsr.errors import VsrError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass)]

BUILT_IN = {
    "ConfigError": ValueError, "SourceError": OSError, "UnsupportedFormatError": ValueError,
    "SinkError": OSError, "OutputExistsError": FileExistsError,
    "UnknownArchitectureError": ValueError, "CorruptWeightsError": ValueError,
    "DeviceError": RuntimeError, "OutOfMemoryError": MemoryError,
}  # fmt: skip


def test_everything_is_a_vsr_error() -> None:
    assert all(issubclass(c, VsrError) for c in CLASSES)
    assert {c.__name__ for c in CLASSES} == set(errors.__all__)


@pytest.mark.parametrize(("name", "base"), BUILT_IN.items())
def test_fits_a_built_in(name: str, base: type[Exception]) -> None:
    assert issubclass(getattr(errors, name), base)


def test_the_drawn_tree_is_the_real_one() -> None:
    """Indentation of the docstring's drawing against ``__bases__``."""
    path: list[str] = []
    drawn = {}
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    ([│ ]*(?:[├└]── )?)(\w*Error)\b", line):
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            drawn[match[2]] = path[depth - 1] if depth else "Exception"
    real = {c.__name__: c.__bases__[0].__name__ for c in CLASSES}
    assert drawn == real


@pytest.mark.parametrize("kind", CLASSES)
def test_message_is_kept(kind: type[VsrError]) -> None:
    """OSError and KeyError have texts of their own; ours print what they are given."""
    assert str(kind("film.mp4: cannot be read")) == "film.mp4: cannot be read"
    assert inspect.getdoc(kind)

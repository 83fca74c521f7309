"""docs/fidelity.md: words that people write, and between two markers what the script measured."""

import platform
from pathlib import Path

from fidelity_facts import versions

__all__ = ["BEGIN", "END", "generated", "write"]

BEGIN = "<!-- begin: written by scripts/fidelity.py --write -->"
END = "<!-- end -->"


def write(page: Path, tables: str) -> None:
    """Replace what stands between the markers of ``page``.

    Raises:
        ValueError: the markers are not there.
    """
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page}: no {BEGIN!r} … {END!r}")
    page.write_text(f"{before}{BEGIN}\n\n{generated(tables)}\n{END}{after}")


def generated(tables: str) -> str:
    """The part between the markers: how it was made, with what, and the tables."""
    return f"""Made by `python scripts/fidelity.py --write`, with {_versions()}; read by
{versions()}.

{tables}"""


def _versions() -> str:
    import av
    import torch

    import vsr

    parts = {
        "vsr": vsr.__version__, "PyAV": av.__version__, "FFmpeg": av.ffmpeg_version_info,
        "PyTorch": torch.__version__, "Python": platform.python_version(),
    }  # fmt: skip
    return ", ".join(f"{name} {version}" for name, version in parts.items())

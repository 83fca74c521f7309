"""docs/fidelity-results.md: what the script measured; docs/fidelity.md has the words to it."""

import platform

from fidelity_facts import versions

__all__ = ["HEAD", "page"]

HEAD = """# What survives, file by file

Written by `python scripts/fidelity.py --write`. What the words in the tables mean is said in
[What survives](fidelity.md#measured).
"""


def page(tables: str) -> str:
    """The whole page: what it is, what it was measured with, and the tables."""
    return f"""{HEAD}
Made with {_versions()}; read by
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

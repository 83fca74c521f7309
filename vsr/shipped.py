"""What ships beside the code: folders of data, which are no packages."""

from pathlib import Path
from typing import Literal

__all__ = ["shipped_folder"]


def shipped_folder(name: Literal["models", "plugins"]) -> Path:
    """Where a folder of data lies: in the installed package, or in the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / name
    return installed if installed.is_dir() else package.parent / name

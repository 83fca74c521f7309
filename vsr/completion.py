"""How far a run is with its output, for whoever is told to stop it.

Note [Too late to stop]
    When all frames are done there is none to stop after: what is left is to complete the output,
    which is soon done. And once that gets its name, an abort would say of a complete film that
    there is none. A signal's handler, which comes between any two instructions, asks here. So what
    comes next is entered before it is begun. A process that does several runs at a time has none of
    our handlers, and nobody asks.
"""

from enum import Enum, auto

__all__ = ["Stage", "enter", "reached"]


class Stage(Enum):
    """What a run is at."""

    WORKING = auto()
    """Frames are missing."""
    COMPLETING = auto()
    """All frames are done; there is no output yet."""
    NAMING = auto()
    """The output gets its name, or has it: what follows is not worth an abort."""


_reached = Stage.WORKING


def enter(stage: Stage) -> None:
    """Say that ``stage`` begins."""
    global _reached
    _reached = stage


def reached() -> Stage:
    """The stage of the run that was the last to enter one."""
    return _reached

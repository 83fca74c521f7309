"""Runs that can be gone on with: segments in a work folder beside the output."""

from vsr.resume.lock import locked
from vsr.resume.opening import Work, is_resumable, open_work

__all__ = ["Work", "is_resumable", "locked", "open_work"]

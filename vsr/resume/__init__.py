"""Runs that can be gone on with: segments in a work folder beside the output."""

from vsr.resume.leftovers import find_finished, tidy
from vsr.resume.lock import locked
from vsr.resume.opening import Work, finished_frames, is_resumable, open_work
from vsr.resume.settings import can_be_read_again, fingerprint

__all__ = [
    "Work",
    "can_be_read_again",
    "find_finished",
    "fingerprint",
    "finished_frames",
    "is_resumable",
    "locked",
    "open_work",
    "tidy",
]

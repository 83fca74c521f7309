"""Runs that can be resumed: finished segments lie in a work folder beside the output.

The life of such a run, and the files that tell it:

1. ``lock`` keeps other runs off; ``leftovers`` tidies up after a run that had nothing left to do.
2. ``opening`` begins a work folder (``work``: what lies in it, of a sequence of pictures
   ``pictures``; ``manifest``: the list of it; ``disk``: writing that outlasts a power cut) or goes
   on in the one that is there, if ``settings`` and ``inputs`` are the same (``matching``), and
   asks ``room`` whether the disk will hold it all.
3. ``feed`` stands behind the source and lets through the frames that are missing; of pictures
   that come out file by file, ``gaps`` finds those. ``watch`` sees when what is read changes.
4. ``sink`` cuts them into segments; ``coding`` encodes one, ``segments`` is its form on the disk.
   Pictures (``picture_files``) are kept as the files that they will be.
5. When all are there, ``join`` makes the film of the segments, or ``pictures`` the sequence, with
   the other streams of the source (``others``); ``verify`` reads it again, and it gets its name.

``account`` keeps what all runs have found, for the report and the record of the last one.
"""

from vsr.resume.leftovers import find_finished, remove_unfinished, tidy
from vsr.resume.lock import locked
from vsr.resume.matching import as_before
from vsr.resume.opening import Work, finished_frames, is_resumable, open_work
from vsr.resume.settings import can_be_read_again, changes, files_of, fingerprint

__all__ = [
    "Work",
    "as_before",
    "can_be_read_again",
    "changes",
    "files_of",
    "find_finished",
    "fingerprint",
    "finished_frames",
    "is_resumable",
    "locked",
    "open_work",
    "remove_unfinished",
    "tidy",
]

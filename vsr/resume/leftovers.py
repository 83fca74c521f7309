"""What is left of a run that was killed when its output was there already.

Note [The last steps of a run]
    The output gets its name; the record and the hashes beside it are written; the manifest says
    that all is finished, and is copied into the file of the lock; the segments are deleted, then
    the manifest, then the folder; last the file of the lock. Killed before the manifest says so, a
    run is gone on with: its segments are all there and are joined once more. Killed later, it has
    nothing to do but to delete the rest, and no frame is computed for that; the manifest or its
    copy tells that the output is that of these settings, by its size and the time of its last
    change. Work that nobody wants (``--restart``) is removed the other way round: the manifest gets
    another name, the segments go, then what was the manifest. So a folder without one is about to
    be filled, and empty, or to be removed, and says so: it holds nothing that could be gone on
    with. One that holds finished segments and neither has lost its manifest, and is left alone.
"""

import logging
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from vsr.beside import find_unfinished, lock_path, work_path
from vsr.config import PIPE, UpscaleConfig
from vsr.encoding.stills import find_stills
from vsr.errors import OutputExistsError, SinkError
from vsr.files import followed
from vsr.planning import Plan
from vsr.report import Report
from vsr.resume.lock import leave_note, locked, read_note
from vsr.resume.manifest import MANIFEST, Manifest
from vsr.resume.matching import check_settings, in_segments
from vsr.resume.work import WorkFolder, has_lost_manifest, remove_work

__all__ = ["find_finished", "remove_unfinished", "tidy"]

logger = logging.getLogger(__name__)


def tidy(config: UpscaleConfig) -> None:
    """Delete what an earlier run has left beside the output of ``config`` and nobody needs.

    Raises:
        SinkError: another run is writing that output, or what is in the way is not vsr's.
    """
    output = config.output
    if output is None or output == PIPE:
        return
    if config.resume and read_note(output):  # to be told of first
        return
    folder = work_path(output)
    if not lock_path(output).exists() and not _is_rubbish(folder, resume=config.resume):
        return
    with locked(output):
        if _is_rubbish(folder, resume=config.resume):  # still, now that nobody else works on it
            remove_work(folder)
            logger.info("%s: removed, nothing in it is needed any more", folder)


def remove_unfinished(output: Path, *, spared: Iterable[Path] = ()) -> None:
    """Delete the files that runs which were killed had begun to write for ``output``.

    The caller has just locked it, and has written nothing yet: so none of a run at work is among
    them (note [Names of what is not finished] in :mod:`vsr.beside`). What cannot be
    deleted stays, and so does what leads to one of ``spared``, the files that this run reads.
    """
    needed = [followed(path) for path in spared]
    for path in find_unfinished(output):
        if any(read.is_relative_to(followed(path)) for read in needed):
            continue
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            logger.info("%s: removed, a run was killed that had not finished it", path)


def _is_rubbish(folder: Path, *, resume: bool) -> bool:
    """Whether nobody needs ``folder``; with ``resume``, a finished one is told of first."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    if not (folder / MANIFEST).exists():
        return not has_lost_manifest(folder)
    try:
        return not resume and Manifest.load(folder).finished
    except SinkError:  # damaged: for who opens it to say
        return False


def find_finished(plan: Plan) -> Report | None:
    """The report of a run that has nothing to do, since its output is complete; else None.

    What is left of the run that made the output is deleted. The output must be locked.

    Raises:
        ConfigError: it was made with other settings.
        SinkError: the work folder cannot be read or removed.
    """
    output = plan.config.output
    if output is None or output == PIPE or not plan.config.resume:
        return None
    folder = _find_finished(output)
    if folder is None:
        if output.is_file() and not (plan.config.overwrite or work_path(output).exists()):
            raise OutputExistsError(f"{output}: already exists; -y replaces it")
        return None
    stills = find_stills(
        output, plan.config.muxer, plan.config.encoder.codec, plan.encoding.first_number,
        plan.encoding.stems,
    )  # fmt: skip
    if stills is not None:
        folder.shown_by = stills.folder / stills.file(1)
    if not folder.has_published():  # it has been moved away or replaced since
        _refuse_strangers(plan, folder)
        folder.remove()
        _forget(output)
        return None
    check_settings(in_segments(plan, folder), folder)
    folder.remove()
    logger.info("%s: is complete; there was nothing left to do but to tidy up", output)
    frames, source = folder.manifest.frames, folder.manifest.source
    return Report(
        frames=frames, frames_before=frames, output=output, sittings=folder.manifest.sittings,
        warnings=source.lines() if source else [], notes=list(plan.notes),
    )  # fmt: skip


def _find_finished(output: Path) -> WorkFolder | None:
    """The work folder of a run that had nothing left to do but to remove it, or what is left."""
    path = work_path(output)
    if (path / MANIFEST).exists():
        folder = WorkFolder.open(path, output)
        return folder if folder.manifest.finished else None
    if not (note := read_note(output)):
        return None
    try:
        return WorkFolder(path, output, Manifest.parse(note, lock_path(output)))
    except SinkError:  # cut short, or of another version: the work that it speaks of is gone
        _forget(output)
        return None


def _forget(output: Path) -> None:
    with suppress(OSError):
        leave_note(output, "")


def _refuse_strangers(plan: Plan, folder: WorkFolder) -> None:
    if folder.shown_by.exists() and not plan.config.overwrite:
        raise OutputExistsError(f"{plan.config.output}: already exists; -y replaces it")

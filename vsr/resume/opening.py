"""Whether a run writes segments, and where it begins."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from pathlib import Path

from vsr.beside import work_path
from vsr.config import PIPE
from vsr.encoding.stills import IMAGES, Stills
from vsr.errors import ChangedSourceError, OutputExistsError, SinkError, VsrError
from vsr.outputs import companions
from vsr.planning import Plan
from vsr.report import Report
from vsr.resume.coding import CONTAINERS, SegmentCoder, holds_segments, rate_notes
from vsr.resume.feed import Feed
from vsr.resume.inputs import note_pictures
from vsr.resume.job import SegmentJob, SegmentTools
from vsr.resume.join import SegmentJoiner
from vsr.resume.manifest import MANIFEST, Manifest
from vsr.resume.matching import (
    as_asked,
    asked_for,
    check_settings,
    compare_pictures,
    in_segments,
    read_settings,
)
from vsr.resume.others import other_streams
from vsr.resume.picture_files import PictureWriter
from vsr.resume.pictures import PictureCoder, PictureJoiner, PictureWorkFolder, stills_of
from vsr.resume.room import tell_of_room
from vsr.resume.segments import SegmentWriter
from vsr.resume.settings import can_be_read_again, changes, versions_of
from vsr.resume.sink import SegmentSink
from vsr.resume.watch import InputWatch
from vsr.resume.work import WorkFolder, has_lost_manifest, remove_work

__all__ = ["Work", "finished_frames", "is_resumable", "open_work"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A run in segments."""

    plan: Plan
    """With what its encoder has to be told for segments."""
    folder: WorkFolder
    feed: Feed
    sink: SegmentSink
    done: int
    """Frames that earlier runs have finished."""

    @property
    def coming(self) -> int:
        """The number of the frame that is written next."""
        return self.feed.handed[0].number

    @property
    def kept(self) -> Path | None:
        """The folder, if there is anything in it to go on with."""
        path = self.folder.path
        unfinished = self.folder.frames and not self.sink.is_published
        return path if unfinished and path.is_dir() else None

    def tell(self, report: Report) -> None:
        """Add to the ``report`` of the last run what is known of all."""
        report.kept, report.kept_frames = self.kept, self.folder.frames
        report.sittings = self.folder.manifest.sittings
        if self.sink.is_published:
            manifest, account = self.folder.manifest, self.sink.account
            report.times, report.frames = self.sink.times, manifest.frames
            report.reused, report.health = self.sink.reused, account.health
            report.reused_before = account.reused - self.sink.reused
            report.engine = manifest.engine
            if manifest.source is not None:
                report.source = manifest.source


def is_resumable(plan: Plan) -> bool:
    """Whether the run of ``plan`` leaves what can be gone on with.

    A file from a file does that is longer than one segment, and every sequence of pictures.
    """
    config = plan.config
    if config.output in (None, PIPE) or not can_be_read_again(config.input):
        return False
    if config.resume and _is_begun(plan):
        return True
    if config.segment_seconds == 0:
        return False
    pictures = stills_of(config.output, plan.encoding) is not None
    if not pictures and not holds_segments(plan.encoding):
        if (muxer := plan.encoding.muxer) != IMAGES:  # of one picture that goes without saying
            what = muxer if muxer not in CONTAINERS else f"{plan.encoding.codec} with alpha"
            logger.info("%s is written in one go: --resume cannot go on with it", what)
        return False
    frames = plan.source.info.frames
    return pictures or frames is None or frames > _segment_frames(plan)


def finished_frames(plan: Plan) -> int:
    """How many frames ``--resume`` would find finished; nothing is looked at but the manifest.

    Raises:
        ConfigError: they were made with other settings.
        SinkError: the work folder cannot be read.
    """
    output = plan.config.output
    if not plan.config.resume or output is None or not _is_begun(plan):
        return 0
    folder = WorkFolder.open(work_path(output), output)
    plan = in_segments(plan, folder)
    folder = _for_pictures(folder, stills_of(output, plan.encoding))
    check_settings(plan, folder)
    return folder.frames


def _is_begun(plan: Plan) -> bool:
    output = plan.config.output
    if output is None:
        return False
    path = work_path(output)
    return (path / MANIFEST).exists() or has_lost_manifest(path)


def _segment_frames(plan: Plan) -> int:
    return max(1, ceil(plan.config.segment_seconds * plan.source.info.rate))


@contextmanager
def open_work(plan: Plan) -> Iterator[Work]:
    """Begin in a new work folder, or go on in the one that is there.

    The folder is removed when the output is complete, or nothing in it is worth keeping; else it
    stays for another run.

    Raises:
        SinkError: the folder cannot be made or read, or is that of other settings.
    """
    assert plan.config.output is not None
    plan, folder = _open_folder(plan)
    work: Work | None = None
    try:
        work = _begin(plan, folder)
        yield work
    except ChangedSourceError:
        raise
    except VsrError as error:
        kept = folder.frames
        if work is None or work.kept is None:
            raise
        raise type(error)(f"{error} ({kept} frames are finished: --resume goes on)") from error
    except BaseException:  # what it says is not ours to change
        if work is not None and work.kept is not None:
            logger.warning("%d frames are finished: --resume goes on", folder.frames)
        raise
    finally:
        if work is not None and work.sink.is_published:
            _remove(folder.retire)
        elif not folder.frames:
            _remove(folder.remove)


def _open_folder(plan: Plan) -> tuple[Plan, WorkFolder]:
    """The folder that an earlier run has left, if that is gone on with; else a new one.

    Before it comes ``plan``, with what its encoder has to be told for segments.
    """
    output = plan.config.output
    assert output is not None
    path = work_path(output)
    if path.exists() and not _is_begun(plan):
        remove_work(path)  # its making or removal was interrupted
    stills = stills_of(output, plan.encoding)
    if path.exists() and plan.config.resume:
        folder = _for_pictures(WorkFolder.open(path, output), stills)
        if output.is_file() and not (plan.config.overwrite or folder.has_published()):
            raise OutputExistsError(f"{output}: already exists; -y replaces it")
        plan = as_asked(in_segments(plan, folder), folder)
        return plan, _go_on(plan, folder)
    plan = in_segments(plan, None)
    if path.exists():
        logger.warning("%s: the work of an earlier run is deleted (--restart)", path)
        remove_work(path)
    manifest = Manifest(
        settings=read_settings(plan), versions=versions_of(plan), asked=asked_for(plan.config),
        segment_frames=_segment_frames(plan), time_base=plan.info.time_base,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    created = WorkFolder.create(path, output, manifest)
    note_pictures(plan.config.input, path)
    return plan, _for_pictures(created, stills)


def _for_pictures(folder: WorkFolder, stills: Stills | None) -> WorkFolder:
    if stills is None:
        return folder
    return PictureWorkFolder(folder.path, folder.output, folder.manifest, stills)


def _go_on(plan: Plan, folder: WorkFolder) -> WorkFolder:
    """Compare what was with what is, and each segment with its hash."""
    manifest = folder.manifest
    manifest.settings = check_settings(plan, folder)
    if changed := changes(manifest.versions, versions := versions_of(plan)):
        logger.warning("pictures may differ in the last bit from here on: %s", changed)
    if (wanted := _segment_frames(plan)) != (held := manifest.segment_frames):
        logger.info("segments stay of %d frames, as they were begun, not of %d", held, wanted)
    if count := len(manifest.segments):
        logger.info("checking %d finished segment%s", count, "" if count == 1 else "s")
    manifest.versions = versions
    manifest.sittings += 1
    try:
        for line in folder.verify():
            logger.warning("%s", line)
        compare_pictures(plan, folder)
        folder.save()
    except OSError as error:
        raise SinkError(f"{folder.path}: cannot be written: {error.strerror}") from error
    logger.info("%d frames are finished; going on from there", folder.frames)
    return folder


def _remove(removal: Callable[[], None]) -> None:
    """Remove what nobody needs any more; the output does not depend on it."""
    try:
        removal()
    except SinkError as error:
        logger.warning("%s", error)


def _begin(plan: Plan, folder: WorkFolder) -> Work:
    """What hands out the missing frames and what writes them, for the work in ``folder``."""
    config, manifest = plan.config, folder.manifest
    for note in rate_notes(plan.encoding):
        logger.warning("%s", note)
    engine = plan.engine
    if not folder.frames:
        tell_of_room(plan, folder.path, copies=folder.copies)
    feed = Feed(
        plan.source, folder.done(), manifest.segment_frames, manifest.end, kept=folder.kept,
        together=lambda frame: engine.batch(frame.shape),
    )  # fmt: skip
    watch = InputWatch(plan, folder)
    job = SegmentJob(
        encoding=plan.encoding, tools=_tools(plan, folder), info=plan.info,
        framemd5=bool(config.framemd5), overwrite=config.overwrite,
        expected=plan.source.info.frames, glance=watch.glance, check_input=watch.check,
        incident=lambda: engine.watch.latest, engine=engine.warnings,
        source=plan.source.report,
    )  # fmt: skip
    sink = SegmentSink(folder, feed, job)
    return Work(plan=plan, folder=folder, feed=feed, sink=sink, done=folder.frames)


def _tools(plan: Plan, folder: WorkFolder) -> SegmentTools:
    if isinstance(folder, PictureWorkFolder):
        return _picture_tools(plan, folder)
    encoding, info, beside = plan.encoding, plan.info, companions(plan.config)
    return SegmentTools(
        joiner=SegmentJoiner(folder, encoding, info, other_streams(plan), beside),
        new_coder=lambda clock, warn: SegmentCoder(encoding, info, clock, warn),
        new_writer=lambda index, warn: SegmentWriter(folder.path, index),
    )


def _picture_tools(plan: Plan, folder: PictureWorkFolder) -> SegmentTools:
    encoding, info = plan.encoding, plan.info
    overwrite = plan.config.overwrite or folder.has_published()
    step = float(1 / info.rate / folder.manifest.time_base)
    uneven = "timestamps are lost: frames do not come evenly, and pictures hold no time"
    joiner = PictureJoiner(
        folder, encoding, info, plan.source.others, overwrite=overwrite,
        companions=companions(plan.config),
    )  # fmt: skip
    return SegmentTools(
        joiner=joiner,
        new_coder=lambda clock, warn: PictureCoder(encoding, info, warn),
        new_writer=lambda index, warn: PictureWriter(
            folder.pictures, index, uneven=lambda: warn(uneven), step=step
        ),
    )

"""Whether a run writes segments, and where it begins."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from vsr.choosing import AUTO
from vsr.config import PIPE, UpscaleConfig
from vsr.device import PRECISIONS_BY_DTYPE, choose_device
from vsr.encoding.beside import work_path
from vsr.encoding.stills import IMAGES, Stills
from vsr.encoding.threads import THREADS, choose_threads, depends_on_threads
from vsr.errors import ChangedSourceError, ConfigError, SinkError, SourceError, VsrError
from vsr.files import file_sha256
from vsr.index import find_model
from vsr.outputs import companions
from vsr.planning import Plan
from vsr.report import Report
from vsr.resume.coding import (
    CONTAINERS,
    SegmentCoder,
    for_segments,
    holds_segments,
    rate_notes,
)
from vsr.resume.feed import Feed
from vsr.resume.inputs import Pictures, accept_mended, note_pictures
from vsr.resume.job import SegmentJob, SegmentTools
from vsr.resume.join import SegmentJoiner
from vsr.resume.manifest import MANIFEST
from vsr.resume.others import other_streams
from vsr.resume.picture_files import PictureWriter
from vsr.resume.pictures import PictureCoder, PictureJoiner, PictureWorkFolder, stills_of
from vsr.resume.room import tell_of_room
from vsr.resume.segments import SegmentWriter
from vsr.resume.settings import can_be_read_again, changes, fingerprint, settings_of, versions_of
from vsr.resume.sink import SegmentSink
from vsr.resume.work import WorkFolder, remove_work
from vsr.runtimes import runtime_called

__all__ = [
    "Work",
    "as_before",
    "check_settings",
    "finished_frames",
    "in_segments",
    "is_resumable",
    "open_work",
]

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


def as_before(config: UpscaleConfig) -> UpscaleConfig:
    """``config``, which goes on with earlier work, computed as that was where nothing is said.

    Which runtime is fastest is measured, and found otherwise on another day or machine.
    """
    chosen = config.runtime, config.precision
    if not config.resume or config.output in (None, PIPE) or chosen != ("auto", "auto"):
        return config
    assert config.output is not None
    path = work_path(config.output)
    if not (path / MANIFEST).exists():
        return config
    settings = WorkFolder.open(path, config.output).manifest.settings
    device = choose_device(config.device).type
    if settings.get("device") != device or _names_another(config, settings.get("weights")):
        return config  # which is what will be said
    runtime, precision = settings.get("runtime", ""), settings.get("precision", "")
    return replace(
        config, runtime=runtime_called(runtime),
        precision=PRECISIONS_BY_DTYPE.get(precision, "auto"),
    )  # fmt: skip


def _names_another(config: UpscaleConfig, weights: str | None) -> bool:
    """Whether it is plain from ``config`` that its network is not that of ``weights``, a sha256.

    Which runtimes run that one says nothing of another.
    """
    if config.weights is not None:
        return config.weights.is_file() and file_sha256(config.weights) != weights
    if config.model == AUTO or (config.size is not None and config.scale is None):
        return False  # the input has a say in it
    model = find_model(config.model, config.scale)
    is_known = bool(model.sha256) or model.is_classical
    return is_known and model.sha256 != weights


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
    return output is not None and (work_path(output) / MANIFEST).exists()


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


def in_segments(plan: Plan, folder: WorkFolder | None) -> Plan:
    """``plan`` with what its encoder has to be told for segments.

    Args:
        plan: what was decided without regard to segments.
        folder: earlier work to go on with, for which the encoder works with as many threads as for
            that; None begins anew. Work of versions that did not note the number has none.
    """
    encoding = for_segments(plan.encoding)
    if depends_on_threads(encoding):
        if folder is None:
            threads = str(choose_threads(encoding, plan.info.height))
        else:
            threads = folder.manifest.settings.get(f"encoder option {THREADS}", "")
        if threads:
            encoding = replace(encoding, options={**encoding.options, THREADS: threads})
    return replace(plan, encoding=encoding)


def _open_folder(plan: Plan) -> tuple[Plan, WorkFolder]:
    """The folder that an earlier run has left, if that is gone on with; else a new one.

    Before it comes ``plan``, with what its encoder has to be told for segments.
    """
    output = plan.config.output
    assert output is not None
    path = work_path(output)
    if path.exists() and not (path / MANIFEST).exists():
        remove_work(path)  # its making or removal was interrupted
    stills = stills_of(output, plan.encoding)
    if path.exists() and plan.config.resume:
        folder = _for_pictures(WorkFolder.open(path, output), stills)
        if output.is_file() and not (plan.config.overwrite or folder.has_published()):
            raise SinkError(f"{output}: already exists; -y replaces it")
        plan = in_segments(plan, folder)
        return plan, _go_on(plan, folder)
    plan = in_segments(plan, None)
    if path.exists():
        logger.warning("%s: the work of an earlier run is deleted (--restart)", path)
        remove_work(path)
    created = WorkFolder.create(
        path, output, _settings(plan), versions_of(plan), _segment_frames(plan),
        plan.info.time_base,
    )  # fmt: skip
    note_pictures(plan.config.input, path)
    return plan, _for_pictures(created, stills)


def _for_pictures(folder: WorkFolder, stills: Stills | None) -> WorkFolder:
    if stills is None:
        return folder
    return PictureWorkFolder(folder.path, folder.output, folder.manifest, stills)


def check_settings(plan: Plan, folder: WorkFolder) -> dict[str, str]:
    """Make sure that ``folder`` holds work of the same settings as those of ``plan``.

    Returns:
        The settings of ``plan``: those of the folder, but for the times of files whose content is
        known to be the same.

    Raises:
        ConfigError: it does not; with what was changed.
        SinkError: the input cannot be read again.
    """
    settings = _settings(plan)
    files = {"input": plan.config.input, "sound": plan.config.audio_from}
    if changed := changes(folder.manifest.settings, settings, files):
        raise ConfigError(
            f"{folder.output}: cannot be resumed: {changed}; with all as it was --resume goes on, "
            "--restart throws that work away"
        )
    return settings


def _settings(plan: Plan) -> dict[str, str]:
    try:
        return settings_of(plan, framemd5=bool(plan.config.framemd5))
    except OSError as error:
        raise SinkError(f"{plan.config.input}: cannot be read again: {error}") from error


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
        _compare_pictures(plan, folder)
        folder.save()
    except OSError as error:
        raise SinkError(f"{folder.path}: cannot be written: {error.strerror}") from error
    logger.info("%d frames are finished; going on from there", folder.frames)
    return folder


def _compare_pictures(plan: Plan, folder: WorkFolder) -> None:
    """Let pictures change that nothing finished was made of; see note [Mended pictures].

    Raises:
        ConfigError: another one has changed.
        SinkError: the work folder cannot be read or written.
    """
    finished = None
    if not plan.source.filters:
        skipped = ceil((plan.config.start or 0) * plan.source.info.rate)
        finished = [skipped + number for number in folder.finished_numbers()]
    if changed := accept_mended(plan.config.input, folder.path, finished):
        raise ConfigError(
            f"{folder.output}: cannot be resumed: {changed} has changed since it was enlarged; "
            "--restart throws that work away"
        )


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
    job = SegmentJob(
        encoding=plan.encoding, tools=_tools(plan, folder), info=plan.info,
        framemd5=bool(config.framemd5), overwrite=config.overwrite,
        expected=plan.source.info.frames, check_input=lambda: _check_input(plan, folder),
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


def _check_input(plan: Plan, folder: WorkFolder) -> None:
    """Make sure that the input is still what it was when the work began.

    Raises:
        SourceError: it has been changed meanwhile.
    """
    path = plan.config.input
    try:
        if (pictures := Pictures.at(path)) is not None:
            unchanged = pictures == Pictures.load(folder.path)
        else:
            unchanged = fingerprint(path) == folder.manifest.settings["input"]
    except OSError as error:
        raise SourceError(f"{path}: cannot be read again: {error.strerror}") from error
    if not unchanged:
        raise ChangedSourceError(f"{path}: was changed while it was read: --restart begins again")

"""What a run that goes on has in common with the work before it: taken over, or else refused."""

from dataclasses import replace
from math import ceil
from typing import Any

from vsr.beside import work_path
from vsr.choosing import AUTO
from vsr.config import PIPE, UpscaleConfig
from vsr.device import PRECISIONS_BY_DTYPE, choose_device
from vsr.encoding.threads import THREADS, choose_threads, depends_on_threads
from vsr.errors import ConfigError, SinkError
from vsr.files import file_sha256
from vsr.index import find_model
from vsr.planning import Plan
from vsr.resume.coding import for_segments
from vsr.resume.inputs import accept_mended
from vsr.resume.manifest import MANIFEST
from vsr.resume.settings import changes, files_of, settings_of
from vsr.resume.work import WorkFolder
from vsr.runtimes import runtime_called

__all__ = [
    "as_asked",
    "as_before",
    "asked_for",
    "changed_picture",
    "check_settings",
    "compare_pictures",
    "in_segments",
    "read_settings",
]


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


def asked_for(config: UpscaleConfig) -> dict[str, str]:
    """What ``config`` says of that which :func:`as_before` may say in its place."""
    return {"runtime": config.runtime, "precision": config.precision}


def as_asked(plan: Plan, folder: WorkFolder) -> Plan:
    """``plan``, all decided, with what the first run was asked for, not what was decided then.

    So a record has the same command whether a run was stopped or not.

    Raises:
        ConfigError: the work folder says what nobody can have asked for.
    """
    asked = folder.manifest.asked
    told: dict[str, Any] = {name: asked[name] for name in asked_for(plan.config) if name in asked}
    return replace(plan, config=replace(plan.config, **told))


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


def check_settings(plan: Plan, folder: WorkFolder) -> dict[str, str]:
    """Make sure that ``folder`` holds work of the same settings as those of ``plan``.

    Returns:
        The settings of ``plan``: those of the folder, but for the times of files whose content is
        known to be the same.

    Raises:
        ConfigError: it does not; with what was changed.
        SinkError: the input cannot be read again.
    """
    settings = read_settings(plan)
    if changed := changes(folder.manifest.settings, settings, files_of(plan.config)):
        raise ConfigError(
            f"{folder.output}: cannot be resumed: {changed}; with all as it was --resume goes on, "
            "--restart throws that work away"
        )
    return settings


def read_settings(plan: Plan) -> dict[str, str]:
    """What :func:`vsr.resume.settings.settings_of` finds of ``plan``.

    Raises:
        SinkError: the input cannot be read again.
    """
    try:
        return settings_of(plan, framemd5=bool(plan.config.framemd5))
    except OSError as error:
        raise SinkError(f"{plan.config.input}: cannot be read again: {error}") from error


def compare_pictures(plan: Plan, folder: WorkFolder) -> None:
    """Let pictures change that nothing finished was made of; see note [Mended pictures].

    Raises:
        ConfigError: another one has changed.
        SinkError: the work folder cannot be read or written.
    """
    if changed := changed_picture(plan, folder):
        raise ConfigError(
            f"{folder.output}: cannot be resumed: {changed} has changed since it was enlarged; "
            "--restart throws that work away"
        )


def changed_picture(plan: Plan, folder: WorkFolder) -> str | None:
    """The name of a picture that has changed though something finished was made of it, if any has.

    Raises:
        SinkError: the work folder cannot be read or written.
    """
    finished = None
    if not plan.source.filters:
        skipped = ceil((plan.config.start or 0) * plan.source.info.rate)
        finished = [skipped + number for number in folder.finished_numbers()]
    return accept_mended(plan.config.input, folder.path, finished)


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

"""VapourSynth scripts, run as vspipe runs them: a clip to read frames from.

A script is a Python program. Running it executes whatever stands in it.
"""

import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import vapoursynth as vs  # type: ignore[import-untyped]

from vsr.errors import ConfigError, SourceError, UnsupportedFormatError
from vsr.frame import Colour, Siting
from vsr.hdr import HdrMetadata
from vsr.immersive import Immersive
from vsr.places import working_in
from vsr.sources.environment import Environment, make_environment
from vsr.sources.script_errors import telling_line
from vsr.sources.script_sound import ScriptSound
from vsr.stdout import printing_aside
from vsr.tagging import VAPOURSYNTH
from vsr.unfinished import leave_behind

__all__ = ["Clip", "ContainerFacts", "check_constant", "run_script"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFacts:
    """What the container of a clip says, where it has one."""

    begin: Fraction = Fraction(0)
    """Where it starts by its own timestamps, in seconds."""
    tags: Colour = field(default_factory=Colour)
    left_means: Siting = Siting.LEFT
    """As in :class:`vsr.sources.reader.InputFacts`."""
    sar: Fraction | None = None
    cropping: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Top, bottom, left, right."""
    display_matrix: bytes | None = None
    hdr: HdrMetadata | None = None
    immersive: Immersive | None = None


@dataclass(slots=True, kw_only=True)
class Clip:
    """One clip of constant size and format, and the environment that it lives in."""

    node: Any
    """A ``vapoursynth.VideoNode``; None when closed."""
    environment: Environment
    codec: str
    """What made it, as one word."""
    notes: list[str]
    times: tuple[int | None, ...] | None = None
    """When each frame is shown, in ``time_base`` units; None: frames say how long they last."""
    time_base: Fraction | None = None
    facts: ContainerFacts = field(default_factory=ContainerFacts)
    """What a container says beside the frames."""
    sound: ScriptSound | None = None
    """What the script makes beside the clip."""
    abandoned: bool = False
    """Whether frames are being made that nobody waits for: then nothing of it can be freed."""
    _namespace: dict[str, Any] = field(default_factory=dict)

    def close(self) -> None:
        """Let go of the clip and of all that the script has made; harmless if done before."""
        if self.abandoned:
            self.environment.keep()
            leave_behind(self)
            return
        self.node = None
        if self.sound is not None:
            self.sound.close()
        self._namespace.clear()
        self.environment.close()


def run_script(path: Path, arguments: Mapping[str, str], index: int) -> Clip:
    """Run the script ``path`` and take one of its outputs.

    As under vspipe, ``__name__`` is ``__vapoursynth__``, the arguments are global variables that
    hold strings, ``sys.argv`` is ``[""]``, and the script's folder is the working directory while
    it runs: one script at a time, see :mod:`vsr.places`. What it prints goes to standard error.

    Args:
        path: the script.
        arguments: names and values of global variables.
        index: number of the output.

    Raises:
        SourceError: it cannot be read, fails, or sets no output.
        ConfigError: there is no output of that number, or it is sound.
        UnsupportedFormatError: the clip's size or format varies.
    """
    environment = make_environment(path)
    namespace: dict[str, Any] = {
        **arguments, "__name__": "__vapoursynth__", "__file__": str(path.resolve()),
    }  # fmt: skip
    try:
        with environment.fresh_outputs():
            _execute(path, namespace)
            outputs = dict(vs.get_outputs())
            node, notes = _choose(path, outputs, index)
            sound, more = _choose_sound(path, outputs, environment)
        if environment.shared:
            notes.append("the script runs in the VapourSynth environment that is there already")
        return Clip(
            node=node, environment=environment, codec=VAPOURSYNTH, notes=[*notes, *more],
            sound=sound, _namespace=namespace,
        )  # fmt: skip
    except BaseException:
        namespace.clear()
        environment.close()
        raise


def _execute(path: Path, namespace: dict[str, Any]) -> None:
    try:
        code = compile(path.read_bytes(), str(path), "exec")
        with _at_home(path):
            exec(code, namespace)
    except OSError as error:
        if error.filename == os.fspath(path):
            raise SourceError(f"{path}: cannot be read: {error.strerror}") from None
        raise _failed(path, error) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a script does
        raise _failed(path, error) from None


@contextmanager
def _at_home(path: Path) -> Iterator[None]:
    sys.stderr.flush()
    with working_in(path.resolve().parent), printing_aside():
        before, sys.argv = sys.argv, [""]
        try:
            yield
        finally:
            sys.argv = before


def _failed(path: Path, error: BaseException) -> SourceError:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return SourceError(f"{path}: line {error.lineno}: {error.msg}")
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    where = f"line {lines[-1]}: " if lines else ""
    return SourceError(f"{path}: {where}{telling_line(error)}")


def _choose(path: Path, outputs: Mapping[int, Any], index: int) -> tuple[Any, list[str]]:
    if not outputs:
        raise SourceError(f"{path}: sets no output: end it with clip.set_output()")
    if index not in outputs:
        there = ", ".join(map(str, sorted(outputs)))
        raise ConfigError(f"{path}: sets no output {index}: choose by --output-index from {there}")
    output = outputs[index]
    if not isinstance(output, vs.VideoOutputTuple):
        raise ConfigError(f"{path}: output {index} is sound: choose a clip by --output-index")
    check_constant(path, output.clip)
    clips = sorted(i for i, found in outputs.items() if isinstance(found, vs.VideoOutputTuple))
    there = ", ".join(map(str, clips))
    notes = [f"output {index} is read, of {there}"] if len(clips) > 1 else []
    if output.alpha is None:
        return output.clip, notes
    return output.clip.std.ClipToProp(output.alpha, prop="_Alpha"), notes


def _choose_sound(
    path: Path, outputs: Mapping[int, Any], environment: Environment
) -> tuple[ScriptSound | None, list[str]]:
    """The sound of lowest number, and a line on what becomes of all."""
    numbers = sorted(i for i, found in outputs.items() if isinstance(found, vs.AudioNode))
    if not numbers:
        return None, []
    first, *others = numbers
    notes = [f"output {first} is its sound"]
    if others:
        notes.append(f"sound is left out: output {', '.join(map(str, others))} (one is taken)")
    return ScriptSound(outputs[first], environment, str(path)), notes


def check_constant(path: Path, node: Any) -> None:  # noqa: ANN401
    """Refuse a clip whose frames differ in size or format.

    Raises:
        UnsupportedFormatError: they do.
    """
    size = bool(node.width and node.height)
    if not size or node.format is None or node.format.color_family == vs.UNDEFINED:
        what = "format" if size else "size"
        raise UnsupportedFormatError(
            f"{path}: the clip's {what} varies: bring its frames to one by resize in a script"
        )

"""How fast the frames of a file follow each other: by its times, or as the user says."""

from dataclasses import dataclass
from fractions import Fraction

from vsr.config import InputConfig
from vsr.sources.demuxer import Demuxer
from vsr.sources.describe import claimed_rates, has_times
from vsr.sources.timestamps import nominal_rate

__all__ = ["Pace", "choose_pace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Rate and clock of the frames of a file."""

    rate: Fraction
    """Nominal frames per second."""
    time_base: Fraction
    """Seconds per unit of their timestamps."""
    has_times: bool = True
    """Whether the file says when its frames are shown."""
    counted: bool = False
    """Whether frames get their numbers as timestamps, whatever the file says."""
    notes: tuple[str, ...] = ()
    """A line for each decision."""


def choose_pace(demuxer: Demuxer, config: InputConfig) -> Pace:
    """The pace of what ``demuxer`` reads, by its first packets, which stay to be read."""
    times, claims = demuxer.times_ahead(), claimed_rates(demuxer.stream)
    if config.rate is not None:
        return _stated_pace(demuxer, config.rate, counted=config.raw_format is None)
    rate = nominal_rate(times, demuxer.time_base, claims)
    codec = str(demuxer.stream.codec_context.codec.canonical_name)
    timed = bool(times) and has_times(demuxer.container, codec)
    notes: tuple[str, ...] = ()
    if not timed and config.raw_format is None:
        given = f"{float(rate):.6g} frames a second"
        notes = (f"{demuxer.name}: has no times: {given} (-r says otherwise)",)
    return Pace(rate=rate, time_base=demuxer.time_base, has_times=timed, notes=notes)


def _stated_pace(demuxer: Demuxer, rate: Fraction, *, counted: bool) -> Pace:
    """That of ``-r``; the times of raw video follow it by themselves."""
    if not counted:
        return Pace(rate=rate, time_base=demuxer.time_base, has_times=False)
    notes: tuple[str, ...] = ()
    if demuxer.container.streams.audio:
        notes = ("-r gives the picture a time of its own: sound keeps the input's",)
    return Pace(rate=rate, time_base=1 / rate, has_times=False, counted=True, notes=notes)

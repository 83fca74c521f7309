"""What encoders are told in their own words: the lists ``x265-params``, ``x264-params``, and so on.

FFmpeg hands them on one by one, and goes on with a warning where the encoder does not take one.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from vsr.errors import ConfigError
from vsr.ffmpeg import Message

__all__ = ["check_displays", "check_taken", "rate_control"]

_LISTS = ("x264-params", "x264opts", "x265-params", "svtav1-params")
_RATES = ("crf", "qp", "qp_constant", "bitrate")
_BETWEEN = re.compile(r"(?<!\\):")
_REFUSALS = (
    re.compile(r"Unknown option: (?P<name>.+)\.$"),  # of x265
    re.compile(r"Invalid value for (?P<name>[^:]+): (?P<value>.+)\.$"),
    re.compile(r"Error parsing option '(?P<name>.+?) = (?P<value>.+)'\.$"),  # of x264
    re.compile(r"Error parsing option (?P<name>[^:']+): (?P<value>.+)\.$"),  # of SVT-AV1
)
"""FFmpeg's warnings of what is left out. Its others do not say that the user is mistaken."""

_UNITS, _DECIMALS = (rf"\({number},{number}\)" for number in (r"\s*\d+", r"\s*[\d.eE+-]+"))
_DISPLAYS = {
    ("x265-params", "master-display"): (
        re.compile(_UNITS.join([*"GBR", "WP", "L", ""])),
        "x and y in units of 0.00002, L in units of 0.0001 cd/m²",
    ),
    ("svtav1-params", "mastering-display"): (
        re.compile(rf"(?:(?:[GBRL]|WP){_DECIMALS}){{5}}"), "x and y in decimals, L in cd/m²"
    ),
}  # fmt: skip
"""How a mastering display is written where FFmpeg does not look at it: x265 leaves out any other in
silence, and with some SVT-AV1 never ends (x264 refuses them like all else)."""


def _own_parameters(options: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What ``options`` of an encoder tell it in its own words: by list, values by name.

    Of a name that stands in a list twice the last word counts, as with FFmpeg.
    """
    found: dict[str, dict[str, str]] = {}
    for key in _LISTS:
        for word in _BETWEEN.split(options.get(key, "")):
            name, _, value = word.partition("=")
            if name:
                named = found.setdefault(key, {})
                named.pop(name, None)  # so that names are in the order in which they count
                named[name] = value
    return found


def rate_control(options: Mapping[str, str]) -> list[str]:
    """What an encoder's own parameters say of its quality or bit rate: ``["crf 40"]``.

    It overrules what FFmpeg's options say of that. Empty if the parameters do not speak of it.
    """
    own = _own_parameters(options)
    for key, named in own.items():
        if _is_true(named.get("lossless", "")):
            return ["lossless"]
        if key == "svtav1-params" and named.get("rc", "0") != "0":
            return [f"{name} {named[name]}" for name in ("rc", "tbr") if name in named]
        if found := [name for name in named if name in _RATES]:
            return [f"{found[-1]} {named[found[-1]]}"]
    return []


def _is_true(value: str) -> bool:
    """Whether x265 and SVT-AV1 take ``value`` for yes."""
    return value.lower() in ("1", "true", "yes")


def check_displays(options: Mapping[str, str]) -> None:
    """Look whether mastering displays are written as the encoder reads them.

    Args:
        options: those of an encoder, its own parameters among them.

    Raises:
        ConfigError: one is not.
    """
    own = _own_parameters(options)
    for (key, name), (form, units) in _DISPLAYS.items():
        value = own.get(key, {}).get(name)
        if value is not None and not form.fullmatch(value):
            raise ConfigError(
                f"{key}: {name}={value} is no mastering display: it is written "
                f"G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min), {units}"
            )


@contextmanager
def check_taken(
    codec: str, options: Mapping[str, str], messages: Sequence[Message]
) -> Iterator[None]:
    """Look whether the encoder that is opened in the block took all its own parameters.

    Args:
        codec: FFmpeg's name of the encoder.
        options: with which it is opened.
        messages: what FFmpeg says in the block, warnings as well.

    Raises:
        ConfigError: it did not take one, which is a better reason than what comes of that.
    """
    try:
        yield
    finally:
        for _, speaker, text in messages:
            found = next(filter(None, (form.match(text.strip()) for form in _REFUSALS)), None)
            if speaker == codec and found is not None:
                raise ConfigError(_untaken(codec, options, **found.groupdict())) from None


def _untaken(codec: str, options: Mapping[str, str], name: str, value: str | None = None) -> str:
    key = next((key for key, named in _own_parameters(options).items() if name in named), None)
    where = f"{key}: " if key is not None else ""
    if value is None:
        return f"{where}{codec} has no parameter {name}"
    return f"{where}{codec} does not take {name}={value}"

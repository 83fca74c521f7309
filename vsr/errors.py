"""Everything that vsr raises for a reason the user can act on.

::

    VsrError
    ├── ConfigError (ValueError)              the run was asked for something contradictory
    ├── SourceError (OSError)                 the input cannot be opened or decoded
    │   ├── ChangedSourceError                the input is not the one that the work began with
    │   ├── TruncatedError                    the input breaks off in the middle of a frame
    │   └── UnsupportedFormatError (ValueError)   a pixel format or matrix we cannot read
    ├── SinkError (OSError)                   the output cannot be written
    │   ├── DamagedSegmentError               a finished piece of it is missing, short or altered
    │   └── OutputExistsError (FileExistsError)   it is there already, and may not be replaced
    ├── WeightsError                          a model or checkpoint cannot be used
    │   ├── UnknownArchitectureError (ValueError)
    │   └── CorruptWeightsError (ValueError)
    └── DeviceError (RuntimeError)            the device is missing or failed
        └── OutOfMemoryError (MemoryError)

Each class also inherits the built-in that fits, so ``except OSError`` works. Misuse of the Python
API raises plain ``TypeError`` or ``ValueError`` and stands outside this tree.
"""

__all__ = [
    "ChangedSourceError",
    "ConfigError",
    "CorruptWeightsError",
    "DamagedSegmentError",
    "DeviceError",
    "OutOfMemoryError",
    "OutputExistsError",
    "SinkError",
    "SourceError",
    "TruncatedError",
    "UnknownArchitectureError",
    "UnsupportedFormatError",
    "VsrError",
    "WeightsError",
]


class VsrError(Exception):
    """Base of all errors that vsr raises; ``str(error)`` is one line for the user."""


class ConfigError(VsrError, ValueError):
    """The settings of a run contradict each other or name something that does not exist."""


class SourceError(VsrError, OSError):
    """The input is missing, unreadable, or holds no video that decodes."""


class ChangedSourceError(SourceError):
    """The input has changed since the run began, so the run cannot be resumed."""


class TruncatedError(SourceError):
    """The input breaks off in the middle of a frame; the frames before it have been delivered."""


class UnsupportedFormatError(SourceError, ValueError):
    """A pixel format or colour matrix that vsr cannot interpret, found before the first frame."""


class SinkError(VsrError, OSError):
    """The output cannot be created, or writing it failed."""


class DamagedSegmentError(SinkError):
    """A finished segment of the output is missing, short or altered."""


class OutputExistsError(SinkError, FileExistsError):
    """The output, or what is to lie beside it, is there already, and may not be replaced."""


class WeightsError(VsrError):
    """A model or checkpoint cannot be used."""


class UnknownArchitectureError(WeightsError, ValueError):
    """The checkpoint is readable, but no registered network has parameters of these names."""


class CorruptWeightsError(WeightsError, ValueError):
    """The file is no checkpoint, is damaged, or does not match its checksum."""


class DeviceError(VsrError, RuntimeError):
    """The device that was asked for is missing, or failed."""


class OutOfMemoryError(DeviceError, MemoryError):
    """Memory ran out even with the smallest tile."""

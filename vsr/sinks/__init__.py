"""Where upscaled frames go."""

from vsr.sinks.null import NullSink
from vsr.sinks.pyav import PyAVSink

__all__ = ["NullSink", "PyAVSink"]

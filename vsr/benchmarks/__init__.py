"""How fast a run is, stage by stage and whole, beside other ways to run the same network."""

from vsr.benchmarks.clips import draw_clip, sample_clip
from vsr.benchmarks.contest import Wanted, bench
from vsr.benchmarks.tables import tell

__all__ = ["Wanted", "bench", "draw_clip", "sample_clip", "tell"]

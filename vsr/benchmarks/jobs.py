"""What one process measures, as it is told to it."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Self

from vsr.config import Precision, Runtime, UpscaleConfig

__all__ = ["OURS", "Job", "Kind"]

Kind = Literal["facts", "peaks", "export", "stages", "command", "network", "serial"]

OURS = "vsr"
"""The way that a run of the command would take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One measurement; what it yields is in :mod:`vsr.benchmarks.worker`."""

    kind: Kind
    clip: str
    folder: str
    """Of files that processes leave for each other."""
    frames: int
    way: str = OURS
    """How the network is run; a name from :data:`vsr.benchmarks.ways.WAYS`."""
    model: str = "span"
    weights: str | None = None
    scale: int | None = None
    device: str = "auto"
    precision: Precision = "auto"
    runtime: Runtime = "auto"
    packages: tuple[str, ...] = ()
    """Folders in which Python looks for peers after its own."""

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What :attr:`json` made."""
        values = json.loads(text)
        return cls(**{**values, "packages": tuple(values["packages"])})

    @property
    def json(self) -> str:
        """The same as text."""
        return json.dumps(asdict(self))

    def of(self, kind: Kind, way: str = OURS) -> "Job":
        """Another measurement of the same things."""
        return replace(self, kind=kind, way=way)

    def file(self, name: str) -> Path:
        """A file in the folder."""
        return Path(self.folder) / name

    @property
    def config(self) -> UpscaleConfig:
        """The run of the command that is measured."""
        return UpscaleConfig(
            input=Path(self.clip), output=self.file("out.mp4"), overwrite=True,
            model=self.model, weights=Path(self.weights) if self.weights else None,
            scale=self.scale, device=self.device, precision=self.precision, runtime=self.runtime,
            frames=self.frames,
        )  # fmt: skip

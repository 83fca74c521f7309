"""Video super-resolution for ffmpeg pipelines."""

__version__ = "0.1.0"

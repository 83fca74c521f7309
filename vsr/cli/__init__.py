"""The commands: ``upscale``, ``models``, ``bench``.

``command`` is what they share, ``values`` reads what is typed. ``options`` are those of
vsr-upscale, ``configuration`` what they mean, and ``console`` and ``interrupts`` are its ways to
talk and to listen while it works. torch is imported after parsing, so that ``--help`` is instant.
"""

from vsr.cli.upscale import main

__all__ = ["main"]

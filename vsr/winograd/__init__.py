"""Networks of 3x3 convolutions on a CPU, by Winograd's minimal filtering, in float32.

A convolution of 48 channels takes 20,736 multiplications a pixel, or 4,096 by F(6x6, 3x3), before
and after which the features are transformed (Lavin and Gray, arXiv 1509.09308).
"""

from vsr.winograd.library import CompilerError, load
from vsr.winograd.program import Layers, Program
from vsr.winograd.steps import PICTURE, Epilogue, Step, convolution, mix, upsampling

__all__ = [
    "PICTURE",
    "CompilerError",
    "Epilogue",
    "Layers",
    "Program",
    "Step",
    "convolution",
    "load",
    "mix",
    "upsampling",
]

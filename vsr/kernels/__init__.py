"""Kernels of our own, in Triton: SPAN on CUDA, with as little memory traffic as it can do.

``convolution`` and ``ends`` make one kernel of each convolution and what follows it, ``block`` one
of a whole block. ``span`` puts them together. ``configurations`` chooses how they are cut up, by
time, and keeps the choice (:mod:`vsr.timings`). ``ahead`` compiles without a GPU.
"""

"""SPAN from the files of ncnn: a graph as text (.param) and its weights (.bin).

Written from ncnn's documentation ("param and model file structure", "operators"). Such a file
holds a graph, not named parameters, so the graph is walked: each step of SPAN is looked up by what
it is applied to, must be there, and nothing may be left over. What a layer is called does not
matter, so the files of both of ncnn's converters are understood.

``parsing`` reads the two files, ``graph`` makes steps of their layers, ``span`` takes these steps.
"""

from vsr.converting.ncnn.parsing import is_ncnn
from vsr.converting.ncnn.span import read_ncnn

__all__ = ["is_ncnn", "read_ncnn"]

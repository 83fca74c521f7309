"""SPAN, step by step, in the graph of an ncnn network."""

from pathlib import Path

from torch import Tensor

from vsr.converting.ncnn.graph import Graph, MismatchError, check_kinds, read_graph
from vsr.converting.ncnn.parsing import WeightsReader, parse_layers, read_file
from vsr.errors import UnknownArchitectureError

__all__ = ["read_ncnn"]


def read_ncnn(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a SPAN that was converted for ncnn.

    Args:
        path: the .param or the .bin; the other lies beside it under the same name.

    Returns:
        The folded state dict in float32, named as in :mod:`vsr.networks.span`, and the metadata
        ``norm``, ``rgb_mean`` and ``img_range`` that the graph implies.

    Raises:
        WeightsError: one of the two files cannot be read.
        CorruptWeightsError: they are no ncnn files, are damaged, or do not belong together.
        UnknownArchitectureError: the graph is not that of SPAN.
    """
    param, binary = path.with_suffix(".param"), path.with_suffix(".bin")
    layers = parse_layers(read_file(param, path), param)
    check_kinds(layers, param)
    weights = WeightsReader(read_file(binary, path), binary)
    try:
        graph = read_graph(layers, weights, param)
        return _walk(graph)
    except MismatchError as error:
        raise UnknownArchitectureError(f"{param}: not SPAN: {error}") from error


def _walk(graph: Graph) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Follow section 3 of the paper through ``graph``, and name each convolution by its place."""
    picture, metadata = _take_normalisation(graph, graph.take("Input"))
    sites = {"conv_1.eval_conv": graph.take("Convolution", picture)}
    features, activation = _take_blocks(graph, sites)
    joined = graph.take("Concat", *features, activation)
    sites["conv_cat"] = graph.take("Convolution", joined)
    sites["upsampler.0"] = graph.take("Convolution", sites["conv_cat"])
    _take_shuffle(graph, sites)
    graph.finish()
    state = {}
    for site, blob in sites.items():
        state[f"{site}.weight"], state[f"{site}.bias"] = graph.weights[blob]
    return state, metadata


def _take_normalisation(graph: Graph, picture: str) -> tuple[str, dict[str, str]]:
    """The blob that the first convolution takes, and what happens to the picture before."""
    for blob, mean in graph.constants.items():
        if graph.has("sub", picture, blob):
            shifted, gain = graph.take("sub", picture, blob), 1.0
            if graph.has("mul", shifted):
                shifted = graph.take("mul", shifted)
                gain = graph.scalars[shifted]
            # In float32, a mean of 0.4488 prints as that, not as what float64 makes of it.
            values = ", ".join(str(value) for value in mean.numpy())
            return shifted, {"norm": "mean", "rgb_mean": f"[{values}]", "img_range": str(gain)}
    return picture, {"norm": "none"}


def _take_blocks(graph: Graph, sites: dict[str, str]) -> tuple[tuple[str, ...], str]:
    """All attention blocks and ``conv_2``.

    Returns:
        What the concatenation joins: the features of ``conv_1``, of ``conv_2`` and of the first
        block, and, last, the first activation of the last block.
    """
    hidden = sites["conv_1.eval_conv"]
    outputs: list[str] = []
    activation = ""
    convolved = graph.take("Convolution", hidden)
    while graph.has("Swish", convolved) or graph.has("Sigmoid", convolved):
        block = f"block_{len(outputs) + 1}"
        sites[f"{block}.c1_r.eval_conv"] = convolved
        hidden, activation = _take_block(graph, hidden, block, sites)
        outputs.append(hidden)
        convolved = graph.take("Convolution", hidden)
    if not outputs:
        raise MismatchError("it has no attention blocks")
    sites["conv_2.eval_conv"] = convolved
    return (sites["conv_1.eval_conv"], convolved, outputs[0]), activation


def _take_block(graph: Graph, hidden: str, block: str, sites: dict[str, str]) -> tuple[str, str]:
    """Section 3.2, from the first activation on: the block's output, and that activation."""
    first = _take_activation(graph, sites[f"{block}.c1_r.eval_conv"])
    sites[f"{block}.c2_r.eval_conv"] = graph.take("Convolution", first)
    second = _take_activation(graph, sites[f"{block}.c2_r.eval_conv"])
    sites[f"{block}.c3_r.eval_conv"] = features = graph.take("Convolution", second)
    attention = graph.take("add", graph.take("Sigmoid", features))
    if graph.scalars[attention] != -0.5:
        raise MismatchError(f"an attention shifted by {graph.scalars[attention]:g}")
    residual = graph.take("add", features, hidden)
    return graph.take("mul", residual, attention), first


def _take_activation(graph: Graph, blob: str) -> str:
    """SiLU, which some converters leave as a product."""
    if graph.has("Swish", blob):
        return graph.take("Swish", blob)
    return graph.take("mul", blob, graph.take("Sigmoid", blob))


def _take_shuffle(graph: Graph, sites: dict[str, str]) -> None:
    """The pixel shuffle, which a network that does not enlarge may lack."""
    last = sites["upsampler.0"]
    scale = 1.0
    if graph.has("PixelShuffle", last):
        scale = graph.scalars[graph.take("PixelShuffle", last)]
    rows = graph.weights[last][0].shape[0]
    colours = graph.weights[sites["conv_1.eval_conv"]][0].shape[1]
    if rows != colours * scale**2:
        raise MismatchError(f"{rows} channels are shuffled to {scale:g} times the size")

"""An exported ONNX file with eight-bit products (the scheme of Jacob et al. 2018, weights symmetric by column).

The activations' ranges are fixed, measured on words beforehand, and not taken from each batch: what is read in a
picture must not depend on the others beside it. Results of the products stay float32, so only their inputs are rounded.
Weights have seven bits: a processor without VNNI adds two products of eight bits each in sixteen, and overflows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

LARGEST_WEIGHT = 63
LARGEST_ACTIVATION = 255
# ONNX Runtime's own operator: multiplies in integers, scales, and adds the bias at once.
_DOMAIN = "com.microsoft"
_BATCH = 32


def write_int8(path: Path, source: Path, pixels: np.ndarray) -> int:
    """The same graph and metadata with its larger products in integers.

    Args:
        source: what ``write_onnx`` wrote.
        pixels: (N, 3, h, w) uint8, words by which the ranges of the activations are measured.

    Returns: how many products are in integers.
    """
    model = onnx.load(source)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    products = [node for node in graph.node if _is_large_product(node, weights, set(_names_in_loops(graph)))]
    ranges = _measure_ranges(model, sorted({node.input[0] for node in products}), pixels)
    for name, (low, high) in ranges.items():
        scale = max(high - low, 1e-6) / LARGEST_ACTIVATION
        _add(graph, f"{name}_scale", np.float32(scale))
        _add(graph, f"{name}_zero", np.uint8(round(-low / scale)))
    for name in {node.input[1] for node in products}:
        weight = numpy_helper.to_array(weights[name])
        scales = np.maximum(np.abs(weight).max(axis=0), 1e-12) / LARGEST_WEIGHT
        _add(graph, f"{name}_int8", np.round(weight / scales).astype(np.int8))
        _add(graph, f"{name}_scale", scales.astype(np.float32))
        _add(graph, f"{name}_zero", np.zeros(len(scales), np.int8))
    _replace(graph, {node.output[0]: node for node in products}, weights)
    model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    next(note for note in model.metadata_props if note.key == "weights").value = "int8"
    onnx.save(model, path)
    return len(products)


def _is_large_product(node: NodeProto, weights: dict[str, TensorProto], in_loops: set[str]) -> bool:
    """With a matrix of weights. Those that a loop has as well are of one character at a time, where rounding costs
    more time than it saves."""
    if node.op_type != "MatMul" or node.input[1] in in_loops or node.input[1] not in weights:
        return False
    return len(weights[node.input[1]].dims) == 2


def _names_in_loops(graph: GraphProto) -> Iterator[str]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from (name for inner in attribute.g.node for name in inner.input)


def _measure_ranges(model: ModelProto, names: list[str], pixels: np.ndarray) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of each tensor, zero among them."""
    watched = ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    ranges = dict.fromkeys(names, (0.0, 0.0))
    for start in range(0, len(pixels), _BATCH):
        values = session.run(names, {"pixels": pixels[start : start + _BATCH]})
        for name, value in zip(names, values, strict=True):
            (low, high), seen = ranges[name], np.asarray(value)
            ranges[name] = min(low, float(seen.min())), max(high, float(seen.max()))
    return ranges


def _replace(graph: GraphProto, products: dict[str, NodeProto], weights: dict[str, TensorProto]) -> None:
    """Put an integer product, with the bias that follows it, in place of each."""
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    nodes: list[NodeProto] = []
    quantised: set[str] = set()
    added: set[str] = set()
    for node in graph.node:
        product = products.get(node.output[0])
        if node.output[0] in added:
            continue
        if product is None:
            nodes.append(node)
            continue
        (x, weight), output, bias = node.input, node.output[0], ""
        followers = readers[output]
        if len(followers) == 1 and followers[0].op_type == "Add":
            other = next(name for name in followers[0].input if name != output)
            if other in weights and len(weights[other].dims) == 1:
                bias, output = other, followers[0].output[0]
                added.add(output)
        if x not in quantised:
            nodes.append(helper.make_node("QuantizeLinear", [x, f"{x}_scale", f"{x}_zero"], [f"{x}_int8"]))
            quantised.add(x)
        scales = [f"{x}_scale", f"{weight}_scale", f"{x}_zero", f"{weight}_zero", bias]
        inputs = [f"{x}_int8", f"{weight}_int8", *scales]
        nodes.append(helper.make_node("MatMulIntegerToFloat", inputs, [output], domain=_DOMAIN))
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input} | set(_names_in_loops(graph))
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _add(graph: GraphProto, name: str, value: np.ndarray | np.generic) -> None:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))

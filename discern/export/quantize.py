"""Fewer bits: an ONNX graph of single precision in, one whose large products are of int8 out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from discern.export.graph import INPUT

AT_ONCE = 8  # items that pass the graph together while ranges are measured
PRODUCTS = ("MatMul", "Gemm", "Conv")


def to_int8(path: Path, frames: Tensor) -> None:
    """Rewrite the graph at `path`; `frames` uint8 [N, T, h, w, 3] are what ranges come from.

    Weights have a scale for each channel, activations one that is measured beforehand (static
    quantization, Jacob et al. 2018).  What multiplies two activations, in attention, stays as it
    is: it costs little and loses most.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path.with_suffix(".prepared")
    # its inference of shapes would want sympy, and the graph has its shapes
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    graph = onnx.load(str(prepared)).graph
    constants = {one.name for one in graph.initializer}
    constants |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    quantize_static(
        str(prepared),
        str(path),
        _Reader(frames.numpy()),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(PRODUCTS),
        nodes_to_exclude=[
            node.name
            for node in graph.node
            if node.op_type == "MatMul" and not constants & set(node.input)
        ],
        per_channel=True,
        # 7 bits of a weight: without VNNI, sums of 8 would overflow 16 bits on the way
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    prepared.unlink()


class _Reader:
    """Batches by name, as onnxruntime asks for them."""

    def __init__(self, frames: np.ndarray) -> None:
        starts = range(0, len(frames), AT_ONCE)
        self.batches: Iterator[np.ndarray] = iter([frames[i : i + AT_ONCE] for i in starts])

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: batch}

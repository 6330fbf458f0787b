"""Graphs to files: ONNX, OpenVINO and torch.export, each by one function in the table."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim

from discern.export.graph import INPUT, Graph, outputs_of
from discern.export.quantize import to_int8
from discern.export.run import openvino_core

OPSET = 20
# graph, example of two, stem, frames that ranges of int8 come from -> file names
Writer = Callable[[Graph, Tensor, Path, Tensor | None], list[str]]


def write_onnx(graph: Graph, frames: Tensor, stem: Path, ranges: Tensor | None) -> list[str]:
    """stem.onnx, with a batch of any size and the weights inside."""
    import onnx  # noqa: F401  # named in the error where it is missing
    import onnxscript  # noqa: F401

    path = stem.with_suffix(".onnx")
    with _quiet():
        program = torch.onnx.export(
            graph,
            (frames,),
            dynamo=True,
            input_names=[INPUT],
            output_names=list(outputs_of(graph)),
            dynamic_shapes={"frames": {0: Dim("batch", min=1)}},
            opset_version=OPSET,
            external_data=False,
            optimize=True,
        )
        assert program is not None
        program.save(path)
        if ranges is not None:
            to_int8(path, ranges)
    return [path.name]


def write_openvino(graph: Graph, frames: Tensor, stem: Path, ranges: Tensor | None) -> list[str]:
    """stem.xml and stem.bin, by way of ONNX; numbers stay of its precision."""
    import openvino

    write_onnx(graph, frames, stem, ranges)
    path = stem.with_suffix(".onnx")
    try:
        # read by the core: the converter in Python would report its use over the network
        model = openvino_core().read_model(path)
        openvino.save_model(model, stem.with_suffix(".xml"), compress_to_fp16=False)
    finally:
        path.unlink()
    return [f"{stem.name}.xml", f"{stem.name}.bin"]


def write_program(graph: Graph, frames: Tensor, stem: Path, ranges: Tensor | None) -> list[str]:
    """stem.pt2, for `torch.export.load`."""
    assert ranges is None
    path = stem.with_suffix(".pt2")
    with _quiet():
        program = torch.export.export(
            graph, (frames,), dynamic_shapes={"frames": {0: Dim("batch", min=1)}}
        )
        torch.export.save(program, path)
    return [path.name]


WRITERS: dict[str, Writer] = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "program": write_program,
}
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "program": ".pt2"}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters tell their stages, and warn of what they do themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

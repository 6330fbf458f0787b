"""Tensors come in, a file of safetensors in pieces goes out, without copies of the tensors.

The library's `save` gathers all tensors in one object of bytes, which for a checkpoint takes as
long as to write it.  The format: the length of the header, the header as JSON, then the tensors
without gaps (https://huggingface.co/docs/safetensors, "Format").  Files are read by the library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from torch import Tensor

TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ALIGNED = 8  # bytes, of the header's end


def tensors_in_pieces(tensors: Mapping[str, Tensor]) -> list[memoryview]:
    """What the file holds, in order.  The tensors must not change until it is written.

    Only what is not on the CPU, or not contiguous, is copied.

    Raises KeyError for a type of numbers that no checkpoint has.
    """
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    # the widest numbers first, so that each begins at a multiple of its width
    order = sorted(plain, key=lambda name: -plain[name].element_size())
    header, pieces, end = {}, [], 0
    for name in order:
        tensor = plain[name]
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        if tensor.nbytes:
            pieces.append(tensor.reshape(-1).view(torch.uint8).numpy().data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    return [memoryview(len(text).to_bytes(8, "little") + text), *pieces]

"""Tensors in pieces: what the library reads is what was there, and nothing is copied."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import torch

from discern.train.pieces import TYPES, tensors_in_pieces


def test_the_library_reads_every_type_and_shape() -> None:
    drawn = torch.arange(24).reshape(2, 3, 4)
    tensors = {
        f"of {dtype}": (drawn % 2 if dtype == torch.bool else drawn).to(dtype) for dtype in TYPES
    }
    tensors |= {'odd "name" ü\n': torch.tensor(3.5), "none": torch.empty(0, 5), "": drawn[0]}
    tensors |= {"turned": drawn[0].float().T, "part": drawn[:, 1:, ::2], "tied": tensors[""]}
    found = safetensors.torch.load(b"".join(tensors_in_pieces(tensors)))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape, name
        assert torch.equal(found[name], tensor), name


def test_wide_numbers_begin_at_multiples_of_their_width() -> None:
    tensors = {"a": torch.ones(3, dtype=torch.uint8), "b": torch.ones(2, dtype=torch.float64)}
    head, first, second = tensors_in_pieces(tensors)
    assert len(head) % 8 == 0
    assert (len(first), len(second)) == (16, 3)


def test_no_tensor_is_copied() -> None:
    tensor = torch.randn(1000)
    _, piece = tensors_in_pieces({"a": tensor})
    assert np.frombuffer(piece, np.uint8).ctypes.data == tensor.data_ptr()


def test_a_type_that_no_checkpoint_has_is_refused() -> None:
    with pytest.raises(KeyError):
        tensors_in_pieces({"a": torch.ones(2, dtype=torch.complex64)})

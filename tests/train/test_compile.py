"""Compiled blocks: they say and learn what they did, and share what is compiled."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from discern.models.backbone import Backbone
from discern.models.blocks import Block
from discern.models.classifier import Classifier
from discern.objectives.supervised import Supervised, SupervisedConfig
from discern.train.loop import step_rng
from discern.train.run import compile_blocks
from tests.tiny import backbone_config, batch, masked_gan, supervised, view

CUDA = torch.device("cuda")


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")  # of torch about its own parts
def test_compiled_blocks_say_what_they_said_on_a_gpu() -> None:
    objective = supervised(0).to(CUDA)
    clip = torch.rand(3, 3, 1, 16, 16, device=CUDA) * 2 - 1
    before = objective.classifier(clip)  # type: ignore[attr-defined]
    compile_blocks(objective)
    torch.testing.assert_close(objective.classifier(clip), before, rtol=1e-3, atol=1e-4)  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore")  # of torch about its own parts
def test_only_blocks_that_learn_are_compiled() -> None:
    objective = supervised(0)
    compile_blocks(objective)
    blocks = [one for one in objective.modules() if isinstance(one, Block)]
    compiled = [one for one in blocks if one._compiled_call_impl is not None]
    assert 0 < len(compiled) < len(blocks)
    assert all(one.norm1.weight.requires_grad for one in compiled)


@pytest.fixture
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its last part, which is slow and changes nothing of what is asked here."""
    plain = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda one: plain(one, backend="aot_eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


@pytest.mark.usefixtures("quick_compiler")
@pytest.mark.filterwarnings("ignore")  # of torch about its own parts
def test_blocks_that_drop_paths_at_other_rates_share_what_is_compiled() -> None:
    config = SupervisedConfig()
    backbone = Backbone(backbone_config(depth=6, drop_path=0.2))
    objective = Supervised(config, Classifier(backbone, 3), view()).train()
    compile_blocks(objective)
    for count in (4, 6, 8):
        objective.loss("classifier", batch(count), step_rng(0, 0), 0.5).total.backward()
    # the first, which drops none, and the others; each for one batch and for any
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 5


@pytest.mark.usefixtures("quick_compiler")
@pytest.mark.filterwarnings("ignore")  # of torch about its own parts
def test_compiled_blocks_learn_from_the_adversary_too() -> None:
    """Its step goes through a block's backward pass twice."""
    losses = {}
    for compiled in (False, True):
        objective = masked_gan(0)
        if compiled:
            compile_blocks(objective)
        total = objective.loss("both", batch(8), step_rng(0, 0), 0.5).total
        total.backward()
        losses[compiled] = total.detach()
        assert any(one.grad is not None for one in objective.generator.parameters())
    torch.testing.assert_close(losses[True], losses[False])

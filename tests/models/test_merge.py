"""Merged tokens: exact where tokens are the same, as written in the paper where they are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from discern.explain.attention import kept_attention
from discern.models.backbone import Backbone
from discern.models.blocks import Block
from discern.models.merge import Merged
from tests.tiny import backbone_config, pixels, rng


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed))


def written_out(
    x: Tensor, keys: Tensor, size: list[float], groups: list[list[int]], count: int
) -> tuple[Tensor, list[float], list[list[int]]]:
    """One merge of one clip, token by token (Bolya et al. 2023, section 3 and appendix D).

    [M, D], [M, d], sizes, and the patches in each token -> the same after the merge
    """
    unit = keys / keys.norm(dim=1, keepdim=True)
    even, odd = range(0, len(x), 2), range(1, len(x), 2)
    best = {a: max(odd, key=lambda b: float(unit[a] @ unit[b])) for a in even}
    order = sorted(even, key=lambda a: -float(unit[a] @ unit[best[a]]))
    into: dict[int, list[int]] = {b: [b] for b in odd}
    for a in order[:count]:
        into[best[a]].append(a)
    members = [[a] for a in order[count:]] + list(into.values())
    rows = [sum(size[m] * x[m] for m in one) / sum(size[m] for m in one) for one in members]
    return (
        torch.stack(rows),
        [sum(size[m] for m in one) for one in members],
        [[patch for m in one for patch in groups[m]] for one in members],
    )


@pytest.mark.parametrize("tokens", [12, 9])
def test_a_merge_is_that_of_the_paper(tokens: int) -> None:
    merged = Merged(tokens, first=0, share=0.6, blocks=2)
    x, found = drawn(tokens, 5), drawn(1, tokens, 5)
    found[0] = x
    size, groups = [1.0] * tokens, [[patch] for patch in range(tokens)]
    for _ in range(2):
        keys = found.clone()
        found = merged.fewer(found, keys)
        x, size, groups = written_out(x, keys[0], size, groups, len(keys[0]) - found.shape[1])
        apart = merged.apart(found)[0]
        for row, patches in zip(x, groups, strict=True):
            for patch in patches:
                torch.testing.assert_close(apart[patch], row)
        assert merged.bias is not None
        assert merged.bias.exp().sum().item() == pytest.approx(tokens)
    assert found.shape[1] == tokens - round(0.6 * tokens)


def test_tokens_that_are_the_same_merge_without_a_trace() -> None:
    torch.manual_seed(0)
    blocks = [Block(32, 2).eval() for _ in range(3)]
    twins = drawn(2, 8, 32).repeat_interleave(2, dim=1)  # every token beside its double
    plain = twins
    merged, x = Merged(16, first=0, share=0.5, blocks=3), twins
    merged._left = [8, 0, 0]  # before they have other neighbours
    for block in blocks:
        plain, x = block(plain), block(x, merged=merged)
    assert x.shape == (2, 8, 32)
    torch.testing.assert_close(merged.apart(x), plain, rtol=0, atol=1e-5)


def test_first_tokens_stay_as_they_are() -> None:
    merged = Merged(8, first=2, share=0.5, blocks=1)
    x = drawn(3, 10, 4)
    found = merged.fewer(x, x)
    assert found.shape == (3, 6, 4) and torch.equal(found[:, :2], x[:, :2])
    assert merged.bias is not None and merged.bias.shape == (3, 1, 1, 6)
    assert merged.bias[..., :2].abs().max() == 0 and merged.bias.max() > 0.6


def made(merge: float, **changes: object) -> Backbone:
    torch.manual_seed(1)
    return Backbone(backbone_config(merge=merge, **changes))


@pytest.mark.parametrize("more", [{}, {"class_token": True, "registers": 2, "pool": "class"}])
def test_an_encoder_merges_in_use_only(more: dict[str, object]) -> None:
    plain, merging = made(0.0, **more).eval(), made(0.5, **more).eval()
    clip = pixels(3).float() / 127.5 - 1
    keep = torch.arange(8).expand(3, -1)
    with torch.no_grad():
        wanted, found = plain(clip), merging(clip)
        assert found.tokens.shape == wanted.tokens.shape
        apart = (found.pooled - wanted.pooled).abs().max()
        assert 1e-6 < apart < 0.5 * wanted.pooled.abs().max()
        assert len(found.tokens[0].unique(dim=0)) == 16 - 8
        assert torch.equal(merging(clip, keep).tokens, plain(clip, keep).tokens)
        assert torch.equal(merging.train()(clip).pooled, plain.train()(clip).pooled)


def test_explanations_look_at_each_patch() -> None:
    encoder = made(0.5).eval()
    with kept_attention(encoder) as maps:
        encoder(pixels(1).float() / 127.5 - 1)
    assert [one.shape[-2:] for one in maps] == [(16, 16)] * 2


def test_gradients_flow_through_what_was_merged() -> None:
    encoder = made(0.5).eval()
    clip = (pixels(2).float() / 127.5 - 1).requires_grad_()
    encoder(clip).pooled.square().sum().backward()
    assert clip.grad is not None and (clip.grad.abs().amax(dim=1) > 0).float().mean() > 0.9


def test_a_share_that_cannot_be_is_met_as_far_as_it_can() -> None:
    merged = Merged(16, first=0, share=0.9, blocks=2)  # half of the tokens a block, at most
    x = drawn(1, 16, 4)
    for left in (9, 5):
        x = merged.fewer(x, x)
        assert x.shape[1] == left

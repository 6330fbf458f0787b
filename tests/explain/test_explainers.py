"""Explanations against closed forms, and on a problem whose answer lies at a known place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from discern.explain.attention import kept_attention, raw_attention
from discern.explain.faithful import faithfulness
from discern.explain.gradients import attributions, integrated_gradients
from discern.explain.occlusion import occlusion
from discern.explain.subject import Subject, blurred, to_cells, to_pixels
from discern.explain.table import CONTROLS, EXPLAINERS
from discern.models.backbone import Backbone, BackboneConfig
from discern.models.classifier import Classifier
from tests.tiny import rng

SIDE, PATCH = 16, 4
METHODS = [name for name in EXPLAINERS if name not in CONTROLS]


def _grid(clip: Tensor) -> tuple[int, int, int]:
    return (-(-clip.shape[2] // 2), clip.shape[3] // PATCH, clip.shape[4] // PATCH)


@pytest.fixture(scope="module")
def linear() -> tuple[Subject, Tensor]:
    """logits = (w x, -w x)"""
    weight = torch.randn(3, 1, SIDE, SIDE, generator=rng(1))

    def logits(clip: Tensor) -> Tensor:
        score = (clip * weight).flatten(1).sum(dim=1)
        return torch.stack([score, -score], dim=1)

    return Subject(logits=logits, grid=_grid), weight


def test_gradients_of_a_linear_model(linear: tuple[Subject, Tensor]) -> None:
    subject, weight = linear
    clip, target = torch.randn(2, 3, 1, SIDE, SIDE, generator=rng()), torch.tensor([0, 1])
    sign = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1, 1)
    expected = sign * weight * (clip - blurred(clip))
    torch.testing.assert_close(attributions(subject, clip, target), expected)
    cells = to_cells(expected.sum(dim=1), (1, 4, 4)).clamp(min=0)
    torch.testing.assert_close(integrated_gradients(subject, clip, target), cells)


def test_occlusion_of_a_linear_model(linear: tuple[Subject, Tensor]) -> None:
    """The sum of what the window holds: in a corner 2 x 2 cells, inside 3 x 3."""
    subject, weight = linear
    clip, target = torch.randn(1, 3, 1, SIDE, SIDE, generator=rng()), torch.tensor([0])
    held = (weight * (clip - blurred(clip)))[0].sum(dim=0)[0]  # [H, W]
    found = occlusion(subject, clip, target)[0, 0]
    assert found[0, 0] == pytest.approx(max(0.0, float(held[:8, :8].sum())), abs=1e-4)
    assert found[2, 1] == pytest.approx(max(0.0, float(held[4:16, 0:12].sum())), abs=1e-4)


def test_attributions_add_up_to_the_difference_of_logits(trained: Subject) -> None:
    clip, label, _ = scenes(3, seed=7)
    found = attributions(trained, clip, label, steps=1000).flatten(1).sum(dim=1)
    with torch.no_grad():
        here, there = (
            trained.logits(one).gather(1, label[:, None])[:, 0] for one in (clip, blurred(clip))
        )
    torch.testing.assert_close(found, here - there, atol=0.02, rtol=0.02)


def scenes(count: int, seed: int, frames: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Noise with upright or lying stripes on one cell: clips, classes, and the number of the cell.

    In clips they are there in two frames only.  Blurring leaves nothing of them.
    """
    random = rng(seed)
    clip = 0.3 * torch.randn(count, 3, frames, SIDE, SIDE, generator=random)
    label = torch.randint(2, (count,), generator=random)
    cells = (SIDE // PATCH) ** 2
    place = torch.randint(cells * -(-frames // 2), (count,), generator=random)
    for item in range(count):
        t, cell = int(place[item]) // cells, int(place[item]) % cells
        top, left = PATCH * (cell // 4), PATCH * (cell % 4)
        square = clip[item, :, 2 * t : 2 * t + 2, top : top + PATCH, left : left + PATCH]
        stripes = torch.tensor([1.0, -1.0]).repeat(PATCH // 2)
        square[:] = stripes if label[item] else stripes[:, None]
    return clip, label, place


@pytest.fixture(
    scope="module",
    params=[("mean", "conv", 0), ("class", "conv", 0), ("mean", "deep", 2), ("mean", "deep", 3)],
    ids=["mean", "class", "deep", "deeper"],
)
def trained(request: pytest.FixtureRequest) -> Subject:
    torch.manual_seed(0)
    pool, stem, poolings = request.param
    config = BackboneConfig(
        width=32,
        depth=2,
        heads=2,
        patch=PATCH,
        stem=stem,
        poolings=poolings,
        pool=pool,
        class_token=pool == "class",
    )
    classifier = Classifier(Backbone(config), 2)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3)
    for step in range(220):
        clip, label, _ = scenes(64, seed=100 + step, frames=1 if step % 2 else 4)
        loss = nn.functional.cross_entropy(classifier(clip), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    classifier.eval().requires_grad_(False)
    clip, label, _ = scenes(200, seed=1)
    assert (classifier(clip).argmax(1) == label).float().mean() > 0.95
    backbone = classifier.backbone
    return Subject(logits=classifier, grid=backbone.grid, backbone=backbone)


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("method", METHODS)
def test_the_heat_is_where_the_class_is(trained: Subject, method: str, frames: int) -> None:
    clip, label, place = scenes(40, seed=2, frames=frames)
    heat = EXPLAINERS[method](trained, clip, label)
    assert heat.shape == (40, *trained.grid(clip)) and (heat >= 0).all()
    peak = heat.flatten(1).argmax(dim=1)
    cells = (SIDE // PATCH) ** 2
    near = [
        max(abs(int(p) % cells // 4 - int(q) % cells // 4), abs(int(p) % 4 - int(q) % 4)) <= 1
        and int(p) // cells == int(q) // cells
        for p, q in zip(peak, place, strict=True)
    ]
    # attention knows tokens, and those of a deep stem know what lies and moves around them
    blurred = trained.backbone.config.stem == "deep" and method == "relevance"
    wanted = 18 if blurred and frames > 1 else 24
    assert sum(near) >= wanted, f"{sum(near)} of 40"  # by chance 9 of 16 at most, in clips half


@pytest.mark.parametrize("method", METHODS)
def test_they_are_more_faithful_than_chance(trained: Subject, method: str) -> None:
    clip, label, place = scenes(60, seed=3)
    found = faithfulness(trained, clip, label, EXPLAINERS[method](trained, clip, label))
    lot = faithfulness(trained, clip, label, EXPLAINERS["chance"](trained, clip, label))
    if trained.backbone.config.poolings == 3 and method == "relevance":
        return  # its windows span the scene; benchmarks/explain.py has it on real pictures
    assert (lot.deletion - found.deletion).mean() > 0.05
    assert (found.insertion - lot.insertion).mean() > 0.05
    known = nn.functional.one_hot(place, 16).float().view(-1, 1, 4, 4)
    best = faithfulness(trained, clip, label, known)
    assert best.deletion.mean() < lot.deletion.mean() - 0.1


def test_a_heat_of_its_own_for_each_class(trained: Subject) -> None:
    clip, label, _ = scenes(8, seed=4)
    for method in METHODS:
        mine, other = (EXPLAINERS[method](trained, clip, one) for one in (label, 1 - label))
        assert (mine - other).abs().max() > 1e-6, method
    assert torch.equal(raw_attention(trained, clip, label), raw_attention(trained, clip, 1 - label))


def test_keeping_attention_changes_no_answer_and_ends(trained: Subject) -> None:
    clip, _, _ = scenes(4, seed=5)
    assert trained.backbone is not None
    plain = trained.logits(clip)
    with kept_attention(trained.backbone) as maps:
        kept = trained.logits(clip)
    torch.testing.assert_close(kept, plain, atol=1e-5, rtol=0)
    tokens = 16 + int(trained.backbone.config.class_token)
    assert [one.shape for one in maps] == 2 * [(4, 2, tokens, tokens)]
    torch.testing.assert_close(maps[0].sum(dim=-1), torch.ones(4, 2, tokens))
    trained.logits(clip)
    assert len(maps) == 2  # nothing is kept any more


@pytest.mark.parametrize(("frames", "grid"), [(1, (1, 2, 3)), (4, (2, 2, 3)), (3, (2, 2, 3))])
def test_cells_and_pixels(frames: int, grid: tuple[int, int, int]) -> None:
    heat = torch.rand(2, *grid, generator=rng())
    pixels = to_pixels(heat, (frames, 8, 12))
    assert pixels.shape == (2, frames, 8, 12)
    assert torch.equal(pixels[:, 0, ::4, ::4], heat[:, 0])
    if frames % 2 == 0:
        torch.testing.assert_close(to_cells(pixels, grid), heat * 2 * 16)


def test_blurring_keeps_colour_and_loses_detail() -> None:
    clip = torch.randn(1, 3, 2, 32, 32, generator=rng()) + torch.tensor([1.0, 0, -1]).view(
        1, 3, 1, 1, 1
    )
    found = blurred(clip)
    torch.testing.assert_close(found.mean((2, 3, 4)), clip.mean((2, 3, 4)), atol=0.1, rtol=0)
    assert found.std(dim=(3, 4)).max() < 0.25 * clip.std(dim=(3, 4)).min()
    assert blurred(torch.zeros(1, 3, 1, 20, 12)).shape == (1, 3, 1, 20, 12)

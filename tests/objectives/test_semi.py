"""Tuning with unlabelled items: the teacher's answers by hand, who learns, when it starts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from discern.clip import Batch
from discern.data.augment import to_float
from discern.models.batch_norm import norms_of
from discern.objectives.semi import Semi
from tests.tiny import batch, pixels, rng, semi, supervised


def _mixed(known: int = 4, unknown: int = 8, frames: int = 1) -> Batch:
    label = batch(known + unknown).label
    assert label is not None
    label[known:] = -1
    return Batch(clip=pixels(known + unknown, frames), label=label)


def _loss(objective: Semi, items: Batch, progress: float = 0.5) -> Any:
    return objective.loss("classifier", items, rng(), progress)


class _Says(torch.nn.Module):
    """A teacher of given probabilities."""

    def __init__(self, answers: Tensor) -> None:
        super().__init__()
        self.answers = answers

    def forward(self, clip: Tensor) -> Tensor:
        return self.answers.log()


def test_without_unlabelled_items_it_is_supervised() -> None:
    items = batch(8)
    found, expected = (one.loss("classifier", items, rng(), 0.5) for one in (semi(), supervised()))
    assert found.total.item() == expected.total.item() and found.parts == expected.parts


@pytest.mark.parametrize("changes", [{"weight": 0.0}, {"start": 0.6}])
def test_before_the_start_and_without_weight_the_unlabelled_count_nothing(
    changes: dict[str, float],
) -> None:
    items = _mixed()
    assert items.label is not None
    labelled = Batch(clip=items.clip[:4], label=items.label[:4])
    expected = supervised().loss("classifier", labelled, rng(), 0.5)
    assert _loss(semi(**changes), items).total.item() == expected.total.item()


def test_answers_are_evened_out_and_sharpened() -> None:
    objective = semi(temperature=0.5, alignment=0.5)
    said = torch.tensor([[0.6, 0.3, 0.1], [0.8, 0.1, 0.1]])
    objective.average = _Says(said)  # type: ignore[assignment]
    answers, sure = objective._answers(pixels(2))
    mean = (torch.full((3,), 1 / 3) + said.mean(0)) / 2
    torch.testing.assert_close(objective.mean_answer, mean)
    even = said / mean
    even = even / even.sum(1, keepdim=True)
    assert sure == pytest.approx(even.amax(1).mean().item())
    torch.testing.assert_close(answers, even**2 / (even**2).sum(1, keepdim=True))


def test_unsure_answers_count_nothing() -> None:
    objective = semi(threshold=0.7, alignment=0.0, temperature=1.0)
    objective.average = _Says(torch.tensor([[0.6, 0.3, 0.1], [0.8, 0.1, 0.1]]))  # type: ignore[assignment]
    answers, _ = objective._answers(pixels(2))
    torch.testing.assert_close(answers, torch.tensor([[0.0, 0.0, 0.0], [0.8, 0.1, 0.1]]))


@pytest.mark.parametrize("frames", [1, 4])
def test_unlabelled_items_teach_the_classifier_and_not_the_teacher(frames: int) -> None:
    objective = semi().train()
    items = _mixed(frames=frames)
    losses = _loss(objective, items)
    assert losses.parts.keys() == {"cross_entropy", "train_accuracy", "agreement", "sure"}
    expected = losses.parts["cross_entropy"] + losses.parts["agreement"]
    assert losses.total.item() == pytest.approx(float(expected), rel=1e-5)
    losses.total.backward()
    assert all(p.grad is None for p in objective.average.parameters())
    before = objective.classifier.head.weight.grad
    assert before is not None
    objective = semi().train()
    other = Batch(clip=items.clip.clone(), label=items.label)
    other.clip[4:] = 255 - other.clip[4:]
    _loss(objective, other).total.backward()
    after = objective.classifier.head.weight.grad
    assert after is not None and not torch.allclose(before, after, atol=1e-5)


def test_the_teacher_does_not_drop_paths() -> None:
    objective = semi(drop_path=0.5).train()
    clip = to_float(pixels(6))
    torch.manual_seed(0)
    first, _ = objective._answers(clip)
    objective.mean_answer.fill_(1 / 3)
    torch.manual_seed(1)
    assert torch.equal(objective._answers(clip)[0], first)


def test_the_teacher_judges_by_the_statistics_of_what_it_names() -> None:
    objective = semi(stem="deep").train()
    norms, clip = norms_of(objective.average), to_float(pixels(8))
    assert norms
    first, _ = objective._answers(clip)
    for one in norms:  # as if the weights had turned since
        one.mean.fill_(5.0)
    objective.mean_answer.fill_(1 / 3)
    assert torch.equal(objective._answers(clip)[0], first)
    assert all((one.mean[0] < 5.0).all() for one in norms)
    assert not any(one.training for one in objective.average.modules())


def test_the_teacher_sees_the_tokens_that_the_classifier_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective, told = semi(hide=0.5), {}
    for name, one in (("live", objective.classifier), ("teacher", objective.average)):
        plain = one.backbone.forward

        def forward(
            clip: Tensor, keep: Tensor | None = None, plain: Any = plain, name: str = name
        ) -> Any:
            told[name] = keep
            return plain(clip, keep)

        monkeypatch.setattr(one.backbone, "forward", forward)
    _loss(objective, _mixed())
    assert told["teacher"] is None and told["live"].shape == (12, 8)


def test_labelled_items_must_come_first() -> None:
    items = _mixed()
    assert items.label is not None
    with pytest.raises(AssertionError, match="first"):
        _loss(semi(), Batch(clip=items.clip, label=items.label.flip(0)))

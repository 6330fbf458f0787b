"""The watch: what it skips, when it rolls back or gives up, what it does about a collapse."""

from __future__ import annotations

import pytest
import torch

from discern.train.watch import (
    ALIKE,
    LOOKS,
    ROLL_BACKS_BEFORE_STOP,
    SKIPS_BEFORE_ROLL_BACK,
    STEPS,
    WARM_UP,
    Watch,
)
from tests.tiny import batch, gan, masked_gan, rng, supervised

FINE, NAN, INF = torch.tensor(1.0), torch.tensor(float("nan")), torch.tensor(float("inf"))
HEALTHY = {"d_accuracy": 0.8, "diversity": 0.9}


def _grown() -> Watch:
    """A watch over a game that is no longer young."""
    watch = Watch()
    watch.played = WARM_UP
    return watch


def _look(
    watch: Watch, objective: torch.nn.Module, parts: dict[str, float], times: int
) -> list[str]:
    return [line for _ in range(times) for line in watch.look(objective, parts)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("loss", "norm", "healthy"),
    [
        (FINE, FINE, True),
        (NAN, FINE, False),
        (FINE, NAN, False),
        (INF, FINE, False),
        (FINE, INF, False),
    ],
)
def test_only_finite_steps_are_taken(loss: torch.Tensor, norm: torch.Tensor, healthy: bool) -> None:
    watch = Watch()
    assert watch.healthy(loss, norm, "both") is healthy
    assert watch.skipped == (0 if healthy else 1)
    said = watch.look(supervised(), {})
    assert (len(said) == 0) is healthy
    assert watch.look(supervised(), {}) == []  # said once


def test_a_few_bad_steps_in_a_row_roll_back() -> None:
    watch = Watch()
    for number in range(SKIPS_BEFORE_ROLL_BACK):
        assert not watch.must_roll_back
        watch.healthy(NAN, FINE, "both")
        assert watch.skipped == (number + 1) % SKIPS_BEFORE_ROLL_BACK
    assert watch.must_roll_back and watch.roll_backs == 1
    watch.rolled_back()
    assert not watch.must_roll_back and watch.rate_scale == 0.5
    assert any("rate scaled by 0.5" in line for line in watch.look(supervised(), {}))


def test_a_good_step_in_between_starts_the_count_again() -> None:
    watch = Watch()
    for _ in range(10 * SKIPS_BEFORE_ROLL_BACK):
        for _ in range(SKIPS_BEFORE_ROLL_BACK - 1):
            watch.healthy(NAN, FINE, "both")
        watch.healthy(FINE, FINE, "both")
    assert not watch.must_roll_back and watch.gave_up is None and watch.skipped == 0


def test_a_phase_that_is_well_does_not_hide_one_that_is_not() -> None:
    watch = Watch()
    for _ in range(SKIPS_BEFORE_ROLL_BACK):
        watch.healthy(NAN, FINE, "discriminator")
        watch.healthy(FINE, FINE, "generator")
    assert watch.must_roll_back


def test_it_gives_up_in_the_end() -> None:
    watch = Watch()
    for _ in range(ROLL_BACKS_BEFORE_STOP):
        for _ in range(SKIPS_BEFORE_ROLL_BACK):
            watch.healthy(NAN, FINE, "both")
        assert watch.must_roll_back and watch.gave_up is None
        watch.rolled_back()
    for _ in range(SKIPS_BEFORE_ROLL_BACK):
        watch.healthy(NAN, FINE, "both")
    assert watch.gave_up is not None and "--rate" in watch.gave_up
    assert not watch.must_roll_back and watch.rate_scale == 0.5**ROLL_BACKS_BEFORE_STOP
    assert any("given up" in line for line in watch.look(supervised(), {}))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"d_accuracy": 0.995, "diversity": 0.9}, "wins every time"),
        ({"d_accuracy": 0.505, "diversity": 0.9}, "cannot tell real from fake"),
        ({"d_accuracy": 0.8, "diversity": ALIKE / 2}, "look all alike"),
    ],
)
@pytest.mark.parametrize("make", [masked_gan, gan])
def test_a_sign_that_lasts_eases_the_adversary(
    make: type, parts: dict[str, float], said: str
) -> None:
    watch, objective = _grown(), make()
    assert _look(watch, objective, parts, STEPS - 1) == []
    (line,) = _look(watch, objective, parts, 1)
    assert said in line and "0.5" in line and float(objective.adversary_scale) == 0.5
    _look(watch, objective, parts, 2 * STEPS)
    assert float(objective.adversary_scale) == 0.125
    (line,) = _look(watch, objective, parts, STEPS)  # the fourth time it falls silent
    assert float(objective.adversary_scale) == 0.0 and "scaled to 0" in line


@pytest.mark.parametrize("parts", [HEALTHY, {}, {"d_accuracy": 0.98}, {"d_accuracy": 0.52}])
def test_healthy_runs_are_left_alone(parts: dict[str, float]) -> None:
    watch, objective = Watch(), masked_gan()
    assert _look(watch, objective, parts, 3 * STEPS) == []
    assert float(objective.adversary_scale) == 1.0


def test_a_sign_must_last_without_a_break() -> None:
    watch, objective = _grown(), masked_gan()
    for _ in range(3):
        assert _look(watch, objective, {"d_accuracy": 1.0}, STEPS - 1) == []
        assert _look(watch, objective, HEALTHY, 1) == []
    assert float(objective.adversary_scale) == 1.0


def test_without_an_adversary_there_is_nothing_to_ease() -> None:
    (line,) = _look(_grown(), supervised(), {"d_accuracy": 1.0}, STEPS)
    assert "nothing to ease" in line


def test_a_resumed_watch_goes_on_where_it_was() -> None:
    first, objective = _grown(), masked_gan()
    for _ in range(SKIPS_BEFORE_ROLL_BACK):
        first.healthy(NAN, FINE, "both")
    first.rolled_back()
    first.look(objective, {})
    _look(first, objective, {"d_accuracy": 1.0}, STEPS - 1)
    saved = first.dump()
    assert saved["rate_scale"] == 0.5 and saved["roll_backs"] == 1
    _look(first, objective, {"d_accuracy": 1.0}, 10)
    second, objective = Watch(), masked_gan()
    second.load(saved)
    assert second.rate_scale == 0.5
    assert len(_look(second, objective, {"d_accuracy": 1.0}, 1)) == 1
    assert float(objective.adversary_scale) == 0.5


def test_a_sign_that_some_steps_only_can_show_lasts_in_between() -> None:
    watch, objective = _grown(), masked_gan()
    said = []
    for step in range(STEPS + 8):  # the adversary is in every fourth step
        parts = {"d_accuracy": 1.0} if step % 4 == 0 else {"view": 1.0}
        said += [(step, line) for line in watch.look(objective, parts)]
    ((step, line),) = said
    assert STEPS - 1 <= step < STEPS + 4 and "wins every time" in line
    watch = _grown()
    for step in range(4 * STEPS):  # too seldom to be sure of anything
        parts = {"d_accuracy": 1.0} if step % 16 == 0 and step < LOOKS * 16 - 16 else {}
        assert watch.look(objective, parts) == []


def test_a_loss_that_explodes_and_stays_is_told_and_one_that_falls_is_not() -> None:
    watch, objective = Watch(), masked_gan()
    said = []
    for step in range(100):  # it falls, as it should
        assert watch.healthy(torch.tensor(5.0 / (1 + step / 10)), FINE, "both")
        said += watch.look(objective, {})
    for _ in range(30):  # a peak is no explosion
        watch.healthy(torch.tensor(1e4), FINE, "both")
        said += watch.look(objective, {})
    watch.healthy(FINE, FINE, "both")
    assert said == [] == watch.look(objective, {})
    for _ in range(STEPS):
        watch.healthy(torch.tensor(1e4), FINE, "both")
        said += watch.look(objective, {})
    assert len(said) == 1 and "10 times" in said[0] and float(objective.adversary_scale) == 0.5
    resumed = Watch()
    resumed.load(watch.dump())
    assert resumed.usual == watch.usual and 0.3 < resumed.usual["both"] < 3


def test_a_young_game_is_left_alone_and_a_resumed_one_does_not_get_young_again() -> None:
    watch, objective = Watch(), gan()
    young = {"d_accuracy": 1.0, "diversity": 0.0}
    assert _look(watch, objective, {"view": 1.0}, 3 * WARM_UP) == []  # nobody plays yet
    assert _look(watch, objective, young, WARM_UP + STEPS - 1) == []
    resumed = Watch()
    resumed.load(watch.dump())
    assert len(_look(resumed, objective, young, 1)) == 2


def test_an_explosion_in_the_steps_of_the_adversary_alone_is_told() -> None:
    watch, objective = Watch(), masked_gan()
    said = []
    for step in range(100 + STEPS):
        played = step % 4 == 0
        loss = torch.tensor(1e9) if played and step >= 100 else FINE
        assert watch.healthy(loss, FINE, "both", played=played)
        said += watch.look(objective, {})
    assert len(said) == 1 and "with the adversary" in said[0]


@pytest.mark.parametrize("make", [masked_gan, gan])
def test_fakes_that_are_all_alike_have_no_diversity(make: type) -> None:
    """Augmentation after the painting, or fakes of another kind beside them, must not hide it."""
    objective = make(**({"noise_share": 0.5} if make is masked_gan else {}))
    objective.generator.register_forward_hook(
        lambda module, given, out: out.mean(dim=0, keepdim=True).expand_as(out)
    )
    phase = next(iter(objective.players))
    parts = objective.loss(phase, batch(16), rng(), 0.9).parts
    assert parts["diversity"] < ALIKE

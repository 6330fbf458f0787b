"""A watch over the training: losses and signs of health in, cures and warnings out.

Not-a-number steps are skipped, then the last good checkpoint comes back at half the rate, then the
run stops.  A discriminator that wins or loses outright, or fakes that all look alike, ease or
silence the adversary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from discern.objectives.objective import Objective

SKIPS_BEFORE_ROLL_BACK = 5
ROLL_BACKS_BEFORE_STOP = 3
STEPS = 200  # that a sign must last before anything is done
LOOKS = 40  # and that it must be seen in: the adversary is not in every step
WARM_UP = 200  # steps of the game in which its signs say nothing: every young one shows them
WINS, LOSES = 0.99, 0.51  # discriminator accuracy
ALIKE = 0.10  # diversity of fakes against that of real ones
EXPLODED = 10.0  # times what the loss usually is
PLAYED = " with the adversary"
SLOW = 0.02  # share of a step in what is usual
SMALL = 0.1  # a loss below it is no measure for others


class Watch:
    """One per run; `dump` and `load` carry it over a resume."""

    def __init__(self) -> None:
        self.rate_scale = 1.0
        self.skips: dict[str, int] = {}  # phase -> in a row
        self.roll_backs = 0
        self.signs: dict[str, int] = {}  # steps since a sign was first seen, and never missed
        self.looks: dict[str, int] = {}  # how often it was seen in them
        self.eased = 0
        self.usual: dict[str, float] = {}  # kind of step -> the loss it usually has
        self.played = 0  # steps since the adversary's first
        self.must_roll_back = False
        self.gave_up: str | None = None
        self._exploded: dict[str, bool] = {}  # what this step says, by kind
        self._pending: list[str] = []

    @property
    def skipped(self) -> int:
        """Steps in a row that were skipped, in the phase where it is worst."""
        return max(self.skips.values(), default=0)

    def healthy(
        self,
        loss: Tensor,
        gradient_norm: Tensor,
        phase: str,
        *,
        played: bool = False,
        compare: bool = True,
    ) -> bool:
        """May this phase's step be taken?  A loss or gradient that is not finite may not.

        With `compare` the loss is also held against what it usually is; apart for the steps in
        which the adversary `played`, for where it explodes the others do not show it.
        """
        if bool(torch.isfinite(loss.detach())) and bool(torch.isfinite(gradient_norm)):
            self.skips[phase] = 0
            if compare:
                self._weigh(abs(float(loss.detach())), phase + (PLAYED if played else ""))
            return True
        self.skips[phase] = self.skips.get(phase, 0) + 1
        self._pending.append(
            f"loss or gradient is not finite: step skipped ({self.skips[phase]} in a row)"
        )
        if self.skips[phase] >= SKIPS_BEFORE_ROLL_BACK:
            self.skips.clear()
            self.roll_backs += 1
            if self.roll_backs > ROLL_BACKS_BEFORE_STOP:
                self.gave_up = "the loss stays not finite: lower the rate, for example --rate 1e-4"
                self._pending.append(f"given up: {self.gave_up}")
            else:
                self.must_roll_back = True
        return False

    def _weigh(self, loss: float, kind: str) -> None:
        usual = self.usual.get(kind, loss)
        exploded = loss > EXPLODED * max(usual, SMALL)
        self._exploded[kind] = exploded
        if not exploded:
            self.usual[kind] = usual + SLOW * (loss - usual)

    def rolled_back(self) -> None:
        """The loop has put the last checkpoint back."""
        self.must_roll_back = False
        self.rate_scale /= 2
        self._pending.append(
            f"rolled back to the last checkpoint; rate scaled by {self.rate_scale}"
        )

    def look(self, objective: Objective, parts: dict[str, float]) -> list[str]:
        """Read the signs of health after a step; act on those that last.

        Returns what to write down.
        """
        accuracy, spread = parts.get("d_accuracy"), parts.get("diversity")
        wins = None if accuracy is None else accuracy >= WINS
        loses = None if accuracy is None else accuracy <= LOSES
        self.played += self.played > 0 or accuracy is not None or spread is not None
        if self.played > WARM_UP:
            self._sign("the discriminator wins every time", wins)
            self._sign("the discriminator cannot tell real from fake", loses)
            self._sign("the fakes look all alike", None if spread is None else spread < ALIKE)
        for kind in self.usual:
            sign = f"the loss ({kind}) is {EXPLODED:g} times what it was"
            self._sign(sign, self._exploded.get(kind))
        self._exploded.clear()
        for sign, count in self.signs.items():
            if count >= STEPS and self.looks.get(sign, 0) >= LOOKS:
                self.signs[sign] = self.looks[sign] = 0
                self._pending.append(f"{sign} for {count} steps: {self._ease(objective)}")
        said, self._pending = self._pending, []
        return said

    def dump(self) -> dict[str, Any]:
        return {
            "rate_scale": self.rate_scale,
            "roll_backs": self.roll_backs,
            "signs": dict(self.signs),
            "looks": dict(self.looks),
            "eased": self.eased,
            "usual": dict(self.usual),
            "played": self.played,
        }

    def load(self, saved: dict[str, Any]) -> None:
        for name, value in saved.items():
            setattr(self, name, value)

    def _sign(self, name: str, seen: bool | None) -> None:
        """None: this step does not say; a sign that was there goes on."""
        steps = self.signs.get(name, 0)
        if seen or (seen is None and steps > 0):
            self.signs[name] = steps + 1
            self.looks[name] = self.looks.get(name, 0) + bool(seen)
        elif seen is not None:
            self.signs[name] = self.looks[name] = 0

    def _ease(self, objective: Objective) -> str:
        scale = dict(objective.named_buffers()).get("adversary_scale")
        if scale is None:
            return "nothing to ease"
        self.eased += 1
        scale.mul_(0.5 if self.eased < 4 else 0.0)
        return f"adversary scaled to {float(scale):g}"

"""What a pre-training that goes on takes over from the one that it starts from."""

from __future__ import annotations

from pathlib import Path

import pytest

from discern.models.weights import load_bundle
from discern.recipes.pretrain import pretrain
from tests.faults.killing import write_pictures
from tests.tiny import ENCODER, EXACT

STILL = ["optim.rate=1e-9"]  # nothing is learned, so that it shows what it began with


@pytest.mark.parametrize("centred", [True, False])
def test_the_generator_goes_on_with_places_as_it_knows_them(centred: bool, tmp_path: Path) -> None:
    data, base, out = (tmp_path / name for name in ("data", "base", "out"))
    write_pictures(data, 24, 16)
    places = f"generator.centred={str(centred).lower()}"
    pretrain(str(data), base, steps=1, overrides=[*ENCODER, *EXACT, places])
    pretrain(str(data), out, base=base, steps=1, overrides=[*EXACT, *STILL])
    before, after = load_bundle(base).model.generator, load_bundle(out).model.generator
    assert before is not None and after is not None
    assert before.config.centred == after.config.centred == centred
    assert (before.to_patch.weight - after.to_patch.weight).abs().max() < 1e-6

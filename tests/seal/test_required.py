"""`--require-signature` on every verb that has it: a model that nobody signed is not used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.cli import main
from discern.errors import EXIT_INTEGRITY
from tests.seal.conftest import Keys
from tests.test_cli import long_options, verb_words

# verb -> its words; MODEL, DATA, PHOTO, OUT and GALLERY are filled in
WORDS = {
    "evaluate": "MODEL DATA --out OUT",
    "predict": "MODEL PHOTO",
    "generate": "MODEL --out OUT",
    "reconstruct": "MODEL PHOTO --out OUT",
    "score": "DATA --model MODEL --out OUT",
    "explain": "MODEL PHOTO --out OUT",
    "serve": "MODEL --port 0",
    "export": "MODEL --to program --out OUT",
    "attack": "MODEL DATA --out OUT",
    "gallery enroll": "GALLERY someone PHOTO --model MODEL",
    "gallery identify": "GALLERY PHOTO --model MODEL",
    "gallery verify": "GALLERY ann PHOTO --model MODEL",
    "gallery calibrate": "GALLERY DATA --model MODEL",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(8):
        path = folder / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


def test_no_verb_is_forgotten() -> None:
    having = {verb for verb in verb_words() if "--require-signature" in long_options(verb)}
    assert having == set(WORDS)


@pytest.mark.parametrize("verb", WORDS)
def test_an_unsigned_model_is_refused(
    verb: str,
    data: Path,
    original: Path,
    keys: Keys,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if verb == "serve":
        pytest.importorskip("fastapi")
    if verb == "score":
        pytest.importorskip("pyarrow")
    photo, gallery = str(data / "cat" / "1.png"), str(tmp_path / "gallery")
    assert main(["gallery", "enroll", gallery, "ann", photo, "--model", str(original)]) == 0
    filled = {"MODEL": str(original), "DATA": str(data), "PHOTO": photo}
    filled |= {"OUT": str(tmp_path / "out"), "GALLERY": gallery}
    words = [filled.get(word, word) for word in WORDS[verb].split()]
    capsys.readouterr()
    code = main([*verb.split(), *words, "--require-signature", str(keys.mine_public)])
    assert code == EXIT_INTEGRITY
    assert "not signed" in capsys.readouterr().err

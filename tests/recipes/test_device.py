"""What a recipe changes where it runs on a GPU, and where a stem costs little."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from discern.cli import main
from discern.data.augment import VIEW
from discern.data.synthetic import DigitsConfig, write_digits
from discern.objectives.masked_gan import MaskedGanConfig
from discern.recipes import images
from discern.recipes.train import configured
from discern.train.settings import RunConfig
from tests.faults.killing import pretrain_words, write_pictures


@pytest.mark.parametrize(
    ("recipe", "times"), [(images.masked_gan(), 8), (images.mae(), 8), (images.semi(), 4)]
)
def test_batches_are_larger_on_a_gpu_alone(recipe: RunConfig, times: int) -> None:
    usual = recipe.data.loader.batch_size
    assert images.for_device(recipe, ["device=cpu"]).data.loader.batch_size == usual
    there = images.for_device(recipe, ["device=cuda"])
    assert there.data.loader.batch_size == times * usual
    assert there.objective == recipe.objective and there.optim == recipe.optim


@pytest.mark.parametrize(
    ("side", "size", "alone"), [(32, 512, 2048), (64, 256, 512), (96, 113, 256), (224, 64, 256)]
)
def test_batches_of_large_frames_stay_as_they_are(side: int, size: int, alone: int) -> None:
    canvas = [f"data.preprocess.height={side}", f"data.preprocess.width={side}"]

    def found(recipe: RunConfig) -> int:
        return images.for_device(recipe, ["device=cuda", *canvas]).data.loader.batch_size

    assert found(images.masked_gan()) == size
    assert found(images.mae()) == alone  # one view of an item takes the room of one
    # eight windows of half the sides take that of two, whole views that of eight
    terms = replace(images.masked_gan().masked_gan, window=1.0)
    assert found(replace(images.masked_gan(), masked_gan=terms)) == max(64, min(512, alone // 8))


@pytest.mark.parametrize("gpu", [True, False])
def test_auto_is_the_gpu_where_there_is_one(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    recipe = images.masked_gan()
    found = images.for_device(recipe, ["device=auto"])
    assert (found != recipe) == gpu
    # a device that does not exist is told where settings are checked
    assert images.for_device(recipe, ["device=tpu"]) == recipe


def test_who_names_a_batch_size_gets_it_on_a_gpu_too() -> None:
    def tuned(batch: int | None, *overrides: str) -> int:
        config = configured(
            images.supervised(),
            lambda one: one,
            None,
            size=None,
            seed=0,
            batch=batch,
            rate=None,
            overrides=["device=cuda", *overrides],
        )
        return config.data.loader.batch_size

    assert tuned(None) == 4 * images.TRAIN_BATCH
    assert tuned(10) == 10
    assert tuned(None, "data.loader.batch_size=12") == 12


@pytest.mark.parametrize("how", ["shape", "override"])
def test_tokens_are_dropped_where_the_blocks_are_what_costs(how: str) -> None:
    def settled(recipe: RunConfig, stem: str) -> tuple[float, ...]:
        overrides = [f"backbone.stem={stem}"] if how == "override" else []
        if how == "shape":
            recipe = replace(recipe, backbone=replace(recipe.backbone, stem=stem))
        terms = images.for_stem(recipe, overrides).masked_gan
        return terms.mask_ratio, terms.clip_mask_ratio, terms.window, terms.views, terms.opening

    for recipe in (images.masked_gan(), images.view()):
        assert settled(recipe, "deep") == (0.25, 0.5, 0.5, 8, 0.0)
        assert settled(recipe, "conv") == settled(recipe, "mlp") == (0.65, 0.75, 1.0, 4, 0.2)
    assert images.sized(images.masked_gan(), "nano").masked_gan.window == 1.0
    assert images.sized(images.masked_gan(), "hybrid").masked_gan.window == 0.5
    for stem in ("deep", "conv"):  # what masks alone goes on as MAE does
        assert settled(images.mae(), stem) == (0.75, 0.9, 1.0, 8, 0.0)
    assert images.for_stem(images.gan(), ["backbone.stem=conv"]) == images.gan()


def test_matrices_are_turned_where_a_stem_is_deep() -> None:
    def factor(recipe: RunConfig, *overrides: str, size: str | None = None) -> float:
        config = configured(
            recipe,
            lambda one: one,
            None,
            size=size,
            seed=0,
            batch=None,
            rate=None,
            overrides=overrides,
        )
        return config.optim.matrix_factor

    for make in images.TUNING.values():
        assert factor(make()) == factor(make(), size="hybrid_small") == images.MATRIX_FACTOR
        assert factor(make(), size="nano") == factor(make(), "backbone.stem=conv") == 0
        assert factor(make(), "backbone.stem=deep", size="nano") == images.MATRIX_FACTOR
        assert factor(make(), "optim.matrix_factor=3") == 3
        assert factor(make(), "backbone.stem=mlp", "optim.matrix_factor=3") == 3
    deep = images.sized(images.masked_gan(), "nano", ["backbone.stem=deep"])
    assert (deep.optim, deep.masked_gan.window) == (images.masked_gan().optim, 0.5)
    for name in ("masked_gan", "mae", "view"):
        recipe = images.recipe(name)
        assert images.for_stem(recipe).optim.matrix_factor == images.MATRIX_FACTOR
        assert images.for_stem(recipe, ["backbone.stem=conv"]).optim.matrix_factor == 0


def test_what_compares_no_views_is_not_zoomed() -> None:
    for recipe in (images.mae(), images.gan(), images.supervised()):
        assert images.zoomed(recipe) == recipe
    alone = replace(images.masked_gan(), masked_gan=MaskedGanConfig(view=0.0))
    assert images.zoomed(alone) == alone
    assert images.zoomed(images.masked_gan(), ["masked_gan.view=0"]) == images.masked_gan()
    assert images.zoomed(images.masked_gan()) != images.masked_gan()


def test_a_pretraining_knows_the_stem_that_it_will_have(tmp_path: Path) -> None:
    """Also where the named size has another one."""
    pictures, out = write_pictures(tmp_path / "data"), tmp_path / "run"
    words = pretrain_words(pictures, out, 1, "backbone.stem=deep")
    assert main([*words, "--size", "nano"]) == 0
    settings = json.loads((out / "config.json").read_text())["settings"]
    assert settings["optim"]["matrix_factor"] == images.MATRIX_FACTOR
    assert settings["masked_gan"]["window"] == images.masked_gan().masked_gan.window


@pytest.mark.parametrize("clips", [4, 0])
def test_images_show_sharp_parts_and_clips_few_zoomed_views(tmp_path: Path, clips: int) -> None:
    shape = DigitsConfig(train_clips=clips, test_clips=clips, frames=4, images=40)
    digits, out = write_digits(tmp_path / "data", config=shape), tmp_path / "run"
    words = pretrain_words(digits, out, 1, "backbone.stem=deep", "view.hue=0.25")
    assert main(words) == 0
    settings = json.loads((out / "config.json").read_text())["settings"]
    found = settings["masked_gan"]["views"], settings["masked_gan"]["opening"]
    assert settings["view"]["hue"] == 0.25
    assert settings["masked_gan"]["window"] == 0.5
    if clips:
        assert (*found, settings["view"]["scale"]) == (4, 0.2, list(VIEW.scale))
    else:
        assert (*found, settings["view"]["scale"]) == (8, 0.0, [1.0, 1.0])

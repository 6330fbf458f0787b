"""The generator: images and clips, from noise alone or around visible tokens."""

from __future__ import annotations

import pytest
import torch

from discern.models.generator import Generator
from discern.models.tokens import patchify, positions
from tests.tiny import backbone_config, generator_config, rng


def _generator(classes: int = 0, tubelet: int = 2, seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    config = generator_config(classes=classes)
    return Generator(config, backbone_config(tubelet=tubelet)).eval()


def _keep(count: int, tokens: int, seen: int) -> torch.Tensor:
    return torch.stack([torch.randperm(tokens, generator=rng(i))[:seen] for i in range(count)])


@torch.no_grad()
@pytest.mark.parametrize("tubelet", [1, 2])
@pytest.mark.parametrize("shape", [(1, 16, 16), (4, 16, 16), (3, 8, 24), (8, 4, 4)])
@pytest.mark.parametrize("seen", [0, 1])
def test_shapes(shape: tuple[int, int, int], tubelet: int, seen: int) -> None:
    generator = _generator(tubelet=tubelet)
    noise = generator.draw_noise(3, rng())
    assert noise.shape == (3, 8)
    if seen:
        grid = (-(-shape[0] // tubelet), shape[1] // 4, shape[2] // 4)
        count = grid[0] * grid[1] * grid[2]
        keep = _keep(3, count, max(1, count // 2))
        tokens = torch.randn(*keep.shape, 32, generator=rng(1))
        clip = generator(noise, shape, tokens, keep)
    else:
        clip = generator(noise, shape)
    assert clip.shape == (3, 3, *shape) and clip.dtype == torch.float32


@torch.no_grad()
def test_centred_places_have_nothing_in_common() -> None:
    torch.manual_seed(0)
    generator = Generator(generator_config(centred=True), backbone_config(tubelet=2))
    for grid in ((1, 4, 4), (3, 2, 2), (1, 1, 2)):
        own = generator._places(grid)
        torch.testing.assert_close(own.mean(dim=0), torch.zeros(24), rtol=0, atol=1e-5)
        torch.testing.assert_close(own.square().mean(), torch.tensor(1.0))
        plain = positions(grid, 24)
        apart = plain[0] - plain[1]  # what tells two places apart points the same way
        assert torch.cosine_similarity(own[0] - own[1], apart, dim=0) > 0.999
    drawn = generator(generator.draw_noise(2, rng()), (1, 4, 4))  # a single token
    assert drawn.isfinite().all()


@torch.no_grad()
def test_noise_decides_and_nothing_else() -> None:
    generator = _generator()
    noise = generator.draw_noise(4, rng())
    clip = generator(noise, (1, 16, 16))
    assert torch.equal(clip, generator(noise, (1, 16, 16)))
    torch.testing.assert_close(clip[1:2], generator(noise[1:2], (1, 16, 16)), rtol=0, atol=1e-5)
    assert (clip[0] - clip[1]).abs().max() > 0.01
    assert torch.equal(noise, generator.draw_noise(4, rng()))


@torch.no_grad()
def test_an_image_is_the_mean_of_its_tubelet() -> None:
    generator = _generator()
    noise = generator.draw_noise(2, rng())
    still = generator(noise, (2, 16, 16))
    assert not torch.equal(still[:, :, 0], still[:, :, 1])
    image = generator(noise, (1, 16, 16))
    torch.testing.assert_close(image, still.mean(dim=2, keepdim=True))


@torch.no_grad()
def test_odd_lengths_are_cut() -> None:
    generator = _generator()
    noise = generator.draw_noise(2, rng())
    assert torch.equal(generator(noise, (3, 16, 16)), generator(noise, (4, 16, 16))[:, :, :3])


@torch.no_grad()
def test_visible_tokens_reach_the_hidden_patches_and_lie_where_they_belong() -> None:
    generator = _generator()
    noise = generator.draw_noise(1, rng())
    keep = torch.tensor([[3, 9]])
    tokens = torch.randn(1, 2, 32, generator=rng(1))
    clip = generator(noise, (1, 16, 16), tokens, keep)
    # the order in which tokens are named says nothing
    swapped = generator(noise, (1, 16, 16), tokens[:, [1, 0]], keep[:, [1, 0]])
    torch.testing.assert_close(clip, swapped, rtol=0, atol=1e-6)
    # the same tokens elsewhere are another picture, also where nothing was seen
    elsewhere = generator(noise, (1, 16, 16), tokens, torch.tensor([[3, 10]]))
    apart = (patchify(clip, 2, 4) - patchify(elsewhere, 2, 4)).abs().amax(-1)[0]
    assert (apart > 0).all() and set(apart.topk(2).indices.tolist()) == {9, 10}


@torch.no_grad()
def test_seen_and_hidden_tokens_know_their_place() -> None:
    generator = _generator()
    keep, tokens = torch.tensor([[3, 9]]), torch.randn(1, 2, 32, generator=rng(1))
    canvas = generator._canvas(1, (1, 4, 4), tokens, keep)
    place = positions((1, 4, 4), 24)
    expected = (generator.mask_token + place).clone()
    expected[0, [3, 9]] = generator.embed(tokens)[0] + place[[3, 9]]
    torch.testing.assert_close(canvas, expected)


@torch.no_grad()
def test_labels() -> None:
    generator = _generator(classes=3)
    noise = generator.draw_noise(1, rng()).expand(5, -1)
    any_class = generator(noise[:1], (1, 16, 16))
    every = generator(noise, (1, 16, 16), label=torch.tensor([0, 1, 2, -1, 0]))
    torch.testing.assert_close(every[3:4], any_class, rtol=0, atol=1e-6)  # -1: any
    torch.testing.assert_close(every[0], every[4], rtol=0, atol=1e-6)
    apart = torch.cdist(every[:4].flatten(1), every[:4].flatten(1)) + 10 * torch.eye(4)
    assert apart.min() > 1e-3
    without = _generator()
    label = torch.tensor([1])
    assert torch.equal(
        without(noise[:1], (1, 16, 16), label=label), without(noise[:1], (1, 16, 16))
    )


def test_every_parameter_learns_but_those_without_visible_tokens() -> None:
    generator = _generator(classes=2)
    noise = generator.draw_noise(2, rng())
    generator(noise, (1, 16, 16)).square().sum().backward()
    idle = {n for n, p in generator.named_parameters() if p.grad is None or not p.grad.any()}
    assert idle == {"embed.weight", "embed.bias"}
    tokens = torch.randn(2, 4, 32, generator=rng(1))
    generator(noise, (1, 16, 16), tokens, _keep(2, 16, 4)).square().sum().backward()
    assert all(parameter.grad.any() for parameter in generator.parameters())


@torch.no_grad()
def test_the_seam_starts_as_nothing_and_joins_neighbours() -> None:
    generator = _generator()
    noise = generator.draw_noise(1, rng())
    plain = generator(noise, (1, 16, 16))
    generator.seam.weight.fill_(0.1)
    joined = generator(noise, (1, 16, 16))
    window = torch.nn.functional.avg_pool2d(plain[:, :, 0], 3, 1, 1) * 0.9
    expected = plain[:, :, 0] + window.sum(1, keepdim=True)
    torch.testing.assert_close(joined[:, :, 0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_centred_places_are_learned_sooner(seed: int) -> None:
    """What is bright in the middle and dark around it, from few steps."""
    wanted = torch.full((8, 3, 1, 16, 16), -1.0)
    wanted[..., 4:12, 4:12] = 1.0
    left = {}
    for centred in (False, True):
        torch.manual_seed(seed)
        generator = Generator(generator_config(centred=centred), backbone_config())
        optimizer = torch.optim.AdamW(generator.parameters(), lr=2e-3)
        draw = rng(seed)
        for _ in range(60):
            error = (generator(generator.draw_noise(8, draw), (1, 16, 16)) - wanted).square().mean()
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
        left[centred] = error.item()
    assert left[True] < 0.5 * left[False]

"""The code that teaches the generator to draw from noise."""

import math

import torch

from discern.models.backbone import BackboneConfig
from discern.models.coder import Coder
from discern.models.generator import Generator, GeneratorConfig
from discern.objectives.coder import code_loss

SHAPE = BackboneConfig(width=32, depth=1, heads=2, patch=4)


def made() -> tuple[Coder, Generator]:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(width=24, depth=1, heads=2, noise=8), SHAPE)
    return Coder(32, 8), generator


def correlated(count: int, seed: int, offset: float = 5.0) -> torch.Tensor:
    """Features that all point the same way and of which few directions matter.  -> [B, 32]"""
    mixed = torch.randn(8, 32, generator=torch.Generator().manual_seed(7))
    drawn = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
    return drawn @ mixed + offset


def test_the_loss_is_half_the_log_error() -> None:
    (coder, generator), (twin, _) = made(), made()
    clip, pooled = torch.rand(5, 3, 1, 8, 8) * 2 - 1, torch.randn(5, 32)
    loss = code_loss(coder, pooled, clip, generator, torch.Generator().manual_seed(1))
    noise = generator.draw_noise(5, torch.Generator().manual_seed(1))
    code = (twin.follow(pooled, is_clip=False) + 0.4 * noise) / 1.16**0.5
    error = (generator(code, (1, 8, 8)) - clip).square().mean()
    assert math.isclose(loss.item(), 0.5 * math.log(error.item() + 1e-3), rel_tol=1e-5)


def test_codes_have_the_moments_of_what_is_drawn_later() -> None:
    coder, _ = made()
    for seed in range(60):
        coder.follow(correlated(32, seed), is_clip=False)
        coder.follow(correlated(32, seed, offset=-20.0), is_clip=True)  # moments of its own
    for is_clip, offset in ((False, 5.0), (True, -20.0)):
        code = coder.follow(correlated(2000, 99, offset), is_clip)
        assert code.mean(dim=0).abs().max() < 0.15
        # the ridge holds back directions that hardly vary
        assert (torch.cov(code.T) - torch.eye(8)).abs().max() < 0.5


def test_draws_differ_as_the_data_does() -> None:
    coder, generator = made()
    optimizer = torch.optim.Adam([*coder.parameters(), *generator.parameters()], lr=3e-3)
    rng = torch.Generator().manual_seed(0)
    for seed in range(150):
        pooled = correlated(32, seed)
        light = torch.tanh((pooled[:, :1] - 5.0) / 3).view(-1, 1, 1, 1, 1)
        optimizer.zero_grad()
        code_loss(coder, pooled, light.expand(-1, 3, 1, 8, 8), generator, rng).backward()
        optimizer.step()
    drawn = generator(generator.draw_noise(200, rng), (1, 8, 8)).mean(dim=(1, 2, 3, 4))
    assert 0.6 < (drawn.std() / light.std()).item() < 1.5


def test_a_generator_learns_to_draw_from_noise() -> None:
    coder, generator = made()
    clip = torch.full((16, 3, 1, 8, 8), -1.0)
    clip[:, :, :, 2:6, 2:6] = 1.0  # one and the same square
    pooled = torch.randn(16, 32)
    parameters = [*coder.parameters(), *generator.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    rng = torch.Generator().manual_seed(0)
    for _ in range(120):
        optimizer.zero_grad()
        code_loss(coder, pooled, clip, generator, rng).backward()
        optimizer.step()
    drawn = generator(generator.draw_noise(4, rng), (1, 8, 8))
    assert (drawn - clip[:4]).square().mean() < 0.1


def test_a_class_is_drawn_from_its_own_density() -> None:
    coder, _ = made()
    drawn = torch.Generator().manual_seed(1)
    label = torch.arange(2000) % 2
    code = torch.randn(2000, 8, generator=drawn) * torch.tensor([[0.5], [0.2]])[label]
    code = code + torch.tensor([[0.8], [-0.8]])[label]
    coder.learn_classes(code, label, 2)
    assert coder.classes == 2
    for number, (mean, spread) in enumerate(((0.8, 0.5), (-0.8, 0.2))):
        found = coder.draw(torch.full((4000,), number), drawn)
        scale = (1 + 0.4**2) ** 0.5
        assert (found.mean(dim=0) - mean / scale).abs().max() < 0.05
        assert (found.std(dim=0) - (spread**2 + 0.4**2) ** 0.5 / scale).abs().max() < 0.05


def test_a_class_of_one_item_or_none_spreads_like_all() -> None:
    coder, _ = made()
    coder.learn_classes(torch.full((1, 8), 2.0), torch.tensor([0]), 3)
    assert (coder.class_mean[0] == 2).all() and (coder.class_mean[1:] == 0).all()
    assert coder.class_spread[0].min() > 0.9
    torch.testing.assert_close(coder.class_spread[1:], torch.ones(2, 8))


def test_codes_of_use_leave_the_moments_alone() -> None:
    coder, _ = made()
    coder.settle(correlated(500, 3), is_clip=False)
    kept = {name: value.clone() for name, value in coder.state_dict().items()}
    code = coder(correlated(400, 4), is_clip=False)
    assert all(torch.equal(kept[name], value) for name, value in coder.state_dict().items())
    assert code.mean(dim=0).abs().max() < 0.2

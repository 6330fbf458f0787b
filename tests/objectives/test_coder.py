"""The code that teaches the generator to draw from noise."""

import math

import torch

from discern.models.backbone import BackboneConfig
from discern.models.generator import Generator, GeneratorConfig
from discern.objectives.coder import Coder

SHAPE = BackboneConfig(width=32, depth=1, heads=2, patch=4)


def made() -> tuple[Coder, Generator]:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(width=24, depth=1, heads=2, noise=8), SHAPE)
    return Coder(32, 8), generator


def test_the_loss_is_the_bound_of_a_sigma_vae() -> None:
    coder, generator = made()
    torch.nn.init.zeros_(coder.head.weight)  # mean 0, log variance 0: no divergence
    clip = torch.rand(5, 3, 1, 8, 8) * 2 - 1
    pooled = torch.randn(5, 32)
    loss = coder.loss(pooled, clip, generator, torch.Generator().manual_seed(1))
    noise = generator.draw_noise(5, torch.Generator().manual_seed(1))
    error = (generator(noise, (1, 8, 8)) - clip).square().mean()
    assert math.isclose(loss.item(), 0.5 * math.log(error.item() + 1e-3), rel_tol=1e-5)


def test_the_divergence_is_that_of_two_normals() -> None:
    coder, generator = made()
    torch.nn.init.zeros_(coder.head.weight)
    coder.head.bias.data = torch.cat([torch.full((8,), 0.5), torch.full((8,), -1.0)])
    clip = torch.rand(4, 3, 1, 8, 8)
    pooled = torch.randn(4, 32)
    loss = coder.loss(pooled, clip, generator, torch.Generator().manual_seed(1))
    noise = generator.draw_noise(4, torch.Generator().manual_seed(1))
    drawn = generator(0.5 + math.exp(-0.5) * noise, (1, 8, 8))
    code = torch.distributions.Normal(0.5, math.exp(-0.5))
    divergence = torch.distributions.kl_divergence(code, torch.distributions.Normal(0.0, 1.0)) * 8
    expected = 0.5 * ((drawn - clip).square().mean() + 1e-3).log() + divergence / clip[0].numel()
    assert torch.allclose(loss, expected, atol=1e-5)


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
        coder.loss(pooled, clip, generator, rng).backward()
        optimizer.step()
    drawn = generator(generator.draw_noise(4, rng), (1, 8, 8))
    assert (drawn - clip[:4]).square().mean() < 0.1

"""What the encoder may learn from fakes beyond telling them from real items: four further terms.

Each takes what the adversary's step has at hand anyway, and is off by default: what each one gave
stands in benchmarks/RESULTS.md.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def contrast_with_negatives(
    one: Tensor, other: Tensor, fakes: Tensor, temperature: float
) -> Tensor:
    """InfoNCE of two views of real items whose negatives are also fakes (ContraD, Jeong & Shin
    2021, section 3.1).

    [B, Q], [B, Q], fakes [F, Q] -> []
    """
    one, other, fakes = (F.normalize(part.float(), dim=1) for part in (one, other, fakes))
    target = torch.arange(len(one), device=one.device)
    losses = []
    for first, second in ((one, other), (other, one)):
        logits = torch.cat([first @ second.T, first @ fakes.T], dim=1) / temperature
        losses.append(F.cross_entropy(logits, target))
    return torch.stack(losses).mean()


def perceptual(
    encoder: Callable[[Tensor], Tensor], painted: Tensor, real: Tensor, hidden: Tensor
) -> Tensor:
    """How far the features of hidden patches are off once they are painted, in an encoder that is
    not trained by it (Johnson et al. 2016; in a GAN Dosovitskiy & Brox 2016).

    clips [B, C, T, H, W], hidden [B, M], encoder: clip -> tokens [B, N, D] -> []
    """
    with torch.no_grad():
        target = encoder(real)
    off = (_normed(encoder(painted)) - _normed(target)).square().mean(dim=2)  # [B, N]
    return off.gather(1, hidden).mean()


def hardest(loss: Callable[[Tensor], Tensor], clip: Tensor, size: float) -> Tensor:
    """The clip, every value moved by `size` the way that makes the loss grow (FGSM, Goodfellow et
    al. 2015; as a view, Ho & Vasconcelos 2020).

    [B, C, T, H, W] in [-1, 1] -> the same
    """
    leaf = clip.detach().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf), leaf)
    return (leaf + size * slope.sign()).clamp(-1, 1).detach()


def fake_class(real: Tensor, fake: Tensor) -> Tensor:
    """The loss of one class more, for fakes, whose logit is 0 (Salimans et al. 2016, section 5.1).

    Logits of K classes for real items without labels [U, K] and for fakes [F, K] -> []
    """
    certain, doubtful = real.logsumexp(dim=1), fake.logsumexp(dim=1)
    return (F.softplus(-certain).mean() + F.softplus(doubtful).mean()) / 2


def _normed(tokens: Tensor) -> Tensor:
    return nn.functional.layer_norm(tokens.float(), tokens.shape[-1:])

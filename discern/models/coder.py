"""Features in, noise-like codes that the generator draws from out.

pooled features [B, D] -> code [B, Z] of standard normal moments

A variational bound would let the codes of thousands of pixels wander far from the normal that is
drawn from later, or give the code up.  So the codes are whitened: a regularised autoencoder (Ghosh
et al. 2020) whose density is settled while it learns.  Where the codes of each class are known, a
class is drawn from its own density.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from discern.models.blocks import init_linear

KINDS = 2  # images and clips have moments of their own
FOLLOW = 0.02  # how fast the moments follow the features, once enough were seen
RIDGE = 1e-2  # of the mean variance: directions without any must not be blown up
SPREAD = 0.4  # of the noise on a code of unit variance, which fills the room between codes
PRIOR = 5.0  # items of unit variance that the spread of a class starts from


class Coder(nn.Module):
    """A linear code of the features, whitened by running moments."""

    mean: Tensor
    covariance: Tensor
    seen: Tensor
    class_mean: Tensor  # [K, Z]; K = 0 until classes are known
    class_spread: Tensor

    def __init__(self, width: int, noise: int, classes: int = 0) -> None:
        super().__init__()
        self.head = nn.Linear(width, noise, bias=False)
        self.head.apply(init_linear)
        self.register_buffer("mean", torch.zeros(KINDS, noise))
        self.register_buffer("covariance", torch.eye(noise).repeat(KINDS, 1, 1))
        self.register_buffer("seen", torch.zeros(KINDS))  # batches
        if classes:
            self.register_buffer("class_mean", torch.zeros(classes, noise))
            self.register_buffer("class_spread", torch.ones(classes, noise))

    @property
    def classes(self) -> int:
        """How many classes have codes."""
        return len(self.class_mean) if "class_mean" in self._buffers else 0

    def follow(self, pooled: Tensor, is_clip: bool) -> Tensor:
        """The codes of a batch, which moves the moments first.  [B, D] -> [B, Z]"""
        with torch.autocast(pooled.device.type, enabled=False):
            raw = self.head(pooled.float())
            self._follow(raw.detach(), int(is_clip))
            return self._whitened(raw, int(is_clip))

    def forward(self, pooled: Tensor, is_clip: bool) -> Tensor:
        """The codes of a batch.  [B, D] -> [B, Z]"""
        with torch.autocast(pooled.device.type, enabled=False):
            return self._whitened(self.head(pooled.float()), int(is_clip))

    def settle(self, pooled: Tensor, is_clip: bool) -> None:
        """Take the moments of these features for those of a kind.  [N, D]"""
        self.seen[int(is_clip)] = 0
        self._follow(self.head(pooled.float()).detach(), int(is_clip))

    def blurred(self, code: Tensor, noise: Tensor) -> Tensor:
        """A code somewhere near, of unit variance again.  [B, Z] twice -> [B, Z]"""
        return (code + SPREAD * noise) / (1 + SPREAD**2) ** 0.5

    @torch.no_grad()
    def learn_classes(self, code: Tensor, label: Tensor, classes: int) -> None:
        """Settle each class's density.  code [N, Z], label [N] -> mean and spread [K, Z]

        The spread of a class of few items leans on that of all, which is 1.
        """
        member = nn.functional.one_hot(label, classes).to(code.dtype)  # [N, K]
        count = member.sum(dim=0).unsqueeze(1)  # [K, 1]
        mean = member.T @ code / count.clamp(min=1)
        off = (code - mean[label]).square()
        self.register_buffer("class_mean", mean)
        self.register_buffer("class_spread", ((member.T @ off + PRIOR) / (count + PRIOR)).sqrt())

    def draw(self, label: Tensor, rng: torch.Generator) -> Tensor:
        """Codes of these classes.  [B] -> [B, Z]"""
        shape, device = (2, len(label), self.mean.shape[1]), self.mean.device
        within, around = torch.randn(shape, generator=rng, device=rng.device).to(device)
        return self.blurred(self.class_mean[label] + self.class_spread[label] * within, around)

    def _whitened(self, raw: Tensor, kind: int) -> Tensor:
        covariance = self.covariance[kind]
        ridge = RIDGE * covariance.diagonal().mean() + 1e-8
        whole = covariance + ridge * torch.eye(len(covariance), device=covariance.device)
        # a check would make a GPU wait
        factor, _ = torch.linalg.cholesky_ex(whole, check_errors=whole.device.type == "cpu")
        centred = (raw - self.mean[kind]).T
        return torch.linalg.solve_triangular(factor, centred, upper=False).T

    @torch.no_grad()
    def _follow(self, raw: Tensor, kind: int) -> None:
        """Moments over all batches at first, over the last ones later: the features move on."""
        self.seen[kind] += 1
        rate = (1.0 / self.seen[kind]).clamp(min=FOLLOW)
        self.mean[kind].lerp_(raw.mean(dim=0), rate)
        off = raw - self.mean[kind]
        self.covariance[kind].lerp_(off.T @ off / len(raw), rate)

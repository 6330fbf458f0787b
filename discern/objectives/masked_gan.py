"""The default objective: masked adversarial in-painting and view consistency in one shared encoder.

The generator (encoder of the visible tokens, light decoder, noise) paints hidden patches; the
discriminator (the same encoder) judges each patch and the whole.  One encoder pass over all views
with tokens dropped serves the view term, the reconstruction and the forgery.  A weight of 0 takes a
term out and costs nothing: MAE, MAE + view and MAE + adversary are settings of this file.  Sources:
MAE (He et al. 2022), GAN-MAE (Fei et al. 2023), SimCLR and MoCo v3 (Chen et al. 2020, 2021),
ContraD (Jeong & Shin 2021), MSN (Assran et al. 2022).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from discern.clip import Batch
from discern.models.backbone import Features
from discern.models.batch_norm import forgetting, restart
from discern.models.blocks import init_linear
from discern.models.coder import Coder
from discern.models.discriminator import Discriminator, Verdict
from discern.models.generator import Generator
from discern.models.tokens import patchify, take_tokens, unpatchify
from discern.objectives.adversarial import (
    contrast,
    contrast_teacher,
    diversity,
    finite_difference_penalty,
    patch_accuracy,
    relativistic,
)
from discern.objectives.coder import code_loss
from discern.objectives.forged import contrast_with_negatives, hardest, perceptual
from discern.objectives.masking import Mask, random_mask, window
from discern.objectives.objective import Losses, Objective, chance, on_host, ramp
from discern.objectives.projection import projection_head
from discern.objectives.time_fakes import TIME_FAKES, fake_time

View = Callable[[Tensor, torch.Generator], Tensor]  # uint8 [B, C, T, H, W] -> float, augmented


@dataclass(frozen=True, kw_only=True)
class MaskedGanConfig:
    """Weights and shares.  The defaults are the recipe for few CPU minutes and the stem `deep`."""

    mask_ratio: float = 0.25  # of an image's tokens
    clip_mask_ratio: float = 0.5  # of a clip's tokens, in tubes
    # at the end the encoder learns on nearly whole items, as it will see them in use (FLIP, Li et
    # al. 2023): the share of the training, and how much is still masked then
    opening: float = 0.0
    opened_mask_ratio: float = 0.25
    # of a frame's sides, that a view shows before the opening: many small parts of an item teach
    # more per second than few large ones (EMP-SSL, Tong et al. 2023), and objects that are cut off
    # in training and whole in use do no harm
    window: float = 0.5
    block_chance: float = 0.5  # of masking in squares of 2 x 2 tokens
    reconstruction: float = 0.25
    # of a step: where steps are turned (Muon) a small weight turns as far as a large one, so that
    # only being rare makes painting count less
    reconstruction_chance: float = 0.25
    reconstruction_share: float = 1.0  # of the batch is decoded
    view: float = 1.0
    views: int = 8  # of each item; 1 where `view` is 0
    temperature: float = 0.1
    teacher: bool = (
        False  # an EMA encoder gives the targets (MoCo v3) instead of the other view (SimCLR)
    )
    projection: int = 128
    patch_adversary: float = 0.2
    global_adversary: float = 0.2
    # how long the adversary's gradient on the pixels may be, against the reconstruction's
    generator_adversary: float = 0.3
    adversary_start: float = 0.5  # share of the training before which there is no adversary
    # chance of a step to have an adversary: few steps with many items cost less than the reverse
    adversary_chance: float = 0.25
    adversary_share: float = 0.5  # of the batch goes through the adversary in such a step
    adversary_keep: float = 0.5  # of the tokens the discriminator reads
    adversary_noise: float = 0.15  # instance noise on what it reads, annealed to 0
    noise_share: float = 0.25  # of the adversary's fakes are drawn from noise alone
    code: float = 0.5  # a code of the item teaches the generator to draw from noise
    code_chance: float = 0.25  # of a step
    code_share: float = 0.5  # of the batch
    penalty: float = 0.1  # gamma of R1 and R2
    penalty_sigma: float = 0.03
    penalty_share: float = 0.25  # of the adversary's items
    # further ways to learn from fakes, in the adversary's steps: see `forged`
    forged_views: float = 0.0  # an in-painted item is one more view of it
    forged_negatives: float = 0.0  # fakes are items unlike all real ones
    perceptual: float = 0.0  # hidden patches shall be painted so that their features are right
    hard_views: float = 0.0  # a view moved to look unlike the other one
    hard_view_size: float = 0.03  # of values in [-1, 1]
    time_fakes: float = 0.2  # clips only: tell real motion from frozen, shuffled and reversed


class MaskedGan(Objective):
    """One phase, one backward pass; what must not flow is detached."""

    adversary_scale: Tensor

    def __init__(
        self,
        config: MaskedGanConfig,
        discriminator: Discriminator,
        generator: Generator,
        view: View,
        masked: View,
    ) -> None:
        super().__init__()
        self.config = config
        self.discriminator, self.generator = discriminator, generator
        self.view, self.masked = view, masked
        width = discriminator.backbone.config.width
        self.projector = projection_head(width, config.projection)
        self.predictor = projection_head(config.projection, config.projection)
        self.time_head = nn.Linear(width, len(TIME_FAKES))
        self.time_head.apply(init_linear)
        self.coder = Coder(width, generator.config.noise)
        # eased by the watch when the adversary wins or loses outright
        self.register_buffer("adversary_scale", torch.ones(()))
        self.average = nn.ModuleList(
            copy.deepcopy(one).requires_grad_(False)
            for one in (discriminator, generator, self.projector)
        )
        restart(self.average)
        self.averages = list(
            zip((discriminator, generator, self.projector), self.average, strict=True)
        )
        live = [discriminator, generator, self.projector, self.predictor, self.time_head]
        live += [self.coder]
        self.players = {"both": nn.ModuleList(live)}

    @property
    def averaged(self) -> Discriminator:
        """The one that is handed over; gradients never reach its weights."""
        one = self.average[0]
        assert isinstance(one, Discriminator)
        return one

    def loss(self, phase: str, batch: Batch, rng: torch.Generator, progress: float) -> Losses:
        assert phase == "both", phase
        config, total = self.config, torch.zeros((), device=batch.clip.device)
        parts: dict[str, Tensor] = {}
        views = config.views if config.view > 0 else 1
        seen = self._seen_of(batch.clip, views, rng, progress)  # [V B, C, T, H, W]
        mask = self._mask(seen, rng, progress)
        features = self.discriminator.backbone(seen, mask.keep)

        if config.view > 0:
            view = self._view_loss(features, seen, views)
            total, parts["view"] = total + config.view * view, view.detach()
        if config.reconstruction > 0 and chance(config.reconstruction_chance, rng):
            count = _share(len(batch.clip), config.reconstruction_share)
            reconstruction = self._reconstruction_loss(seen, features, mask, count, rng)
            total = total + config.reconstruction * reconstruction
            parts["reconstruction"] = reconstruction.detach()
        strength = ramp(progress, config.adversary_start)
        with forgetting(self.discriminator):  # what is forged, or seen again
            if self._plays_now(strength, rng):
                count = max(2, _share(len(batch.clip), config.adversary_share))
                adversary, said = self._adversary_loss(seen, features, mask, count, rng, progress)
                total = total + strength * self.adversary_scale * adversary
                parts |= said
            if config.code > 0 and chance(config.code_chance, rng):
                code = self._code_loss(batch, rng)
                total, parts["code"] = total + config.code * code, code.detach()
            if config.time_fakes > 0 and seen.shape[2] > 1:
                motion, said = self._time_loss(seen[: len(batch.clip)], rng)
                total, parts = total + config.time_fakes * motion, parts | said
        return Losses(total=total, parts=parts)

    def _plays_now(self, strength: float, rng: torch.Generator) -> bool:
        config = self.config
        if strength == 0 or not plays(config) or not chance(config.adversary_chance, rng):
            return False
        return bool(self.adversary_scale > 0)

    def _seen_of(self, clip: Tensor, views: int, rng: torch.Generator, progress: float) -> Tensor:
        """Views of each item; before the opening, of a window of its own."""
        clip = clip.repeat(views, *(1,) * (clip.ndim - 1))
        if progress < 1.0 - self.config.opening:
            patch = self.discriminator.backbone.config.patch
            clip = window(clip, self.config.window, patch, rng)
        return self.view(clip, rng) if self.config.view > 0 else self.masked(clip, rng)

    def _mask(self, clip: Tensor, rng: torch.Generator, progress: float = 0.0) -> Mask:
        config, is_clip = self.config, clip.shape[2] > 1
        ratio = config.clip_mask_ratio if is_clip else config.mask_ratio
        if progress >= 1.0 - config.opening:
            ratio = min(ratio, config.opened_mask_ratio)
        drawn = float(torch.rand((), generator=on_host(rng)))
        block = 2 if drawn < config.block_chance else 1
        grid = self.discriminator.backbone.grid(clip)
        return random_mask(
            len(clip), grid, ratio, rng, block=block, tube=is_clip, device=clip.device
        )

    def _view_loss(self, features: Features, seen: Tensor, count: int) -> Tensor:
        """Views of an item shall look alike, and unlike those of others."""
        temperature = self.config.temperature
        projected = self.projector(features.pooled).unflatten(0, (count, -1))  # [V, B, Q]
        if not self.config.teacher:
            return contrast(projected, temperature)
        # the teacher sees all tokens, and each view predicts the next one
        with torch.no_grad(), forgetting(self.averaged):
            pooled = self.averaged.backbone(seen).pooled
            target = self.average[2](pooled).unflatten(0, (count, -1)).roll(-1, dims=0)
        predicted = self.predictor(projected.flatten(0, 1)).unflatten(0, (count, -1))
        pairs = zip(predicted, target, strict=True)
        losses = [contrast_teacher(one, other, temperature) for one, other in pairs]
        return torch.stack(losses).mean()

    def _reconstruction_loss(
        self, clip: Tensor, features: Features, mask: Mask, count: int, rng: torch.Generator
    ) -> Tensor:
        """Mean squared error of the hidden patches, each by its own variance (MAE, section 3)."""
        clip, keep, hidden = clip[:count], mask.keep[:count], mask.hidden[:count]
        noise = self.generator.draw_noise(count, rng)
        painted = self.generator(noise, tuple(clip.shape[2:]), features.tokens[:count], keep)
        error = self._patch_error(painted, clip)
        return take_tokens(error.unsqueeze(-1), hidden).mean()

    def _patch_error(self, painted: Tensor, clip: Tensor) -> Tensor:
        """Squared error per patch, divided by the patch's own variance.  -> [B, N]"""
        target = self._patches(clip)
        weight = 1.0 / (target.var(dim=-1) + 0.02)  # 0.02: flat patches must not rule the loss
        return (self._patches(painted) - target).square().mean(dim=-1) * weight

    def _code_loss(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """On lightly augmented items: samples shall look like data, not like views of it."""
        clip = self.masked(batch.clip[: _share(len(batch.clip), self.config.code_share)], rng)
        # of the averaged encoder, which is the one in use later: codes of the live one move faster
        # than a generator can learn to read them
        with torch.no_grad(), forgetting(self.averaged):
            pooled = self.averaged.backbone(clip).pooled
        return code_loss(self.coder, pooled, clip, self.generator, rng)

    def _adversary_loss(
        self,
        clip: Tensor,
        features: Features,
        mask: Mask,
        count: int,
        rng: torch.Generator,
        progress: float,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Both players on the first `count` views: the one's loss and the other's gradient."""
        config, count = self.config, min(count, len(clip))
        real, pooled = clip[:count], features.pooled[:count]
        with torch.set_grad_enabled(config.generator_adversary > 0):
            fake, is_fake = self._forge(real, features, mask, rng)
        pixels = self._pixel_map(is_fake, real)
        # the discriminator must never see the generator's graph, or it would learn to make forgery
        # easier to spot
        composite = torch.where(pixels, fake.detach(), real).requires_grad_()
        sigma = config.adversary_noise * (1 - progress)
        noise = torch.randn(composite.shape, generator=rng, device=rng.device).to(composite.device)
        grid = self.discriminator.backbone.grid(real)
        keep = random_mask(
            count, grid, 1 - config.adversary_keep, rng, tube=grid[0] > 1, device=real.device
        ).keep
        verdict = self.discriminator(composite + sigma * noise, keep)
        is_real = ~is_fake.gather(1, keep)  # [B, M]

        loss = fooled = torch.zeros((), device=real.device)
        parts: dict[str, Tensor] = {}
        if config.patch_adversary > 0:
            patch = F.binary_cross_entropy_with_logits(verdict.patch, is_real.float())
            loss = loss + config.patch_adversary * patch
            # the sum and not the mean, which none at all would not have
            undetached = self.discriminator.judge_patches(verdict.features.tokens, detach=False)
            seen_fakes = (F.softplus(-undetached) * ~is_real).sum() / (~is_real).sum().clamp(1)
            fooled = fooled + config.patch_adversary * seen_fakes
            parts["d_patch"] = patch.detach()
            parts["d_accuracy"] = patch_accuracy(verdict.patch, is_real)
        if config.global_adversary > 0:
            detach = self.discriminator.config.detach_global
            whole_real = self.discriminator.judge_whole(pooled, detach=detach)
            whole = relativistic(whole_real, verdict.whole)
            loss = loss + config.global_adversary * whole
            whole_fake = self.discriminator.judge_whole(verdict.features.pooled, detach=False)
            deceived = relativistic(whole_fake, whole_real.detach())
            fooled = fooled + config.global_adversary * deceived
            parts["d_whole"] = whole.detach()
            parts.setdefault("d_accuracy", (whole_real > verdict.whole).float().mean())
        # those painted into a picture and those of noise alone: either may collapse
        alone = count - self._from_noise(count)
        spreads = [diversity(some.detach(), real) for some in (fake[:alone], fake[alone:])]
        parts["diversity"] = torch.minimum(*spreads)
        for name, weight, term in (
            ("forged_views", config.forged_views, self._forged_views),
            ("forged_negatives", config.forged_negatives, self._forged_negatives),
        ):
            if weight > 0 and config.views > 1:
                extra = term(features, len(clip) // config.views, verdict)
                loss, parts[name] = loss + weight * extra, extra.detach()
        if config.perceptual > 0:
            extra = self._perceptual(real, features, mask, rng)
            loss, parts["perceptual"] = loss + config.perceptual * extra, extra.detach()
        if config.hard_views > 0 and config.views > 1:
            extra = self._hard_views(real, features, mask, len(clip) // config.views)
            loss, parts["hard_views"] = loss + config.hard_views * extra, extra.detach()
        judged = config.patch_adversary > 0 or config.global_adversary > 0
        if config.penalty > 0 and judged:
            some = _share(count, config.penalty_share)
            loss = loss + config.penalty / 2 * self._penalty(
                composite[:some].detach(), keep[:some], rng
            )
        if config.generator_adversary > 0 and judged:
            (push,) = torch.autograd.grad(fooled, composite, retain_graph=True)
            loss = loss + self._follow(fake, real, push * pixels)
        return loss, parts

    def _forged_views(self, features: Features, items: int, verdict: Verdict) -> Tensor:
        """An in-painted item against another view of the same item; fakes of noise show none."""
        pooled = verdict.features.pooled
        count = min(len(pooled) - self._from_noise(len(pooled)), items)
        other = features.pooled[items : items + count]
        pair = torch.stack([self.projector(pooled[:count]), self.projector(other)])
        return contrast(pair, self.config.temperature)

    def _forged_negatives(self, features: Features, items: int, verdict: Verdict) -> Tensor:
        one, other = self.projector(features.pooled[: 2 * items]).chunk(2)
        fakes = self.projector(verdict.features.pooled)
        return contrast_with_negatives(one, other, fakes, self.config.temperature)

    def _perceptual(
        self, real: Tensor, features: Features, mask: Mask, rng: torch.Generator
    ) -> Tensor:
        """The encoder learns through what it hands the generator."""
        count = max(1, len(real) // 2)
        real, keep, hidden = real[:count], mask.keep[:count], mask.hidden[:count]
        noise = self.generator.draw_noise(count, rng)
        painted = self.generator(noise, tuple(real.shape[2:]), features.tokens[:count], keep)
        covered = torch.zeros(count, keep.shape[1] + hidden.shape[1], device=real.device).bool()
        pixels = self._pixel_map(covered.scatter(1, hidden, True), real)
        whole, judge = torch.where(pixels, painted, real), self.averaged.backbone
        with forgetting(judge):
            return perceptual(lambda clip: judge(clip).tokens, whole, real, hidden)

    def _hard_views(self, real: Tensor, features: Features, mask: Mask, items: int) -> Tensor:
        count = min(len(real), items)
        keep, other = mask.keep[:count], self.projector(features.pooled[items : items + count])

        def unlike(clip: Tensor, target: Tensor) -> Tensor:
            seen = self.projector(self.discriminator.backbone(clip, keep).pooled)
            return contrast(torch.stack([seen, target]), self.config.temperature)

        moved = hardest(
            lambda clip: unlike(clip, other.detach()), real[:count], self.config.hard_view_size
        )
        return unlike(moved, other)

    def _forge(
        self, real: Tensor, features: Features, mask: Mask, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Fakes, and which patches are fake: half of the hidden ones, or all where noise alone.

        -> [B, C, T, H, W], bool [B, N]
        """
        count, shape = len(real), tuple(real.shape[2:])
        free = self._from_noise(count)
        painted = count - free
        noise = self.generator.draw_noise(count, rng)
        keep, hidden = mask.keep[:painted], mask.hidden[:painted]
        # detached: the encoder must not learn to help the forger
        tokens = features.tokens[:painted].detach()
        fakes = [self.generator(noise[:painted], shape, tokens, keep)]
        N = keep.shape[1] + hidden.shape[1]
        chosen = torch.rand(hidden.shape, generator=rng, device=rng.device).to(hidden.device) < 0.6
        is_fake = torch.zeros(painted, N, dtype=torch.bool, device=real.device)
        is_fake = is_fake.scatter(1, hidden, chosen)
        if free > 0:
            fakes.append(self.generator(noise[painted:], shape))
            is_fake = torch.cat([is_fake, is_fake.new_ones(free, N)])
        return torch.cat(fakes), is_fake

    def _from_noise(self, count: int) -> int:
        """How many of so many fakes, the last ones, are drawn from noise alone."""
        return round(count * self.config.noise_share)

    def _follow(self, fake: Tensor, real: Tensor, push: Tensor) -> Tensor:
        """A term whose gradient on the fakes is `push`, cut to a share of the reconstruction's.

        The ratio of the two gradients is VQGAN's adaptive weight (Esser et al. 2021, eq. 7), taken
        at the pixels, where it needs no further backward pass.  It only shortens: stretching the
        push of a discriminator that knows nothing yet would paint its noise.
        """
        leaf = fake.detach().requires_grad_()
        (pull,) = torch.autograd.grad(self._patch_error(leaf, real).mean(), leaf)
        longest = self.config.generator_adversary * pull.norm()
        scale = (longest / push.norm().clamp(min=1e-12)).clamp(max=1.0)
        return (fake * (push * scale)).sum()

    def _penalty(self, clip: Tensor, keep: Tensor, rng: torch.Generator) -> Tensor:
        def score(both: Tensor) -> Tensor:
            verdict = self.discriminator(both, keep.repeat(2, 1))
            return verdict.whole + verdict.patch.mean(dim=1)

        return finite_difference_penalty(score, clip, self.config.penalty_sigma, rng)

    def _time_loss(self, clip: Tensor, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Name what was done to a clip's time: nothing, frozen, shuffled or reversed."""
        count = max(len(TIME_FAKES), round(len(clip) * self.config.adversary_share))
        altered, what = fake_time(clip[:count], rng)
        grid = self.discriminator.backbone.grid(altered)
        hide = 1 - self.config.adversary_keep
        keep = random_mask(len(altered), grid, hide, rng, tube=True, device=clip.device).keep
        logits = self.time_head(self.discriminator.backbone(altered, keep).pooled).float()
        right = (logits.argmax(1) == what).float().mean()
        return F.cross_entropy(logits, what), {"time_accuracy": right}

    def _patches(self, clip: Tensor) -> Tensor:
        shape = self.discriminator.backbone.config
        return patchify(clip, shape.tubelet, shape.patch)

    def _pixel_map(self, is_fake: Tensor, clip: Tensor) -> Tensor:
        """bool [B, N] -> bool [B, 1, T, H, W]"""
        shape = self.discriminator.backbone.config
        numbers = shape.tubelet * shape.patch**2
        grid = self.discriminator.backbone.grid(clip)
        spread = is_fake.unsqueeze(-1).expand(-1, -1, numbers)
        return unpatchify(spread, grid, shape.tubelet, shape.patch)[:, :, : clip.shape[2]]


def plays(config: MaskedGanConfig) -> bool:
    """Whether any term needs fakes."""
    weights = (config.patch_adversary, config.global_adversary, config.forged_views)
    more = (config.forged_negatives, config.perceptual, config.hard_views)
    return any(weight > 0 for weight in (*weights, *more))


def _share(count: int, share: float) -> int:
    """At least one."""
    return max(1, round(count * share))

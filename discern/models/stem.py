"""Stems: a clip in, one vector per tubelet patch out.  [B, C, T, H, W] -> [B, N, D]

`PatchStem` sees one patch at a time, so that a hidden patch leaves no trace in its neighbours.
`ConvStem` looks a few pixels over the edge and at what changes, or moves, until the next frame: it
learns more from few images and clips, at the price of a rim of each hidden patch that its
neighbours have seen, of the frame's mean and deviation, and with `flow` of how hidden things move.
`DeepStem` is a convolutional network of its own: it learns fastest, and a hidden patch leaves its
trace in all tokens around it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from discern.models.batch_norm import BatchNorm
from discern.models.blocks import NORM_EPS
from discern.models.flow import SCALES, optical_flow
from discern.models.tokens import fill_tubelets, patchify, take_tokens

WIDEST = 4  # stride of a second convolution that need not be divided further
MOTION_GAIN = 2.0  # frames that follow each other differ little


class PatchStem(nn.Module):
    """One patch in, one token out; the patches that are not kept cost nothing.

    `linear` is ViT's patch embedding; `mlp` adds a hidden layer inside the patch.
    """

    def __init__(self, kind: str, channels: int, tubelet: int, patch: int, width: int) -> None:
        super().__init__()
        self.tubelet, self.patch = tubelet, patch
        self.inner = nn.Linear(channels * tubelet * patch**2, width)
        self.outer = nn.Linear(width, width) if kind == "mlp" else None

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        """All tokens, or those named by `keep` [B, M].  [B, C, T, H, W] -> [B, N or M, D]"""
        patches = patchify(clip, self.tubelet, self.patch)  # [B, N, P]
        if keep is not None:
            patches = take_tokens(patches, keep)
        x = self.inner(patches)
        if self.outer is None:
            return x
        return self.outer(nn.functional.gelu(x))


class FrameStem(nn.Module):
    """Convolutions of a frame, their strides multiplied the patch; then a merge of the frames of a
    tubelet.

    In clips the first convolution also looks at the change from each frame to the next, the
    short-term motion of two-stream networks (Simonyan and Zisserman 2014); and with `flow` at its
    optical flow, as they do.  An image has none, and pays nothing for it.
    """

    fine: nn.Conv2d

    def __init__(self, tubelet: int) -> None:
        super().__init__()
        self.tubelet = tubelet

    def finish(
        self, channels: int, width: int, enter: Callable[[int, bool], nn.Conv2d], *, flow: bool
    ) -> None:
        """What all have beside their own layers: channels, bias -> a convolution like `fine`."""
        self.merge = nn.Linear(self.tubelet * width, width)
        self.motion = enter(channels, False)
        self.flow = enter(2 * SCALES, False) if flow else None
        self.init_weights()

    def init_weights(self) -> None:
        for convolution in (one for one in self.modules() if isinstance(one, nn.Conv2d)):
            nn.init.xavier_uniform_(convolution.weight)
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)

    def look(self, x: Tensor, moving: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What follows the first convolution of frames that stand alone, or move.

        And early maps, of a stem of many layers.
        [B T, C', H', W'] -> [B T, D, h, w], each [B T, C'', h', w']
        """
        raise NotImplementedError

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        """All tokens, or those named by `keep` [B, M].  [B, C, T, H, W] -> [B, N or M, D]"""
        return self.seen(clip, keep)[0]

    def seen(self, clip: Tensor, keep: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What `forward` gives, and what `look` saw early."""
        B, C, T, H, W = clip.shape
        x = self.fine(_frames(clip))
        if T > 1:
            x = x + self.motion(_frames(MOTION_GAIN * changes(clip)))
            if self.flow is not None:
                x = x + self.flow(_frames(optical_flow(clip).to(clip.dtype)))
        x, early = self.look(x, T > 1)
        weight = self.merge.weight  # [D, D * tubelet]
        if T == 1:
            patches = x.flatten(2).transpose(1, 2)  # [B, N, D]
            # as if the frame filled the tubelet, without repeating it
            weight = weight.unflatten(1, (-1, self.tubelet)).sum(dim=2)
        else:
            x = x.unflatten(0, (B, T)).transpose(1, 2)
            patches = patchify(fill_tubelets(x, self.tubelet), self.tubelet, 1)
        if keep is not None:
            patches = take_tokens(patches, keep)
        return nn.functional.linear(patches, weight, self.merge.bias), early


class ConvStem(FrameStem):
    """Few convolutions (Xiao et al. 2021).

    Two of them for patches to 8; for larger ones as many as the patch has prime factors: a wide map
    of many channels, or a wide window, would cost as much as the blocks.
    """

    def __init__(
        self, channels: int, tubelet: int, patch: int, width: int, *, flow: bool = False
    ) -> None:
        first, *others, last = _strides(patch)
        widths = [max(8, width // 2**number) for number in range(len(others) + 1, 0, -1)]

        def enter(seen: int, bias: bool) -> nn.Conv2d:
            return _fine(seen, widths[0], first, patch, bias=bias)

        super().__init__(tubelet)
        self.fine = enter(channels, True)
        self.norm = _norm(widths[0])
        self.between = nn.ModuleList(
            nn.Sequential(_overlapping(before, after, stride), _norm(after))
            for before, after, stride in zip(widths, widths[1:], others, strict=False)
        )
        self.coarse = _overlapping(widths[-1], width, last)
        self.finish(channels, width, enter, flow=flow)

    def look(self, x: Tensor, moving: bool) -> tuple[Tensor, tuple[()]]:
        x = nn.functional.gelu(self.norm(x))
        for stage in self.between:
            x = nn.functional.gelu(stage(x))
        return nn.functional.gelu(self.coarse(x)), ()


class DeepStem(FrameStem):
    """A small convolutional network: it does what the first blocks would have to learn.

    One convolution of the whole frame, then poolings with a convolution before and one after each;
    large patches are first divided by strides, so that only the poolings see fine.
    Batch normalisation lets it learn fast.  The shape is that of small networks for small frames
    (Jordan 2024); convolutions before attention: CoAtNet (Dai et al. 2021).
    """

    def __init__(
        self,
        channels: int,
        tubelet: int,
        patch: int,
        width: int,
        *,
        flow: bool = False,
        poolings: int = 3,
    ) -> None:
        factors = _prime_factors(patch)
        factors += [1] * (poolings - len(factors))
        first, *others = factors[:-poolings] or [1]
        fine, *coarse = factors[-poolings:]
        entry, half = _eights(width * 3 / 16), _eights(width / 2)

        def enter(seen: int, bias: bool) -> nn.Conv2d:
            return _overlapping(seen, entry, first, bias=bias)

        super().__init__(tubelet)
        self.fine = enter(channels, True)
        divided = [part for stride in others for part in _normed(entry, entry, stride)]
        before = [half] + [width] * len(coarse)
        later = [_pooled(seen, width, to) for seen, to in zip(before, coarse, strict=False)]
        pooled = [_pooled(entry, half, fine), *later]
        self.stages = nn.ModuleList([*divided, *(part for group in pooled for part in group)])
        norms = [place for place, part in enumerate(self.stages) if isinstance(part, BatchNorm)]
        # what is shown early is what these two normalise: what the first pooling leaves, and what
        # the next convolution makes of it
        self.shown = norms[len(others) :][:2]
        self.early_channels = len(self.shown) * half
        self.finish(channels, width, enter, flow=flow)

    def look(self, x: Tensor, moving: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        early: list[Tensor] = []
        x = nn.functional.gelu(x)
        for place, part in enumerate(self.stages):
            if place in self.shown:
                early.append(x)
            x = part(x, moving) if isinstance(part, BatchNorm) else part(x)
        return x, tuple(early)


def changes(clip: Tensor) -> Tensor:
    """Each frame's change to the next one; the last frame's is that of the one before.

    [B, C, T, H, W] -> [B, C, T, H, W], T at least 2
    """
    change = clip[:, :, 1:] - clip[:, :, :-1]
    return torch.cat([change, change[:, :, -1:]], dim=2)


def _frames(clip: Tensor) -> Tensor:
    """[B, C, T, H, W] -> [B T, C, H, W], channels last"""
    frames = clip.transpose(1, 2).flatten(0, 1)
    return frames.contiguous(memory_format=torch.channels_last)


def _fine(channels: int, hidden: int, first: int, patch: int, *, bias: bool = True) -> nn.Conv2d:
    if first < patch:
        return _overlapping(channels, hidden, first, bias=bias)
    # a prime: the second convolution looks at the neighbours, and that is far enough
    return nn.Conv2d(channels, hidden, patch, stride=patch, bias=bias)


def _strides(patch: int) -> list[int]:
    """Of the convolutions, in order: their product is the patch.  At least two."""
    first = _smallest_factor(patch)
    rest = patch // first
    return [first, *([rest] if rest <= WIDEST else _prime_factors(rest))]


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(1, width, eps=NORM_EPS)


def _prime_factors(number: int) -> list[int]:
    """In ascending order."""
    factors = []
    while number > 1:
        factors.append(_smallest_factor(number))
        number //= factors[-1]
    return factors


def _smallest_factor(patch: int) -> int:
    return next((factor for factor in range(2, patch) if patch % factor == 0), patch)


def _pooled(before: int, after: int, factor: int) -> list[nn.Module]:
    """Look finely, pool, and look again."""
    look = _overlapping(before, after, 1, bias=False)
    pool = [nn.MaxPool2d(factor)] if factor > 1 else []
    return [look, *pool, BatchNorm(after), nn.GELU(), *_normed(after, after, 1)]


def _normed(before: int, after: int, stride: int) -> list[nn.Module]:
    return [_overlapping(before, after, stride, bias=False), BatchNorm(after), nn.GELU()]


def _eights(width: float) -> int:
    """The nearest multiple of 8, which processors compute best; at least one."""
    return max(1, round(width / 8)) * 8


def _overlapping(channels: int, out: int, stride: int, *, bias: bool = True) -> nn.Conv2d:
    """A convolution that divides the sides by `stride`, windows reaching over their edges."""
    kernel = stride + 1 + stride % 2
    return nn.Conv2d(channels, out, kernel, stride, padding=1, bias=bias)

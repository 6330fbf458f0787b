"""What is exported: a tuned model as one plain graph, from the pixels of prepared frames on.

uint8 [B, T, h, w, 3] -> probabilities [B, K], logits [B, K], features [B, D] and, for a guard,
stem [B, L] and where it asks the discriminator verdict [B]
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from discern.clip import Kind
from discern.models.weights import Bundle
from discern.models.witness import Witness

INPUT = "frames"
OUTPUTS = ("probabilities", "logits", "features")
FOR_GUARD = ("stem", "verdict")


class Graph(nn.Module):
    """Scaling of pixels, encoder, head, temperature, softmax (sigmoid for several labels)."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        sure = bundle.certainty
        self.witness = Witness(bundle.model, head=sure.asks_head)
        self.temperature = 1.0 if sure.temperature is None else float(sure.temperature)
        self.several = sure.several
        self.guarded = bool(sure.guards)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        seen = self.witness(frames.permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0)
        scaled = seen.logits / self.temperature
        chances = scaled.sigmoid() if self.several else scaled.softmax(dim=1)
        found = (chances, seen.logits, seen.features)
        if not self.guarded:
            return found
        return (*found, *(one for one in (seen.stem, seen.verdict) if one is not None))


def outputs_of(graph: Graph) -> tuple[str, ...]:
    """The names of what the graph gives."""
    if not graph.guarded:
        return OUTPUTS
    judged = graph.witness.discriminator is not None
    return (*OUTPUTS, *(FOR_GUARD if judged else FOR_GUARD[:1]))


def example(bundle: Bundle, kind: Kind, count: int, seed: int = 0) -> Tensor:
    """Smooth made-up items as the graph of a kind takes them.  -> uint8 [B, T, h, w, 3]"""
    size = bundle.preprocess
    frames = 1 if kind is Kind.IMAGE else int(size.get("frames", 8))
    shape = (frames, int(size["height"]), int(size["width"]))
    drawn = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, min(frames, 3), 4, 4, generator=drawn)
    fine = nn.functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=False)
    return (fine * 255).round().to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()


def kinds_of(bundle: Bundle) -> list[Kind]:
    """The kinds that a model was tuned on; both, where its bundle does not say."""
    known = [kind for kind in Kind if str(kind) in bundle.certainty.facts]
    return known or list(Kind)

"""The classifier: a linear head, or one of angles, on the features of the encoder.

clip [B, C, T, H, W] -> logits [B, K]
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from discern.errors import ConfigError
from discern.models.backbone import Backbone, Features
from discern.models.blocks import init_linear


class AngleHead(nn.Linear):
    """Logits are scaled cosines between features and a direction for each class.

    NormFace (Wang et al. 2017): lengths say nothing, so that features of people or things that no
    training saw can be told apart by their angles too.
    """

    def __init__(self, width: int, classes: int, scale: float) -> None:
        super().__init__(width, classes, bias=False)
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] -> [B, K], each from -scale to scale"""
        directions = F.normalize(self.weight.float(), dim=1)
        return self.scale * F.linear(F.normalize(features.float(), dim=1), directions)


class Places(nn.Module):
    """One vector of a clip in which each place of the frame has its own weights.

    A mean over tokens forgets where they were, which is what tells things apart that are all cut
    alike, such as faces (ArcFace's fully connected layer, Deng et al. 2019, section 3.1; why not a
    mean: MobileFaceNets, Chen et al. 2018).
    """

    def __init__(self, grid: tuple[int, int], width: int) -> None:
        super().__init__()
        if min(grid) < 1:
            raise ConfigError(f"places: a grid of {grid[0]} x {grid[1]} has none")
        self.grid = grid
        # so many inputs: Xavier's weights would start with answers that are sure and wrong
        self.mix = nn.Linear(grid[0] * grid[1] * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, t h w, D] -> [B, D]; time is averaged over.  Raises ConfigError for another grid."""
        height, width = self.grid
        if tokens.shape[1] % (height * width):
            raise ConfigError(
                f"{tokens.shape[1]} tokens are no whole frames of {height} x {width}, "
                "which the classifier was trained on"
            )
        frames = tokens.unflatten(1, (-1, height * width))
        return self.mix(frames.mean(dim=1).flatten(1))


class Classifier(nn.Module):
    """A backbone and one layer; with a `scale` above 0 its logits are scaled cosines.

    With `places`, the grid (h, w) of a frame's tokens, features know what stands where.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        scale: float = 0.0,
        places: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        width = backbone.config.width
        self.places = None if places is None else Places(places, width)
        self.head = AngleHead(width, classes, scale) if scale > 0 else nn.Linear(width, classes)
        self.head.apply(init_linear)

    @property
    def scale(self) -> float:
        """Of a head of angles; 0 where it is linear."""
        return self.head.scale if isinstance(self.head, AngleHead) else 0.0

    def features(self, clip: Tensor, keep: Tensor | None = None) -> Features:
        """What the head judges by stands in `pooled`; of all tokens, or of those named by `keep`
        [B, M].  [B, C, T, H, W] -> Features
        """
        return self.placed(self.backbone(clip, keep))

    def placed(self, seen: Features) -> Features:
        """What the encoder saw, with the features that the head judges by."""
        if self.places is None:
            return seen
        return seen._replace(pooled=self.places(seen.tokens))

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        """[B, C, T, H, W] -> [B, K]"""
        return self.head(self.features(clip, keep).pooled).float()

"""Networks of peers in the sizes of ours: timm's and transformers' ViT."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from discern.models.backbone import SIZES, BackboneConfig


def our_shape(size: str, patch: int) -> BackboneConfig:
    """Ours of a size, with patches as large as the peer's."""
    return BackboneConfig(**(SIZES[size] | {"patch": patch}))


def timm_vit(size: str, side: int, patch: int, classes: int, **more: Any) -> Any:
    """timm's ViT."""
    shape = SIZES[size]
    return _timm().VisionTransformer(
        img_size=side,
        patch_size=patch,
        embed_dim=shape["width"],
        depth=shape["depth"],
        num_heads=shape["heads"],
        num_classes=classes,
        **more,
    )


def transformers_vit(size: str, side: int, patch: int, classes: int) -> Any:
    """transformers' ViT."""
    from transformers import ViTConfig, ViTForImageClassification

    shape = SIZES[size]
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=shape["width"],
            num_hidden_layers=shape["depth"],
            num_attention_heads=shape["heads"],
            intermediate_size=4 * shape["width"],
            image_size=side,
            patch_size=patch,
            num_labels=classes,
        )
    )


def _timm() -> Any:
    """timm's module of ViTs; where no torchvision fits this torch, beside a stand-in for it.

    A ViT needs nothing of torchvision, which timm imports.
    """
    name = "timm.models.vision_transformer"
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError):
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from tests.models.conftest import _Torchvision

        for loaded in [one for one in sys.modules if one.partition(".")[0] == "timm"]:
            del sys.modules[loaded]
        sys.meta_path.insert(0, _Torchvision())
        return importlib.import_module(name)

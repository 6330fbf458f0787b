"""timm's Vision Transformer beside a CPU build of torch.

timm imports torchvision, which does not load there and of which a ViT needs nothing: a stand-in for
the names that timm touches at import is enough.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest

FOREIGN = ("torchvision", "timm")


class _Names(type):
    """A class whose every attribute is its own name, as of an Enum."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Empty(ModuleType):
    """A module that has every class that is asked for, all of them empty."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Names(name, (), {})


class _Torchvision(MetaPathFinder, Loader):
    """Finds torchvision and everything in it."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        ours = fullname.partition(".")[0] == "torchvision"
        return ModuleSpec(fullname, self, is_package=True) if ours else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def _forget() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] in FOREIGN]
    return {name: sys.modules.pop(name) for name in names}


@pytest.fixture(scope="module")
def vit() -> Iterator[Any]:
    """timm.models.vision_transformer; the stand-in is gone when this file is done."""
    before, finder = _forget(), _Torchvision()
    sys.meta_path.insert(0, finder)
    try:
        import timm.models.vision_transformer as found

        yield found
    finally:
        sys.meta_path.remove(finder)
        _forget()
        sys.modules.update(before)

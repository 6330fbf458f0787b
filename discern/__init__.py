"""Discern: image and video classification with Transformers that are pre-trained as GANs.

    from discern import DiscernClassifier, evaluate, load, pretrain, train

The names above are loaded when they are first used: importing this package imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from discern._version import __version__

if TYPE_CHECKING:
    from discern.estimator import DiscernClassifier
    from discern.evaluate.evaluate import evaluate
    from discern.predict import load
    from discern.recipes.pretrain import pretrain
    from discern.recipes.train import train

__all__ = ["DiscernClassifier", "__version__", "evaluate", "load", "pretrain", "train"]

# public name -> the module that holds it under the same name
_HOMES = {
    "DiscernClassifier": "discern.estimator",
    "evaluate": "discern.evaluate.evaluate",
    "load": "discern.predict",
    "pretrain": "discern.recipes.pretrain",
    "train": "discern.recipes.train",
}


class _Verb(ModuleType):
    """A room that is called like the verb it is named after: `discern.train(...)`.

    Two of the public functions have the name of the folder that holds them.  Python hangs an
    imported folder on its parent under that name, in an order nobody controls; so the folder
    itself can be called.
    """

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module(_HOMES[name]), name)(*arguments, **settings)


for _room in ("evaluate", "train"):
    import_module(f"discern.{_room}").__class__ = _Verb


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'discern' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

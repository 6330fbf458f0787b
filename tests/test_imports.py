"""Importing is cheap, public names are what they say, and no file runs code of others."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import discern

PACKAGE = Path(discern.__file__).parent
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "__import__", "torch.load", "torch.save", "joblib.load"}


def test_import_is_fast_and_brings_no_torch() -> None:
    script = (
        "import sys; before = set(sys.modules); import discern\n"
        "heavy = {'torch', 'numpy', 'typer', 'pydantic', 'sklearn'} & (set(sys.modules) - before)\n"
        "assert not heavy, heavy"
    )
    seconds = []
    for _ in range(5):  # processor time, the best of five: the machine may be busy
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5, seconds


@pytest.mark.parametrize("name", [name for name in discern.__all__ if name != "__version__"])
def test_public_names_can_be_called(name: str) -> None:
    assert callable(getattr(discern, name))


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        discern.fit  # noqa: B018


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_rooms_call_the_verb_they_are_named_after(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = {"train": "discern.recipes.train", "evaluate": "discern.evaluate.evaluate"}[verb]
    stand_in = ModuleType(home)
    setattr(stand_in, verb, lambda *arguments, **settings: (arguments, settings))
    monkeypatch.setitem(sys.modules, home, stand_in)
    assert getattr(discern, verb)("photos", out="run") == (("photos",), {"out": "run"})


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def faults_of(source: str) -> list[str]:
    """What a source imports or calls although nothing here may."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            if node.module == "torch":
                found += [f"torch.{a.name}" for a in node.names if a.name in ("load", "save")]
        elif isinstance(node, ast.Call) and dotted(node.func) in FORBIDDEN_CALLS:
            found.append(dotted(node.func))
        found += [name for name in names if name.partition(".")[0] in FORBIDDEN_MODULES]
    return found


def test_nothing_here_runs_code_from_a_file() -> None:
    found = {
        str(path.relative_to(PACKAGE)): faults
        for path in sorted(PACKAGE.rglob("*.py"))
        if (faults := faults_of(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from joblib import load",
        "import torch\ntorch.load('a')",
        "from torch import load",
        "exec('1')",
        "import os, shelve",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert len(faults_of(source)) == 1

"""Tables that are filled cell by cell, so that what was measured is not measured again."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from few_labels import commit, hardware, versions

Cells = dict[str, Any]


class Filled:
    """A table in a JSON file, written anew with its `summary` after every cell."""

    def __init__(
        self, path: Path, args: argparse.Namespace, summary: Callable[[Cells], dict[str, Any]]
    ) -> None:
        self.path, self.summary = path, summary
        self.done = json.loads(path.read_text()) if path.exists() else {"cells": {}}
        command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
        self.done |= {
            "command": command.replace(str(args.out), "OUT"),
            "minutes": args.minutes,
            "hardware": hardware(),
            "versions": versions(),
        }

    def fill(self, name: str, measured: Callable[[], dict[str, Any]]) -> None:
        """Measure a cell, unless the table has it."""
        cells = self.done["cells"]
        if name not in cells:
            cells[name] = measured() | {"commit": commit()}
            print(name, cells[name], flush=True)
        self.done |= self.summary(cells)
        self.path.write_text(json.dumps(self.done, indent=1) + "\n")

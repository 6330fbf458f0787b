"""Answers as Parquet: rows in, one file, whole or not at all, out.  Needs pyarrow."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from discern.errors import UsageError
from discern.files import replacing


def require_parquet() -> None:
    """Raise UsageError where pyarrow is missing."""
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError("Parquet files need pyarrow: pip install 'discern[scale]'")


def write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows of answers as one file, whole or not at all."""
    require_parquet()
    import pyarrow
    import pyarrow.parquet

    names = pyarrow.list_(pyarrow.string())
    columns = [("key", pyarrow.string()), ("kind", pyarrow.string()), ("label", pyarrow.string())]
    columns += [("labels", names), ("probability", pyarrow.float32())]
    columns += [("unknown", pyarrow.bool_()), ("error", pyarrow.string())]
    schema = pyarrow.schema(columns)
    table = pyarrow.Table.from_pylist([*rows], schema)
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")

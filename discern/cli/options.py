"""The words that several verbs share: each flag is described once, here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write; one in use is refused.")
]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="Where all random numbers come from.")
]
Views = Annotated[
    int, typer.Option("--views", metavar="N", min=1, help="Average so many views of each item.")
]
PRECISIONS = ("fp32", "bf16", "auto")
Precision = Annotated[
    str,
    typer.Option("--precision", metavar="P", help="fp32; bf16; auto: the faster one here."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first file that is broken.")]

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        show_default=False,
        help="Folders, CSV/JSONL manifests, TFRecord shards, tar files; names, globs or URLs.",
    ),
]
Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", show_default=False, help="A run folder of `train`, or its model/ folder."
    ),
]
Signed = Annotated[
    Path | None,
    typer.Option(
        "--require-signature", metavar="KEY.pub", help="Refuse a model not signed by this key."
    ),
]
Start = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="MODEL",
        help="Start from this run or model, discern-nano, timm:NAME, hf:ORG/NAME, or a public "
        "ViT's folder.",
    ),
]
Minutes = Annotated[
    float | None, typer.Option("--minutes", metavar="M", help="Stop after this long.")
]
Steps = Annotated[
    int | None, typer.Option("--steps", metavar="N", min=1, help="Stop after this many updates.")
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="S",
        help="hybrid_pico, hybrid, hybrid_small, pico, nano, micro, tiny, small, base, large or "
        "auto.",
    ),
]
Batch = Annotated[
    int | None, typer.Option("--batch", metavar="N", min=1, help="Items of one update.")
]
Rate = Annotated[float | None, typer.Option("--rate", metavar="R", help="Learning rate.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change any setting; may be repeated."),
]
AllowChange = Annotated[
    bool,
    typer.Option("--allow-change", help="Resume although settings that change the maths differ."),
]

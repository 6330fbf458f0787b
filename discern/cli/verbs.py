"""The table of verbs: plain functions come in, one command line goes out.

Each verb is one short function that parses its words, imports what it needs and calls one function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Annotated, Any

import typer

from discern.cli import attack, data, export, gallery, learn, score, seal, search, serve, use

# in the order of `discern --help`
VERBS: dict[str, Callable[..., int]] = {
    "demo": learn.demo,
    "doctor": data.doctor,
    "pretrain": learn.pretrain,
    "train": learn.train,
    "evaluate": use.evaluate,
    "compare": use.compare,
    "predict": use.predict,
    "score": score.score,
    "generate": use.generate,
    "reconstruct": use.reconstruct,
    "explain": use.explain,
    "export": export.export,
    "serve": serve.serve,
    "attack": attack.attack,
    "tune": search.tune,
}
DATA_VERBS: dict[str, Callable[..., int]] = {"check": data.check, "convert": data.convert}
GALLERY_VERBS: dict[str, Callable[..., int]] = {
    "enroll": gallery.enroll,
    "identify": gallery.identify,
    "verify": gallery.verify,
    "calibrate": gallery.calibrate,
    "list": gallery.show,
    "remove": gallery.remove,
}
SEAL_VERBS: dict[str, Callable[..., int]] = {
    "keygen": seal.keygen,
    "sign": seal.sign,
    "verify": seal.verify,
    "encrypt": seal.encrypt,
    "decrypt": seal.decrypt,
}


def command_line(words: Sequence[str] = ()) -> Any:
    """The command line as one command object: whole, or what the words begin with and no more."""
    groups = {
        "data": (data_root, DATA_VERBS),
        "gallery": (gallery_root, GALLERY_VERBS),
        "seal": (seal_root, SEAL_VERBS),
    }
    known = {*VERBS, *groups}
    wanted = known & set(words[:1]) or known
    program = _group(root, {name: verb for name, verb in VERBS.items() if name in wanted})
    for name, group in groups.items():
        if name in wanted:
            program.add_typer(_group(*group), name=name)
    return typer.main.get_command(program)


def help_text(program: Any, words: Sequence[str]) -> str | None:
    """The help that the words ask for, or None where they ask for none or name no verb.

    The parser would say the same, but it loads pydantic even for `--help`.
    """
    words = [*takewhile(lambda word: word != "--", words)]
    if not {"-h", "--help"} & set(words):
        return None
    command, context = program, _context(program, "discern", None)
    for word in words:
        if word.startswith("-") or not hasattr(command, "commands"):
            break
        if word not in command.commands:
            return None
        command = command.commands[word]
        context = _context(command, word, context)
    return str(context.get_help())


def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Image and video classification with Transformers that are pre-trained as GANs."""
    if version:
        from discern._version import __version__

        print(f"discern {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def data_root(context: typer.Context) -> None:
    """Look at data before using it, or change its form."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def gallery_root(context: typer.Context) -> None:
    """Know people and things that were no training class."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def seal_root(context: typer.Context) -> None:
    """Sign models and check them; lock them and unlock them."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def _context(command: Any, name: str, parent: Any) -> Any:
    return command.context_class(command, info_name=name, parent=parent, **command.context_settings)


def _group(callback: Callable[..., None], verbs: Mapping[str, Callable[..., int]]) -> typer.Typer:
    group = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    group.callback(invoke_without_command=True)(callback)
    for name, verb in verbs.items():
        group.command(name)(verb)
    return group

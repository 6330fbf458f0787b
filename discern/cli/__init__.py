"""The command line: words come in, one verb runs, an exit code goes out.

Each verb is one short function that parses, imports what it needs and calls one function of the
package; nothing here imports torch before a verb has been chosen and its words are sound.
"""

from __future__ import annotations

import io
import sys
import traceback

from discern.cli.faults import EXIT_INTERRUPTED, explain
from discern.errors import EXIT_DONE, UsageError
from discern.threads import prepare_threads

# words that people type for a verb that has another name here
OTHER_WORDS = {
    "check": "data check",
    "classify": "predict",
    "convert": "data convert",
    "eval": "evaluate",
    "finetune": "train --from",
    "fine-tune": "train --from",
    "fit": "train",
    "infer": "predict",
    "inspect": "data check",
    "sample": "generate",
    "test": "evaluate",
    "validate": "evaluate",
}


def main(words: list[str] | None = None) -> int:
    """Runs one command and returns its exit code.  An error is one line, unless `--debug`.

    The process's own words end it, where it was one of several.
    """
    if words is not None:
        return _main(list(words))
    code = _main(sys.argv[1:])
    if (ranks := sys.modules.get("discern.scale.ranks")) is not None:
        ranks.leave(code)
    return code


def _main(words: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be valid text
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(words)
    except BrokenPipeError:  # `discern ... | head`: the reader has seen enough
        sys.stdout = None  # type: ignore[assignment]
        return EXIT_DONE
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in words:
            traceback.print_exc()
        line, code = explain(error)
        if "--json" in words:
            from discern.cli.answer import say_json

            say_json({"error": line, "exit_code": code})
        print(f"discern: {line}", file=sys.stderr)
        return code


def _run(words: list[str]) -> int:
    from discern.cli.verbs import command_line, help_text

    prepare_threads()  # before any verb imports torch
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    program = command_line(words)
    if words and words[0] in OTHER_WORDS:
        raise UsageError(f"there is no verb {words[0]!r}: use `discern {OTHER_WORDS[words[0]]}`")
    if (text := help_text(program, words)) is not None:
        print(text)
        return EXIT_DONE
    code = program.main(words, prog_name="discern", standalone_mode=False)
    if code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else EXIT_DONE

"""What went wrong, for a person: an exception comes in, one line and an exit code go out."""

from __future__ import annotations

import errno

from typer.exceptions import Abort, TyperException

from discern.errors import EXIT_DATA, EXIT_INTERNAL, EXIT_USAGE, DiscernError

EXIT_INTERRUPTED = 130  # as shells say it: 128 + SIGINT

# what is wrong with a path that was given, and what to do; all else that the disk says is no usage
_PATH_ERRORS = {
    errno.ENOENT: "no such file or folder: check the name",
    errno.EACCES: "not allowed to open it: check its permissions (ls -l)",
    errno.EPERM: "not allowed to open it: check its permissions (ls -l)",
    errno.EISDIR: "this is a folder, a file is needed here",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EEXIST: "a file of this name is in the way: choose another name",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.ELOOP: "its symbolic links lead in a circle: choose another name",
    errno.EROFS: "this disk cannot be written: choose another one",
}


def explain(error: BaseException) -> tuple[str, int]:
    """The line to print and the code to exit with."""
    text, code = _explain(error)
    return " ".join(text.split()), code


def _explain(error: BaseException) -> tuple[str, int]:
    if isinstance(error, DiscernError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt | Abort):
        return "interrupted; the same command goes on from the last checkpoint", EXIT_INTERRUPTED
    if isinstance(error, TyperException):
        return _usage(error), EXIT_USAGE
    if isinstance(error, ModuleNotFoundError):
        return _missing_package(error), EXIT_USAGE
    if isinstance(error, OSError) and error.filename and error.errno in _PATH_ERRORS:
        return f"{error.filename}: {_PATH_ERRORS[error.errno]}", EXIT_USAGE
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" for {error.filename}" if error.filename else ""
        return f"the disk is full{where}: make room and run the same command again", EXIT_INTERNAL
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "not enough memory: try a smaller --batch or --size", EXIT_INTERNAL
    if isinstance(error, UnicodeDecodeError):
        return f"a text file is not UTF-8 ({error.reason}): save it as UTF-8", EXIT_DATA
    return f"fault in Discern: {type(error).__name__}: {error} (--debug shows where)", EXIT_INTERNAL


def _usage(error: TyperException) -> str:
    text = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{text} (see `{context.command_path} --help`)" if context is not None else text


def _missing_package(error: ModuleNotFoundError) -> str:
    from discern.doctor import extra_of

    package = (error.name or "").partition(".")[0]
    if package == "discern":
        return f"this build of Discern has no {error.name}: install a newer version"
    extra = extra_of(package)
    wanted = f"discern[{extra}]" if extra else "discern"
    return f"package {package} is missing: pip install '{wanted}'"

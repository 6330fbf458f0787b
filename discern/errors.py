"""What can go wrong for a user: one line that names the way out, and an exit code."""

import signal

EXIT_DONE = 0
EXIT_INTERNAL = 1
EXIT_USAGE = 2
EXIT_STOPPED = 3  # stopped before the target accuracy
EXIT_DATA = 4
EXIT_GATE = 5
EXIT_INTEGRITY = 6


class DiscernError(Exception):
    """An error the user can act on.

    The command line prints its text as one line and exits with `exit_code`.
    """

    exit_code = EXIT_INTERNAL


class UsageError(DiscernError):
    """A wrong command, flag, path or setting."""

    exit_code = EXIT_USAGE


class Interrupted(DiscernError):
    """A signal ended a run, which is saved.  Exits as shells say it: 128 + the signal's number."""

    def __init__(self, out: object, name: str) -> None:
        super().__init__(f"{name}: {out} is saved: the same command goes on from there")
        self.exit_code = 128 + signal.Signals[name]


class ConfigError(UsageError):
    """A setting that does not exist, or a value that does not fit."""


class DataError(DiscernError):
    """The data as a whole cannot be used: empty, one class only, too many broken items."""

    exit_code = EXIT_DATA


class BadItem(DataError):
    """One item cannot be read: it is skipped and listed, unless `--strict`."""


class Refused(BadItem):
    """One item is over a limit (bytes, pixels, frames, seconds) and was not decoded."""


class GateError(DiscernError):
    """A check that guards an artefact failed, and the artefact was not written."""

    exit_code = EXIT_GATE


class IntegrityError(DiscernError):
    """A file is not what its manifest says: truncated, altered or exchanged."""

    exit_code = EXIT_INTEGRITY

"""How a server runs: everything that has a limit, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Limits of what a stranger may ask."""

    model: str
    gallery: str | None = None
    may_enroll: bool = False  # clients may write the gallery
    watch: str | None = None  # a run folder that is shown
    token: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    certificate: str | None = None
    key: str | None = None
    require_signature: str | None = None
    precision: str = "fp32"  # of answers
    most_bytes: int = 32 * 2**20  # of a request
    most_parts: int = 8  # of a form
    most_enrolled: int = 200_000  # vectors of the gallery
    queue: int = 64  # items that wait; more are sent away
    patience: float = 0.5  # seconds of waiting that are in sight when more are sent away
    batch: int = 16  # items at once
    wait: float = 0.004  # seconds for as many to join a batch as the last one had
    answer_seconds: float = 30.0  # then the answer is 503
    body_seconds: float = 10.0  # between two pieces of a body
    header_seconds: float = 10.0
    drain_seconds: int = 30

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK


def read_token(path: Path) -> str:
    """The first line of a token file.  Raises UsageError for one that is empty or short."""
    from discern.errors import UsageError

    try:
        token = path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if len(token) < 16:
        raise UsageError(f"{path}: a token has 16 characters or more, on the first line")
    return token

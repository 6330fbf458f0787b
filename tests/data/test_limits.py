"""Limits: what is within them passes, what is over them is refused by number and name."""

from __future__ import annotations

import pytest

from discern.data.limits import Limits
from discern.errors import BadItem, Refused

LIMITS = Limits(bytes=100, pixels=1000, frames=10, seconds=5.0, memory=3000)


def test_at_the_limit_passes() -> None:
    LIMITS.check_bytes(100)
    LIMITS.check_size(40, 25)
    LIMITS.check_length(10, 5.0)
    LIMITS.check_memory(1, 100, 10)


@pytest.mark.parametrize(
    ("check", "values", "name"),
    [
        (LIMITS.check_bytes, (101,), "bytes"),
        (LIMITS.check_size, (1001, 1), "pixels"),
        (LIMITS.check_length, (11, 0), "frames"),
        (LIMITS.check_length, (0, 5.1), "seconds"),
        (LIMITS.check_memory, (2, 100, 10), "memory"),
    ],
)
def test_over_the_limit_is_refused_by_name(check, values, name) -> None:
    with pytest.raises(Refused, match=rf"limit of [\d,.]+ \({name}\)"):
        check(*values)


def test_nothing_is_bad_not_refused() -> None:
    for check, values in ((LIMITS.check_bytes, (0,)), (LIMITS.check_size, (0, 5))):
        with pytest.raises(BadItem) as caught:
            check(*values)
        assert not isinstance(caught.value, Refused)

"""A command line as a process of its own, for tests."""

from __future__ import annotations

import os
import subprocess
import sys


def child(*words: object) -> tuple[int, str, str]:
    """`discern` with these words -> exit code, stdout, stderr"""
    done = subprocess.run(
        [sys.executable, "-m", "discern", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return done.returncode, done.stdout, done.stderr

"""SIGTERM and the first Ctrl-C ask; the second Ctrl-C stops."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from discern.train.signals import StopSignals


def _send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python runs handlers between two instructions


def test_sigterm_asks_as_often_as_it_comes(capfd: pytest.CaptureFixture[str]) -> None:
    with StopSignals() as stop:
        assert not stop.requested
        _send(signal.SIGTERM)
        _send(signal.SIGTERM)
        assert stop.requested and stop.name == "SIGTERM"
    assert capfd.readouterr().err.count("SIGTERM: finishing this step and saving") == 1


def test_the_second_interrupt_stops_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with StopSignals() as stop:
        _send(signal.SIGINT)
        assert stop.requested and stop.name == "SIGINT"
        assert "Ctrl-C again stops at once" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            _send(signal.SIGINT)


def test_an_interrupt_after_sigterm_is_the_first_one() -> None:
    with StopSignals() as stop:
        _send(signal.SIGTERM)
        _send(signal.SIGINT)
        assert stop.requested


def test_the_handlers_of_before_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError), StopSignals():
        assert signal.getsignal(signal.SIGTERM) != before[0]
        raise RuntimeError
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_outside_the_main_thread_it_does_nothing() -> None:
    seen: list[bool] = []

    def work() -> None:
        with StopSignals() as stop:
            seen.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_worker_ends_by_sigterm_and_outlives_ctrl_c() -> None:
    with StopSignals() as stop:
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
        os.kill(child, signal.SIGINT)
        time.sleep(0.05)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGTERM
        assert not stop.requested

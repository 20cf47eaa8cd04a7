"""SIGINT and SIGTERM, in real processes where one has to die."""

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nanogpt_jax.errors import ExitCode
from nanogpt_jax.interrupt import Interrupt, answer

SAVING_RUN = """
import hashlib, sys, time
from nanogpt_jax import interrupt
from nanogpt_jax.interrupt import Interrupt

# However late either side comes to it, the second signal is neither an echo nor a first one again:
# what the true times make of it is tested with a clock.
interrupt._ECHO_SECONDS, interrupt._PATIENCE_SECONDS = 0, 600
with Interrupt() as stop:
    print("ready", flush=True)
    if sys.argv[1] == "slow call":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    while not stop.requested:
        time.sleep(0.005)
    print(stop.signal.name, flush=True)
    if sys.argv[1] == "slow save":
        time.sleep(60)
sys.exit(130)
"""


@contextmanager
def started(manner: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds an Interrupt and, in its `manner`, ends after the first signal."""
    process = subprocess.Popen(
        [sys.executable, "-c", SAVING_RUN, manner],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The codes of the exits that did not happen."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


def answer_signals(count: int, *readings_seconds: float) -> None:
    """Answers `count` signals by a clock that reads these, two for each that is no echo.

    The bytes are those that Python writes when a signal arrives: no process, no thread, no time.
    """
    clock = iter(readings_seconds)
    answer(io.BytesIO(bytes([signal.SIGTERM] * count)), lambda: next(clock))
    assert next(clock, None) is None, "every reading was wanted"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_one_signal_the_process_says_so_and_ends_its_own_way(number: signal.Signals) -> None:
    with started("quick save") as process:
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=10)
    assert stdout == f"{number.name}\n"
    assert stderr.count(f"{number.name}: finishing the step and saving") == 1
    assert process.returncode == ExitCode.INTERRUPTED


def test_a_second_signal_within_two_seconds_ends_the_process_at_once() -> None:
    with started("slow save") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None and process.stdout.readline() == "SIGTERM\n"
        assert process.stderr is not None
        assert "a second signal within two seconds stops at once" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == ExitCode.ABORTED


def test_a_second_signal_need_not_wait_for_a_long_call_of_c_code() -> None:
    with started("slow call") as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None and "SIGINT: finishing" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == ExitCode.ABORTED  # the call lasts for minutes


@pytest.mark.parametrize(
    ("seconds", "exits"), [(0.1, [ExitCode.ABORTED]), (1.9, [ExitCode.ABORTED]), (2.1, [])]
)
def test_a_second_signal_aborts_only_within_two_seconds(
    seconds: float, exits: list[int], deaths: list[int]
) -> None:
    second = 100.0 + seconds
    answer_signals(2, 100.0, 100.0, second, second)
    assert deaths == exits


@pytest.mark.parametrize(("third", "exits"), [(106.0, []), (104.0, [ExitCode.ABORTED])])
def test_a_late_signal_counts_as_a_first_one_again(
    third: float, exits: list[int], deaths: list[int]
) -> None:
    answer_signals(3, 100.0, 100.0, 103.0, 103.0, third, third)
    assert deaths == exits


def test_the_echoes_of_a_signal_are_not_second_ones(deaths: list[int]) -> None:
    answer_signals(3, 100.0, 100.0, 100.01, 100.02)
    assert deaths == []
    answer_signals(3, 100.0, 100.0, 100.01, 101.0, 101.0)
    assert deaths == [ExitCode.ABORTED], "an echo does not use up the second one"


def test_it_is_not_requested_before_a_signal_and_names_the_signal_after_it() -> None:
    with Interrupt() as stop:
        assert not stop.requested and stop.signal is None
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested and stop.signal is signal.SIGTERM


def test_the_handlers_of_before_are_back_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interrupt():
        held = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        assert not set(held) & set(before)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_handlers_of_before_are_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyError), Interrupt():
        raise KeyError
    assert signal.getsignal(signal.SIGINT) is before


def test_in_another_thread_no_handler_is_installed() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def hold() -> None:
        with Interrupt() as stop:
            seen.extend([signal.getsignal(signal.SIGINT), stop.requested])

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert seen == [before, False]

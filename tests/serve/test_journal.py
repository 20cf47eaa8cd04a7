"""Log lines are lines."""

from __future__ import annotations

import logging
import sys
import threading

import pytest

from nanogpt_jax.serve.journal import OneLine, describe, escape, log_thread

HOSTILE = "a\r\nb\x1b[31m\x00\x85\u2028\u202e\ud800\t"


def line_of(message: str, *arguments: object, failed: bool = False) -> str:
    exc_info = sys.exc_info() if failed else None
    record = logging.LogRecord(
        "x", logging.WARNING, "/home/user/x.py", 1, message, arguments, exc_info
    )
    return OneLine().format(record)


def test_what_is_not_visible_is_escaped_and_what_is_stays():
    escaped = escape(HOSTILE)
    assert escaped == r"a\r\nb\x1b[31m\x00\x85\u2028\u202e\ud800\t"
    assert escape(escaped) == escaped
    assert escape("/über/日本 😀") == "/über/日本 😀"


def test_a_line_of_the_log_is_one_line():
    line = line_of("%s", HOSTILE)
    assert line.isprintable()
    assert line.endswith(" WARNING " + escape(HOSTILE))


def test_what_ends_a_thread_is_one_line_of_the_log_too(caplog: pytest.LogCaptureFixture):
    failed = threading.ExceptHookArgs(
        (ValueError, ValueError("a prompt"), None, threading.Thread(name="engine"))
    )
    with caplog.at_level(logging.ERROR):
        log_thread(failed)
    assert caplog.messages == ["the thread engine ended: ValueError"]


def test_an_error_is_told_by_its_class_and_place_without_its_message():
    try:
        describe({}["a prompt"])
    except KeyError:
        line = line_of("error %s", "17", failed=True)
    assert line.endswith(f" WARNING error 17: KeyError < {__name__}:{line.rpartition(':')[2]}")
    assert "prompt" not in line and "/" not in line

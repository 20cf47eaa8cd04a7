"""What an answer or a line of the log must not have in it, and how both are looked at."""

from __future__ import annotations

import getpass
import json
import logging
import re
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from nanogpt_jax.serve.asgi import SECURITY_HEADERS
from nanogpt_jax.serve.journal import OneLine

CANARY = "canary-7f3a91"
KEY = f"key-{CANARY}"
# Where this machine keeps things, and its own names where those are no ordinary words.
PLACES = [Path(__file__).parents[2], Path.home(), Path(sys.prefix), Path(tempfile.gettempdir())]
NAMES = [name for name in (getpass.getuser(), socket.gethostname()) if re.search(r"[\d-]", name)]
TELLTALE = re.compile(
    "|".join(
        (
            CANARY,
            *(re.escape(f"{place}/") for place in PLACES if place != Path("/")),
            *(rf"(?<![\w-]){re.escape(name)}(?![\w-])" for name in NAMES),
            r"(?<![\w.~:/])/(home|root|tmp|usr|etc|var|opt|proc|private|Users|srv|mnt)/",
            r"[A-Z]:\\|root:x:|site-packages",
            r"Traceback|File \"|\bline \d+\b|\.py:\d|\b0x[0-9a-f]{6,}",
        )
    )
)
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (INFO|WARNING|ERROR) [ -~]*")


class Lines(logging.Handler):
    """The log as it would be written."""

    def __init__(self):
        super().__init__()
        self.setFormatter(OneLine())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def require_discreet(answer: Any, *more: str) -> None:
    """An answer that tells nothing, and has the headers of every answer."""
    headers = dict(answer.headers)
    text = answer.text if hasattr(answer, "text") else answer.body.decode()
    for told in (text, json.dumps(headers), *more):
        assert not (found := TELLTALE.search(told)), (found, told[:300])
    for name, value in SECURITY_HEADERS:
        assert headers[name.decode()] == value.decode()

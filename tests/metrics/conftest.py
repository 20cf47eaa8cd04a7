"""What the tests of the writers share."""

import importlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def events_in() -> Callable[[Path], list[Any]]:
    """A function from a directory to the events of its files, in TensorBoard's order."""
    return read_events


def read_events(directory: Path) -> list[Any]:
    """The events of all files in `directory`, in TensorBoard's order."""
    record_writer = importlib.import_module("tensorboardX.record_writer")
    messages = importlib.import_module("tensorboardX.proto.event_pb2")
    events = []
    for path in sorted(directory.iterdir()):
        rest = path.read_bytes()
        while rest:
            length, length_sum = struct.unpack("<QI", rest[:12])
            body, body_sum = rest[12 : 12 + length], struct.unpack("<I", rest[12 + length :][:4])
            assert length_sum == record_writer.masked_crc32c(rest[:8])
            assert body_sum == (record_writer.masked_crc32c(body),)
            events.append(messages.Event.FromString(body))
            rest = rest[16 + length :]
    return events

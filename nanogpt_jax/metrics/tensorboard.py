"""TensorBoard event files: scalars, texts and hyperparameters.

tensorboardX gives the messages and the checksum; the file is written here. Its own writer hands
events to a thread that dies of a full disk, after which the next write waits for ever; it loses
what that thread still holds when the process is killed; and a run resumed within one second
overwrites the file of the run before.
"""

from __future__ import annotations

import importlib
import os
import socket
import struct
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from nanogpt_jax.metrics.writer import Writer

# The columns that the HParams page offers beside the hyperparameters.
_COMPARED = ("train/loss", "val/loss", "val/bits_per_byte", "perf/tokens_per_sec")


class TensorBoard(Writer):
    """Writes one event file in `directory`, opened at the first write.

    TensorBoard hides what older files of the directory say about `purge_step` and later steps.
    """

    def __init__(
        self, directory: Path, *, purge_step: int, wall_clock: Callable[[], float] = time.time
    ):
        self._directory = directory
        self._purge_step = purge_step
        self._wall_clock = wall_clock
        self._file: BinaryIO | None = None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        points = [{"tag": name, "simple_value": float(value)} for name, value in values.items()]
        self._write(step=step, summary={"value": points})

    def text(self, step: int, name: str, text: str) -> None:
        summary = _part("summary")
        # The page renders Markdown; an indented block keeps the text as the model wrote it.
        block = textwrap.indent(text, "    ", lambda line: True)
        self._write(step=step, summary=summary.text(name, block))

    def config(self, values: Mapping[str, object]) -> None:
        summary = _part("summary")
        # In the event file itself: a session of its own would be one more run on every page.
        plain = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in values.items()
        }
        experiment, session, _ = summary.hparams(plain, dict.fromkeys(_COMPARED, 0.0))
        self._write(summary=experiment)
        self._write(summary=session)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _open(self) -> BinaryIO:
        self._directory.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names, so the time must come first.
        stamp = f"{int(self._wall_clock() * 1e6):017d}"
        name = f"events.out.tfevents.{stamp}.{socket.gethostname()}.{os.getpid()}"
        self._file = open(self._directory / name, "xb")
        self._write(file_version="brain.Event:2")
        self._write(step=self._purge_step, session_log={"status": "START"})
        return self._file

    def _write(self, **fields: Any) -> None:
        masked_crc32c = _part("record_writer").masked_crc32c
        messages = _part("proto.event_pb2")
        file = self._file or self._open()
        event = messages.Event(wall_time=self._wall_clock(), **fields).SerializeToString()
        length = struct.pack("<Q", len(event))
        checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, event)]
        file.write(b"".join([length, checksums[0], event, checksums[1]]))
        file.flush()


def _part(name: str) -> Any:
    """A module of tensorboardX, imported without torch, which takes a second where it is installed.

    Nothing that needs torch is called here. By name, because its generated modules make their
    classes when they are imported.
    """
    if "tensorboardX" in sys.modules or "torch" in sys.modules:
        return importlib.import_module(f"tensorboardX.{name}")
    vars(sys)["modules"]["torch"] = None  # what Python calls not to be found
    try:
        return importlib.import_module(f"tensorboardX.{name}")
    finally:
        del sys.modules["torch"]

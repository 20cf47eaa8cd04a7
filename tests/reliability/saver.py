"""Saves small training states on request, each request in a process of its own.

    LD_PRELOAD=faults.so python -m tests.reliability.saver < orders > endings

A line of JSON in, a line out: this process has imported everything and started nothing, so that a
fork of it is a fresh trainer within tenths of a second, which faults.c may kill. Nothing here
compiles a model or judges what is left behind.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanogpt_jax.checkpoint import items  # noqa: F401  Orbax, before any fork and not in each
from nanogpt_jax.errors import NanogptError, exit_code_of
from tests.reliability.saving import save


def main() -> None:
    """Answers orders until there are no more."""
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def answer(order: Mapping[str, Any]) -> dict[str, Any]:
    """What became of the process that was to save: its exit code or -signal, and its last words."""
    hears, says = os.pipe()
    child = os.fork()
    if not child:
        os.close(hears)
        os._exit(obey(order, says))
    os.close(says)
    with open(hears, encoding="utf-8") as words:
        message = words.read()
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "message": message}


def obey(order: Mapping[str, Any], says: int) -> int:
    """Saves under the faults of `order`, and returns the exit code that a command would."""
    os.setpgid(0, 0)
    os.environ.update(order["faults"])
    ctypes.CDLL(None).faults_arm()
    try:
        save(Path(order["directory"]), order["steps"], order["keep"])
    except NanogptError as error:
        os.write(says, str(error).encode())
        return exit_code_of(error)
    return 0


if __name__ == "__main__":
    main()

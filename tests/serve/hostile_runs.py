"""Opens run directories from strangers, in a process that notes what it is made to do.

python tests/serve/hostile_runs.py GOOD FOLDER...   prints a line of JSON for each folder
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from nanogpt_jax import checkpoint, experiment
from nanogpt_jax.errors import exit_code_of

FORBIDDEN = {
    "pickle.find_class",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "socket.connect",
    "marshal.loads",
    "ctypes.dlopen",
}


def main(good: str, *folders: str) -> None:
    """Opens `good` first, so that all imports are done."""
    attempt(good)
    events: list[str] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FORBIDDEN:
            events.append(f"{event} {arguments!r:.200}")

    sys.addaudithook(note)
    for folder in (good, *folders):
        events.clear()
        before, start = memory_kb(), time.process_time()  # which other processes do not lengthen
        said = attempt(folder)
        told = {
            "folder": Path(folder).name,
            "said": said,
            "seconds": time.process_time() - start,
            "grown_kb": memory_kb() - before,
            "events": list(events),
        }
        print(json.dumps(told), flush=True)


def attempt(folder: str) -> list[int | str]:
    """Exit code and message of opening a run as `serve` and `sample` do, and as `digest` does."""
    found: list[int | str] = []
    for open_it in (
        lambda: experiment.load(folder).tokenizer.encode("1" * 8000),
        lambda: checkpoint.digest_step(Path(folder), checkpoint.choose(Path(folder), "last")),
    ):
        try:
            open_it()
            found.append(0)
        except Exception as error:
            if exit_code_of(error) == 1:
                raise
            found += [int(exit_code_of(error)), str(error)]
    return found


def memory_kb() -> int:
    """The most memory that was ever in use."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(*sys.argv[1:])

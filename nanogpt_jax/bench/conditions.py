"""Under which conditions something was measured: what every JSON of the benchmarks begins with.

No host, user or path goes into it; nothing is measured here.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from nanogpt_jax import record


def describe(arguments: Mapping[str, Any], packages: Iterable[str] = ()) -> dict[str, Any]:
    """Machine, versions, commit, date and `arguments`; `packages` took part, where installed."""
    versions = record.versions()
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "machine": machine(),
        "versions": versions,
        "commit": (record.git_commit() or "unknown").replace("+", "-dirty"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "arguments": {**arguments},
    }


def machine() -> dict[str, Any]:
    """Processor, cores, memory and system, as far as the system tells."""
    return {
        "cpu": _found_in("/proc/cpuinfo", r"model name\s*: (.*)") or platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _found_in(path: str, pattern: str) -> str | None:
    try:
        found = re.search(pattern, Path(path).read_text())
    except OSError:
        return None
    return found and found[1]

"""The runs beside the served one: a folder, and the names by which what lies in it is asked for.

A name is the path of a run directory relative to the folder. It leads nowhere else: only places
where runs are kept are looked at, links are not followed, and nothing hidden is found.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

from nanogpt_jax import record

# Runs, runs in groups (a comparison, phases), and those that a server has trained in either.
PLACES = ("*", "*/*", "*/runs/*", "*/*/runs/*")
_PART = "[^./][^/]*"  # what begins with a dot is hidden, or leads up
_NAME = re.compile(f"{_PART}(/{_PART})?|{_PART}(/{_PART})?/runs/{_PART}")


class Shelf:
    """The run directories in `folder`, by name; any thread may ask."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()

    def names(self) -> list[str]:
        """The runs that are there now, in the order of their names."""
        found = (
            path.parent.relative_to(self.folder).as_posix()
            for place in PLACES
            for path in self.folder.glob(f"{place}/{record.NAME}")
        )
        return sorted(name for name in found if self.find(name))

    def find(self, name: str) -> Path | None:
        """The directory of a run, None where no run has the name."""
        if not _NAME.fullmatch(name):
            return None
        try:
            name.encode()  # what the system names in other bytes, JSON cannot
            path = self.folder
            for part in name.split("/"):
                path /= part
                if not stat.S_ISDIR(path.lstat().st_mode):
                    return None
            return path if stat.S_ISREG((path / record.NAME).lstat().st_mode) else None
        except (OSError, ValueError):  # nothing there, or no name of a file
            return None

    def name_of(self, workdir: Path) -> str:
        """The name of a run, wherever it lies: elsewhere its folder's."""
        workdir = workdir.resolve()
        inside = workdir.is_relative_to(self.folder) and workdir != self.folder
        name = workdir.relative_to(self.folder).as_posix() if inside else workdir.name
        return name.encode("utf-8", "replace").decode()

"""What a log has to say of the updates behind a run's state: of every step, the last word.

It knows resumes and events, and no file: records go in as `read_log` gives them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Update(NamedTuple):
    """The evidence of a line of training; the batches are those that made `first` to its step."""

    first: int
    loss_hex: str
    batch_sha256: str

    @property
    def loss_nats(self) -> float:
        """The mean loss of the last batch."""
        return float.fromhex(self.loss_hex)


@dataclasses.dataclass
class History:
    """Updates by the step that they made, and digests of the parameters that were saved."""

    updates: dict[int, Update] = dataclasses.field(default_factory=dict)
    params_sha256: dict[int, str] = dataclasses.field(default_factory=dict)


def history_of(records: Iterable[Mapping[str, Any]]) -> History:
    """The history that the state of the run has, without what resumes took back."""
    found, reached = History(), 0
    for record in records:
        step, event = record["step"], record.get("event")
        if event == "resume":
            reached = step
            for kept in (found.updates, found.params_sha256):
                for gone in [known for known in kept if known > step]:
                    del kept[gone]
        elif event == "save":
            found.params_sha256[step] = record["params_sha256"]
        elif "loss_hex" in record:
            evidence = record["loss_hex"], record["batch_sha256"]
            found.updates[step] = Update(reached + 1, *evidence)
            reached = step
    return found

"""Whether the log of a run is as the run wrote it, and its checkpoints are those it tells of.

Only the log, the record and the sidecars are read: whether the files of a checkpoint are whole is
the question of `checkpoint.verify`, whether the numbers come out again that of replay.py. Who can
write the log and every sidecar anew can lie to it; a head that is kept elsewhere ends that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nanogpt_jax import checkpoint, metrics, record
from nanogpt_jax.checkpoint import Sidecar
from nanogpt_jax.errors import Damaged, NanogptError, NoCheckpoint
from nanogpt_jax.experiment.opening import recorded_config
from nanogpt_jax.metrics import jsonl


class Audit(NamedTuple):
    """What was found to be in order."""

    lines: int
    resumes: int
    saves: int
    checkpoints: int
    torn_bytes: int  # of a last line that a crash left without its end
    head: str  # of the whole log: keep it elsewhere, and nothing can be changed unseen

    def __str__(self) -> str:
        torn = f"; a torn last line of {self.torn_bytes} bytes" if self.torn_bytes else ""
        return (
            f"{self.lines} lines in order: {self.resumes} resumes, {self.saves} saves, "
            f"{self.checkpoints} checkpoints{torn}\nhead {self.head or '(no line)'}"
        )


def audit(directory: Path) -> Audit:
    """Holds the log of a run to its hashes, its steps and its checkpoints.

    Raises NanogptError naming the first line, or the checkpoint, that does not fit, and
    errors.Damaged where a sidecar cannot say what it is of.
    """
    path = directory / jsonl.NAME
    # Sidecars first: a run that goes on meanwhile writes its line before its checkpoint.
    sidecars = list(_sidecars(directory))
    log = metrics.read_log(path)
    settings = recorded_config(record.read(directory), directory)
    require_steps(path, log.records, settings.log.every_steps)
    steps = {line["sha256"]: line["step"] for line in log.records}
    for sidecar in sidecars:
        if steps.get(sidecar.log_sha256) != sidecar.step:
            raise NanogptError(
                f"{path} has no line of step {sidecar.step} with the hash "
                f"{sidecar.log_sha256[:12] or '(none)'} that checkpoint {sidecar.step} names: "
                "lines are removed at the end, or one is of another run; restore it from a copy"
            )
    events = [line["event"] for line in log.records if "event" in line]
    return Audit(
        lines=len(log.records),
        resumes=events.count("resume"),
        saves=events.count("save"),
        checkpoints=len(sidecars),
        torn_bytes=log.torn_bytes,
        head=log.records[-1]["sha256"] if log.records else "",
    )


def _sidecars(directory: Path) -> Iterator[Sidecar]:
    for step in checkpoint.list_steps(directory):
        try:
            yield checkpoint.read_sidecar(directory, step)
        except Damaged:
            raise
        except NoCheckpoint:  # pruned meanwhile
            continue


def require_steps(path: Path, records: Sequence[Mapping[str, Any]], every_steps: int) -> None:
    """Raises NanogptError naming the first line whose step cannot follow from those before.

    From one start to the next, steps never go back; since the last, whose config is the one that is
    known, lines of training are `every_steps` apart, but for the one that ends the run. A resume is
    from a step that was saved, or from 0.
    """
    starts = [index for index, line in enumerate(records) if line.get("event") == "resume"]
    last_start = starts[-1] if starts else 0
    ending = max((i for i, line in enumerate(records) if "loss_hex" in line), default=0)
    saved, reached, updated = {0}, 0, 0
    for index, line in enumerate(records):
        step, event = line["step"], line.get("event")
        where = f"{path}, line {index + 1}"
        if event == "resume":
            if step not in saved:
                raise NanogptError(
                    f"{where} goes on from step {step}, which no line says was saved"
                )
            reached = updated = step
            continue
        if step < reached:
            raise NanogptError(f"{where} is of step {step}, after step {reached} and no resume")
        reached = step
        if event == "save":
            saved.add(step)
        if "loss_hex" in line:
            due = (updated // every_steps + 1) * every_steps
            on_time = step == due or (index == ending and updated < step < due)
            if step <= updated or (index > last_start and not on_time):
                raise NanogptError(
                    f"{where} is of updates up to step {step}, after those up to {updated}: with "
                    f"log.every_steps={every_steps}, step {due} is required"
                )
            updated = step

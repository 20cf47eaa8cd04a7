"""Small runs that tests of the loop share: a table of embeddings on a short text."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from nanogpt_jax import checkpoint
from nanogpt_jax.experiment import Plan, default_config, resolve
from nanogpt_jax.train import train

TEXT = "".join(f"{a} times {b} is {a * b}.\n" for a in range(20) for b in range(20))

SMALL = {
    "train.steps": 6,
    "train.batch_size": 4,
    "train.seq_len": 16,
    "model.d_model": 8,
    "model.max_seq_len": 16,
    "schedule.warmup_steps": 1,
    "optimizer.learning_rate": 0.01,
    "eval.every_steps": 3,
    "eval.batches": 2,
    "checkpoint.every_steps": 2,
    "checkpoint.milestones": 0,
    "log.every_steps": 1,
    "data.prefetch": 0,
}


# A sweep of two trials that take long enough to be taken away.
SEEDS = """
from nanogpt_jax.sweep import Sweep, choice

def get_sweep():
    return Sweep(
        config="configs/tiny.py",
        space=choice("seed", 0, 1),
        fixed={
            "train.steps": 1500, "eval.every_steps": 500, "checkpoint.every_steps": 50,
            "checkpoint.milestones": 0, "data.stories": 100, "eval.samples": 0,
        },
    )
"""

# What a run of `tuned_run` answers.
ANSWERS = {"one?": "two", "two?": "three", "three?": "one"}
CHAT = {
    "data.format": "chat",
    "tokenizer.special_tokens": "chat",
    "train.steps": 60,
    "train.batch_size": 6,
    "train.seq_len": 24,
    "model.n_layer": 1,
    "model.n_head": 2,
    "model.n_kv_head": 1,
    "model.d_model": 32,
    "model.max_seq_len": 32,
    "optimizer.learning_rate": 0.02,
    "schedule.warmup_steps": 5,
    "eval.every_steps": 60,
    "eval.answers": 3,
    "checkpoint.milestones": 0,
}


def own_core() -> int:
    """The core for processes that are to have one: another for each process of pytest."""
    cores = sorted(os.sched_getaffinity(0))
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return cores[int(worker) % len(cores)]


def small_plan(
    folder: Path, changes: dict[str, Any] | None = None, model: str = "embedding"
) -> Plan:
    """A plan of `SMALL`, with `changes` by address, on the text in `folder`."""
    text = folder / "tables.txt"
    if not text.exists():
        text.write_text(TEXT)
    values = {"data.source": f"text:{text}", **SMALL, **(changes or {})}
    assignments = [(address, str(value)) for address, value in values.items()]
    return resolve(default_config(model=model), assignments)


def small_run(workdir: Path, changes: dict[str, Any] | None = None, **options: Any) -> str:
    """Trains a small plan; its text lies beside `workdir`."""
    return train(small_plan(workdir.parent, changes), workdir, **options)


def tuned_run(folder: Path) -> None:
    """Trains `folder`/run on conversations until it knows ANSWERS by heart."""
    talks = folder / "talks.jsonl"
    with talks.open("w") as file:
        for _ in range(10):
            for question, answer in ANSWERS.items():
                messages = [("user", question), ("assistant", answer)]
                record = [{"role": role, "content": said} for role, said in messages]
                file.write(json.dumps({"messages": record}) + "\n")
    values = {"data.source": f"text:{talks}", **CHAT}
    plan = resolve(default_config(model="gpt"), [(name, str(v)) for name, v in values.items()])
    train(plan, folder / "run")


def lines_of(workdir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def steps_of(workdir: Path, name: str) -> list[int]:
    """The step of every line that has a value of `name`, in the order of the file."""
    return [line["step"] for line in lines_of(workdir) if name in line]


def kinds_of(workdir: Path) -> dict[int, str]:
    """What the checkpoints of a run are, by step."""
    return {one.step: one.kind for one in checkpoint.read_sidecars(workdir)}


def content_of(workdir: Path) -> dict[str, bytes]:
    """Every file of a run directory but its log and lock, which a refused start may write."""
    files = (path for path in workdir.rglob("*") if path.is_file())
    return {
        str(path.relative_to(workdir)): path.read_bytes()
        for path in files
        if path.name not in ("train.log", "lock")
    }

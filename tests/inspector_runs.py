"""Runs for the inspector to look at: small, and really trained.

    python -m tests.inspector_runs FOLDER

`story`, of context 256 with 24 milestones; `ladder/NAME` for the four teaching models; `experts`, a
mixture of experts; `answers`, tuned on conversations. A folder that has them already is left as it
is, so that tests of the pages start at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from nanogpt_jax.experiment import default_config, resolve
from nanogpt_jax.train import train
from tests.runs import ANSWERS, CHAT

LADDER = ("embedding", "single_head", "multi_head", "gpt")
COMMON = {
    "data.stories": 2000,
    "tokenizer.kind": "bpe",
    "tokenizer.vocab_size": 600,
    "train.batch_size": 8,
    "train.seq_len": 128,
    "model.d_model": 64,
    "model.max_seq_len": 128,
    "optimizer.learning_rate": 0.003,
    "schedule.warmup_steps": 20,
    "eval.batches": 4,
    "eval.samples": 1,
    "log.every_steps": 5,
}
DEEP = {"model.n_layer": 3, "model.n_head": 4, "model.n_kv_head": 2}
STORY = DEEP | {
    "model.max_seq_len": 256,
    "train.seq_len": 256,
    "train.steps": 400,
    "eval.every_steps": 50,
    "checkpoint.every_steps": 400,
    "checkpoint.milestones": 24,
}
SHORT = {
    "train.steps": 120,
    "eval.every_steps": 60,
    "checkpoint.every_steps": 120,
    "checkpoint.milestones": 0,
}


def train_small(workdir: Path, model: str, changes: dict[str, Any]) -> None:
    """Trains a model on the bundled tales, or goes on where that ended."""
    config = default_config(model=model, optimizer="adamw")
    values = [(address, str(value)) for address, value in (COMMON | changes).items()]
    train(resolve(config, values), workdir)


def train_answers(folder: Path) -> None:
    """Trains on three questions until their answers are known by heart."""
    lines = []
    for question, answer in ANSWERS.items():
        said = f'{{"role": "user", "content": "{question}"}}'
        lines.append(f'{{"messages": [{said}, {{"role": "assistant", "content": "{answer}"}}]}}')
    (folder / "talks.jsonl").write_text("\n".join(10 * lines) + "\n")
    values = {"data.source": f"text:{folder / 'talks.jsonl'}", **CHAT}
    assignments = [(address, str(value)) for address, value in values.items()]
    train(resolve(default_config(model="gpt"), assignments), folder / "answers")


def make(folder: Path) -> None:
    """All of them; the mark that says so is written last."""
    done = folder / "complete"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    train_small(folder / "story", "gpt", STORY)
    for name in LADDER:
        deep = DEEP if name == "gpt" else {}
        heads = {"model.n_head": 4} if name == "multi_head" else {}
        train_small(folder / "ladder" / name, name, SHORT | deep | heads)
    experts = {"model.n_layer": 2, "model.n_head": 4, "model.n_expert": 4, "model.n_active": 2}
    train_small(folder / "experts", "moe", SHORT | experts)
    train_answers(folder)
    done.touch()


if __name__ == "__main__":
    make(Path(sys.argv[1]))

"""A run directory as the answers show it: what run.json and the sidecars say, and no path."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nanogpt_jax import checkpoint, record
from nanogpt_jax.checkpoint import Sidecar
from nanogpt_jax.errors import NoCheckpoint
from nanogpt_jax.record import Record
from nanogpt_jax.serve.api.run_answers import Run
from nanogpt_jax.serve.prompts import is_tuned


def portray(name: str, workdir: Path, held: Record, served_step: int | None) -> Run:
    """A run as it is now; of its sidecars only the newest are read."""
    # Asked first: who is told that nobody trains any more has the last step too.
    training = checkpoint.is_locked(workdir)
    steps = checkpoint.list_steps(workdir)
    newest, loss = _newest(workdir, steps)
    shape = held.shape
    return Run(
        name=name,
        model=shape.name,
        parameters=held.parameters,
        n_layer=shape.n_layer,
        n_head=shape.n_head,
        n_kv_head=shape.n_kv_head,
        d_model=shape.d_model,
        context=shape.max_seq_len,
        corpus=record.without_folders(held.corpus["source"]),
        corpus_fingerprint=held.corpus["fingerprint"],
        tokenizer=held.tokenizer["kind"],
        tokenizer_sha256=held.tokenizer["sha256"],
        vocab_size=shape.vocab_size,
        steps=steps,
        served_step=served_step,
        total_steps=_total_steps(held.config),
        validation_loss=loss,
        training=training,
        created=newest.created if newest else None,
        tuned=is_tuned(held.config),
    )


def entropy_of(sidecars: Sequence[Sidecar]) -> float | None:
    """Nats per token of the corpus's own distribution, where an evaluation has known it.

    The excess is per character, and a text with a known distribution has one byte in each.
    """
    for one in reversed(sidecars):
        with contextlib.suppress(KeyError, ZeroDivisionError, OverflowError):
            loss, excess = one.metrics["val/loss"], one.metrics["val/excess_nats"]
            bytes_per_token = loss / (one.metrics["val/bits_per_byte"] * math.log(2))
            return loss - excess * bytes_per_token
    return None


def _newest(workdir: Path, steps: Sequence[int]) -> tuple[Sidecar | None, float | None]:
    """The newest sidecar that can be read, and the loss of the newest that was measured."""
    newest: Sidecar | None = None
    for step in reversed(steps):
        with contextlib.suppress(NoCheckpoint):  # damaged, or pruned meanwhile
            found = checkpoint.read_sidecar(workdir, step)
            newest = newest or found
            if found.validation_loss is not None:
                return newest, found.validation_loss
    return newest, None


def _total_steps(config: Mapping[str, Any]) -> int | None:
    """The updates that the config asks for; None where it asks for none, or cannot be read."""
    try:
        train = config["train"]
        steps, tokens = train["steps"], train.get("max_tokens", 0)
        if tokens:
            steps = min(steps, math.ceil(tokens / (train["batch_size"] * train["seq_len"])))
        return steps if type(steps) is int and steps > 0 else None
    except (ArithmeticError, AttributeError, KeyError, TypeError):
        return None

"""nanochat-rs's description of a model: its sizes, its JSON file, and `gpt`'s switches for it.

The model is inference-only in the original, so nothing here trains; configs/nanochat.py does.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import typing
from pathlib import Path
from typing import Annotated, Any

from nanogpt_jax.errors import ConfigError
from nanogpt_jax.models import gpt
from nanogpt_jax.registry import below_one, field_of, positive, unknown

Count = Annotated[int, positive]


@dataclasses.dataclass(frozen=True)
class Size:
    """The fields of the JSON file, under its names; `block_size` is kept and means nothing."""

    sequence_len: Count
    vocab_size: Count
    n_layer: Count
    n_head: Count
    n_kv_head: Count
    n_embd: Count
    block_size: Count
    dropout: Annotated[float, below_one]


# d12 and d20 are Karpathy's: a width of 64 a layer, heads of 128 channels.
SIZES = {
    "small": Size(1024, 50304, 12, 6, 6, 768, 1024, 0.0),
    # The original says 12 heads, which do not divide its width; as many parameters with 16.
    "medium": Size(1024, 50304, 24, 16, 16, 1024, 1024, 0.0),
    "large": Size(1024, 50304, 36, 20, 20, 1280, 1024, 0.0),
    "readme": Size(2048, 65536, 12, 8, 2, 768, 2048, 0.0),
    "d12": Size(2048, 65536, 12, 6, 6, 768, 2048, 0.0),
    "d20": Size(2048, 65536, 20, 10, 10, 1280, 2048, 0.0),
}


def read(path: Path) -> Size:
    """The size in a JSON file, which must have every field and no other.

    Raises ConfigError with all problems.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON ({error}): write it anew") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {values!r}, a JSON object is required")
    hints = typing.get_type_hints(Size, include_extras=True)
    fields = [field_of(name, hint, inspect.Parameter.empty) for name, hint in hints.items()]
    problems = [unknown(f"{path}: field", name, hints) for name in values.keys() - hints.keys()]
    for field in fields:
        if field.name not in values:
            problems.append(
                f"{path}: {field.name} is missing; all of {', '.join(hints)} are needed"
            )
        elif problem := field.problem(field.name, values[field.name]):
            problems.append(f"{path}: {problem}")
    if problems:
        raise ConfigError(sorted(problems))
    size = Size(**values)
    if found := model_of(size).problems():
        raise ConfigError([f"{path}: {problem}" for problem in found])
    return size


def write(path: Path, size: Size) -> None:
    """Writes what `read` reads, and the original too."""
    path.write_text(json.dumps(dataclasses.asdict(size), indent=2) + "\n", encoding="utf-8")


def model_of(size: Size) -> gpt.Config:
    """The model of a size.

    Queries, keys and values are clamped, then turned, then normed; logits are clamped and then
    capped (the original clamps once more, but what is capped at 15 lies within 50).
    """
    return gpt.Config(
        n_layer=size.n_layer,
        n_head=size.n_head,
        n_kv_head=size.n_kv_head,
        d_model=size.n_embd,
        max_seq_len=size.sequence_len,
        norm="rms",
        norm_eps=1e-6,
        embed_norm=False,
        positions="rope",
        rope_base=10000.0,
        qkv_clamp=5.0,
        qk_norm="after_rope",
        activation="relu2",
        logit_clamp=50.0,
        logit_softcap=15.0,
        dropout=size.dropout,
        init="kaiming",
    )


def size_of(model: gpt.Config, vocab_size: int) -> Size:
    """The size of a model; ConfigError naming the switches that the JSON file has no word for."""
    c = model
    length = c.max_seq_len
    n_kv_head = c.n_kv_head or c.n_head
    size = Size(length, vocab_size, c.n_layer, c.n_head, n_kv_head, c.d_model, length, c.dropout)
    found: dict[str, Any] = dataclasses.asdict(dataclasses.replace(c, n_kv_head=n_kv_head))
    required = dataclasses.asdict(model_of(size))
    if strange := [name for name in found if found[name] != required[name]]:
        raise ConfigError(
            [
                f"model.{name}={found[name]!r}: nanochat's file can only mean {required[name]!r}"
                for name in strange
            ]
        )
    return size

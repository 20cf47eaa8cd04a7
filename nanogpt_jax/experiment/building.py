"""A checked config becomes the parts of a run: model, recipe, numbers, evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax import attention_kernel, models
from nanogpt_jax.data.conversations import Chat
from nanogpt_jax.data.corpus import AnyCorpus
from nanogpt_jax.data.held_out import HeldOut
from nanogpt_jax.data.parts import Part
from nanogpt_jax.evaluation import Evaluator
from nanogpt_jax.experiment.plan import Plan
from nanogpt_jax.interface import LanguageModel
from nanogpt_jax.optim import optimizers
from nanogpt_jax.parallel import Layout
from nanogpt_jax.step import Hyper, Recipe
from nanogpt_jax.tokenization import Tokenizer


def begin(plan: Plan, tokenizer: Tokenizer, running: bool) -> list[int]:
    """What stands before a text: BOS, where the run is trained on documents that have it."""
    return [] if running or not plan.data.bos else [tokenizer.bos_id]


def build_model(plan: Plan, vocab_size: int, *, training: bool = False) -> LanguageModel:
    """The model, computing in the dtype of the config on this backend.

    Who attends is chosen, and tried, for `training` alone: whoever reads a run reads it anywhere.
    """
    on_cpu, name = jax.default_backend() == "cpu", compute_dtype(plan)
    # A compiled loop over layers is up to twice as slow on CPU, and compiles faster elsewhere.
    unroll = None if on_cpu else 1
    kernel = attention_kernel.OWN
    if training:
        kernel = attention_kernel.choose_kernel(
            plan.train.attention, _attention_shape(plan, name), split=_is_split(plan)
        )
    return models.build(
        plan.model_name,
        plan.model,
        vocab_size,
        dtype=jnp.dtype(name),
        unroll=unroll,
        kernel=kernel,
    )


def compute_dtype(plan: Plan) -> str:
    if plan.train.compute_dtype != "auto":
        return plan.train.compute_dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def _attention_shape(plan: Plan, dtype: str) -> attention_kernel.Shape:
    """What every layer attends with while it is trained."""
    shape = plan.model.shape(1)
    d_head = getattr(plan.model, "d_head", shape.d_model // max(shape.n_head, 1))
    heads = (shape.n_head, shape.n_kv_head, d_head)
    return attention_kernel.Shape(dtype, *heads, plan.train.seq_len)


def _is_split(plan: Plan) -> bool:
    """Whether one program runs over several devices."""
    spread = plan.parallel
    if spread.mode == "pmap" or spread.exact:
        return False
    sizes = (spread.data, spread.fsdp, spread.tensor)
    return max(sizes) > 1 or (-1 in sizes and jax.device_count() > 1)


def build_evaluator(
    plan: Plan,
    model: LanguageModel,
    tokenizer: Tokenizer,
    corpus: AnyCorpus,
    parts: Sequence[Part],
    batches: int,
    chat: Chat | None,
    layout: Layout | None,
) -> Evaluator:
    """The evaluator over `batches` held-out batches, whole documents where those are known.

    Parameters lie as `layout` has them; without one, on one device.
    """
    laid_out = {"place": layout.place_evaluation, "whole": layout.whole} if layout else {}
    held_out = HeldOut(
        parts,
        tokenizer,
        documents=corpus.truth is not None or plan.data.format != "stream",
        length=plan.train.seq_len,
        batch_size=plan.train.batch_size,
        rows=batches * plan.train.batch_size,
        chat=chat,
        questions=plan.eval.answers,
        framed=plan.data.bos,
    )
    asked = tokenizer.encode(plan.eval.prompt).tolist() if plan.eval.prompt else None
    return Evaluator(
        model,
        tokenizer,
        held_out,
        context_length=plan.model.shape(tokenizer.vocab_size).max_seq_len,
        truth=corpus.truth,
        samples=0 if corpus.running else plan.eval.samples,  # of what has an end
        prompt=None if asked is None else begin(plan, tokenizer, corpus.running) + asked,
        **laid_out,
    )


def _optimizer_fields(plan: Plan) -> tuple[dict[str, float], dict[str, Any]]:
    """Numbers and switches: a float travels as an array, an int or a name shapes the program."""
    numbers, switches = {}, {}
    fields = optimizers.fields(plan.optimizer.name)
    for name, value in plan.optimizer_fields.items():
        (numbers if fields[name].kind is float else switches)[name] = value
    return numbers, switches


def build_recipe(plan: Plan, model: LanguageModel, vocab_size: int) -> Recipe:
    """What is compiled into a step."""
    return Recipe(
        model=model,
        vocab_size=vocab_size,
        optimizer=plan.optimizer.name,
        schedule=plan.schedule.name,
        switches=_optimizer_fields(plan)[1],
        accumulate=plan.train.accumulate_steps,
        dropout=getattr(plan.model, "dropout", 0.0) > 0,
        clip_logits=plan.optimizer.clip_logits_norm > 0,
        skip_nonfinite=plan.train.on_nonfinite == "skip",
        width_ratio=getattr(plan.model, "width_ratio", 1.0),
    )


def build_hyper(plan: Plan, total_steps: int) -> Hyper:
    """Every number of the optimizer and schedule as a float32 array."""
    tree = {
        "learning_rate": plan.optimizer.learning_rate,
        "clip_norm": plan.optimizer.clip_norm,
        "clip_logits_norm": plan.optimizer.clip_logits_norm,
        "aux_weight": getattr(plan.model, "aux_weight", 0.0),
        "init_scale": plan.init.scale,
        "optimizer": _optimizer_fields(plan)[0],
        "schedule": {"total_steps": total_steps, **plan.schedule_fields},
    }
    return jax.tree.map(np.float32, tree)

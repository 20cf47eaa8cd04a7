"""A checked config becomes the objects that training needs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nanogpt_jax import attention_kernel, interop, models, tokenization
from nanogpt_jax.costs import parameter_count, train_flops_per_token
from nanogpt_jax.data import pipeline
from nanogpt_jax.data.conversations import Chat
from nanogpt_jax.data.corpus import AnyCorpus, BadRecords, Opening
from nanogpt_jax.data.held_out import HeldOut
from nanogpt_jax.data.parts import Part, open_parts, to_learn_from
from nanogpt_jax.data.sources import parse_source
from nanogpt_jax.data.store import open_tokenizer
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.evaluation import Evaluator
from nanogpt_jax.experiment.identity import continue_run, describe_run
from nanogpt_jax.experiment.plan import Plan
from nanogpt_jax.interface import Batch, LanguageModel, ModelShape
from nanogpt_jax.interop import Pretrained
from nanogpt_jax.optim import optimizers
from nanogpt_jax.parallel import Layout, make_layout
from nanogpt_jax.record import Record
from nanogpt_jax.step import Hyper, Recipe, create_state
from nanogpt_jax.tokenization import Tokenizer


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that training needs."""

    plan: Plan
    record: Record
    corpus: AnyCorpus
    parts: tuple[Part, ...]
    tokenizer: Tokenizer
    shape: ModelShape
    recipe: Recipe
    hyper: Hyper
    layout: Layout
    batches: pipeline.Batches
    evaluator: Evaluator
    flops_per_token: float

    @property
    def create(self) -> Any:
        """(hyper, key) -> state 0."""
        return functools.partial(create_state, self.recipe)

    def open_pretrained(self) -> Pretrained | None:
        """The model of transformers that the run starts from, if it does."""
        return open_pretrained(self.plan)

    @property
    def key(self) -> jax.Array:
        """The key that the run starts from."""
        return jax.random.key(self.plan.seed)


def assemble(plan: Plan, workdir: Path, overrides: Sequence[tuple[str, str]]) -> Run:
    """The objects of a run in `workdir`; nothing is written there.

    Raises Mismatch when the directory holds a run with another model, tokenizer or corpus.
    """
    bad = bad_records(plan)
    corpus, chat = open_corpus(plan, bad), chat_of(plan, bad)
    tokenizer = _open_tokenizer(plan, corpus, workdir, bad)
    shape = plan.model.shape(tokenizer.vocab_size)
    model = build_model(plan, tokenizer.vocab_size, training=True)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    record = describe_run(plan, tokenizer, corpus, shape, parameter_count(shapes), overrides)
    record = continue_run(record, plan, workdir)
    layout = make_layout(plan.parallel, model.axes, jax.devices())
    rows = plan.train.batch_size // plan.train.accumulate_steps
    if rows % layout.shards:
        raise ConfigError(
            f"train.batch_size / train.accumulate_steps = {rows} rows are not a multiple of the "
            f"{layout.shards} devices that split a batch: change parallel.data or the batch"
        )
    parts = open_held(plan, corpus, tokenizer, plan.eval.batches, chat)
    return Run(
        plan=plan,
        record=record,
        corpus=corpus,
        parts=parts,
        tokenizer=tokenizer,
        shape=shape,
        recipe=build_recipe(plan, model, tokenizer.vocab_size),
        hyper=build_hyper(plan, record.config["schedule"]["total_steps"]),
        layout=layout,
        batches=pipeline.train_batches(
            parts,
            tokenizer,
            form=plan.data.format,
            window=plan.data.window,
            length=plan.train.seq_len,
            batch_size=plan.train.batch_size,
            val_fraction=plan.data.val_fraction,
            seed=plan.seed,
            prefetch=plan.data.prefetch,
            chat=chat,
            framed=plan.data.bos,
        ),
        evaluator=build_evaluator(
            plan, model, tokenizer, corpus, parts, plan.eval.batches, chat, layout.place_evaluation
        ),
        flops_per_token=train_flops_per_token(shapes, model.axes, shape, plan.train.seq_len),
    )


def bad_records(plan: Plan) -> BadRecords:
    """What the config says about records that cannot be used."""
    return BadRecords(plan.data.max_bad_records if plan.data.on_bad_record == "skip" else 0)


def open_corpus(plan: Plan, bad: BadRecords, source: str = "") -> AnyCorpus:
    """The corpus of a run; `source` says where it lies now, should that have changed."""
    return parse_source(source or plan.data.source, plan.data_fields)(_opening(plan, bad))


def _opening(plan: Plan, bad: BadRecords) -> Opening:
    return Opening(documents=plan.data.format != "stream", bad=bad)


def open_held(
    plan: Plan, corpus: AnyCorpus, tokenizer: Tokenizer, batches: int, chat: Chat | None
) -> tuple[Part, ...]:
    """The tokens of a corpus, with enough held-out ones for `batches` of an evaluation."""
    return open_parts(
        corpus,
        tokenizer,
        plan.data.val_fraction,
        held_out_rows=batches * plan.train.batch_size,
        length=plan.train.seq_len,
        chat=chat,
    )


def chat_of(plan: Plan, bad: BadRecords) -> Chat | None:
    """How conversations are learned, where the config says that documents are some."""
    return Chat(plan.data.loss_on, bad) if plan.data.format == "chat" else None


def begin(plan: Plan, tokenizer: Tokenizer, running: bool) -> list[int]:
    """What stands before a text: BOS, where the run is trained on documents that have it."""
    return [] if running or not plan.data.bos else [tokenizer.bos_id]


def _open_tokenizer(plan: Plan, corpus: AnyCorpus, workdir: Path, bad: BadRecords) -> Tokenizer:
    """The tokenizer that the config names, the run's own, or one that is learned."""
    asked = plan.tokenizer
    if asked.path:
        return tokenization.load(Path(asked.path).expanduser(), asked.special_tokens)
    own = workdir / "tokenizer.json"
    if own.exists():
        return tokenization.load(own)
    if pretrained := open_pretrained(plan):
        return pretrained.tokenizer
    if start := plan.init.run():
        return tokenization.load(start[0], asked.special_tokens)
    if asked.source:
        corpus = parse_source(asked.source)(_opening(plan, bad))
    return open_tokenizer(
        to_learn_from(corpus), asked.kind, asked.vocab_size, plan.data.val_fraction, asked
    )


def open_pretrained(plan: Plan) -> Pretrained | None:
    """The model of transformers that the config starts from; Mismatch if it describes another."""
    if (address := plan.init.pretrained()) is None:
        return None
    if plan.init.optimizer:
        raise ConfigError(
            f"init.optimizer=True with init.from={address}: a model of transformers has no "
            "optimizer's state; init.optimizer=False is required"
        )
    found = interop.open_pretrained(address)
    found.require(plan.model_name, plan.model, plan.tokenizer.special_tokens)
    return found


def build_model(plan: Plan, vocab_size: int, *, training: bool = False) -> LanguageModel:
    """The model, computing in the dtype of the config on this backend.

    Who attends is chosen, and tried, for `training` alone: whoever reads a run reads it anywhere.
    """
    on_cpu, name = jax.default_backend() == "cpu", plan.train.compute_dtype
    if name == "auto":
        name = "float32" if on_cpu else "bfloat16"
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


def _attention_shape(plan: Plan, dtype: str) -> attention_kernel.Shape:
    """What every layer attends with while it is trained."""
    shape = plan.model.shape(1)
    d_head = getattr(plan.model, "d_head", shape.d_model // max(shape.n_head, 1))
    heads = (shape.n_head, shape.n_kv_head, d_head)
    return attention_kernel.Shape(dtype, *heads, plan.train.seq_len)


def _is_split(plan: Plan) -> bool:
    """Whether one program runs over several devices."""
    spread = plan.parallel
    if spread.mode == "pmap":
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
    place: Callable[[Batch], Batch],
) -> Evaluator:
    """The evaluator over `batches` held-out batches, whole documents where those are known."""
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
        place=place,
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
    )


def build_hyper(plan: Plan, total_steps: int) -> Hyper:
    """Every number of the optimizer and schedule as a float32 array."""
    tree = {
        "learning_rate": plan.optimizer.learning_rate,
        "clip_norm": plan.optimizer.clip_norm,
        "clip_logits_norm": plan.optimizer.clip_logits_norm,
        "aux_weight": getattr(plan.model, "aux_weight", 0.0),
        "optimizer": _optimizer_fields(plan)[0],
        "schedule": {"total_steps": total_steps, **plan.schedule_fields},
    }
    return jax.tree.map(np.float32, tree)

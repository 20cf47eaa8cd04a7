"""A checked config becomes the objects that training needs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import jax

from nanogpt_jax import distributed, interop, tokenization
from nanogpt_jax.costs import parameter_count, train_flops_per_token
from nanogpt_jax.data import pipeline
from nanogpt_jax.data.conversations import Chat
from nanogpt_jax.data.corpus import AnyCorpus, BadRecords, Opening
from nanogpt_jax.data.first_words import first_words
from nanogpt_jax.data.parts import Part, open_parts, to_learn_from
from nanogpt_jax.data.sources import parse_source
from nanogpt_jax.data.store import open_tokenizer
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.evaluation import Evaluator
from nanogpt_jax.exact import make_exact_layout
from nanogpt_jax.experiment.building import (
    build_evaluator,
    build_hyper,
    build_model,
    build_recipe,
    compute_dtype,
)
from nanogpt_jax.experiment.identity import continue_run, describe_run
from nanogpt_jax.experiment.plan import Plan
from nanogpt_jax.interface import LanguageModel, ModelShape
from nanogpt_jax.interop import Pretrained
from nanogpt_jax.parallel import Layout, make_layout
from nanogpt_jax.record import LONGEST_OPENING, Record
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


def assemble(
    plan: Plan,
    workdir: Path,
    overrides: Sequence[tuple[str, str]],
    allowed: Collection[str] = (),
    step: int = 0,
) -> Run:
    """The objects of a run in `workdir`, which stands at `step`; nothing is written there.

    Raises Mismatch when the directory holds a run that differs in more than `allowed`.
    """
    bad = bad_records(plan)
    corpus, chat = open_corpus(plan, bad), chat_of(plan, bad)
    tokenizer = _open_tokenizer(plan, corpus, workdir, bad)
    shape = plan.model.shape(tokenizer.vocab_size)
    model = build_model(plan, tokenizer.vocab_size, training=True)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    count, dtype = parameter_count(shapes), compute_dtype(plan)
    record = describe_run(plan, tokenizer, corpus, shape, count, dtype, overrides)
    record = continue_run(record, plan, workdir, allowed, step)
    layout = _make_layout(plan, model)
    rows = plan.train.batch_size // plan.train.accumulate_steps
    if rows % layout.shards:
        raise ConfigError(
            f"train.batch_size / train.accumulate_steps = {rows} rows are not a multiple of the "
            f"{layout.shards} devices that split a batch: change parallel.data or the batch"
        )
    parts = open_held(plan, corpus, tokenizer, plan.eval.batches, chat)
    opening = first_words(parts, tokenizer, chat=chat is not None, most_characters=LONGEST_OPENING)
    record = dataclasses.replace(record, corpus=record.corpus | {"opening": opening})
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
        batches=_train_batches(plan, parts, tokenizer, chat, layout),
        evaluator=build_evaluator(
            plan, model, tokenizer, corpus, parts, plan.eval.batches, chat, layout
        ),
        flops_per_token=train_flops_per_token(shapes, model.axes, shape, plan.train.seq_len),
    )


def assemble_beside(
    run: Run, plan: Plan, workdir: Path, overrides: Sequence[tuple[str, str]], step: int = 0
) -> Run:
    """A run of `plan` in `workdir` that shares with `run` all that is opened and compiled.

    The plans may differ in the seed and in numbers of the optimizer and the schedule alone, which
    is for the caller to see to. Raises as `assemble` does.
    """
    described = describe_run(
        plan,
        run.tokenizer,
        run.corpus,
        run.shape,
        run.record.parameters,
        run.record.compute_dtype,
        overrides,
    )
    described.corpus["opening"] = run.record.corpus["opening"]
    record = continue_run(described, plan, workdir, (), step)
    chat = chat_of(plan, bad_records(plan))
    return dataclasses.replace(
        run,
        plan=plan,
        record=record,
        hyper=build_hyper(plan, record.config["schedule"]["total_steps"]),
        batches=_train_batches(plan, run.parts, run.tokenizer, chat, run.layout),
    )


def _train_batches(
    plan: Plan,
    parts: tuple[Part, ...],
    tokenizer: Tokenizer,
    chat: Chat | None,
    layout: Layout,
) -> pipeline.Batches:
    own = layout.own_rows(plan.train.batch_size)
    return pipeline.train_batches(
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
        share=pipeline.WHOLE if own is None else pipeline.Share(own, distributed.is_first()),
    )


def _make_layout(plan: Plan, model: LanguageModel) -> Layout:
    if plan.parallel.exact:
        return make_exact_layout(plan.parallel, plan.train.accumulate_steps, jax.devices())
    return make_layout(plan.parallel, model.axes, jax.devices())


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


def vocabulary_size(plan: Plan) -> int:
    """Tokens of the vocabulary; where only the corpus can tell, that is read."""
    asked = plan.tokenizer
    if tokenization.tokenizers[asked.kind].alphabet_size and not asked.path:
        return asked.vocab_size
    bad = bad_records(plan)
    return _open_tokenizer(plan, open_corpus(plan, bad), Path(), bad).vocab_size


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

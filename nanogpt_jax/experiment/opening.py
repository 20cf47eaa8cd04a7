"""A run directory becomes the objects that sampling, evaluation and inspection need."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
from absl import logging

from nanogpt_jax import checkpoint, config, record, tokenization
from nanogpt_jax.errors import ConfigError, DataError, Mismatch, NoCheckpoint, TokenizerError
from nanogpt_jax.evaluation import Evaluator
from nanogpt_jax.experiment.assembly import bad_records, chat_of, open_corpus, open_held
from nanogpt_jax.experiment.building import begin, build_evaluator, build_model
from nanogpt_jax.experiment.plan import SCHEMA, Plan, resolve
from nanogpt_jax.interface import LanguageModel, ModelShape, Params
from nanogpt_jax.slots import Proposer
from nanogpt_jax.speculation import DraftModel, PromptLookup
from nanogpt_jax.tokenization import Tokenizer

Build = Callable[[Plan, int], LanguageModel]  # (plan, vocab_size)


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A run directory, opened: enough to sample, evaluate, serve and inspect."""

    plan: Plan
    record: record.Record
    step: int
    tokenizer: Tokenizer
    model: LanguageModel
    params: Params
    shape: ModelShape


def recorded_config(held: record.Record, workdir: Path) -> config.Settings:
    """The config of a run, also of one that is older than some field."""
    settings, added = SCHEMA.complete(held.config)
    if added:
        logging.info(
            "%s is older than %s: their defaults are what was done then",
            workdir / record.NAME,
            ", ".join(added),
        )
    return settings


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """A run directory without any checkpoint: what all of them have in common.

    `build` makes the model; whoever opens many runs hands in one that makes equal models once.
    """

    workdir: Path
    plan: Plan
    record: record.Record
    tokenizer: Tokenizer
    build: Build = build_model

    @functools.cached_property
    def model(self) -> LanguageModel:
        """The model of all checkpoints."""
        return self.build(self.plan, self.tokenizer.vocab_size)

    @functools.cached_property
    def shapes(self) -> Params:
        """What parameters of the model are, on one device."""
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
            jax.eval_shape(self.model.init, jax.random.key(0)),
        )

    def outline(self, step: int) -> Loaded:
        """A checkpoint by its sidecar alone: its parameters are shapes.

        Raises NoCheckpoint where there is none, and Mismatch where it is of another model.
        """
        found = checkpoint.read_sidecar(self.workdir, step).model
        if found != (wanted := self.plan.model.shape(self.tokenizer.vocab_size)):
            raise Mismatch(
                f"checkpoint {step} of {self.workdir} is of {found}, {wanted} is required; it "
                "belongs to another run"
            )
        return Loaded(
            self.plan,
            self.record,
            step,
            self.tokenizer,
            self.model,
            self.shapes,
            self.record.shape,
        )

    def read(self, step: int) -> Loaded:
        """A checkpoint that was verified (`checkpoint.choose`); raises what `outline` does."""
        outline = self.outline(step)
        params = checkpoint.load_params(self.workdir, step, self.shapes)
        return dataclasses.replace(outline, params=params)


def open_run(workdir: Path | str, build: Build = build_model) -> Opened:
    """The run in `workdir`; NoCheckpoint or Mismatch where its files cannot be used."""
    workdir = Path(workdir).expanduser().resolve()
    held = record.read(workdir)
    try:
        plan = resolve(recorded_config(held, workdir))
    except ConfigError as error:
        raise NoCheckpoint(
            f"{workdir / record.NAME} does not fit this version of the code: "
            f"{'; '.join(error.problems)}"
        ) from error
    try:
        tokenizer = tokenization.load(workdir / tokenization.NAME)
    except TokenizerError as error:
        raise NoCheckpoint(f"the tokenizer of this run cannot be used: {error}") from error
    if tokenizer.sha256 != held.tokenizer["sha256"]:
        raise Mismatch(
            f"{workdir}/tokenizer.json is not the tokenizer of this run: "
            f"{tokenizer.sha256[:12]} found, {held.tokenizer['sha256'][:12]} recorded"
        )
    return Opened(workdir, plan, held, tokenizer, build)


def load(workdir: Path | str, step: str = "last", build: Build = build_model) -> Loaded:
    """The run in `workdir` at checkpoint `step` (a number, `last` or `best`)."""
    opened = open_run(workdir, build)
    chosen = checkpoint.choose(opened.workdir, step)
    try:
        return opened.read(chosen)
    except NoCheckpoint:
        if step.isdecimal() or chosen in checkpoint.list_steps(opened.workdir):
            raise
        return load(workdir, step, build)  # pruned while it was read, so there is a newer one


def open_drafts(drafts: str, run: Loaded) -> Proposer | None:
    """The proposer that `--draft` means: `lookup`, the directory of a smaller run, or none.

    Raises Mismatch where that run has another vocabulary or a shorter context.
    """
    if not drafts:
        return None
    if drafts == "lookup":
        return PromptLookup()
    smaller = load(drafts)
    wanted, found = run.shape.max_seq_len, smaller.shape.max_seq_len
    if smaller.tokenizer.sha256 != run.tokenizer.sha256:
        raise Mismatch(
            f"--draft={drafts} has the tokenizer {smaller.tokenizer.sha256[:12]}; that of the run, "
            f"{run.tokenizer.sha256[:12]}, is required: train it with tokenizer.source"
        )
    if found < wanted:
        raise Mismatch(
            f"--draft={drafts} has model.max_seq_len={found}; at least that of the run, {wanted}, "
            "is required"
        )
    if smaller.model.empty_cache is None:
        raise Mismatch(f"--draft={drafts} keeps no cache; a model that does is required")
    return DraftModel(smaller.model, smaller.params, wanted)


def open_evaluator(loaded: Loaded, batches: int, source: str = "") -> Evaluator:
    """The evaluator of a run directory, over `batches` held-out batches.

    A record keeps no folder of this machine, so a corpus that was named by an absolute path is
    looked for here; `source` says where else.
    """
    plan = loaded.plan
    bad = bad_records(plan)
    try:
        corpus = open_corpus(plan, bad, source)
    except DataError as error:
        raise DataError(f"{error}; --source=KIND:ARGUMENT says where the corpus is now") from error
    recorded = loaded.record.corpus["fingerprint"]
    if corpus.fingerprint != recorded:
        raise Mismatch(
            f"{source or plan.data.source} is not the corpus of this run: fingerprint "
            f"{corpus.fingerprint[:12]} found, {recorded[:12]} recorded"
        )
    chat = chat_of(plan, bad)
    parts = open_held(plan, corpus, loaded.tokenizer, batches, chat)
    return build_evaluator(
        plan, loaded.model, loaded.tokenizer, corpus, parts, batches, chat, layout=None
    )


def prompt_tokens(loaded: Loaded, text: str) -> list[int]:
    """The tokens that a generation continues: with BOS where the run was trained on documents.

    Running text has no BOS in it, so there an empty prompt becomes a line break where it can. No
    token stands for a text of documents without BOS of which the tokenizer drops every word.
    """
    tokenizer, running = loaded.tokenizer, loaded.record.corpus["running"]
    if text or not running:
        return [*begin(loaded.plan, tokenizer, running), *map(int, tokenizer.encode(text))]
    newlines = [i for i, token in enumerate(tokenizer.token_bytes) if token == b"\n"]
    return newlines or [tokenizer.bos_id]

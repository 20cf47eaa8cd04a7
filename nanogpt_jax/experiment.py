"""Assembly: from a config to objects, and from a run directory to objects.

The only file that imports every registry. `resolve` checks a config without touching a device or a
file; `assemble` builds what training needs; `load` reads what sampling and evaluation need.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from nanogpt_jax import checkpoint, config, models, record, tokenization
from nanogpt_jax.config import Schema, Section, Settings
from nanogpt_jax.costs import parameter_count, train_flops_per_token
from nanogpt_jax.data import pipeline, sources
from nanogpt_jax.data.corpus import Corpus
from nanogpt_jax.data.store import Store, open_store
from nanogpt_jax.errors import ConfigError, Mismatch
from nanogpt_jax.evaluation import Evaluator
from nanogpt_jax.interface import Batch, LanguageModel, ModelShape, Params
from nanogpt_jax.models import ModelConfig
from nanogpt_jax.optim import optimizers, schedules
from nanogpt_jax.parallel import Layout, make_layout
from nanogpt_jax.registry import Field
from nanogpt_jax.step import Hyper, Recipe, create_state
from nanogpt_jax.tokenization import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """Which model; its own fields are those of the `Config` in its file."""

    name: str = "gpt"


SCHEMA = Schema(
    {
        "data": Section(config.Data, sources.sources, "source", sources.kind_of),
        "tokenizer": Section(config.Tokenizer, tokenization.tokenizers, "kind"),
        "model": Section(Model, models.models),
        "init": Section(config.Init),
        "train": Section(config.Train),
        "optimizer": Section(config.Optimizer, optimizers),
        "schedule": Section(config.Schedule, schedules),
        "eval": Section(config.Eval),
        "checkpoint": Section(config.Checkpoint),
        "log": Section(config.Log),
        "parallel": Section(config.Parallel),
    }
)
default_config = SCHEMA.default


@dataclasses.dataclass(frozen=True)
class Plan:
    """A checked config as frozen values; no device, no file."""

    config: Settings
    seed: int
    data: config.Data
    data_fields: dict[str, Any]
    tokenizer: config.Tokenizer
    model_name: str
    model: ModelConfig
    init: config.Init
    train: config.Train
    optimizer: config.Optimizer
    optimizer_fields: dict[str, Any]
    schedule: config.Schedule
    schedule_fields: dict[str, Any]
    eval: config.Eval
    checkpoint: config.Checkpoint
    log: config.Log
    parallel: config.Parallel

    @property
    def tokens_per_step(self) -> int:
        """Tokens of a batch, all rows full."""
        return self.train.batch_size * self.train.seq_len

    @property
    def steps(self) -> int:
        """Updates in total: `train.steps`, or fewer when `train.max_tokens` ends the run."""
        if not self.train.max_tokens:
            return self.train.steps
        return min(self.train.steps, math.ceil(self.train.max_tokens / self.tokens_per_step))

    @property
    def total_steps(self) -> int:
        """Length of the schedule."""
        return self.schedule.total_steps or self.steps


def load_config(path: str) -> Settings:
    """`get_config(argument)` of the Python file PATH[:ARGUMENT]."""
    return _config_function(path, "get_config")


def load_variants(path: str) -> dict[str, dict[str, Any]]:
    """The runs that a config file compares, as {name: {address: value}}; empty for one run."""
    return _config_function(path, "get_variants", default={})


def _config_function(path: str, name: str, default: Any = None) -> Any:
    file, colon, argument = path.partition(":")
    spec = importlib.util.spec_from_file_location("config_file", file)
    if not Path(file).is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"--config={path}: {file} is no Python file; see configs/")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if function is None and default is None:
        raise ConfigError(f"--config={path}: the file defines no {name}()")
    if function is None:
        return default
    try:
        return function(argument) if colon else function()
    except TypeError as error:
        taken = "takes an argument" if not colon else f"takes no argument {argument!r}"
        raise ConfigError(f"--config={path}: {name}() {taken} ({error})") from error


def resolve(settings: Settings) -> Plan:
    """The frozen values of a config; raises one ConfigError with all problems."""
    problems = SCHEMA.problems(settings)
    if problems:
        raise ConfigError(problems)
    part = functools.partial(SCHEMA.split, settings)
    model_section, model_fields = part("model")
    model = models.models[model_section.name](**model_fields)
    (data, data_fields), (train, _) = part("data"), part("train")
    (optimizer, optimizer_fields), (schedule, schedule_fields) = part("optimizer"), part("schedule")
    plan = Plan(
        config=settings,
        seed=settings.seed,
        data=data,
        data_fields=data_fields,
        tokenizer=part("tokenizer")[0],
        model_name=model_section.name,
        model=model,
        init=part("init")[0],
        train=train,
        optimizer=optimizer,
        optimizer_fields=optimizer_fields,
        schedule=schedule,
        schedule_fields=schedule_fields,
        eval=part("eval")[0],
        checkpoint=part("checkpoint")[0],
        log=part("log")[0],
        parallel=part("parallel")[0],
    )
    problems += model.problems() + _clashes(plan)
    if problems:
        raise ConfigError(problems)
    return plan


def _clashes(plan: Plan) -> list[str]:
    """Problems between sections."""
    found = []
    train, longest = plan.train, plan.model.shape(1).max_seq_len
    if train.seq_len > longest:
        found.append(f"train.seq_len={train.seq_len} is longer than model.max_seq_len={longest}")
    if train.batch_size % train.accumulate_steps:
        found.append(
            f"train.batch_size={train.batch_size} is not a multiple of "
            f"train.accumulate_steps={train.accumulate_steps}"
        )
    if problem := tokenization.problem(plan.tokenizer.kind, plan.tokenizer.vocab_size):
        if not plan.tokenizer.path:
            found.append(problem)
    if train.compute_dtype == "float64" and not jax.config.jax_enable_x64:
        found.append("train.compute_dtype='float64' needs --jax_enable_x64")
    kind, _, argument = plan.data.source.partition(":")
    if not argument:
        found.append(f"data.source={plan.data.source!r}: KIND:ARGUMENT is required ({kind}:...)")
    return found


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that training needs."""

    plan: Plan
    record: record.Record
    corpus: Corpus
    store: Store
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

    @property
    def key(self) -> jax.Array:
        """The key that the run starts from."""
        return jax.random.key(self.plan.seed)


def assemble(plan: Plan, workdir: Path, overrides: list[str]) -> Run:
    """The objects of a run in `workdir`; nothing is written there.

    Raises Mismatch when the directory holds a run with another model, tokenizer or corpus.
    """
    corpus = sources.open_source(
        plan.data.source, plan.data.format == "documents", plan.data_fields
    )
    tokenizer = _tokenizer(plan, corpus, workdir)
    shape = plan.model.shape(tokenizer.vocab_size)
    model = _build_model(plan, tokenizer.vocab_size)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    layout = make_layout(plan.parallel, model.axes, jax.devices())
    rows = plan.train.batch_size // plan.train.accumulate_steps
    if rows % layout.shards:
        raise ConfigError(
            f"train.batch_size / train.accumulate_steps = {rows} rows are not a multiple of the "
            f"{layout.shards} devices that split a batch: change parallel.data or the batch"
        )
    made = record.Record(
        config=config.to_dict(plan.config),
        overrides=overrides,
        git_commit=record.git_commit(),
        versions=record.versions(),
        tokenizer={
            "kind": tokenizer.kind,
            "sha256": tokenizer.sha256,
            "vocab_size": tokenizer.vocab_size,
        },
        corpus={
            "source": corpus.identity,
            "fingerprint": corpus.fingerprint,
            "running": corpus.running,
        },
        model=shape._asdict(),
        parameters=parameter_count(shapes),
    )
    made = _continued(made, workdir)
    store = open_store(corpus, tokenizer, plan.data.val_fraction)
    return Run(
        plan=plan,
        record=made,
        corpus=corpus,
        store=store,
        tokenizer=tokenizer,
        shape=shape,
        recipe=_recipe(plan, model, tokenizer.vocab_size),
        hyper=_hyper(plan, made.config["schedule"]["total_steps"]),
        layout=layout,
        batches=pipeline.train_batches(
            store,
            form=plan.data.format,
            window=plan.data.window,
            length=plan.train.seq_len,
            batch_size=plan.train.batch_size,
            bos_id=tokenizer.bos_id,
            seed=plan.seed,
            prefetch=plan.data.prefetch,
        ),
        evaluator=_evaluator(
            plan, model, tokenizer, corpus, store, plan.eval.batches, layout.place_evaluation
        ),
        flops_per_token=train_flops_per_token(shapes, model.axes, shape, plan.train.seq_len),
    )


def _evaluator(
    plan: Plan,
    model: LanguageModel,
    tokenizer: Tokenizer,
    corpus: Corpus,
    store: Store,
    batches: int,
    place: Callable[[Batch], Batch],
) -> Evaluator:
    held_out = pipeline.HeldOut(
        store,
        documents=corpus.truth is not None or plan.data.format == "documents",
        length=plan.train.seq_len,
        batch_size=plan.train.batch_size,
        rows=batches * plan.train.batch_size,
        bos_id=tokenizer.bos_id,
    )
    return Evaluator(
        model,
        tokenizer,
        held_out,
        context_length=plan.model.shape(tokenizer.vocab_size).max_seq_len,
        truth=corpus.truth,
        samples=plan.eval.samples,
        place=place,
    )


def _tokenizer(plan: Plan, corpus: Corpus, workdir: Path) -> Tokenizer:
    """The run's own tokenizer, the one that the config names, or one trained now."""
    own = workdir / "tokenizer.json"
    if plan.tokenizer.path:
        return tokenization.load(Path(plan.tokenizer.path).expanduser())
    if own.exists():
        return tokenization.load(own)
    train, val = corpus.read(plan.data.val_fraction)
    # An alphabet is no secret of the held-out part; merges are learned without it.
    texts = [*train.texts, *val.texts] if plan.tokenizer.kind == "char" else train.texts
    tokenizer = tokenization.train(plan.tokenizer.kind, texts, plan.tokenizer.vocab_size)
    logging.info("tokenizer trained on %s: %s", corpus.identity, tokenizer.describe())
    return tokenizer


def _continued(made: record.Record, workdir: Path) -> record.Record:
    """`made`, checked against the run that `workdir` holds; its schedule length stays."""
    settings = made.config
    if not (workdir / record.NAME).exists():
        if not settings["schedule"]["total_steps"]:
            settings["schedule"]["total_steps"] = settings["train"]["steps"]
        return made
    held = record.read(workdir)
    differing = [
        f"{name} (run: {_short(theirs)}, asked: {_short(ours)})"
        for name, theirs, ours in _identity(held, made)
        if theirs != ours
    ]
    if differing:
        raise Mismatch(
            f"{workdir} holds another run: {'; '.join(differing)}; "
            "choose another --workdir, or start over with --fresh"
        )
    settings["schedule"]["total_steps"] = held.config["schedule"]["total_steps"]
    return made


def _identity(held: record.Record, made: record.Record) -> list[tuple[str, Any, Any]]:
    """What must not change in a run, as (name, the run's, the one asked for)."""
    named = [
        (f"model.{key}", held.config["model"].get(key), value)
        for key, value in made.config["model"].items()
    ]
    asked = made.config["schedule"]["total_steps"]
    return [
        *named,
        ("tokenizer", held.tokenizer, made.tokenizer),
        ("corpus", held.corpus, made.corpus),
        ("schedule.total_steps", held.config["schedule"]["total_steps"], asked)
        if asked
        else ("schedule.total_steps", 0, 0),
    ]


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(str(part)[:12] for part in value.values())
    return str(value)


def _build_model(plan: Plan, vocab_size: int) -> LanguageModel:
    backend = jax.default_backend()
    name = plan.train.compute_dtype
    if name == "auto":
        name = "float32" if backend == "cpu" else "bfloat16"
    # A compiled loop over layers is up to twice as slow on CPU, and compiles faster elsewhere.
    unroll = None if backend == "cpu" else 1
    return models.build(
        plan.model_name, plan.model, vocab_size, dtype=jnp.dtype(name), unroll=unroll
    )


def _recipe(plan: Plan, model: LanguageModel, vocab_size: int) -> Recipe:
    fields = optimizers.fields(plan.optimizer.name)
    switches = {
        name: value for name, value in plan.optimizer_fields.items() if not _number(fields[name])
    }
    return Recipe(
        model=model,
        vocab_size=vocab_size,
        optimizer=plan.optimizer.name,
        schedule=plan.schedule.name,
        switches=switches,
        accumulate=plan.train.accumulate_steps,
        dropout=getattr(plan.model, "dropout", 0.0) > 0,
    )


def _number(field: Field) -> bool:
    """A float travels as an array; an int, like a name, shapes the program."""
    return field.kind is float


def _hyper(plan: Plan, total_steps: int) -> Hyper:
    """Every number of the optimizer and schedule as a float32 array."""
    fields = optimizers.fields(plan.optimizer.name)
    numbers = {
        name: value for name, value in plan.optimizer_fields.items() if _number(fields[name])
    }
    tree = {
        "learning_rate": plan.optimizer.learning_rate,
        "clip_norm": plan.optimizer.clip_norm,
        "optimizer": numbers,
        "schedule": {"total_steps": total_steps, **plan.schedule_fields},
    }
    return jax.tree.map(np.float32, tree)


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


def load(workdir: Path, step: str = "last") -> Loaded:
    """The run in `workdir` at checkpoint `step` (a number, `last` or `best`)."""
    held = record.read(workdir)
    plan = resolve(config.from_dict(held.config))
    tokenizer = tokenization.load(workdir / "tokenizer.json")
    if tokenizer.sha256 != held.tokenizer["sha256"]:
        raise Mismatch(
            f"{workdir}/tokenizer.json is not the tokenizer of this run: "
            f"{tokenizer.sha256[:12]} found, {held.tokenizer['sha256'][:12]} recorded"
        )
    model = _build_model(plan, tokenizer.vocab_size)
    chosen = checkpoint.choose(workdir, step)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), shapes
    )
    params = checkpoint.load_params(workdir, chosen, abstract)
    return Loaded(plan, held, chosen, tokenizer, model, params, held.shape)


def open_evaluator(loaded: Loaded, batches: int) -> Evaluator:
    """The evaluator of a run directory, over `batches` held-out batches."""
    plan = loaded.plan
    corpus = sources.open_source(
        plan.data.source, plan.data.format == "documents", plan.data_fields
    )
    if corpus.fingerprint != loaded.record.corpus["fingerprint"]:
        raise Mismatch(
            f"{plan.data.source} has changed since this run: fingerprint "
            f"{corpus.fingerprint[:12]} found, {loaded.record.corpus['fingerprint'][:12]} recorded"
        )
    store = open_store(corpus, loaded.tokenizer, plan.data.val_fraction)
    return _evaluator(plan, loaded.model, loaded.tokenizer, corpus, store, batches, jax.device_put)


def prompt_tokens(loaded: Loaded, text: str) -> list[int]:
    """The tokens that a generation continues: with BOS where the run was trained on documents.

    Running text has no BOS in it, so there an empty prompt becomes a line break where it can.
    """
    tokenizer = loaded.tokenizer
    if not loaded.record.corpus["running"]:
        return [tokenizer.bos_id, *map(int, tokenizer.encode(text))]
    if text:
        return [int(token) for token in tokenizer.encode(text)]
    newlines = [i for i, token in enumerate(tokenizer.token_bytes) if token == b"\n"]
    return newlines or [tokenizer.bos_id]

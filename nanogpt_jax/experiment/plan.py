"""What a config says, checked: the schema of all named things, and its frozen values.

Every problem is found here that can be found without a device or a file, and all of them at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Set
from typing import Annotated, Any

import jax

from nanogpt_jax import config, parallel, tokenization
from nanogpt_jax.config import Settings
from nanogpt_jax.data.sources import kind_of, parse_source, sources
from nanogpt_jax.errors import ConfigError
from nanogpt_jax.models import ModelConfig, models
from nanogpt_jax.optim import optimizers, schedules
from nanogpt_jax.optim.optimizer import FITTING_WIDTH
from nanogpt_jax.schema import Schema, Section


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """Which model; its own fields are those of the `Config` in its file."""

    name: Annotated[str, "a file of models/"] = "gpt"


SCHEMA = Schema(
    config.Root,
    {
        "data": Section(config.Data, sources, "source", kind_of),
        "tokenizer": Section(config.Tokenizer, tokenization.tokenizers, "kind"),
        "model": Section(Model, models),
        "init": Section(config.Init),
        "train": Section(config.Train),
        "optimizer": Section(config.Optimizer, optimizers),
        "schedule": Section(config.Schedule, schedules),
        "eval": Section(config.Eval),
        "checkpoint": Section(config.Checkpoint),
        "log": Section(config.Log),
        "profile": Section(config.Profile),
        "parallel": Section(config.Parallel),
    },
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
    profile: config.Profile
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


# No axis of a model is longer: what is beyond is a misprint, or a trap in a run from a stranger.
MOST_SIZE = 2**24


def resolve(settings: Settings, assignments: Iterable[tuple[str, str]] = ()) -> Plan:
    """The frozen values of a config with `(address, text)` assignments on top of it.

    Raises one ConfigError with all problems.
    """
    settings, unread = SCHEMA.override(settings, assignments)
    broken = SCHEMA.problems(settings)
    wrong = {address.partition(".")[0] for address in broken}
    clashes = [
        line
        for line in _clashes(settings, wrong)
        if not any(address in line for address in unread)  # it would clash as it was before
    ]
    if found := [*broken.values(), *unread.values(), *clashes]:
        raise ConfigError(found)
    sections = {name: SCHEMA.split(settings, name) for name in SCHEMA.sections}
    fixed = {name: section for name, (section, _) in sections.items() if name != "model"}
    return Plan(
        config=settings,
        seed=settings.seed,
        model_name=settings.model.name,
        model=_model(settings),
        data_fields=sections["data"][1],
        optimizer_fields=sections["optimizer"][1],
        schedule_fields=sections["schedule"][1],
        **fixed,
    )


def _model(settings: Settings) -> ModelConfig:
    section, own = SCHEMA.split(settings, "model")
    return models[section.name](**own)


def _clashes(settings: Settings, wrong: Set[str]) -> Iterator[str]:
    """Problems between fields, where their sections have no problem of their own."""

    def sound(*sections: str) -> bool:
        return wrong.isdisjoint(sections)

    train, spread = settings.get("train"), settings.get("parallel")
    if sound("model"):
        for name, value in SCHEMA.split(settings, "model")[1].items():
            if isinstance(value, int) and value > MOST_SIZE:
                yield f"model.{name}={value} is more than any machine holds; at most {MOST_SIZE}"
                return
        yield from _model(settings).problems()
    if sound("model", "train"):
        longest = _model(settings).shape(1).max_seq_len
        if train.seq_len > longest:
            yield f"train.seq_len={train.seq_len} is longer than model.max_seq_len={longest}"
    if sound("model", "optimizer") and (base := settings.model.get("mup_base_width", 0)):
        if settings.optimizer.name not in FITTING_WIDTH:
            yield (
                f"optimizer.name={settings.optimizer.name!r} with model.mup_base_width={base}: "
                "its rates do not follow the width as Adam's do; use one of "
                f"{', '.join(FITTING_WIDTH)}, or model.mup_base_width=0"
            )
    if sound("tokenizer") and not settings.tokenizer.path:
        asked = SCHEMA.split(settings, "tokenizer")[0]
        if line := tokenization.problem(asked.kind, asked.vocab_size, asked):
            yield line
    if sound("data"):
        try:
            parse_source(settings.data.source, SCHEMA.split(settings, "data")[1])
        except ConfigError as error:
            yield from error.problems
        if not settings.data.bos and settings.data.format != "documents":
            yield (
                f"data.bos=False with data.format={settings.data.format!r}: only a document of "
                "data.format=documents can stand without BOS"
            )
    if sound("tokenizer") and settings.tokenizer.source:
        try:
            parse_source(settings.tokenizer.source)
        except ConfigError as error:
            yield from (f"tokenizer.source: {problem}" for problem in error.problems)
    if sound("init") and settings.init.optimizer and not settings.init["from"]:
        yield "init.optimizer=True needs init.from, the run whose optimizer it is"
    in_float64 = sound("train") and train.compute_dtype == "float64"
    if in_float64 and not jax.config.read("jax_enable_x64"):
        yield "train.compute_dtype='float64' needs --jax_enable_x64"
    if sound("profile", "train"):
        profile = settings.profile
        if profile.steps and profile.start > train.steps:
            yield (
                f"profile.start={profile.start} is beyond train.steps={train.steps}: nothing would "
                "be traced; start earlier, or profile.steps=0 traces nothing"
            )
    if sound("train") and train.attention == "cudnn":
        if train.compute_dtype in ("float32", "float64"):
            yield (
                f"train.attention='cudnn' with train.compute_dtype={train.compute_dtype!r}: cuDNN "
                "attends in bfloat16 or float16; use train.attention=auto"
            )
        if sound("model") and (share := settings.model.get("dropout", 0.0)):
            yield (
                f"train.attention='cudnn' with model.dropout={share}: dropped probabilities are "
                "our own code's; use train.attention=auto, or model.dropout=0"
            )
    if sound("parallel"):
        yield from parallel.problems(SCHEMA.split(settings, "parallel")[0])
    if sound("train") and train.batch_size % train.accumulate_steps:
        yield (
            f"train.batch_size={train.batch_size} is not a multiple of "
            f"train.accumulate_steps={train.accumulate_steps}"
        )
    elif sound("train", "parallel") and spread.exact:
        if train.accumulate_steps % max(spread.data, 1):
            yield parallel.undealt(train.accumulate_steps, spread.data)
    elif sound("train", "parallel"):
        # -1 is known only with the devices; what it is multiplied with must divide all the same.
        shards = max(spread.data, 1) * max(spread.fsdp, 1)
        if (rows := train.batch_size // train.accumulate_steps) % shards:
            yield (
                f"train.batch_size / train.accumulate_steps = {rows} rows are not a multiple of "
                f"the {shards} devices of parallel.data={spread.data}, "
                f"parallel.fsdp={spread.fsdp}"
            )

"""A run's config: every knob at one address, with its type, default, meaning and rules.

Here are the sections that are the same whatever the names in them, and the config as a tree, as
{address: value} and as JSON values. schema.py adds the fields of named things; nothing here builds
an object or touches a device or a file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from ml_collections import ConfigDict

from nanogpt_jax import tokenization
from nanogpt_jax.registry import Rule, fraction, non_negative, positive, seed_range

# A ConfigDict: its attributes are decided at run time, so no type checker knows them.
Settings = Any
Count = Annotated[int, non_negative]
PositiveCount = Annotated[int, positive]
Devices = Annotated[
    int, Rule("be at least 1, or -1 for the devices left", lambda value: value >= 1 or value == -1)
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Root:
    """Knobs above all sections."""

    seed: Annotated[int, "seed of initialisation, batches and dropout", seed_range] = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """What is trained on, and how it becomes batches."""

    source: Annotated[str, "KIND:ARGUMENT, such as bundled:tales or text:PATH"] = "bundled:tales"
    val_fraction: Annotated[float, "last share of the corpus, held out", fraction] = 0.1
    format: Annotated[
        Literal["stream", "packed", "documents", "chat"],
        "stream: windows of running text; packed: whole documents side by side; documents: one a "
        "row, padded; chat: likewise, of conversations",
    ] = "stream"
    loss_on: Annotated[
        Literal["all", "assistant"], "of a conversation, what is learned: all, or what is answered"
    ] = "assistant"
    bos: Annotated[
        bool, "documents stand between <|bos|>; false: the last token of each is its own end"
    ] = True
    window: Annotated[
        Literal["random", "sequential", "shuffled"], "order of windows, or of documents"
    ] = "random"
    on_bad_record: Annotated[
        Literal["fail", "skip"],
        "what a record that cannot be read does: end the run, or be left out",
    ] = "fail"
    max_bad_records: Annotated[Count, "most records that skip leaves out"] = 1000
    prefetch: Annotated[Count, "batches made ahead by a thread; 0 = inline"] = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokenizer(tokenization.Options):
    """How text becomes tokens; a tokenizer that is given keeps to what it was trained with."""

    kind: Annotated[str, "char, bpe or word"] = "char"
    path: Annotated[str, "a tokenizer.json to use, or its folder; empty = train one"] = ""
    source: Annotated[
        str, "what one that is trained learns from, written as data.source is; empty = that"
    ] = ""
    vocab_size: Annotated[PositiveCount, "tokens of a bpe tokenizer that is trained"] = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Init:
    """Where parameters start."""

    from_: Annotated[
        str,
        "whose parameters to start from: a run directory, DIRECTORY:STEP, or of transformers "
        "hf:FOLDER or hf://ORGANISATION/NAME[@REVISION]; empty = random",
    ] = ""
    optimizer: Annotated[bool, "start from its optimizer's state too"] = False
    scale: Annotated[float, "factor of all random matrices, embedding and head too", positive] = 1.0

    def run(self) -> tuple[Path, str] | None:
        """The run directory and the step to start from, if any."""
        if not self.from_ or self.pretrained():
            return None
        folder, colon, step = self.from_.rpartition(":")
        if not colon or not (step.isdecimal() or step in ("last", "best")):
            folder, step = self.from_, "last"
        return Path(folder).expanduser().resolve(), step

    def pretrained(self) -> str | None:
        """The address of the model of transformers to start from, if any."""
        return self.from_ if self.from_.startswith("hf:") else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Budget and shape of training; the first budget that is spent ends the run."""

    steps: Annotated[Count, "updates in total, counted from the first start"] = 1000
    max_tokens: Annotated[Count, "end after so many tokens; 0 = no such limit"] = 0
    max_seconds: Annotated[
        float, "end after so long in this process; 0 = no limit", non_negative
    ] = 0.0
    batch_size: Annotated[PositiveCount, "rows of a batch, all devices together"] = 32
    seq_len: Annotated[PositiveCount, "tokens of a row"] = 128
    accumulate_steps: Annotated[PositiveCount, "micro-shards of a batch, one after the other"] = 1
    compute_dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16", "float64"],
        "of activations; auto = float32 on CPU, bfloat16 on GPU and TPU",
    ] = "auto"
    attention: Annotated[
        Literal["auto", "own", "cudnn"],
        "who attends: cuDNN, our own code, or auto = cuDNN where a trial shows that it can (GPU)",
    ] = "auto"
    on_nonfinite: Annotated[
        Literal["stop", "skip"],
        "what a loss or gradient that is not finite does: end the run, or leave out its update",
    ] = "stop"
    max_skipped: Annotated[PositiveCount, "most updates in a row that skip leaves out"] = 10
    hang_seconds: Annotated[
        float,
        "end after so long without a step, an evaluation or a save, each with what it has to "
        "compile; 0 = wait for ever",
        non_negative,
    ] = 1800.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """What every optimizer shares."""

    name: Annotated[str, "a function of optim/optimizer.py"] = "adamw"
    learning_rate: Annotated[float, "rate where the schedule's factor is 1", positive] = 1e-3
    clip_norm: Annotated[float, "largest global norm of a gradient; 0 = off", non_negative] = 1.0
    clip_logits_norm: Annotated[
        float,
        "largest norm of the gradient that a row's mean loss sends into its logits; 0 = off",
        non_negative,
    ] = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """What every schedule shares."""

    name: Annotated[str, "a function of optim/schedule.py"] = "warmup_cosine"
    total_steps: Annotated[
        Count, "length of the schedule; 0 = the steps of the first start that has any"
    ] = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval:
    """When and on how much a run is evaluated."""

    every_steps: Annotated[Count, "between evaluations; 0 = at the end only"] = 100
    batches: Annotated[PositiveCount, "of train.batch_size rows, the same every time"] = 8
    answers: Annotated[
        Count, "held-out conversations whose last answer must be exactly right; 0 = none"
    ] = 0
    samples: Annotated[
        Count, "documents sampled and judged, where the corpus can judge them; 0 = none"
    ] = 64
    prompt: Annotated[
        str, "what is continued greedily at every evaluation; empty = a sample is drawn"
    ] = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """When the state is saved, and what is kept."""

    every_steps: Annotated[Count, "between full saves; 0 = at the end only"] = 250
    keep: Annotated[PositiveCount, "newest full saves kept"] = 3
    milestones: Annotated[Count, "log-spaced steps whose parameters are kept for good"] = 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Log:
    """What is written down."""

    every_steps: Annotated[PositiveCount, "between lines of training metrics"] = 10
    layers_every_steps: Annotated[
        Count, "between looks into every layer, see docs/profiling.md; 0 = off"
    ] = 0
    tracker: Annotated[Literal["none", "wandb", "trackio"], "a service beside the files"] = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """Which updates are traced, into <run>/profile; see docs/profiling.md."""

    start: Annotated[PositiveCount, "first update traced; the first of all compiles"] = 10
    steps: Annotated[Count, "updates traced; 0 = none"] = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parallel:
    """How a step is spread over devices; one size may be -1 and takes the devices that are left."""

    mode: Annotated[Literal["jit", "pmap"], "one program over a mesh, or one per device"] = "jit"
    data: Annotated[Devices, "devices that split the batch"] = -1
    fsdp: Annotated[Devices, "devices that split batch and parameters"] = 1
    tensor: Annotated[Devices, "devices that split heads, hidden units and vocabulary"] = 1
    exact: Annotated[
        bool,
        "the same bits on any number of devices: train.accumulate_steps micro-shards are dealt to "
        "them, see docs/reliability.md",
    ] = False


def to_dict(config: Settings) -> dict[str, Any]:
    """The config as plain dictionaries."""
    return {
        name: dict(value.items()) if isinstance(value, ConfigDict) else value
        for name, value in config.items()
    }


def from_dict(values: Mapping[str, Any]) -> Settings:
    """The locked config that `to_dict` wrote."""
    return ConfigDict(dict(values)).lock()


def flatten(config: Settings) -> dict[str, Any]:
    """The config as {address: value}."""
    flat: dict[str, Any] = {}
    for name, value in to_dict(config).items():
        inside = isinstance(value, dict)
        flat |= {f"{name}.{key}": each for key, each in value.items()} if inside else {name: value}
    return flat

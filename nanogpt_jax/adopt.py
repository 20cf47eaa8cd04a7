"""Make a run directory of a model of transformers: to sample, chat, inspect, tune or export it.

python -m nanogpt_jax.adopt --model=hf:FOLDER --workdir=DIR [--max_seq_len=N]
python -m nanogpt_jax.adopt --model=hf://openai-community/gpt2 --workdir=checkpoints/gpt2

Nothing is trained, and the corpus is not known: the run says so, and cannot be evaluated. Training
that starts from it names it in init.from, as it does any run.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from nanogpt_jax import checkpoint, cli, experiment, record
from nanogpt_jax.costs import parameter_count
from nanogpt_jax.data.corpus import Corpus, Parts
from nanogpt_jax.errors import ConfigError, DataError
from nanogpt_jax.experiment.building import build_model, compute_dtype
from nanogpt_jax.experiment.identity import describe_run
from nanogpt_jax.interop import Pretrained, open_pretrained
from nanogpt_jax.registry import non_negative
from nanogpt_jax.state import TrainState


def main(
    *,
    model: Annotated[str, "hf:FOLDER or hf://ORGANISATION/NAME[@REVISION]"],
    workdir: cli.Workdir,
    max_seq_len: Annotated[int, "longest context; 0 = the model's own", non_negative] = 0,
) -> None:
    """Writes the run directory, its parameters as checkpoint 0."""
    cli.quiet()
    if (workdir / record.NAME).exists():
        raise ConfigError(f"{workdir} holds a run already; choose another --workdir")
    pretrained = open_pretrained(model)
    plan = plan_of(pretrained, max_seq_len)
    tokenizer = pretrained.tokenizer
    built = build_model(plan, tokenizer.vocab_size)
    params = pretrained.params(built)
    shape, source = plan.model.shape(tokenizer.vocab_size), record.without_folders(model)
    # A prompt begins with <|bos|> where the model's own tokenizer begins a text so.
    corpus = Corpus(source, fingerprint="unknown", running=not pretrained.opens, read=refuse)
    count, dtype = parameter_count(params), compute_dtype(plan)
    held = describe_run(plan, tokenizer, corpus, shape, count, dtype, [])
    state = TrainState(jnp.zeros((), jnp.int32), params, (), jax.random.key(plan.seed))
    with (
        checkpoint.lock_run(workdir),
        checkpoint.Checkpoints(
            workdir, keep=1, milestone_steps=(0,), model=shape, tokenizer_sha256=tokenizer.sha256
        ) as checkpoints,
    ):
        tokenizer.save(workdir / "tokenizer.json")
        held.save(workdir)
        checkpoints.save(0, state, {}, kind="milestone", tokens_seen=0, metrics={})
    print(f"{workdir}: {pretrained.family.architecture}, {held.parameters:,} parameters")


def plan_of(pretrained: Pretrained, max_seq_len: int) -> experiment.Plan:
    """A config with the model's fields, and defaults elsewhere; Mismatch for a longer context."""
    config = pretrained.config
    if max_seq_len:
        config = dataclasses.replace(config, max_seq_len=max_seq_len)
        pretrained.require("gpt", config)
    settings = experiment.default_config(model="gpt")
    settings.init["from"] = pretrained.address
    settings.model.update(dataclasses.asdict(config))
    settings.tokenizer.kind = pretrained.tokenizer.kind
    settings.train.steps = 0
    settings.train.seq_len = min(settings.train.seq_len, config.max_seq_len)
    return experiment.resolve(settings)


def refuse(val_fraction: float) -> Parts:
    """The corpus, which nobody has."""
    del val_fraction
    raise DataError("what a model of transformers was trained on is not known here")


if __name__ == "__main__":
    cli.run(main, __doc__)

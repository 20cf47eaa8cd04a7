"""A config as a tree, as {address: value} and as JSON values; each can be made from another."""

import dataclasses
import json

import pytest

from nanogpt_jax import config
from nanogpt_jax.config import flatten, from_dict, to_dict
from nanogpt_jax.experiment import default_config
from nanogpt_jax.registry import fields_of

SECTIONS = [
    each
    for each in vars(config).values()
    if isinstance(each, type) and each.__module__ == config.__name__
]
# The addresses that people may rely on; a section may have more.
KEPT = """
    seed data.source data.val_fraction data.window data.format data.prefetch tokenizer.kind
    tokenizer.path tokenizer.vocab_size model.name model.n_layer model.n_head model.n_kv_head
    model.d_model model.d_hidden model.max_seq_len init.from train.steps train.batch_size
    train.seq_len train.accumulate_steps train.compute_dtype train.max_tokens train.max_seconds
    optimizer.name optimizer.learning_rate optimizer.weight_decay optimizer.clip_norm
    schedule.name schedule.total_steps schedule.warmup_steps schedule.min_ratio eval.every_steps
    eval.batches checkpoint.every_steps checkpoint.keep checkpoint.milestones log.every_steps
    log.tracker parallel.mode parallel.data parallel.fsdp parallel.tensor
"""


def test_a_config_keeps_its_addresses():
    assert set(KEPT.split()) <= flatten(default_config()).keys()


def test_a_config_survives_json():
    made = default_config(model="gpt", optimizer="muon")
    values = json.loads(json.dumps(to_dict(made)))
    again = from_dict(values)
    assert again is not made and again == made and again.is_locked
    assert list(flatten(again)) == list(flatten(made))


def test_a_flat_config_has_every_value_at_its_address():
    values = {"seed": 3, "train": {"steps": 5, "seq_len": 7}}
    assert flatten(from_dict(values)) == {"seed": 3, "train.steps": 5, "train.seq_len": 7}
    assert flatten(values) == flatten(from_dict(values))


def test_a_locked_config_refuses_a_name_that_is_no_field():
    with pytest.raises(AttributeError, match="n_layer"):
        default_config().model.n_layers = 3


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_a_section_is_frozen_and_its_defaults_keep_their_own_rules(section):
    assert section.__doc__
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(section(), dataclasses.fields(section)[0].name, None)
    for name, field in fields_of(section).items():
        assert field.meaning, f"{section.__name__}.{name} does not say what it means"
        assert field.problem(name, field.default) is None

"""From flags to a plan: what is wrong is told first, and whole."""

import os
import subprocess
import sys
from typing import Any

import pytest

from nanogpt_jax import cli, experiment, main
from nanogpt_jax.config import flatten
from nanogpt_jax.errors import ConfigError
from tests.experiment.tiny import REPOSITORY, TINY


def problems_of(*words: str) -> list[str]:
    """What the main command says to `words`; flags come first, as on any command line."""
    with pytest.raises(ConfigError) as told:
        cli.bind(main.main, [f"--config={TINY}", "--workdir=run", *words])()
    return told.value.problems


PROBLEMS = {
    "train.stesp=1": "config.train.stesp is not a field; did you mean 'train.steps'?",
    "trian.steps=1": "config.trian.steps is not a field; did you mean 'train.steps'?",
    "train=1": "config.train is not a field; did you mean 'train.steps'?",
    "train.steps=many": "train.steps='many': a value of type int is required",
    "train.steps=1.5": "train.steps='1.5': a value of type int is required",
    "train.steps": "train.steps='true': a value of type int is required",
    "model.bias=perhaps": "model.bias='perhaps': a value of type bool is required",
    "model.norm=rsm": "model.norm='rsm' is not known; did you mean 'rms'?",
    "log.tracker=x": "log.tracker='x' is not known; known: none, trackio, wandb",
    "train.batch_size=0": "train.batch_size=0 must be greater than 0",
    "optimizer.learning_rate=nan": "optimizer.learning_rate=nan: a finite number is required",
    "data.val_fraction=1.5": "data.val_fraction=1.5 must lie between 0 and 1",
    "seed=-1": "seed=-1 must be at least 0 and below 2**32",
    "model.name=gtp": "model.name='gtp' is not known; did you mean 'gpt'?",
    "optimizer.name=adanw": "optimizer.name='adanw' is not known; did you mean 'adamw'?",
    "schedule.name=cosine": "schedule.name='cosine' is not known; did you mean 'warmup_cosine'?",
    "data.source=txt:a": "data.source='txt' is not known; did you mean 'text'?",
    "tokenizer.kind=bp": "tokenizer.kind='bp' is not known; did you mean 'bpe'?",
    "data.source=text:": ("data.source='text' has no argument; text:PATH is required"),
    "model.d_model=130": "model.d_model=130 is not a multiple of model.n_head=4",
    "model.n_kv_head=3": "model.n_head=4 is not a multiple of model.n_kv_head=3",
    "train.seq_len=65": "train.seq_len=65 is longer than model.max_seq_len=64",
    "train.accumulate_steps=3": (
        "train.batch_size=8 is not a multiple of train.accumulate_steps=3"
    ),
    "train.compute_dtype=float64": "train.compute_dtype='float64' needs --jax_enable_x64",
    "parallel.data=0": "parallel.data=0 must be at least 1, or -1 for the devices left",
    "parallel.data=3": (
        "train.batch_size / train.accumulate_steps = 8 rows are not a multiple of the 3 devices "
        "of parallel.data=3, parallel.fsdp=1"
    ),
}


@pytest.mark.parametrize("word, line", PROBLEMS.items(), ids=PROBLEMS)
def test_a_wrong_override_is_one_line_before_a_device_or_a_file_is_touched(word, line, untouched):
    assert problems_of(f"--config.{word}") == [line]


@pytest.mark.parametrize(
    "words",
    [
        ("--config.parallel.mode=pmap", "--config.parallel.fsdp=2"),
        ("--config.parallel.mode=pmap", "--config.parallel.tensor", "2"),
        ("--config.parallel.fsdp", "-1"),
    ],
)
def test_a_layout_that_no_devices_can_fulfil_is_refused_without_asking_them(words, untouched):
    (line,) = problems_of(*words)
    assert "parallel.mode='pmap' splits the batch only" in line or "at most one is -1" in line


def test_a_vocabulary_below_the_bytes_is_refused(untouched):
    words = ("--config.tokenizer.kind=bpe", "--config.tokenizer.vocab_size=100")
    (line,) = problems_of(*words)
    assert line.startswith("tokenizer.vocab_size=100 must be at least 257")
    # A tokenizer that is given is not trained, so its size is its own.
    assert resolved(*words, "--config.tokenizer.path=a.json").tokenizer.path == "a.json"


def test_all_problems_are_told_at_once(untouched):
    words = ("modle.n_layer=2", "model.n_layer=x", "model.d_model=130", "train.batch_size=0")
    words += ("train.seq_len=100", "optimizer.name=adanw", "parallel.data=2", "data.source=text:")
    assert problems_of(*(f"--config.{word}" for word in words)) == [
        "train.batch_size=0 must be greater than 0",
        "optimizer.name='adanw' is not known; did you mean 'adamw'?",
        "config.modle.n_layer is not a field; did you mean 'model.n_layer'?",
        "model.n_layer='x': a value of type int is required",
        "model.d_model=130 is not a multiple of model.n_head=4",
        PROBLEMS["data.source=text:"],
    ]


def test_what_could_not_be_read_does_not_clash_as_it_was_before(untouched):
    lines = problems_of("--config.model.d_model=130", "--config.model.n_head=x")
    assert lines == ["model.n_head='x': a value of type int is required"]


def test_a_choice_that_contradicts_itself_is_refused(untouched):
    (line,) = problems_of("--fresh", "--require_checkpoint")
    assert "--fresh and --require_checkpoint contradict each other" in line


def test_without_a_config_the_command_says_where_they_are(untouched):
    with pytest.raises(ConfigError) as told:
        cli.bind(main.main, ["--wrokdir=x"])
    assert told.value.problems == [
        "flag='--wrokdir' is not known; did you mean '--workdir'?",
        "--config needs a value: config file, PATH[:ARGUMENT]; see configs/",
    ]


def test_as_a_process_wrong_input_ends_with_code_2_and_starts_no_backend(tmp_path):
    """There is no backend of that name, so whatever starts one fails otherwise."""
    words = ["--config.train.stesp=1", "--config.model.name=gtp", f"--workdir={tmp_path / 'run'}"]
    ended = subprocess.run(
        [sys.executable, "-m", "nanogpt_jax.main", f"--config={TINY}", *words],
        cwd=REPOSITORY,
        env=os.environ | {"JAX_PLATFORMS": "nonsense"},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert ended.stderr.splitlines() == [
        f"error: {PROBLEMS['model.name=gtp']}",
        f"error: {PROBLEMS['train.stesp=1']}",
    ]


def resolved(*words: str) -> experiment.Plan:
    """The plan of configs/tiny.py with the overrides that `words` write."""
    given: Any = cli.bind(main.main, [f"--config={TINY}", *words])
    settings = experiment.load_config(given.keywords["config"])
    return experiment.resolve(settings, given.keywords["overrides"])


@pytest.mark.parametrize("turned", [False, True])
def test_another_name_brings_its_own_fields_whatever_the_order_of_flags(turned, untouched):
    words = ["--config.optimizer.name=lion", "--config.optimizer.b1=0.8"]
    words += ["--config.model.name=embedding", "--config.model.d_model", "32"]
    plan = resolved(*(reversed_pairs(words) if turned else words))
    assert plan.optimizer_fields == {"b1": 0.8, "b2": 0.99, "weight_decay": 0.1}
    assert plan.optimizer.learning_rate == 3e-3  # shared by all optimizers, so it stays
    names = {name for name in flatten(plan.config) if name.startswith("model.")}
    assert names == {"model.name", "model.d_model", "model.max_seq_len", "model.bias"}
    assert (plan.model_name, plan.config.model.d_model) == ("embedding", 32)


def reversed_pairs(words: list[str]) -> list[str]:
    """The flags in the other order, each still before its value."""
    return [*words[2:], *words[1::-1]]


def test_flags_may_be_written_in_each_of_absls_ways(untouched):
    plan = resolved(
        "--config.train.steps", "1e3", "--config.model.bias", "--noconfig.model.embed_norm",
        "--config.init.from=a/run", "--config.parallel.data", "-1", "--config.model.norm_gain=true",
    )  # fmt: skip
    assert plan.train.steps == 1000 and isinstance(plan.train.steps, int)
    assert plan.config.model.bias is True and plan.config.model.embed_norm is False
    assert plan.config.model.norm_gain is True
    assert plan.init.from_ == "a/run" and plan.config.init["from"] == "a/run"
    assert plan.parallel.data == -1


def test_a_budget_of_tokens_ends_the_steps_and_the_schedule(untouched):
    plan = resolved("--config.train.max_tokens=5000")
    assert plan.tokens_per_step == 512
    assert (plan.train.steps, plan.steps, plan.total_steps) == (100, 10, 10)
    assert resolved("--config.schedule.total_steps=7").total_steps == 7

"""From a config to objects, and from a run directory; what is wrong is told first, and whole."""

import getpass
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from nanogpt_jax import cli, experiment, main, record, train
from nanogpt_jax.config import flatten
from nanogpt_jax.errors import ConfigError, DataError, Mismatch, NoCheckpoint

REPOSITORY = Path(__file__).resolve().parents[1]
TINY = REPOSITORY / "configs/tiny.py"


@pytest.fixture
def untouched(monkeypatch, tmp_path):
    """A working directory that stays empty, on a machine whose devices nobody asks for."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a device was asked for")

    for name in ("devices", "local_devices", "device_count", "default_backend"):
        monkeypatch.setattr(jax, name, refuse)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


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


HEAD = "from nanogpt_jax.experiment import default_config\n"
FILES = {
    "def get_config(:": "b.py, line 2: SyntaxError: ",
    "1 / 0": "b.py, line 2: ZeroDivisionError: division by zero",
    "import no_such_module": "b.py, line 2: ModuleNotFoundError: No module named 'no_such_module'",
    "x = 1": "the file defines no get_config()",
    "def get_config(): return 3": "must return a ConfigDict",
    "def get_config():\n    return default_config(model='gtp')": (
        "b.py, line 3: ConfigError: model.name='gtp' is not known; did you mean 'gpt'?"
    ),
    "def get_config():\n    c = default_config()\n    c.model.n_layers = 3\n    return c": (
        "b.py, line 4: AttributeError: "
    ),
    "def get_config():\n    c = default_config()\n    c.train.steps = 'x'\n    return c": (
        "b.py, line 4: TypeError: "
    ),
    "def get_config(size): return 3": "the arguments of get_config() are: size",
}


@pytest.mark.parametrize("text, told", FILES.items(), ids=range(len(FILES)))
def test_a_config_file_that_fails_is_told_in_one_line_with_its_place(text, told, tmp_path):
    path = tmp_path / "b.py"
    path.write_text(HEAD + text + "\n")
    with pytest.raises(ConfigError) as raised:
        experiment.load_config(str(path))
    (line,) = raised.value.problems
    assert told in line and "\n" not in line


def test_a_config_file_takes_its_argument_after_a_colon(tmp_path):
    path = tmp_path / "b.py"
    path.write_text(
        f"{HEAD}def get_config(size='1'):\n    c = default_config()\n    c.seed = int(size)\n"
        "    return c\n"
    )
    assert experiment.load_config(str(path)).seed == 1
    assert experiment.load_config(f"{path}:7").seed == 7
    assert experiment.load_variants(str(path)) == {}
    with pytest.raises(ConfigError, match="line 4: ValueError: invalid literal for int"):
        experiment.load_config(f"{path}:x")
    with pytest.raises(ConfigError, match=r"gives the argument '7', the arguments of .* are: none"):
        experiment.load_config(f"{TINY}:7")


@pytest.mark.parametrize("path", ["missing.py", "configs", "pyproject.toml"])
def test_what_is_no_config_file_is_refused(path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(ConfigError, match=rf"--config={path}: {path} is no Python file; see conf"):
        experiment.load_config(path)


def test_another_source_in_a_config_file_is_told_how_to_write_it(tmp_path):
    config = experiment.default_config()
    config.data.source = "text:a.txt"
    with pytest.raises(ConfigError, match=r"start from default_config\(data='text:a.txt'\)"):
        experiment.resolve(config)
    experiment.resolve(experiment.default_config(data="text:a.txt"))


TEXT = "the cat sat on the mat.\nthe dog ate the hat.\n" * 40
WORDS = (
    "model.name=embedding", "model.d_model=8", "model.max_seq_len=16", "train.seq_len=16",
    "train.steps=2", "train.batch_size=4", "eval.every_steps=0", "eval.batches=1",
    "checkpoint.every_steps=0", "checkpoint.milestones=0", "data.prefetch=0",
    "optimizer.name=sgd", "schedule.name=constant",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with `run`, a run of two steps, and the corpus that it was trained on."""
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "corpus.txt").write_text(TEXT)
    (folder / "other.txt").write_text(TEXT.replace("cat", "hat"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOGPT_CACHE", str(folder / "cache"))
        plan, overrides = planned(folder)
        train.train(plan, folder / "run", overrides)
        yield folder


def planned(folder: Path, *words: str) -> tuple[experiment.Plan, list[tuple[str, str]]]:
    """The plan of the run in `folder`, with changes."""
    words = (*WORDS, f"data.source=text:{folder}/corpus.txt", *words)
    pairs = [(word.partition("=")[0], word.partition("=")[2]) for word in words]
    return experiment.resolve(experiment.load_config(str(TINY)), pairs), pairs


def test_a_record_names_no_folder_user_or_host(folder):
    text = (folder / "run/run.json").read_text()
    values = json.loads(text)
    assert values["config"]["data"]["source"] == "text:corpus.txt"
    assert "data.source=text:corpus.txt" in values["overrides"]
    assert values["corpus"]["source"] == "text:corpus.txt" and values["corpus"]["running"]
    for secret in (str(folder), str(Path.home()), socket.gethostname(), f"/{getpass.getuser()}"):
        assert secret not in text
    assert values["config"]["schedule"]["total_steps"] == 2
    assert values["parameters"] == 2 * 8 * values["model"]["vocab_size"]


@pytest.mark.parametrize(
    "word, told",
    [
        ("model.d_model=16", "model.d_model (run: 8, asked: 16)"),
        ("model.name=single_head", "model.name (run: embedding, asked: single_head)"),
        ("tokenizer.kind=bpe", "tokenizer.kind (run: char, asked: bpe)"),
        ("tokenizer.vocab_size=300", "tokenizer.vocab_size (run: 1024, asked: 300)"),
        ("tokenizer.path={folder}/other.json", "tokenizer (run: char "),
        ("data.source=text:{folder}/other.txt", "corpus (run: text:corpus.txt "),
        ("data.val_fraction=0.2", "data.val_fraction (run: 0.1, asked: 0.2)"),
        ("data.format=documents", "data.format (run: stream, asked: documents)"),
        ("schedule.total_steps=9", "schedule.total_steps (run: 2, asked: 9)"),
    ],
)
def test_a_run_does_not_go_on_as_another(word, told, folder):
    experiment.load(folder / "run").tokenizer.train(["abc"], 0).save(folder / "other.json")
    plan, overrides = planned(folder, word.format(folder=folder))
    with pytest.raises(Mismatch) as raised:
        experiment.assemble(plan, folder / "run", overrides)
    assert told in str(raised.value)
    assert str(folder / "run") in str(raised.value) and "choose another --workdir" in str(
        raised.value
    )


@pytest.mark.parametrize(
    "word", ["train.steps=9", "optimizer.learning_rate=0.1", "schedule.total_steps=2", "seed=5"]
)
def test_a_run_goes_on_with_other_numbers_and_the_schedule_of_its_first_start(word, folder):
    plan, overrides = planned(folder, word)
    run = experiment.assemble(plan, folder / "run", overrides)
    assert flatten(run.record.config)["schedule.total_steps"] == 2
    assert run.hyper["schedule"]["total_steps"] == 2
    assert run.record.overrides[-1] == word


@pytest.mark.parametrize("length", [0, 7])
def test_a_run_of_no_steps_goes_on_as_if_started_with_those_asked_for(length, folder, tmp_path):
    workdir, asked = tmp_path / "run", f"schedule.total_steps={length}"
    train.train(planned(folder, "train.steps=0")[0], workdir)
    assert record.read(workdir).config["schedule"]["total_steps"] == 0
    plan, overrides = planned(folder, "train.steps=2", asked)
    resumed = experiment.assemble(plan, workdir, overrides)
    started = experiment.assemble(plan, tmp_path / "new", overrides)
    assert resumed.hyper["schedule"]["total_steps"] == (length or 2)
    assert resumed.record == started.record
    train.train(plan, workdir, overrides)
    prolonged, _ = planned(folder, "train.steps=9")
    kept = experiment.assemble(prolonged, workdir, [])
    assert kept.hyper["schedule"]["total_steps"] == (length or 2)


def test_assembling_writes_nothing(folder, tmp_path):
    plan, overrides = planned(folder)
    run = experiment.assemble(plan, tmp_path / "new", overrides)
    assert list(tmp_path.iterdir()) == []
    assert run.shape.d_model == 8 and run.tokenizer.kind == "char"
    assert next(run.batches).inputs_BT.shape == (4, 16)


def test_numbers_travel_as_arrays_and_switches_are_compiled_in(folder, tmp_path):
    words = ("optimizer.name=muon", "optimizer.b1=0.7", "optimizer.newton_schulz_steps=3")
    run = experiment.assemble(planned(folder, *words)[0], tmp_path, [])
    assert run.recipe.switches == {"newton_schulz_steps": 3}
    assert run.hyper["optimizer"]["b1"] == np.float32(0.7)
    assert {type(leaf) for leaf in jax.tree.leaves(run.hyper)} == {np.float32}


def test_a_run_is_loaded_with_its_config_tokenizer_and_parameters(folder):
    run = experiment.load(folder / "run")
    assert (run.step, run.plan.train.steps, run.shape.d_model) == (2, 2, 8)
    assert run.tokenizer.decode(run.tokenizer.encode("the cat")) == "the cat"
    assert run.params["w_embed"].shape == (run.tokenizer.vocab_size, 8)
    with pytest.raises(NoCheckpoint, match="7"):
        experiment.load(folder / "run", "7")


def test_a_run_of_another_version_of_the_code_says_what_does_not_fit(folder, tmp_path):
    run = copy_of(folder / "run", tmp_path)
    values = json.loads((run / "run.json").read_text())
    values["config"]["train"]["sequence"] = 128
    (run / "run.json").write_text(json.dumps(values))
    line = r"run.json does not fit this version of the code: config.train.sequence is not a field"
    with pytest.raises(NoCheckpoint, match=line):
        experiment.load(run)


def test_a_run_that_is_older_than_a_field_opens_with_its_default(folder, tmp_path, caplog):
    run = copy_of(folder / "run", tmp_path)
    values = json.loads((run / "run.json").read_text())
    assert values["config"]["data"].pop("bos") is True
    assert values["config"]["model"].pop("bias") is False
    del values["config"]["parallel"]
    (run / "run.json").write_text(json.dumps(values))
    caplog.set_level("INFO")
    opened = experiment.load(run)
    assert opened.plan.data.bos is True and opened.plan.parallel.fsdp == 1
    for name in ("data.bos", "model.bias", "parallel.mode"):
        assert name in caplog.text


def test_a_config_that_lacks_whole_sections_is_told_every_field(untouched):
    with pytest.raises(ConfigError) as told:
        experiment.resolve(ConfigDict({"seed": 1}))
    assert "config.train.steps is missing; its default is 1000" in told.value.problems
    assert len(told.value.problems) > 30


def test_a_run_with_a_strange_tokenizer_is_not_loaded(folder, tmp_path):
    run = copy_of(folder / "run", tmp_path)
    experiment.load(run).tokenizer.train(["abc"], 0).save(run / "tokenizer.json")
    with pytest.raises(Mismatch, match=r"tokenizer.json is not the tokenizer of this run"):
        experiment.load(run)


def copy_of(run: Path, folder: Path) -> Path:
    subprocess.run(["cp", "-r", str(run), str(folder / "copy")], check=True)
    return folder / "copy"


def test_the_corpus_of_a_run_is_looked_for_here_or_where_one_says(folder, monkeypatch, tmp_path):
    run = experiment.load(folder / "run")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"text:corpus\.txt cannot be opened .* --source"):
        experiment.open_evaluator(run, 1)
    with pytest.raises(Mismatch, match=r"other\.txt is not the corpus of this run"):
        experiment.open_evaluator(run, 1, f"text:{folder}/other.txt")
    elsewhere = experiment.open_evaluator(run, 1, f"text:{folder}/corpus.txt")
    monkeypatch.chdir(folder)
    values, _ = experiment.open_evaluator(run, 1)(run.params)
    assert elsewhere(run.params)[0] == values and values["val/loss"] > 0


def test_a_prompt_of_running_text_has_no_bos(folder):
    run = experiment.load(folder / "run")
    encoded = run.tokenizer.encode("the").tolist()
    assert experiment.prompt_tokens(run, "the") == encoded
    assert run.tokenizer.decode(experiment.prompt_tokens(run, "")) == "\n"
    run.record.corpus["running"] = False
    assert experiment.prompt_tokens(run, "the") == [run.tokenizer.bos_id, *encoded]
    assert experiment.prompt_tokens(run, "") == [run.tokenizer.bos_id]

"""From a plan to objects, and from a run directory: what goes on, what opens, what is refused."""

import getpass
import json
import socket
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

from nanogpt_jax import experiment, record, train
from nanogpt_jax.config import flatten
from nanogpt_jax.errors import DataError, Mismatch, NoCheckpoint
from tests.experiment.tiny import TINY

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
        ("optimizer.learning_rate=0.1", "optimizer.learning_rate (run: 0.003, asked: 0.1)"),
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
    "word", ["train.steps=9", "train.on_nonfinite=skip", "schedule.total_steps=2", "eval.batches=2"]
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

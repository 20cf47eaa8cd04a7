"""From a run to a folder, from a folder to a run, and training that starts from one."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from nanogpt_jax import adopt, chat, experiment, export, sample
from nanogpt_jax.errors import ConfigError, DataError, Mismatch
from nanogpt_jax.interop import open_pretrained
from nanogpt_jax.models.gpt import Config
from nanogpt_jax.sampling import Sampling
from tests.interop.cases import CASES, assert_equal, learn, write
from tests.runs import lines_of, small_plan, small_run, train

# Without an update nothing is differentiated and compiled, and these weights are no zeros.
GPT = {
    "model.n_layer": 1,
    "model.n_head": 2,
    "model.d_model": 8,
    "model.init": "gpt2",
    "train.steps": 0,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of characters."""
    folder = tmp_path_factory.mktemp("runs")
    train(small_plan(folder, GPT, model="gpt"), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def folder(trained: Path) -> Path:
    """The run, exported."""
    output = trained.parent / "exported"
    export.main(workdir=trained, output=output)
    return output


def test_an_exported_run_holds_all_that_transformers_reads(
    folder: Path, trained: Path, capsys: pytest.CaptureFixture[str]
):
    export.main(workdir=trained, output=folder, step="best")
    assert capsys.readouterr().out.endswith(": NanoChatForCausalLM, 1,072 parameters, step 0\n")
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    run = experiment.load(trained)
    found = open_pretrained(f"hf:{folder}")
    assert_equal(found.params(run.model), jax.tree.map(np.asarray, run.params))
    assert found.tokenizer.sha256 == run.tokenizer.sha256


@pytest.mark.slow
def test_an_adopted_folder_is_a_run_with_the_same_weights(
    folder: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    adopt.main(model=f"hf:{folder}", workdir=tmp_path / "adopted")
    capsys.readouterr()
    greedy = Sampling(temperature=0.0)
    sample.main(workdir=tmp_path / "adopted", prompt="3 times", max_tokens=8, sampling=greedy)
    assert capsys.readouterr().out.startswith("3 times")
    found = experiment.load(tmp_path / "adopted")
    assert (found.step, found.record.corpus["source"]) == (0, "hf:exported")
    assert str(tmp_path.parent) not in (tmp_path / "adopted/run.json").read_text()
    assert_equal(found.params, experiment.load(trained).params)


def test_an_adopted_run_can_be_exported_again_to_the_same_weights(folder: Path, tmp_path: Path):
    adopt.main(model=f"hf:{folder}", workdir=tmp_path / "adopted")
    export.main(workdir=tmp_path / "adopted", output=tmp_path / "again")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_an_adopted_run_that_has_the_words_of_a_chat_talks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path / "model", CASES["qwen3-grouped"], learn())
    adopt.main(model=f"hf:{tmp_path / 'model'}", workdir=tmp_path / "run", max_seq_len=40)
    capsys.readouterr()
    lines = iter(["Where is it?", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    chat.main(workdir=tmp_path / "run", max_tokens=2, sampling=Sampling(temperature=0.0))
    assert capsys.readouterr().err == ""
    assert experiment.load(tmp_path / "run").shape.max_seq_len == 40


def test_what_an_adopted_run_cannot_be_is_refused(folder: Path, tmp_path: Path):
    run = tmp_path / "adopted"
    with pytest.raises(Mismatch, match=r"model.max_seq_len=17, 16 is required"):
        adopt.main(model=f"hf:{folder}", workdir=run, max_seq_len=17)
    adopt.main(model=f"hf:{folder}", workdir=run)
    with pytest.raises(ConfigError, match="holds a run already; choose another --workdir"):
        adopt.main(model=f"hf:{folder}", workdir=run)
    with pytest.raises(Mismatch, match="is not the corpus of this run"):
        experiment.open_evaluator(experiment.load(run), 1)
    with pytest.raises(DataError, match="is not known here"):
        adopt.refuse(0.1)


def test_training_starts_from_a_folder(folder: Path, trained: Path, tmp_path: Path):
    """Without an update, what it evaluates and saves are the weights of the folder."""
    changes = GPT | {"init.from": f"hf:{folder}", "seed": 1}
    train(small_plan(tmp_path, changes, model="gpt"), tmp_path / "run")
    assert_equal(experiment.load(tmp_path / "run").params, experiment.load(trained).params)
    ended, began = (
        [line["val/loss"] for line in lines_of(run) if "val/loss" in line]
        for run in (trained, tmp_path / "run")
    )
    assert began == pytest.approx(ended[-1:], rel=1e-6)


@pytest.mark.slow
def test_training_goes_on_without_the_folder_that_it_started_from(folder: Path, tmp_path: Path):
    gone = tmp_path / "gone"
    gone.mkdir()
    for path in folder.iterdir():
        (gone / path.name).write_bytes(path.read_bytes())
    changes = GPT | {"init.from": f"hf:{gone}", "train.steps": 1}
    train(small_plan(tmp_path, changes, model="gpt"), tmp_path / "run")
    for path in gone.iterdir():
        path.unlink()
    train(small_plan(tmp_path, changes | {"train.steps": 2}, model="gpt"), tmp_path / "run")
    assert experiment.load(tmp_path / "run").step == 2


@pytest.mark.parametrize(
    "changes, problem",
    [
        (
            {"model.n_layer": 2, "model.tied_head": True},
            r"model.n_layer=2, 1 is required; model.tied_head=True, False is required",
        ),
        ({"tokenizer.special_tokens": "chat"}, "it has no <|assistant_end|>".replace("|", r"\|")),
    ],
)
def test_training_that_describes_another_model_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, object], problem: str
):
    changes = GPT | {"init.from": f"hf:{folder}"} | changes
    with pytest.raises(Mismatch, match=problem):
        train(small_plan(tmp_path, changes, model="gpt"), tmp_path / "run")
    assert not (tmp_path / "run/run.json").exists()


def test_an_optimizers_state_does_not_come_from_transformers(folder: Path, tmp_path: Path):
    changes = GPT | {"init.from": f"hf:{folder}", "init.optimizer": True}
    with pytest.raises(ConfigError, match=r"init.optimizer=False is required"):
        train(small_plan(tmp_path, changes, model="gpt"), tmp_path / "run")


def test_a_run_that_no_class_carries_is_not_exported(tmp_path: Path):
    small_run(tmp_path / "run", {"train.steps": 0})
    with pytest.raises(ConfigError, match=r"model.name='embedding' is no class of transformers"):
        export.main(workdir=tmp_path / "run", output=tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_the_config_of_an_exported_run_names_every_number(folder: Path):
    found = json.loads((folder / "config.json").read_text())
    assert found["intermediate_size"] == 4 * 8
    assert found["num_key_value_heads"] == 2
    assert found["final_logit_softcapping"] == Config().logit_softcap

"""The main job as a process: what it compiles, how much it holds, and when its first step is."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanogpt_jax.bench import main_job
from nanogpt_jax.errors import NanogptError

# Quick, and the same job: whole_run's flags come before these.
TINY = (
    "--config.model.n_layer=1",
    "--config.model.d_model=16",
    "--config.train.batch_size=4",
    "--config.train.accumulate_steps=1",
    "--config.train.seq_len=32",
    "--config.eval.batches=1",
    "--config.eval.samples=0",
)


@pytest.mark.slow
def test_a_whole_run_compiles_one_program_to_train_and_one_to_evaluate():
    found = main_job.whole_run(steps=4, words=TINY)()
    assert (found["train_programs"], found["eval_programs"]) == (1, 1)
    assert 0.1 < found["peak_gib"] < 4


def test_programs_are_counted_by_the_name_that_jax_tells():
    log = (
        "W1 dispatch.py:1] Finished XLA compilation of jit(train_step) in 5.1 sec\n"
        "W1 dispatch.py:1] Finished tracing + transforming train_step for pjit in 0.1 sec\n"
        "W1 dispatch.py:1] Finished XLA compilation of jit(train_step) in 5.2 sec\n"
    )
    assert main_job.compiled(log) == {"train_step": 2}


FAKE = """
import sys, time
print("step=10/30 loss=1.0", file=sys.stderr)
print("I train.py: step=1/30 loss=9.7", file=sys.stderr, flush=True)
time.sleep(60)
"""


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """A package of that name which is found first, with another main command."""
    package = folder / "nanogpt_jax"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "main.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.chdir(folder)


def test_the_clock_stops_at_the_first_step_and_the_job_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stand_in(monkeypatch, tmp_path, FAKE)
    assert 0 < main_job.first_step()()["seconds"] < 30


def test_a_job_that_ends_early_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stand_in(monkeypatch, tmp_path, "import sys; sys.exit('no disk')")
    with pytest.raises(NanogptError, match="ended early: no disk"):
        main_job.first_step()()
    with pytest.raises(NanogptError, match="ended early: no disk"):
        main_job.whole_run(steps=2)()


def test_without_the_config_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(main_job, "CONFIG", tmp_path / "minigpt.py")
    with pytest.raises(NanogptError, match=r"minigpt\.py is not beside the package: run this"):
        main_job.first_step()()

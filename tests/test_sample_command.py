"""Train, sample, evaluate: three processes on one run directory, as their user meets them."""

import io
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from nanogpt_jax import cli, evaluate, sample
from nanogpt_jax.errors import ConfigError, NoCheckpoint, exit_code_of

REPOSITORY = Path(__file__).resolve().parents[1]
WORDS = (
    "model.name=embedding", "model.d_model=8", "model.max_seq_len=256", "train.seq_len=256",
    "train.batch_size=2", "train.steps=4", "train.accumulate_steps=1", "data.stories=60",
    "eval.every_steps=2", "eval.samples=0", "eval.batches=2", "checkpoint.every_steps=2",
    "checkpoint.milestones=3", "optimizer.learning_rate=0.1", "schedule.warmup_steps=0",
)  # fmt: skip


def start(module: str, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"nanogpt_jax.{module}", *flags],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(module: str, *flags: str) -> tuple[int | None, str, str]:
    """Exit code, stdout and stderr of a command."""
    process = start(module, *flags)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run directory that the main command made in four steps, and what it printed."""
    folder = tmp_path_factory.mktemp("commands")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOGPT_CACHE", str(folder / "cache"))
        words = [f"--config.{word}" for word in WORDS]
        code, out, err = run("main", "--config=configs/tiny.py", f"--workdir={folder}/run", *words)
        assert code == 0, err
        yield folder / "run", out, err


@pytest.fixture
def workdir(trained):
    return f"--workdir={trained[0]}"


def sampled(*flags: str) -> str:
    """What the sample command prints, in this process."""
    text = io.StringIO()
    with redirect_stdout(text):
        cli.bind(sample.main, flags)()
    return text.getvalue()


def test_the_first_line_of_a_log_names_backend_devices_and_how_to_choose_others(trained):
    run_directory, _, err = trained
    for log in (err, (run_directory / "train.log").read_text()):
        line = log.splitlines()[0]
        assert " on cpu: 1 x cpu" in line and "--jax_platforms=" in line


def test_the_main_command_prints_a_sample_and_nothing_else_on_stdout(trained):
    run_directory, out, err = trained
    assert out.endswith("\n") and len(out) > 1
    assert "val/loss" in err and "val/loss" not in out
    held = {path.name for path in run_directory.iterdir()}
    assert {"run.json", "tokenizer.json", "checkpoints", "metrics.jsonl", "train.log"} <= held


def test_stdout_is_the_text_alone_and_the_same_seed_gives_the_same(workdir):
    flags = (workdir, "--prompt=The ", "--max_tokens=40", "--temperature=0.8", "--top_k=40")
    code, out, err = run("sample", *flags, "--top_p=0.95", "--seed=3")
    assert (code, err) == (0, "")
    assert out.startswith("The ") and 4 < len(out.removesuffix("\n")) <= 44
    assert sampled(*flags, "--top_p=0.95", "--seed=3") == out
    assert sampled(*flags, "--top_p=0.95", "--seed=2") != out


def test_text_is_streamed_and_a_closed_pipe_is_no_traceback(workdir):
    process = start("sample", workdir, "--prompt=The ", "--max_tokens=1000000")
    assert process.stdout and process.stderr
    read = process.stdout.read(6)
    assert read.startswith("The ") and process.poll() is None, "nothing came before the end"
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize("step, same_as", [("last", "4"), ("best", "4"), ("2", "2"), ("0", "0")])
def test_a_checkpoint_is_chosen_by_number_last_or_best(step, same_as, workdir):
    flags = (workdir, "--temperature=0", "--max_tokens=60", "--prompt=a")
    texts = {each: sampled(*flags, f"--step={each}") for each in ("0", "2", "4")}
    assert len(set(texts.values())) == 3
    assert sampled(*flags, f"--step={step}") == texts[same_as]


def test_no_tokens_are_no_text_but_the_prompt(workdir):
    assert sampled(workdir, "--prompt=The", "--max_tokens=0") == "The\n"


@pytest.mark.parametrize("draft", ["lookup", pytest.param("itself", marks=pytest.mark.slow)])
def test_drafts_change_nothing_but_the_speed(draft, trained, workdir):
    flags = (workdir, "--prompt=The ", "--max_tokens=300", "--seed=4")
    draft = str(trained[0]) if draft == "itself" else draft
    assert sampled(*flags, f"--draft={draft}") == sampled(*flags)


@pytest.mark.slow
def test_beams_find_a_longer_text_where_length_is_rewarded(workdir):
    flags = (workdir, "--prompt=The ", "--max_tokens=8", "--beams=6")
    likeliest, long = sampled(*flags), sampled(*flags, "--length_penalty=5")
    assert likeliest.startswith("The ") and len(long) > len(likeliest)
    with pytest.raises(ConfigError, match="--beams"):
        sampled(*flags, "--beams=2", "--temperature=0.5")
    with pytest.raises(ConfigError, match="context of 256"):
        sampled(workdir, f"--prompt={'The ' * 100}", "--beams=2")


@pytest.mark.slow
def test_evaluation_prints_each_mean_with_its_standard_error(workdir):
    code, out, err = run("evaluate", workdir, "--batches=2")
    assert code == 0, err
    step, *lines = out.splitlines()
    metrics = {line.split()[0]: line.split()[1:] for line in lines}
    assert step == "step 4"
    assert {"val/loss", "val/perplexity", "val/bits_per_byte"} <= metrics.keys()
    value, sign, error = metrics["val/loss"]
    assert sign == "±" and 0 < float(error) < float(value)
    text = io.StringIO()
    with redirect_stdout(text):
        cli.bind(evaluate.main, [workdir, "--batches=2", "--step=0"])()
    first = float(text.getvalue().splitlines()[1].split()[1])
    assert text.getvalue().startswith("step 0\nval/loss ") and first > float(value)


def test_a_step_that_is_not_there_ends_with_code_4_and_what_is(workdir):
    code, out, err = run("sample", workdir, "--step=3")
    assert (code, out) == (4, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert all(step in err for step in ("3", "0", "2", "4"))


def test_a_folder_that_is_no_run_is_told_as_such(tmp_path):
    with pytest.raises(NoCheckpoint, match=f"^{tmp_path} is no run directory") as told:
        cli.bind(evaluate.main, [f"--workdir={tmp_path}"])()
    assert exit_code_of(told.value) == 4 and "\n" not in str(told.value)


@pytest.mark.slow
def test_a_character_that_no_token_stands_for_ends_with_code_1(workdir):
    code, out, err = run("sample", workdir, "--prompt=Größe")
    assert (code, out) == (1, "")
    assert err.startswith("error: character 'ö' (U+00F6)") and err.count("\n") == 1


@pytest.mark.parametrize(
    "flags, problems",
    [
        (["--step=lats"], ["lats"]),
        (["--top_p=2", "--max_tokens=-1", "more"], ["'more'", "--max_tokens=-1", "--top_p=2.0"]),
        (["--temperatur=1"], ["did you mean '--temperature'"]),
        (["--config.seed=1"], ["flag='--config.seed' is not known"]),
    ],
)
def test_wrong_flags_are_told_all_at_once(flags, problems, workdir):
    with pytest.raises(ConfigError) as told:
        cli.bind(sample.main, [workdir, *flags])()
    for line, problem in zip(told.value.problems, problems, strict=True):
        assert problem in line


def test_a_wrong_step_says_what_exists_without_loading_anything(trained, monkeypatch):
    monkeypatch.setattr("nanogpt_jax.experiment.opening.build_model", None)
    with pytest.raises(NoCheckpoint, match="3"):
        cli.bind(sample.main, [f"--workdir={trained[0]}", "--step=3"])()

"""What a sweep leaves: the table, the winner as a config, the plot, and what `print` writes."""

from __future__ import annotations

import csv
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from nanogpt_jax.errors import ConfigError
from nanogpt_jax.experiment import load_config, resolve
from nanogpt_jax.sweep import Sweep, chain, choice, outcome, printing, product
from nanogpt_jax.sweep.launching import task_of
from nanogpt_jax.sweep.space import Product
from nanogpt_jax.sweep.spec import Ended, Trial, load_sweep, require_sound

REPOSITORY = Path(__file__).resolve().parents[2]
SPACE = product(choice("optimizer.learning_rate", 0.001, 0.01, 0.1), choice("seed", 0, 1, 2))
SWEEP = Sweep(config=str(REPOSITORY / "configs/tiny.py"), space=SPACE, fixed={"train.steps": 7})
# By rate and seed: the second rate is best, the third is worse only by luck.
LOSSES = {0.001: (3.0, 3.1, 3.05), 0.01: (2.0, 2.1, 2.05), 0.1: (2.3, 1.9, 2.1)}


def ended() -> list[Ended]:
    found = []
    for number, point in enumerate(SPACE.points()):
        rate, seed = point["optimizer.learning_rate"], point["seed"]
        assert isinstance(rate, float) and isinstance(seed, int)
        found.append(Ended(Trial(number, point), LOSSES[rate][seed], False))
    found.append(Ended(Trial(9, {"optimizer.learning_rate": 9.0, "seed": 0}), None, False))
    found.append(Ended(Trial(10, {"optimizer.learning_rate": 8.0, "seed": 0}), 1.0, True))
    return found


def test_the_table_orders_arms_by_their_mean_and_tells_which_are_apart(tmp_path: Path) -> None:
    lines = outcome.report(SWEEP, ended(), tmp_path).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [row[0] for row in cells] == ["0.01", "0.1", "0.001"]
    assert cells[0][1] == "2.0500" and cells[0][-1] == "best"
    assert cells[1][-1].endswith("no difference")
    assert cells[2][-1].startswith("+1.0000") and "no difference" not in cells[2][-1]
    assert (tmp_path / "table.md").read_text().strip() == "\n".join(lines)


def test_every_trial_is_in_the_csv_exact_and_with_its_state(tmp_path: Path) -> None:
    outcome.report(SWEEP, ended(), tmp_path)
    with open(tmp_path / "trials.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == [*9 * ["complete"], "failed", "pruned"]
    assert [float(row["val/loss"]) for row in rows[:3]] == [3.0, 3.1, 3.05]
    assert rows[4]["directory"] == "trials/0004"


def test_the_winner_is_a_config_that_trains(tmp_path: Path) -> None:
    outcome.report(SWEEP, ended(), tmp_path)
    plan = resolve(load_config(str(tmp_path / "best.py")))
    assert plan.optimizer.learning_rate == 0.01 and plan.train.steps == 7
    assert plan.seed == resolve(load_config(SWEEP.config)).seed, "no seed has won"


def test_what_is_printed_are_commands_a_slurm_array_and_a_jobset(tmp_path: Path) -> None:
    points = enumerate(SPACE.points())
    tasks = [task_of(SWEEP, Trial(n, point), tmp_path, "python") for n, point in points]
    lines = printing.write(tasks, "rates", tmp_path, "image:tag").splitlines()
    assert [shlex.split(line) for line in lines] == [list(task.words) for task in tasks]
    assert lines[4].split()[:3] == ["python", "-m", "nanogpt_jax.main"]
    assert "--config.optimizer.learning_rate=0.01" in lines[4]
    subprocess.run(["bash", "-n", str(tmp_path / "array.sbatch")], check=True)
    script = (tmp_path / "array.sbatch").read_text()
    assert "--array=0-8\n" in script and "--requeue" in script
    (found,) = yaml.safe_load_all((tmp_path / "jobset.yaml").read_text())
    assert (found["apiVersion"], found["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    job = found["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["completions"] == 9 and job["completionMode"] == "Indexed"
    container = job["template"]["spec"]["containers"][0]
    run = ["bash", "-c", container["args"][-1].replace("exec ", "echo ")]
    shown = subprocess.run(
        run, env={"JOB_COMPLETION_INDEX": "4", "PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert shown.stdout.decode().split() == list(tasks[4].words)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "is no Python file"),
        ("x = 1", "has no get_sweep"),
        ("def get_sweep(): return 3", "a Sweep is required"),
    ],
)
def test_a_file_that_is_no_sweep_is_refused(text: str | None, told: str, tmp_path: Path) -> None:
    file = tmp_path / "sweep.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_sweep(file)


@pytest.mark.parametrize("config", ["configs/compare.py", "configs/rustgpt.py"])
def test_a_config_of_several_runs_is_refused(config: str) -> None:
    with pytest.raises(ConfigError, match=f"{config} trains several runs; a trial is one"):
        require_sound(Sweep(config=config, space=choice("optimizer.learning_rate", 0.01, 0.1)))


ROUNDS = Sweep(
    config=SWEEP.config,
    space=product(
        choice("model.activation", "relu2", "gelu"), choice("optimizer.learning_rate", 0.01, 0.1)
    ),
    tuned=("optimizer.learning_rate",),
    fresh_seeds=(7, 8, 9),
)


def both_rounds() -> list[Ended]:
    """ReLU² best in the first round, GELU with the fresh seeds."""
    found = [
        Ended(Trial(number, point), value, False)
        for number, (point, value) in enumerate(
            zip(ROUNDS.space.points(), (2.0, 0.5, 1.0, 1.1), strict=True)
        )
    ]
    for seed in (7, 8, 9):
        for name, rate, value in (("relu2", 0.1, 3.0), ("gelu", 0.01, 2.0 + seed / 1000)):
            point = {"model.activation": name, "optimizer.learning_rate": rate, "seed": seed}
            found.append(Ended(Trial(len(found), point), value, False))
    return found


def test_fresh_seeds_alone_decide_and_the_first_round_is_shown_beside(tmp_path: Path) -> None:
    table = outcome.report(ROUNDS, both_rounds(), tmp_path)
    assert "| relu2 | 2.0000 | **0.5000** |" in table and "| gelu | **1.0000** | 1.1000 |" in table
    best, other = table.splitlines()[-2:]
    assert best.startswith("| gelu | 0.01 | 2.0080 |") and other.startswith("| relu2 | 0.1 | 3.0")
    with open(tmp_path / "trials.csv") as file:
        assert [row["seed"] for row in csv.DictReader(file)][3:5] == ["", "7"]


def test_what_was_tried_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    outcome.report(ROUNDS, both_rounds(), tmp_path)
    assert (tmp_path / "objective.png").stat().st_size > 5000


def test_a_best_value_at_the_edge_of_what_was_tried_is_told(tmp_path: Path) -> None:
    space = choice("optimizer.learning_rate", 0.01, 0.1, 1.0)
    sweep = Sweep(
        config=SWEEP.config, space=space, tuned=("optimizer.learning_rate",), fresh_seeds=(7, 8)
    )

    def table(*values: float) -> str:
        found = [
            Ended(Trial(number, point), value, False)
            for number, (point, value) in enumerate(zip(space.points(), values, strict=True))
        ]
        return outcome.table_of_tuning(sweep, found)

    assert "| all | 3.0000 | 2.0000 | **1.0000** (at the edge) |" in table(3.0, 2.0, 1.0)
    assert "| all | 3.0000 | **1.0000** | 2.0000 |" in table(3.0, 1.0, 2.0)
    assert "| all | 3.000000 | **0.000412** | 0.000500 |" in table(3.0, 0.0004123, 0.0005)


def test_arms_that_tried_different_rates_share_columns_in_the_order_of_rates() -> None:
    def arm(name: str, *rates: float) -> Product:
        return product(choice("optimizer.name", name), choice("optimizer.learning_rate", *rates))

    space = chain(arm("adamw", 0.002, 0.008, 0.032), arm("muon", 0.004, 0.016))
    sweep = Sweep(
        config=SWEEP.config, space=space, tuned=("optimizer.learning_rate",), fresh_seeds=(7, 8)
    )
    found = [
        Ended(Trial(number, point), value, False)
        for number, (point, value) in enumerate(
            zip(space.points(), (3.0, 1.0, 2.0, 5.0, 4.0), strict=True)
        )
    ]
    head, _, *rows = outcome.table_of_tuning(sweep, found).splitlines()
    assert head.endswith("| 0.002 | 0.004 | 0.008 | 0.016 | 0.032 |")
    assert rows == [
        "| adamw | 3.0000 |  | **1.0000** |  | 2.0000 |",
        "| muon |  | 5.0000 |  | **4.0000** |  |",
    ]

"""The documentation is run: what docs/python.md shows works as it stands."""

import re
from pathlib import Path
from typing import Any

import pytest

from nanogpt_jax.experiment import load_config, resolve
from nanogpt_jax.train import train

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def program():
    text = (REPOSITORY / "docs/python.md").read_text()
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]


def test_the_python_example_has_at_most_25_lines_of_code(program):
    lines = [line for line in program.splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 25


@pytest.mark.slow
def test_the_python_example_runs_on_a_run_directory(program, tmp_path, monkeypatch, capsys):
    settings = load_config(str(REPOSITORY / "configs/tiny.py"))
    shape = {"train.steps": "2", "data.stories": "50", "model.n_layer": "3", "eval.samples": "0"}
    train(resolve(settings, list(shape.items())), tmp_path / "checkpoints/minigpt")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    names: dict[str, Any] = {}
    exec(compile(program, "docs/python.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "layer 2, head 0, last token: [" in printed
    change = float(re.findall(r"largest change: (\S+)", printed)[0])
    assert change >= 0
    assert not names["run"].params["layers"]["attention"]["w_o"][2, 0].any()


@pytest.mark.parametrize(
    "page", sorted((REPOSITORY / "docs").glob("*.md")), ids=lambda path: path.name
)
def test_every_picture_and_page_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text())
    assert [name for name in named if not (page.parent / name).exists()] == []

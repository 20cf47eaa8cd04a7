"""Config files: their argument, and one line with its place for whatever fails in them."""

import pytest
from ml_collections import ConfigDict

from nanogpt_jax import experiment
from nanogpt_jax.errors import ConfigError
from tests.experiment.tiny import REPOSITORY, TINY

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


def test_a_config_that_lacks_whole_sections_is_told_every_field(untouched):
    with pytest.raises(ConfigError) as told:
        experiment.resolve(ConfigDict({"seed": 1}))
    assert "config.train.steps is missing; its default is 1000" in told.value.problems
    assert len(told.value.problems) > 30

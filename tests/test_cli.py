"""A signature as a command line: what is bound, what is refused, what the help says."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import pytest

from nanogpt_jax import cli
from nanogpt_jax.errors import ConfigError, Locked
from nanogpt_jax.registry import non_negative

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Paint:
    """Brings its fields as flags."""

    red: Annotated[float, "how much red", non_negative] = 0.5
    coats: Annotated[int, "how often", non_negative] = 1


def draw(
    shape: Annotated[str, "what to draw"],
    size: Annotated[int, "how large", non_negative] = 3,
    *,
    output: Annotated[Path, "where to"],
    style: Annotated[Literal["thin", "thick"], "of the line"] = "thin",
    title: Annotated[str, "above it"] = "",
    framed: Annotated[bool, "with a frame"] = False,
    paint: Paint,
    overrides: cli.Overrides,
) -> dict[str, Any]:
    """Draws one shape."""
    return locals()


def erase(*, everything: Annotated[bool, "not only the last"] = True) -> bool:
    """Takes it back."""
    return everything


def called(*words: str) -> Any:
    return cli.bind(draw, ["circle", "--output=x", *words])()


def problems_of(commands: cli.Commands, *words: str) -> list[str]:
    with pytest.raises(ConfigError) as told:
        cli.bind(commands, words)
    return told.value.problems


def test_defaults_hold_where_nothing_is_given():
    assert called() == {
        "shape": "circle",
        "size": 3,
        "output": Path("x").resolve(),
        "style": "thin",
        "title": "",
        "framed": False,
        "paint": Paint(),
        "overrides": [],
    }


def test_arguments_and_flags_mix_and_a_dataclass_is_filled_from_its_flags():
    given = called("--red=0.25", "1e1", "--coats", "4", "--style=thick")
    assert (given["size"], given["paint"], given["style"]) == (10, Paint(0.25, 4), "thick")


@pytest.mark.parametrize("words", [("--title=a b=c",), ("--title", "a b=c"), ("-title=a b=c",)])
def test_a_value_follows_an_equals_sign_or_a_space(words):
    assert called(*words)["title"] == "a b=c"


@pytest.mark.parametrize(
    "words, framed",
    [
        ((), False),
        (("--framed",), True),
        (("--framed=true",), True),
        (("--framed", "--noframed"), False),
        (("--framed=no",), False),
        (("--noframed", "--framed"), True),
    ],
)
def test_a_switch_is_turned_on_and_off_and_the_last_word_counts(words, framed):
    assert called(*words)["framed"] is framed


def test_a_switch_takes_no_word_after_it():
    assert called("--framed", "7")["size"] == 7


def test_overrides_are_kept_as_they_were_written():
    words = ["--config.a.b=1", "--config.a.c", "-2", "--config.d=x=y", "--config.e", "--noconfig.f"]
    assert called(*words, "--config.g=")["overrides"] == [
        ("a.b", "1"),
        ("a.c", "-2"),
        ("d", "x=y"),
        ("e", "true"),
        ("f", "false"),
        ("g", ""),
    ]


def test_all_problems_of_a_line_are_told_at_once():
    words = ("circle", "-1", "more", "--otuput=x", "--style=thik", "--coats=few", "--red")
    assert problems_of(draw, *words, "--verbosity=loud") == [
        "'more' is not understood; a flag is --NAME=VALUE",
        "flag='--otuput' is not known; did you mean '--output'?",
        "SIZE=-1 must be at least 0",
        "--output needs a value: where to",
        "--style='thik' is not known; did you mean 'thick'?",
        "--red needs a value: how much red",
        "--coats='few': a value of type int is required",
        "flag --verbosity=loud: invalid literal for int() with base 10: 'loud'",
    ]


def test_an_override_is_an_unknown_flag_where_there_is_no_config():
    line = "flag='--config.a' is not known; known: --everything"
    assert problems_of(erase, "--config.a=1") == [line]


def test_the_first_word_names_one_of_several_commands():
    commands = {"draw": draw, "erase": erase}
    assert cli.bind(commands, ["erase", "--noeverything"])() is False
    drawn: Any = cli.bind(commands, ["draw", "line", "--output=y"])()
    assert drawn["shape"] == "line"
    assert problems_of(commands, "drwa") == ["command='drwa' is not known; did you mean 'draw'?"]
    assert problems_of(commands) == ["command='' is not known; known: draw, erase"]


HELP = """\
What it does.

    An example.

draw SHAPE [SIZE]   Draws one shape.
  --output=...  where to (required)
  --style=thin  of the line
  --title=...   above it
  --[no]framed  with a frame
  --red=0.5     how much red
  --coats=1     how often

erase   Takes it back.
  --[no]everything  not only the last

jax's own flags work too, such as --jax_platforms=cpu and --jax_num_cpu_devices=8
"""


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_the_help_is_the_description_and_a_line_for_every_flag(word, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.bind({"draw": draw, "erase": erase}, [word], "What it does.\n\n    An example.\n")
    assert (ended.value.code, capsys.readouterr().out) == (0, HELP)


def end(*, how: str = "") -> None:
    """Ends in many ways."""
    if how == "ours":
        raise Locked("held by another\nrun")
    if how == "file":
        open("no/such/file")
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "bug":
        raise ZeroDivisionError
    print("done")


@pytest.fixture
def run_here(monkeypatch, capfd):
    """`cli.run` without what absl can do once a process; returns exit code, stdout and stderr."""
    monkeypatch.setattr(jax.config, "config_with_absl", lambda: None)
    monkeypatch.setattr(
        cli.app, "run", lambda main, flags_parser: sys.exit(main(flags_parser(sys.argv)))
    )

    def run_here(*words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["end", *words])
        with pytest.raises(SystemExit) as ended:
            cli.run(end, "A test.")
        return int(ended.value.code or 0), *capfd.readouterr()

    return run_here


@pytest.mark.parametrize(
    "how, code, told",
    [
        ("ours", 5, "error: held by another\nerror: run\n"),
        ("file", 1, "error: [Errno 2] No such file or directory: 'no/such/file'\n"),
        ("interrupt", 130, ""),
    ],
)
def test_an_end_has_its_code_and_one_line_a_problem(how, code, told, run_here):
    assert run_here(f"--how={how}") == (code, "", told)


def test_a_good_end_has_code_0_and_a_wrong_word_code_2(run_here):
    assert run_here() == (0, "done\n", "")
    code, out, err = run_here("--hwo=x", "y")
    assert (code, out) == (2, "") and err.count("error: ") == err.count("\n") == 2


def test_a_bug_keeps_its_traceback(run_here):
    with pytest.raises(ZeroDivisionError):
        run_here("--how=bug")


COMMAND = """
from nanogpt_jax import cli

def main() -> None:
    import jax
    print(jax.config.jax_platforms, len(jax.devices()))
    raise cli.NanogptError("the end")

cli.run(main, "A test.")
"""


def test_the_flags_of_jax_work_in_a_process_and_an_end_is_its_exit_code():
    flags = ["--jax_platforms=cpu", "--jax_num_cpu_devices", "3"]
    env = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, *flags],
        capture_output=True,
        text=True,
        env=env,
        cwd=REPOSITORY,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "cpu 3\n", "error: the end\n")


def test_pairs_are_names_and_values() -> None:
    found = cli.parse_pairs("--slurm", "partition=gpu,gpus_per_node=2,exclusive=true,time=1:30")
    assert found == {"partition": "gpu", "gpus_per_node": 2, "exclusive": True, "time": "1:30"}
    with pytest.raises(ConfigError, match="--slurm has 'gpu'; NAME=VALUE"):
        cli.parse_pairs("--slurm", "gpu")

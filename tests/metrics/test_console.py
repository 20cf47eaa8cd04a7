"""What a terminal and a log show of a run."""

import io
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from absl import logging as absl_logging
from rich.console import Console as Terminal

from nanogpt_jax.metrics import Console, log_to_file

REPORT = {
    "train/loss": 3.2141,
    "train/lr": 2.9e-4,
    "perf/tokens_per_sec": 41_234.0,
    "perf/mfu": 0.371,
}


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log at the level that commands set."""
    before = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.INFO)
    with caplog.at_level(logging.INFO, logger="absl"):
        yield caplog
    absl_logging.set_verbosity(before)


def a_terminal(width: int = 100) -> tuple[Terminal, io.StringIO]:
    screen = io.StringIO()
    return Terminal(file=screen, force_terminal=True, force_interactive=True, width=width), screen


def test_a_report_is_one_line_with_the_numbers_that_matter(
    lines: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    console = Console(total_steps=2000, clock=clock)
    for step, seconds in ((1000, 60.0), (1200, 160.0)):
        clock.seconds = seconds
        console.scalars(step, REPORT)
    console.close()
    assert lines.messages == [
        "step=1000/2000 loss=3.2141 lr=2.9e-04 tok/s=41.2k mfu=37.1% eta=n/a",
        "step=1200/2000 loss=3.2141 lr=2.9e-04 tok/s=41.2k mfu=37.1% eta=00:06:40",
    ]


def test_what_was_not_measured_is_not_available(lines: pytest.LogCaptureFixture) -> None:
    Console(total_steps=None).scalars(3, {"train/loss": 1.0})
    assert lines.messages == ["step=3 loss=1.0000 lr=n/a tok/s=n/a mfu=n/a eta=n/a"]


def test_an_evaluation_shows_its_standard_errors(lines: pytest.LogCaptureFixture) -> None:
    values = {"val/loss": 3.25, "val/loss_se": 0.0125, "val/excess_nats": 0.5}
    Console(total_steps=10).scalars(4, values)
    assert lines.messages == ["step=4 val/loss=3.2500 ± 0.0125 val/excess_nats=0.5000"]


def test_a_budget_of_time_is_told_by_its_fraction(lines: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    console = Console(total_steps=None, fraction=lambda: clock.seconds / 100, clock=clock)
    for step, clock.seconds in ((5, 10.0), (50, 25.0), (99, 101.0)):
        console.scalars(step, {"train/loss": 1.0})
    assert [message.split("eta=")[1] for message in lines.messages] == [
        "n/a",
        "00:01:15",
        "00:00:00",
    ]


@pytest.mark.parametrize(
    ("speed", "shown"), [(812.4, "812"), (41_234, "41.2k"), (1.26e6, "1.3M"), (2e9, "2.0G")]
)
def test_speeds_are_short(speed: float, shown: str, lines: pytest.LogCaptureFixture) -> None:
    values = {"train/loss": 1.0, "perf/tokens_per_sec": speed}
    Console(total_steps=None).scalars(1, values)
    assert f"tok/s={shown} " in lines.text


def test_a_sample_cannot_drive_the_terminal(lines: pytest.LogCaptureFixture) -> None:
    Console(total_steps=1).text(1, "sample", "a\n\x1b[2J\x9bb")
    assert lines.messages == [r"step=1 sample='a\n\x1b[2J\x9bb'"]


def test_the_bar_shows_loss_speed_and_time_left(lines: pytest.LogCaptureFixture) -> None:
    terminal, screen = a_terminal()
    clock = Clock()
    console = Console(total_steps=2000, start_step=900, clock=clock, terminal=terminal)
    assert "step 900/2000" in screen.getvalue()
    for step, clock.seconds in ((1000, 60.0), (1200, 160.0)):
        console.scalars(step, REPORT)
    console.close()
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).rstrip().split("\r")[-1]
    assert last.startswith("step 1200/2000 ━")
    assert last.rstrip().endswith("loss 3.2141  41.2k tok/s  eta 00:06:40")
    assert len(lines.messages) == 2, "the log file has the lines that the bar stands for"


@pytest.mark.parametrize("width", [20, 40, 80])
def test_the_bar_stays_one_line_on_a_narrow_terminal(width: int) -> None:
    terminal, screen = a_terminal(width)
    console = Console(total_steps=2000, terminal=terminal)
    console.scalars(1200, REPORT)
    drawn = screen.getvalue()
    console.close()
    assert "\n" not in drawn


def test_log_lines_pass_above_the_bar_and_those_of_the_bar_do_not() -> None:
    script = """
import io, sys
from absl import app, logging
from rich.console import Console as Terminal
from nanogpt_jax.metrics import Console

def main(argv):
    logging.set_verbosity(logging.INFO)
    screen = io.StringIO()
    terminal = Terminal(file=screen, force_terminal=True, force_interactive=True, width=100)
    console = Console(total_steps=10, terminal=terminal)
    console.scalars(1, {"train/loss": 1.0})
    console.scalars(1, {"val/loss": 2.0})
    logging.error("an error")
    console.close()
    logging.info("after the bar")
    lines = screen.getvalue().split("\\n")
    assert sum("val/loss=2.0000" in line for line in lines) == 1, lines
    assert sum("an error" in line for line in lines) == 1, lines
    assert not any("loss=1.0000" in line for line in lines), lines
    assert screen.getvalue().endswith("\\x1b[?25h"), "the cursor is left visible"

app.run(main)
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1 and "after the bar" in result.stderr


def test_the_cursor_is_visible_while_the_bar_stands() -> None:
    terminal, screen = a_terminal()
    console = Console(total_steps=10, terminal=terminal)
    shown, hidden = "\x1b[?25h", "\x1b[?25l"
    assert screen.getvalue().rindex(shown) > screen.getvalue().rindex(hidden)
    console.close()


def test_log_lines_are_kept_in_a_file_and_only_while_it_is_open(
    tmp_path: Path, lines: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "train.log"
    path.write_text("of an earlier run\n")
    with log_to_file(path):
        absl_logging.warning("inside ±")
    absl_logging.warning("outside")
    earlier, inside = path.read_text(encoding="utf-8").splitlines()
    assert earlier == "of an earlier run"
    assert re.fullmatch(r"W\d{4} \d\d:\d\d:\d\d\.\d{6} .*test_console\.py:\d+\] inside ±", inside)

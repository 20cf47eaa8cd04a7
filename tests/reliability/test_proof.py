"""The table of docs/reliability.md holds what tests have proven, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.proof import BEGIN, END, Trial, rewrite

PAGE = f"before\n{BEGIN}\n{END}\nafter\n"
KILLS = [Trial("T1", "test_a.py::test_kills", "saves lost", lost) for lost in (0, 1, 0, 1)]
SIGNALS = [Trial("T5", "test_b.py::test_signals", "s until ended", 2.34567)]


def test_a_line_has_the_trials_the_worst_of_them_and_the_bound() -> None:
    page = rewrite(PAGE, KILLS, "2030-01-02", "abc")
    assert page.startswith(f"before\n{BEGIN}\n\n| row |") and page.endswith(f"\n\n{END}\nafter\n")
    line = "| T1 | `test_a.py::test_kills` | 4 | 1 saves lost | < 75.0% | 2030-01-02 | abc |"
    assert line in page.splitlines()


def test_a_later_run_renews_its_own_lines_and_keeps_all_others() -> None:
    page = rewrite(rewrite(PAGE, KILLS, "2030-01-02", "abc"), SIGNALS, "2030-02-02", "def")
    assert [line.split(" | ")[0] for line in page.splitlines() if line[:3] == "| T"] == [
        "| T1",
        "| T5",
    ]
    assert "2.35 s until ended | < 100.0%" in page
    renewed = rewrite(page, KILLS[:2], "2030-03-03", "012")
    assert "| 2 | 1 saves lost | < 100.0% | 2030-03-03 | 012 |" in renewed
    assert "2030-01-02" not in renewed and "2030-02-02" in renewed
    assert rewrite(renewed, [], "", "") == renewed


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the line"):
        rewrite("a page", KILLS, "", "")


def test_the_page_of_this_project_has_that_place() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
    assert "| T1 |" in rewrite(page.read_text(encoding="utf-8"), KILLS, "", "")
